"""Reading images and preparing them for a network."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coupled_embedding.data.io.archives import inside_archive, read_member
from coupled_embedding.data.io.data_errors import DataError, DataIssue
from coupled_embedding.data.io.headers import Header, is_tiff, read_header, read_orientation
from coupled_embedding.data.records import MAX_PIXELS, ImageRecord

MAX_BYTES = 2**30  # of an image's file

# of ImageNet, red, green, blue, for values 0..255
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)

# what is subtracted from and what divides the values 0..255 of red, green, blue
PIXELS = {"imagenet": (MEAN, STD), "unit": ((0.0,) * 3, (255.0,) * 3), "symmetric": ((127.5,) * 3, (127.5,) * 3)}

# reduction -> OpenCV's flag for decoding a JPEG that many times smaller
REDUCED_FLAGS = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR,
}


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image.

    Attributes:
        pixels: (⌈height/reduction⌉, ⌈width/reduction⌉, 3) uint8, blue, green, red.
        reduction: 8, 4, 2 or 1.
        orientation: the file's EXIF orientation, 1 to 8.
        turned: whether the pixels were turned as it says.
    """

    pixels: NDArray[np.uint8]
    reduction: int = 1
    orientation: int = 1
    turned: bool = False


def upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn stored pixels (h, w, 3) as an EXIF orientation of 1 to 8 says."""
    turned: Any = image
    if orientation >= 5:
        turned = cv2.transpose(turned)
    if orientation in (3, 7):
        turned = cv2.flip(turned, -1)
    elif orientation in (2, 6):
        turned = cv2.flip(turned, 1)
    elif orientation in (4, 8):
        turned = cv2.flip(turned, 0)
    return np.asarray(turned, np.uint8)


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image as (height, width, 3) uint8, blue, green, red, upright; the first frame of an animation.

    Args:
        path: a file, or ``archive.zip/name`` inside a zip file.

    Raises:
        DataError: the file is missing, not an image, cut off or larger than `MAX_PIXELS`.
    """
    return decode_image(read_file(path), path)


def decode_image(content: bytes, path: Path) -> NDArray[np.uint8]:
    """Return the image in a file's bytes, as `read_image`; ``path`` is what errors call it."""
    _check_header(path, read_header(content))
    return upright(_decode(path, content), read_orientation(content))


def read_file(path: Path) -> bytes:
    """Return a file's bytes, also of one inside a zip file; DataError if it cannot be read."""
    try:
        # a pipe would wait for ever for content
        with open(path, "rb", buffering=0, opener=_open_at_once) as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode) or state.st_size > MAX_BYTES:
                raise _fault(path, f"cannot read this image (no file of at most {MAX_BYTES} bytes)")
            return file.read()
    except (FileNotFoundError, NotADirectoryError) as error:
        if packed := inside_archive(path):
            return read_member(*packed, MAX_BYTES)
        raise _fault(path, f"cannot read this image ({error.strerror})") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL byte or half a character
        raise _fault(path, f"cannot read this image ({getattr(error, 'strerror', None) or error})") from error


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _fault(path: Path, text: str) -> DataError:
    return DataError(DataIssue(str(path), text))


def _check_header(path: Path, header: Header) -> None:
    """Raise DataError for what shows before decoding: a file of a few bytes may claim any size."""
    if header.size and header.size[0] * header.size[1] > MAX_PIXELS:
        raise _fault(path, f"the image is {header.size[0]}×{header.size[1]} pixels; at most {MAX_PIXELS} are read")
    if header.cut:
        raise _fault(path, "the file ends before its image data does (cut off)")


