"""What people give to be predicted: arrays, Pillow images, tensors, files, folders, globs, videos, cameras."""

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from coupled_embedding.data.images import read_image
from coupled_embedding.utils.errors import DatasetError, InputError

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv"}
CHANNELS = ("bgr", "rgb")
_DEFAULT_RATE = 25.0  # frames/s of a video or camera that does not say

ImageLike = NDArray[np.uint8] | str | Path | Image.Image | Tensor
Pixels = NDArray[np.uint8]


def to_bgr(image: ImageLike, channels: str = "bgr") -> Pixels:
    """Return an image as (height, width, 3) uint8, blue, green, red, upright.

    Args:
        image: a file; an (h, w, 3) uint8 array; a Pillow image of any mode; a (3, h, w) tensor, red, green, blue, of
            uint8 or of floats from 0 to 1. Files and Pillow images are turned by their EXIF orientation.
        channels: of an array: ``"bgr"``, as OpenCV has them, or ``"rgb"``.

    Raises:
        DatasetError: the file cannot be read.
        InputError: it is none of these; also a ValueError.
    """
    if channels not in CHANNELS:
        raise InputError(f"channels: expected one of {', '.join(CHANNELS)}, got {channels!r:.80}")
    if isinstance(image, str | Path):
        return read_image(Path(image).expanduser())
    if isinstance(image, Image.Image):
        array, channels = np.asarray(ImageOps.exif_transpose(image).convert("RGB")), "rgb"
    elif isinstance(image, Tensor):
        array, channels = _tensor_to_rgb(image), "rgb"
    elif isinstance(image, np.ndarray):
        array = image
    else:
        kinds = "a file, an array, a Pillow image or a tensor"
        raise InputError(f"expected an image ({kinds}), got a {type(image).__name__}")
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or 0 in array.shape:
        raise InputError(f"expected a (height, width, 3) uint8 image, got {array.shape} {array.dtype}")
    return np.ascontiguousarray(array[..., ::-1] if channels == "rgb" else array)


def _tensor_to_rgb(image: Tensor) -> Pixels:
    if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        raise InputError(f"expected a tensor (3, height, width), red, green, blue, got {tuple(image.shape)}")
    if image.dtype != torch.uint8:
        if not image.is_floating_point():
            raise InputError(f"expected a tensor of uint8 or of floats from 0 to 1, got {image.dtype}")
        if not bool(((image >= 0) & (image <= 1)).all()):
            raise InputError("expected a tensor of floats from 0 to 1, got others; divide by 255, or give uint8")
        image = (image.float() * 255).round().to(torch.uint8)
    return image.detach().cpu().permute(1, 2, 0).numpy()


def is_camera(source: Any) -> bool:
    """Whether a source is a camera's number, such as 0 or "0", and no file of this name."""
    if isinstance(source, int) and not isinstance(source, bool):
        return True
    return isinstance(source, str) and source.isascii() and source.isdigit() and not Path(source).exists()


def is_video(source: Any) -> bool:
    """Whether a source is a video, by its name's ending, or a camera."""
    if isinstance(source, str | Path):
        return Path(source).suffix.lower() in VIDEOS or is_camera(source)
    return isinstance(source, Video) or is_camera(source)


def expand(source: Any) -> list[Any]:
    """Return the images, videos and cameras that a source names, folders' and globs' sorted by name.

    Args:
        source: a file, a folder (its images and videos, without subfolders), a glob, a camera's number, anything that
            `to_bgr` takes; or a list or tuple of these.

    Raises:
        DatasetError: a folder or glob has no images or videos.
    """
    if isinstance(source, list | tuple):
        return [entry for part in source for entry in expand(part)]
    if not isinstance(source, str | Path) or is_camera(source):
        return [source]
    path, found = Path(source).expanduser(), []
    if path.is_dir():
        found = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in IMAGES | VIDEOS)
    elif glob.has_magic(str(path)) and not path.exists():
        matches = map(Path, sorted(glob.glob(str(path), recursive=True)))
        found = [match for match in matches if match.suffix.lower() in IMAGES | VIDEOS]
    else:
        return [path]
    if not found:
        raise DatasetError(f"{path}: no images in it (looked for {', '.join(sorted(IMAGES | VIDEOS))})")
    return list(found)


@dataclass(frozen=True)
class Video:
    """A video file or a camera.

    Attributes:
        name: the file, or ``camera 0``.
        rate: frames per second; 25 where the video does not say.
        count: of its frames, as its header has it; 0: unknown.
        capture: OpenCV's reader.
        is_live: whether it is a camera.
    """

    name: str
    rate: float
    count: int
    capture: cv2.VideoCapture
    is_live: bool = False

    @classmethod
    def open(cls, source: str | int | Path) -> "Video":
        """Open a video file or a camera; DatasetError if it cannot be read."""
        camera = is_camera(source)
        if not camera and not Path(str(source)).is_file():
            raise DatasetError(f"{source}: no such video")
        capture = cv2.VideoCapture(int(source)) if camera else cv2.VideoCapture(str(source))  # type: ignore[arg-type]
        if not capture.isOpened():
            capture.release()
            raise DatasetError(
                f"camera {source}: cannot be opened; is it connected, and may this user read it?"
                if camera
                else f"{source}: not a video that OpenCV can read"
            )
        rate, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        return cls(
            f"camera {source}" if camera else str(source),
            float(rate) if 0 < rate < 1000 else _DEFAULT_RATE,
            int(count) if 0 < count < 1e9 and not camera else 0,
            capture,
            camera,
        )

    def frames(self) -> Iterator[Pixels]:
        """Yield the frames, (h, w, 3) uint8 BGR, once; then close the video.

        Raises:
            DatasetError: it has none.
        """
        number = 0
        try:
            while True:
                read, pixels = self.capture.read()
                if not read:
                    break
                yield np.asarray(pixels, np.uint8)
                number += 1
        finally:
            self.capture.release()
        if not number:
            raise DatasetError(f"{self.name}: has no frame that can be read")


def name_of(source: Any) -> str:
    """Return what errors and results call an image."""
    return str(source) if isinstance(source, str | Path) else str(getattr(source, "filename", "") or "image")
