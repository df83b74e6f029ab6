"""Images put together and saved."""

import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure

from coupled_embedding.utils.atomic import atomic_write
from coupled_embedding.utils.errors import UserError
from coupled_embedding.visualize.palette import INK, Color, Image, checked_image

_PAPER: Color = (255, 255, 255)
_GAP = 8  # pixels between images
_LEAST_HEIGHT = 384  # pixels of a panel in a comparison, so that its caption is readable
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95]
_ENCODINGS = {".png": [], ".jpg": _JPEG, ".jpeg": _JPEG}


def side_by_side(images: Sequence[Image], labels: Sequence[str], height: int | None = None) -> Image:
    """Return images in a row, scaled to one height, with a caption under each.

    Args:
        images: one or more (H, W, 3) uint8 BGR, sizes may differ.
        labels: a caption for each; one too long for its image is set smaller, then cut.
        height: of the images in pixels; None: of the highest one, at least 384.
    """
    if not images or len(images) != len(labels):
        raise ValueError(f"expected one label for each image, got {len(images)} images and {len(labels)} labels")
    images = [checked_image(image) for image in images]
    height = height or max(_LEAST_HEIGHT, *(image.shape[0] for image in images))
    panels = []
    for image, label in zip(images, labels):
        width = max(round(image.shape[1] * height / image.shape[0]), 1)
        panels.append(captioned(_resized(image, (width, height)), label))
    gap = np.full((panels[0].shape[0], _GAP, 3), _PAPER, np.uint8)
    row = [piece for panel in panels for piece in (gap, panel)]
    return np.concatenate(row[1:], axis=1)


def contact_sheet(images: Sequence[Image], columns: int, cell: tuple[int, int] = (320, 240)) -> Image:
    """Return images on white paper in rows, each scaled to fit the middle of a cell.

    Args:
        images: one or more (H, W, 3) uint8 BGR, sizes may differ.
        columns: cells in a row.
        cell: (width, height) of a cell in pixels.
    """
    if not images or columns < 1 or min(cell) < 1:
        raise ValueError(f"expected images, columns and a cell size, got {len(images)}, {columns} and {cell}")
    columns = min(columns, len(images))
    width, height = cell
    rows = -(-len(images) // columns)
    sheet = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), _PAPER, np.uint8)
    for place, image in enumerate(images):
        panel = fitted(checked_image(image), cell)
        row, column = divmod(place, columns)
        top = row * (height + _GAP) + (height - panel.shape[0]) // 2
        left = column * (width + _GAP) + (width - panel.shape[1]) // 2
        sheet[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
    return sheet


def save_image(path: str | Path, image: Image) -> None:
    """Write a (H, W, 3) uint8 BGR image as PNG or JPEG, by the name's ending; makes the folder.

    Raises:
        UserError: the ending is another, or the file cannot be written.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in _ENCODINGS:
        raise UserError(f"{path}: cannot save an image as '{path.suffix}'; use .png, .jpg or .jpeg")
    # imwrite fails silently, and on some systems for names beyond ASCII
    done, data = cv2.imencode(path.suffix.lower(), checked_image(image), _ENCODINGS[path.suffix.lower()])
    if not done:
        raise UserError(f"{path}: an image of {image.shape[1]} x {image.shape[0]} pixels does not fit this format")
    atomic_write(path, data.tobytes(), "this image")


def captioned(image: Image, label: str) -> Image:
    """Return an image with a caption below, in a size that fits."""
    height, width = image.shape[:2]
    size = float(np.clip(height / 800, 0.45, 2.0))  # of the letters, in OpenCV's unit
    strip = np.full((round(46 * size), width, 3), _PAPER, np.uint8)
    text, size = _fitting(label, size, width - 4)
    weight = 2 if size > 1 else 1
    (wide, high), _ = cv2.getTextSize(text, _FONT, size, weight)
    place = ((width - wide) // 2, (strip.shape[0] + high) // 2)
    cv2.putText(strip, text, place, _FONT, size, INK, weight, cv2.LINE_AA)
    return np.concatenate([image, strip])


def _fitting(label: str, size: float, width: int) -> tuple[str, float]:
    """Return a text and letter size at most ``width`` pixels wide: smaller if need be, then cut."""
    needed = cv2.getTextSize(label, _FONT, size, 1)[0][0]
    if needed > width:
        size = max(size * width / needed, 0.38)
    text = label
    while text and cv2.getTextSize(text, _FONT, size, 1)[0][0] > width:
        text = text.removesuffix("...")[:-1]
        text = text + "..." if text else ""
    return text, size


def fitted(image: Image, cell: tuple[int, int]) -> Image:
    """Return an image as large as it fits a (width, height), its ratio kept."""
    scale = min(cell[0] / image.shape[1], cell[1] / image.shape[0])
    return _resized(image, (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)))


def _resized(image: Image, size: tuple[int, int]) -> Image:
    smaller = size[0] < image.shape[1]
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC), np.uint8)


def save_figure(path: str | Path, figure: Figure) -> None:
    """Write a figure of matplotlib's as an image file, whole; UserError if it cannot be written."""
    content = io.BytesIO()
    figure.savefig(content, format=Path(path).suffix.lstrip(".") or "png", dpi=110)
    atomic_write(Path(path), content.getvalue(), "this plot")
