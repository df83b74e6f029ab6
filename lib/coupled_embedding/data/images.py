"""Reading photos and preparing them for a network."""

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coupled_embedding.data.records import ImageRecord
from coupled_embedding.errors import DatasetError

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
    """Read a photo as (height, width, 3) uint8, blue, green, red.

    Args:
        honour_orientation: turn the picture as its EXIF tag says. Annotations of COCO and
            CrowdPose belong to the pixels as stored.

    Raises:
        DatasetError: the file is missing or not a picture.
    """
    flags = cv2.IMREAD_COLOR if honour_orientation else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    return _decode(path, _content(path), flags)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot read this photo ({error.strerror})") from error


def _decode(path: Path, content: bytes, flags: int) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    if image is None:
        raise DatasetError(f"{path}: not a picture that OpenCV can read ({len(content)} bytes)")
    return np.asarray(image, np.uint8)


def read_photo(record: ImageRecord) -> NDArray[np.uint8]:
    """Read a record's photo; DatasetError also if its size is not the annotated one."""
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
        DatasetError: the file is missing, not a picture or not of the annotated size.
    """
    content = _content(record.path)
    reduction = max((r for r in REDUCED_FLAGS if r <= shrink), default=1)
    # a reduced picture cannot tell its whole size, and other formats would be decoded whole anyway
    if reduction > 1 and jpeg_size(content) != (record.width, record.height):
        reduction = 1
    image = _decode(record.path, content, REDUCED_FLAGS[reduction] | cv2.IMREAD_IGNORE_ORIENTATION)
    if reduction > 1:
        return image, reduction
    height, width = image.shape[:2]
    if (width, height) != (record.width, record.height):
        raise DatasetError(
            f"{record.path}: the photo is {width}×{height} pixels, but image {record.image_id} is annotated as "
            f"{record.width}×{record.height}"
        )
    return image, 1


def jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Return the (width, height) in a JPEG file's frame header; None if there is none."""
    place = 2
    if content[:place] != b"\xff\xd8":
        return None
    while place + 9 <= len(content) and content[place] == 0xFF:
        marker, length = content[place + 1], int.from_bytes(content[place + 2 : place + 4])
        if marker == 0xFF:  # a fill byte
            place += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame, of any kind
            height, width = content[place + 5 : place + 7], content[place + 7 : place + 9]
            return int.from_bytes(width), int.from_bytes(height)
        else:
            place += 2 + length
    return None


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
