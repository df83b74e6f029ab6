"""Runs a command of tools/ in a process of its own; `conftest.Command` starts it with these globals.

ARGUMENTS: of the command, its file first; LOG: file for all that it prints.
"""

import multiprocessing
import os
import runpy
import sys

# a group of its own, so that a test can signal the loader's processes as a terminal would
os.setsid()
# loaders as a command of its own would start them, not by another server
multiprocessing.set_start_method(None, force=True)
handle = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)  # type: ignore[name-defined]  # noqa: F821
os.dup2(handle, 1)
os.dup2(handle, 2)
sys.argv = list(ARGUMENTS)  # type: ignore[name-defined]  # noqa: F821
sys.path.insert(0, os.path.dirname(sys.argv[0]))  # as for a command: tools import each other
runpy.run_path(sys.argv[0], run_name="__main__")
