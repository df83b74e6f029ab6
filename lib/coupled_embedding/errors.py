"""Errors that a user can mend. Commands print their text without a traceback."""


class UserError(Exception):
    """Something the user gave is wrong: the text names the file, the field and what to do."""


class ConfigError(UserError):
    """A configuration file or override is wrong."""


class DatasetError(UserError):
    """A schema, an annotation file or a photo is wrong."""


class CheckpointError(UserError):
    """A weight file or checkpoint is missing, damaged or does not fit the network."""
