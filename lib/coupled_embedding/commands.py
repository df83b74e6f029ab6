"""What all commands share: how an error of the user's is told."""

import functools
import sys
from collections.abc import Callable

from coupled_embedding.errors import UserError


def command(main: Callable[[], None]) -> Callable[[], None]:
    """Make a command print a `UserError`'s text alone and exit with 2; Ctrl-C exits with 130."""

    @functools.wraps(main)
    def run() -> None:
        try:
            main()
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)

    return run