def is_turned(record: ImageRecord, size: tuple[int, int], orientation: int) -> bool:
    """Whether pixels stored as (width, height) have to be turned by an EXIF orientation, as a record's policy says.

    Raises:
        DataError: neither the stored nor the turned size is the annotated one.
    """
    annotated = (record.width, record.height)
    turned = size[::-1] if orientation >= 5 else size
    wanted = {"auto": (turned, size), "upright": (turned,), "stored": (size,)}[record.orientation]
    if annotated not in wanted:
        exif = f" (EXIF orientation {orientation}: stored as {size[0]}×{size[1]})" if orientation > 1 else ""
        shown = wanted[0]
        raise _fault(
            record.path,
            f"the image is {shown[0]}×{shown[1]} pixels{exif}, but image {record.image_id} is annotated as "
            f"{record.width}×{record.height}",
        )
    return orientation > 1 and record.orientation != "stored" and annotated == turned


def _decode(path: Path, content: bytes, reduction: int = 1) -> NDArray[np.uint8]:
    """Return the pixels as stored; turning them is left to `upright`."""
    flags = REDUCED_FLAGS[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    except cv2.error as error:
        raise _fault(path, f"not an image that OpenCV can read ({error.err or error!s:.100})") from error
    if image is None:
        raise _fault(path, f"not an image that OpenCV can read ({len(content)} bytes)")
    pixels = np.asarray(image, np.uint8)
    # OpenCV turns TIFF files regardless of the flags; 6 and 8 undo each other, the others themselves
    return upright(pixels, {6: 8, 8: 6}.get(o := read_orientation(content), o)) if is_tiff(content) else pixels


def read_record_image(record: ImageRecord) -> NDArray[np.uint8]:
    """Read a record's image; DataError also if its size is not the annotated one."""
    return read_image_for_warp(record, 1.0).pixels


def read_image_for_warp(record: ImageRecord, shrink: float) -> DecodedImage:
    """Read a record's image, as small as a warp that shrinks it anyway can do with.

    A JPEG decodes faster at a half, a quarter or an eighth of its size, from the low frequencies of its blocks. The
    warp then still shrinks, so it shows all detail that it could show; a bilinear warp of the whole image would skip
    pixels instead (aliasing). An EXIF orientation is followed, as the released program does, unless the annotated size
    says that annotations were made on the stored pixels.

    Args:
        shrink: image pixels per pixel of the warp's result; the reduction is at most that, and 1
            for files that are no JPEG.

    Raises:
        DataError: the file is missing, not an image, cut off or not of the annotated size.
    """
    content = read_file(record.path)
    header, orientation = read_header(content), read_orientation(content)
    if header.size:
        is_turned(record, header.size, orientation)
    _check_header(record.path, header)
    # other formats would be decoded whole anyway
    reduction = max((r for r in REDUCED_FLAGS if r <= shrink), default=1) if header.is_jpeg else 1
    pixels = _decode(record.path, content, reduction)
    # a reduced image does not show the whole size
    size = header.size if reduction > 1 and header.size else (pixels.shape[1], pixels.shape[0])
    turned = is_turned(record, size, orientation)
    return DecodedImage(upright(pixels, orientation) if turned else pixels, reduction, orientation, turned)


def orientation_issue(record: ImageRecord, decoded: DecodedImage) -> DataIssue:
    """Say how an image with an EXIF orientation was read."""
    how = "turned upright" if decoded.turned else "read as stored, whose size the annotations have"
    text = f"EXIF orientation {decoded.orientation}: {how} (DATASET.ORIENTATION stored or upright chooses)"
    return DataIssue(str(record.path), text, "orientation", record.image_id)


def normalize(images: Tensor, pixels: str = "imagenet") -> Tensor:
    """Turn uint8 RGB images (B, H, W, 3) into the network's float32 input (B, 3, H, W), in channels-last memory.

    Args:
        pixels: a key of `PIXELS`: ``"imagenet"``: mean 0, deviation 1 over ImageNet; ``"unit"``: 0 to 1.
    """
    # without non_blocking the copy would wait for all that the device still has to do
    mean, std = (torch.tensor(values).to(images.device, non_blocking=True) for values in PIXELS[pixels])
    return ((images.float() - mean) / std).permute(0, 3, 1, 2)
