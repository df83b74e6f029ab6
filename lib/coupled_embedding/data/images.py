"""Reading photos and preparing them for a network."""

import os
import stat
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coupled_embedding.data.archives import inside_archive, read_member
from coupled_embedding.data.bad_input import BadInputError, Problem
from coupled_embedding.data.headers import Header, read_header
from coupled_embedding.data.records import MAX_PIXELS, ImageRecord

MAX_BYTES = 2**30  # of a photo's file

# of ImageNet, red, green, blue, for values 0..255
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)

# what is subtracted from and what divides the values 0..255 of red, green, blue
PIXELS = {"imagenet": (MEAN, STD), "unit": ((0.0,) * 3, (255.0,) * 3)}

# OpenCV's flag for decoding a JPEG so many times smaller
REDUCED_FLAGS = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR,
}


def read_image(path: Path, honour_orientation: bool = False) -> NDArray[np.uint8]:
    """Read a photo as (height, width, 3) uint8, blue, green, red; the first picture of an animation.

    Args:
        path: a file, or ``archive.zip/name`` inside a zip file.
        honour_orientation: turn the picture as its EXIF tag says. Annotations of COCO and
            CrowdPose belong to the pixels as stored.

    Raises:
        BadInputError: the file is missing, not a picture, cut off or larger than `MAX_PIXELS`.
    """
    content = read_file(path)
    _check_header(path, read_header(content), None)
    flags = cv2.IMREAD_COLOR if honour_orientation else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    return _decode(path, content, flags)


def read_file(path: Path) -> bytes:
    """Return a file's bytes, also of one inside a zip file; BadInputError if it cannot be read."""
    try:
        # a pipe would wait for ever for somebody to write into it
        with open(path, "rb", buffering=0, opener=_open_at_once) as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode) or state.st_size > MAX_BYTES:
                raise _fault(path, f"cannot read this photo (no file of at most {MAX_BYTES} bytes)")
            return file.read()
    except (FileNotFoundError, NotADirectoryError) as error:
        packed = inside_archive(path)
        if packed:
            return read_member(*packed, MAX_BYTES)
        raise _fault(path, f"cannot read this photo ({error.strerror})") from error
    except OSError as error:
        raise _fault(path, f"cannot read this photo ({error.strerror or error})") from error
    except ValueError as error:  # a name with a NUL byte or half a character
        raise _fault(path, f"cannot read this photo ({error})") from error


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _fault(path: Path, text: str) -> BadInputError:
    return BadInputError(Problem(str(path), text))


def _check_header(path: Path, header: Header, record: ImageRecord | None) -> None:
    """Raise BadInputError for what shows before decoding: a file of a few bytes may claim any size."""
    if header.size and record:
        _check_size(header.size, record)
    if header.size and header.size[0] * header.size[1] > MAX_PIXELS:
        raise _fault(path, f"the photo is {header.size[0]}×{header.size[1]} pixels; at most {MAX_PIXELS} are read")
    if header.cut:
        raise _fault(path, "the file ends before its picture does (cut off)")


def _check_size(size: tuple[int, int], record: ImageRecord) -> None:
    if size != (record.width, record.height):
        raise _fault(
            record.path,
            f"the photo is {size[0]}×{size[1]} pixels, but image {record.image_id} is annotated as "
            f"{record.width}×{record.height}",
        )


def _decode(path: Path, content: bytes, flags: int) -> NDArray[np.uint8]:
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    except cv2.error as error:
        raise _fault(path, f"not a picture that OpenCV can read ({error.err or error!s:.100})") from error
    if image is None:
        raise _fault(path, f"not a picture that OpenCV can read ({len(content)} bytes)")
    return np.asarray(image, np.uint8)


def read_photo(record: ImageRecord) -> NDArray[np.uint8]:
    """Read a record's photo; BadInputError also if its size is not the annotated one."""
    image, _ = read_photo_for_warp(record, 1.0)
    return image


def read_photo_for_warp(record: ImageRecord, shrink: float) -> tuple[NDArray[np.uint8], int]:
    """Read a record's photo, as small as a warp that shrinks it anyway can do with.

    A JPEG decodes faster at a half, a quarter or an eighth of its size, from the low
    frequencies of its blocks. The warp then still shrinks, so it shows all detail that it
    could show; a bilinear warp of the whole photo would skip pixels instead (aliasing).

    Args:
        shrink: photo pixels per pixel of the warp's result.

    Returns:
        (⌈height/r⌉, ⌈width/r⌉, 3) uint8, blue, green, red, and r: 8, 4, 2 or 1, at most
        ``shrink``; 1 for files that are no JPEG.

    Raises:
        BadInputError: the file is missing, not a picture, cut off or not of the annotated size.
    """
    content = read_file(record.path)
    header = read_header(content)
    _check_header(record.path, header, record)
    reduction = max((r for r in REDUCED_FLAGS if r <= shrink), default=1)
    # other formats would be decoded whole anyway
    if not header.is_jpeg:
        reduction = 1
    image = _decode(record.path, content, REDUCED_FLAGS[reduction] | cv2.IMREAD_IGNORE_ORIENTATION)
    if reduction == 1:  # a reduced picture cannot tell its whole size
        _check_size((image.shape[1], image.shape[0]), record)
    return image, reduction


def normalise(images: Tensor, pixels: str = "imagenet") -> Tensor:
    """Turn uint8 RGB images (B, H, W, 3) into the network's float32 input (B, 3, H, W).

    The memory stays as it is, so the result is channels-last.

    Args:
        pixels: a key of `PIXELS`: ``"imagenet"``: mean 0, deviation 1 over ImageNet;
            ``"unit"``: 0 to 1.
    """
    # without non_blocking the copy would wait for all that the device still has to do
    mean, std = (torch.tensor(values).to(images.device, non_blocking=True) for values in PIXELS[pixels])
    return ((images.float() - mean) / std).permute(0, 3, 1, 2)
