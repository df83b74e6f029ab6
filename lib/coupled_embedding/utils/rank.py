"""One of the processes that `launch` starts: runs the given script and reports how that failed.

`python -P -m coupled_embedding.utils.rank tools/train.py --cfg FILE`. Imports no torch: from its first moment on, an
exception is reported, not printed.
"""

import runpy
import sys
from pathlib import Path

from coupled_embedding.utils.failures import leave_report


def main() -> None:
    """Run the script as Python would; exit with the code of its failure."""
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(Path(sys.argv[0]).resolve().parent))
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except (Exception, KeyboardInterrupt) as error:
        sys.exit(leave_report(error).exit_code)


if __name__ == "__main__":
    main()
