"""Files written whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path

from coupled_embedding.utils.errors import UserError


def check_new(path: Path) -> None:
    """Raise UserError if a file exists that a command would overwrite."""
    if path.exists():
        raise UserError(f"{path} exists; delete it first to write it again")


def atomic_write(path: Path, content: str | bytes, what: str = "this file") -> None:
    """Write a temporary file, then rename it: a full disk or a kill leaves an older file as it was.

    Args:
        path: of the file; its folder is made.
        content: bytes, or text for UTF-8.
        what: what the file holds, for the error.

    Raises:
        UserError: it cannot be written; the text names the file.
    """
    # processes that write the same file must not write into each other's
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode())
        temporary.replace(path)
    except (OSError, UnicodeError) as error:
        raise UserError(f"{path}: cannot write {what} ({getattr(error, 'strerror', None) or error})") from error
    finally:
        with suppress(OSError):  # there is none after a rename
            temporary.unlink()
