"""Errors that a user can fix. Commands print their text without a traceback."""

import reprlib
import signal
from typing import Any


class UserError(Exception):
    """Something the user gave is wrong: the text names the file, the field and what to do.

    Attributes:
        origin: of an error that rank 0 had and this one passes on: its text; empty: it was none of the user's;
            None: this error is its own.
    """

    origin: str | None = None


class ConfigError(UserError):
    """A configuration file or override is wrong."""


class DatasetError(UserError):
    """A schema, an annotation file or an image is wrong."""


class InputError(DatasetError, ValueError):
    """What a program gave as an image is none."""


class CheckpointError(UserError):
    """A weight file or checkpoint is missing, damaged or does not fit the network."""


class NonFiniteError(CheckpointError, ValueError):
    """A network's output holds NaN or infinity: its weights or its input are damaged."""


class StoppedBySignal(Exception):  # noqa: N818  it is not an error
    """A signal ended the work early, with what is needed to continue saved; the text says how.

    Attributes:
        exit_code: 128 and the signal's number, as shells have it.
    """

    def __init__(self, number: int, text: str = "") -> None:
        name = signal.Signals(number).name
        super().__init__(f"stopped by {name}{': ' + text if text else ''}")
        self.number = number
        self.exit_code = 128 + number


_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxdict = _SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = 10
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 150


def short_repr(value: Any) -> str:
    """Return a value as an error shows it: at most 200 characters.

    Unlike ``repr``, which of lists that share lists takes time and memory without bound, and
    fails on a whole number of thousands of digits.
    """
    try:
        return _SHORT.repr(value)[:200]
    except Exception:  # whatever the value's own __repr__ raises
        return f"a {type(value).__name__}"


def escape_control(text: str) -> str:
    """Return a text for a terminal: control characters, which could rewrite it, are spelled out."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
