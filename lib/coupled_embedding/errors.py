"""Errors that a user can mend. Commands print their text without a traceback."""

import signal


class UserError(Exception):
    """Something the user gave is wrong: the text names the file, the field and what to do."""


class ConfigError(UserError):
    """A configuration file or override is wrong."""


class DatasetError(UserError):
    """A schema, an annotation file or a photo is wrong."""


class CheckpointError(UserError):
    """A weight file or checkpoint is missing, damaged or does not fit the network."""


class NotFiniteError(UserError, ValueError):
    """A network put out NaN or infinity."""


class StoppedBySignal(Exception):  # noqa: N818  it is no error
    """A signal ended the work early, with what is needed to continue saved; the text says how.

    Attributes:
        exit_code: 128 and the signal's number, as shells have it.
    """

    def __init__(self, number: int, text: str = "") -> None:
        name = signal.Signals(number).name
        super().__init__(f"stopped by {name}{': ' + text if text else ''}")
        self.number = number
        self.exit_code = 128 + number
