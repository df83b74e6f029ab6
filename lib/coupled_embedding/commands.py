"""What commands share: options, and how an error of the user's is told."""

import argparse
import functools
import sys
from collections.abc import Callable

from coupled_embedding.distributed import rank_of_environment
from coupled_embedding.errors import StoppedBySignal, UserError, printable


def command(main: Callable[[], None]) -> Callable[[], None]:
    """Make a command print a `UserError`'s text alone and exit with 2; a signal with 128 and its number."""

    @functools.wraps(main)
    def run() -> None:
        try:
            main()
        except UserError as error:
            print(f"error: {printable(str(error))}", file=sys.stderr)
            sys.exit(2)
        except StoppedBySignal as stop:
            if rank_of_environment() == 0:
                print(stop, file=sys.stderr)
            sys.exit(stop.exit_code)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)

    return run


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that run a network: processes, device, profile, config overrides."""
    parser.add_argument(
        "--gpus",
        "--processes",
        type=int,
        default=1,
        help="processes on this machine, one a GPU (with --device cpu: any number)",
    )
    parser.add_argument("--device", default="", choices=["", "cpu", "cuda"], help="default: a GPU where there is one")
    parser.add_argument(
        "--profile", action="store_true", help="run a few steps, print where their time goes, write a trace and stop"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="config options to change")
