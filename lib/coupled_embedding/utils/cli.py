"""What commands share: options, and how a user's error is reported."""

import argparse
import functools
import sys
from collections.abc import Callable

from coupled_embedding.utils.errors import StoppedBySignal, UserError
from coupled_embedding.utils.failures import is_launched, print_error


def command(main: Callable[[], None]) -> Callable[[], None]:
    """Make a command print a `UserError`'s text alone and exit with 2; a signal with 128 and its number.

    A rank that was launched by a command leaves all this to its launcher.
    """

    @functools.wraps(main)
    def run() -> None:
        try:
            main()
        except (UserError, StoppedBySignal, KeyboardInterrupt) as error:
            if is_launched():
                raise
            sys.exit(print_error(error))

    return run


def at_least_one(text: str) -> int:
    """Return a whole number from 1 on, for argparse."""
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 1 on")
    return int(text)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that run a network: processes, device, profile, config overrides."""
    parser.add_argument(
        "--gpus",
        "--processes",
        type=at_least_one,
        default=1,
        help="processes on this machine, one per GPU (any number with --device cpu)",
    )
    parser.add_argument("--device", default="", choices=["", "cpu", "cuda"], help="default: a GPU where there is one")
    parser.add_argument(
        "--profile", action="store_true", help="run a few steps, print where their time goes, write a trace and stop"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="config options to change")


def add_predictor_options(parser: argparse.ArgumentParser, default_model: str) -> None:
    """Add the options of commands that predict single images: the model, how it runs, config overrides."""
    parser.add_argument(
        "--model", "--weights", default=default_model, metavar="NAME|FILE",
        help="name of a shipped model, a checkpoint, a run's folder, a folder or OWNER/NAME of the Hugging Face Hub, "
        f"or an exported folder (default: {default_model})",
    )  # fmt: skip
    parser.add_argument("--size", type=int, help="pixels of the network input's short side (default: the model's)")
    parser.add_argument("--scales", nargs="+", type=float, help="scale factors, such as 2 1 0.5")
    parser.add_argument("--flip", action=argparse.BooleanOptionalAction, help="average with the flipped image")
    parser.add_argument(
        "--device", default="auto", choices=["auto", "cpu", "cuda"], help="default: a GPU if there is one"
    )
    parser.add_argument("--options", nargs="*", default=[], metavar="KEY VALUE", help="config options to change")
