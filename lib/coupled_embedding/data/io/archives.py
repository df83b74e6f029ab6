"""Images inside zip files, such as COCO's own train2017.zip, read without unpacking them."""

import os
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path

from coupled_embedding.data.io.data_errors import DataError, DataIssue


def inside_archive(path: Path) -> tuple[Path, str] | None:
    """Split ``folder/train2017.zip/000009.jpg`` into the zip file and the name inside; None if no part is one."""
    for parent in path.parents:
        if parent.suffix.lower() == ".zip" and not parent.is_dir():
            return parent, path.relative_to(parent).as_posix()
    return None


def read_member(archive: Path, name: str, limit: int) -> bytes:
    """Return a file of a zip file: ``name`` inside it, or inside the folder there that is called like the archive.

    Raises:
        DataError: the archive or the file in it is missing, damaged, locked or larger than ``limit`` bytes.
    """
    wanted = (name, f"{archive.stem}/{name}")
    try:
        opened = _opened(str(archive), os.getpid())
        member = next((opened.NameToInfo[n] for n in wanted if n in opened.NameToInfo), None)
        if member is not None and member.file_size <= limit:
            return opened.read(member)
    except OSError as error:
        raise _fault(archive, name, f"cannot read this archive ({error.strerror or error})") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise _fault(archive, name, f"the archive is damaged ({error})") from error
    except (RuntimeError, NotImplementedError) as error:  # a password, or an unusual compression
        raise _fault(archive, name, f"the archive cannot be unpacked ({error})") from error
    if member is None:
        first = next(iter(opened.NameToInfo), "nothing")
        raise _fault(archive, name, f"the archive holds neither '{wanted[0]}' nor '{wanted[1]}', but '{first:.80}'")
    raise _fault(archive, name, f"unpacks to {member.file_size} bytes; the limit is {limit}")


def _fault(archive: Path, name: str, text: str) -> DataError:
    return DataError(DataIssue(str(archive / name), text))


@lru_cache(maxsize=8)
def _opened(archive: str, _process: int) -> zipfile.ZipFile:
    """Open an archive once per process: forked processes would move each other's place in a shared file."""
    return zipfile.ZipFile(archive)
