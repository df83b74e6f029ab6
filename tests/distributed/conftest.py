"""Several processes that find the environment that torchrun would give them, started at little cost."""

import importlib.util
import inspect
import multiprocessing
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.distributed as dist
from yacs.config import CfgNode

from coupled_embedding.config import config_to_yaml

# imported once, by the server that the processes are forked from; an optimizer's first step imports the last one
PRELOAD = ["coupled_embedding.builders", "coupled_embedding.analysis.profiling", "pytest", "torch._dynamo"]
Together = Callable[..., list[Any]]


@pytest.fixture(scope="session")
def together() -> Together:
    """together(n, function, *arguments): what the function returns in each of n processes, by rank.

    The function stands at the top of a test's file; a process reads that file for itself. Each
    process has torchrun's variables, and the parent serves their store as torchrun's agent does.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)

    def run(count: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        store = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=120))
        started = []
        for rank in range(count):
            told, tells = context.Pipe(duplex=False)
            place = (inspect.getfile(function), function.__module__, function.__name__)
            process = context.Process(target=_work, args=(tells, rank, count, store.port, place, arguments))
            process.start()
            tells.close()  # so that a process that dies untold ends the wait for it
            started.append((process, told))
        with ExitStack() as stack:
            for process, _ in started:
                stack.callback(process.join)
                stack.callback(process.kill)
            return [_result(told, rank) for rank, (_, told) in enumerate(started)]

    return run


def _result(told: Connection, rank: int) -> Any:
    try:
        good, value = pickle.loads(told.recv_bytes())
    except EOFError:
        pytest.fail(f"process {rank} died without a word")
    if not good:
        pytest.fail(f"process {rank}:\n{value}")
    return value


def _work(tells: Connection, rank: int, count: int, port: int, place: tuple[str, str, str], arguments: tuple) -> None:
    environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "localhost"}
    environment |= {"MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": True}
    os.environ.update({name: str(value) for name, value in environment.items()})
    torch.set_num_threads(1)
    try:
        file, module, name = place
        told = True, getattr(_read(file, module), name)(*arguments)
    except BaseException:  # SystemExit too: the test is to know
        told = False, traceback.format_exc()
    # plain bytes: torch's way to send tensors between processes needs the sender to live on
    tells.send_bytes(pickle.dumps(told))


def _read(file: str, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def as_file(tmp_path: Path) -> Callable[[CfgNode], str]:
    """Write a config into a file that a process can read."""

    def write(cfg: CfgNode) -> str:
        path = tmp_path / f"{cfg.NAME}.yaml"
        path.write_text(config_to_yaml(cfg))
        return str(path)

    return write


# the given command, in a process of this rank that gets a signal before its fifth step, unless it was started again
DYING = """
import os, runpy, signal, sys
from coupled_embedding.data.loader import StepBatchSampler

whole = StepBatchSampler.__iter__

def cut(plan):
    for number, batch in enumerate(whole(plan)):
        if number == 4 and plan.first_step == 0 and plan.rank == RANK:
            os.kill(os.getpid(), signal.SIGNAL)
        yield batch

StepBatchSampler.__iter__ = cut
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))  # as for a command: tools import each other
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def dying(tmp_path: Path) -> Callable[[str, int], str]:
    """dying(signal, rank): a script that runs the given Python command until the signal ends it."""

    def write(signal: str, rank: int) -> str:
        path = tmp_path / f"{signal}.py"
        path.write_text(DYING.replace("SIGNAL", signal).replace("RANK", str(rank)))
        return str(path)

    return write
