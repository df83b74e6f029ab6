"""Where the project's files are: one rule for every path in a config or schema, and which texts can be one."""

import unicodedata
from pathlib import Path

from coupled_embedding.utils.errors import UserError

# of file systems, bytes
_LONGEST_NAME = 255
_LONGEST_PATH = 4096
_LONGEST_OWN_NAME = 100  # so that file names made of three of them still fit

# a wheel holds the checkout's configs, schemas, models and tools here: see setup.py
_INSTALLED = Path(__file__).resolve().parents[1] / "_checkout"
CHECKOUT = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).resolve().parents[3]


def resolve(path: str | Path) -> Path:
    """Return ``path`` as given if it exists or is absolute, else as seen from the checkout.

    Configs name files such as ``datasets/coco.yaml`` relative to the top of the checkout, so
    that commands work from any working directory. Where the package was installed from a wheel, other files than its
    own, such as data sets, are relative to the working directory alone.
    """
    path = Path(path).expanduser()
    try:
        found = path.exists()
    except (OSError, ValueError) as error:  # a name too long, or with a NUL byte
        raise UserError(f"{str(path)[:200]!r} cannot be a path: {error}") from error
    inside = CHECKOUT / path
    if found or path.is_absolute() or (CHECKOUT == _INSTALLED and not inside.exists()):
        return path
    return inside


def path_error(text: str) -> str:
    """Say why a text from a file cannot be a path, or a name shown to a user; empty: it can.

    Control characters, NUL among them, and halves of UTF-16 pairs fail deep inside the operating
    system or rewrite a terminal.
    """
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in text):
        return "it holds control characters"
    if len(text.encode()) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in text.split("/")):
        return "it is too long"
    return ""


def name_error(name: str) -> str:
    """Say why a text cannot name a file or folder inside a folder of ours; empty: it can."""
    if "/" in name or "\\" in name or name in (".", ".."):
        return "it must be a single name, without '/', '\\' or '..'"
    if len(name.encode("utf-8", "replace")) > _LONGEST_OWN_NAME:
        return f"it is longer than {_LONGEST_OWN_NAME} bytes"
    return path_error(name)
