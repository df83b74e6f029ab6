"""What an image file says of itself, without decoding it: size, orientation, and whether its end is there."""

import io
import warnings
from dataclasses import dataclass
from typing import Literal

from PIL import Image

_END_OF_JPEG = b"\xff\xd9"


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
        size: (width, height) in pixels as stored; None where the format is another, or broken.
        is_jpeg: whether it is a JPEG file with a size.
        cut: whether the file surely ends before its image data does.
    """

    size: tuple[int, int] | None = None
    is_jpeg: bool = False
    cut: bool = False


def read_header(content: bytes) -> Header:
    """Read the header of a JPEG, PNG, WebP, GIF or BMP file; that of another format is empty."""
    if content[:2] == b"\xff\xd8":
        return _jpeg(content)
    if content[:8] == b"\x89PNG\r\n\x1a\n":
        return Header(_size(content, 16, 20, 4, "big"), cut=not _png_ends(content))
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return Header(_webp_size(content), cut=int.from_bytes(content[4:8], "little") + 8 > len(content))
    if content[:4] == b"GIF8":
        return Header(_size(content, 6, 8, 2, "little"))
    if content[:2] == b"BM":
        return Header(_size(content, 18, 22, 4, "little"))
    return Header()


_EXIF_MARKS = (b"Exif\0\0", b"eXIf", b"EXIF")
_TIFF = (b"II*\0", b"MM\0*")
_ORIENTATION_TAG = 0x0112


def is_tiff(content: bytes) -> bool:
    """Whether a file is a TIFF image."""
    return content[:4] in _TIFF


def read_orientation(content: bytes) -> int:
    """Return a file's EXIF orientation, 1 to 8; 1, upright as stored, where it says nothing that can be read."""
    if not is_tiff(content) and not any(mark in content for mark in _EXIF_MARKS):
        return 1
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content)) as image:
            value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # Pillow raises many kinds for damaged files; the decoder has the last word on those
        return 1
    return value if value in range(1, 9) else 1


def _png_ends(content: bytes) -> bool:
    """Whether all chunks up to the last one are there; decoders make room for what a chunk says before they look."""
    place = 8
    while place + 12 <= len(content):
        end = place + 12 + int.from_bytes(content[place : place + 4])
        if content[place + 4 : place + 8] == b"IEND":
            return end <= len(content)
        place = end
    return False


def _jpeg(content: bytes) -> Header:
    size, place = None, 2
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        if marker == 0xDA:  # the scan
            # entropy-coded data escapes 0xFF, so this can only be the marker; thumbnails end before
            return Header(size, size is not None, cut=content.rfind(_END_OF_JPEG, place) < 0)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame, of any kind
            size = _size(content, place + 7, place + 5, 2, "big")
        place += 2 + int.from_bytes(content[place + 2 : place + 4])
    return Header(size, size is not None)


def _webp_size(content: bytes) -> tuple[int, int] | None:
    kind = content[12:16]
    if kind == b"VP8X":
        size = _size(content, 24, 27, 3, "little")
        return size and (size[0] + 1, size[1] + 1)
    if kind == b"VP8 ":
        size = _size(content, 26, 28, 2, "little")
        return size and (size[0] & 0x3FFF, size[1] & 0x3FFF)
    if kind == b"VP8L" and len(content) >= 25:
        bits = int.from_bytes(content[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None


def _size(
    content: bytes, width: int, height: int, length: int, order: Literal["big", "little"]
) -> tuple[int, int] | None:
    """Return (width, height) from their places in the file; None if it ends before."""
    if max(width, height) + length > len(content):
        return None
    # only a bitmap's height is signed: below 0 its rows go downwards
    signed = content[:2] == b"BM"
    fields = (content[place : place + length] for place in (width, height))
    x, y = (abs(int.from_bytes(field, order, signed=signed)) for field in fields)
    return x, y
