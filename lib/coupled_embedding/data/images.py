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


def read_image(path: Path, honour_orientation: bool = False) -> NDArray[np.uint8]:
    """Read a photo as (height, width, 3) uint8, blue, green, red.

    Args:
        honour_orientation: turn the picture as its EXIF tag says. Annotations of COCO and
            CrowdPose belong to the pixels as stored.

    Raises:
        DatasetError: the file is missing or not a picture.
    """
    flags = cv2.IMREAD_COLOR if honour_orientation else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        content = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise DatasetError(f"{path}: cannot read this photo ({error.strerror})") from error
    image = cv2.imdecode(content, flags) if content.size else None
    if image is None:
        raise DatasetError(f"{path}: not a picture that OpenCV can read ({content.size} bytes)")
    return np.asarray(image, np.uint8)


def read_photo(record: ImageRecord) -> NDArray[np.uint8]:
    """Read a record's photo; DatasetError also if its size is not the annotated one."""
    image = read_image(record.path)
    height, width = image.shape[:2]
    if (width, height) != (record.width, record.height):
        raise DatasetError(
            f"{record.path}: the photo is {width}×{height} pixels, but image {record.image_id} is annotated as "
            f"{record.width}×{record.height}"
        )
    return image


def normalise(images: Tensor) -> Tensor:
    """Turn uint8 RGB images (B, H, W, 3) into the network's float32 input (B, 3, H, W).

    The memory stays as it is, so the result is channels-last.
    """
    mean = torch.tensor(MEAN, device=images.device)
    std = torch.tensor(STD, device=images.device)
    return ((images.float() - mean) / std).permute(0, 3, 1, 2)
