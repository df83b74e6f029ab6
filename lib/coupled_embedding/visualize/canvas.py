"""Sub-pixel drawing on a part of a picture.

OpenCV's anti-aliased marks come out 1.4 pixels wider than asked for, which drowns small people.
A canvas enlarges its part of the picture, draws there, and averages back: fractional widths, exact
places, and pixels that nothing touches keep their value.
"""

from dataclasses import dataclass
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from coupled_embedding.visualize.palette import Color, Image

Point = NDArray[np.float64]

_SHIFT = 4  # fractional bits of the coordinates that OpenCV gets
_LINE_EXCESS = 1.4  # what OpenCV adds to the width of an anti-aliased line of even width
_DISC_EXCESS = 0.5  # and to the radius of an anti-aliased disc
_FAR = 1e6  # pixels; keeps coordinates of points far outside within 32 bits


@dataclass(frozen=True)
class Region:
    """A rectangle of whole pixels: columns ``left`` to ``right`` and rows ``top`` to ``bottom``, ends excluded."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def empty(self) -> bool:
        """Whether the region holds no pixel."""
        return self.left >= self.right or self.top >= self.bottom


def region_around(points: NDArray[np.float64], margin: float, image: Image) -> Region:
    """Return the pixels of ``image`` within ``margin`` pixels of the box around points (P, 2)."""
    height, width = image.shape[:2]
    low = np.clip(np.floor(points.min(axis=0) - margin), 0, (width, height))
    high = np.clip(np.ceil(points.max(axis=0) + margin) + 1, 0, (width, height))
    return Region(int(low[0]), int(low[1]), int(high[0]), int(high[1]))


class Canvas:
    """Draws on a region of a picture; leaving the ``with`` block puts the drawing into the picture.

    Coordinates and sizes are pixels of the picture, with pixel centres at whole numbers.

    Args:
        image: (H, W, 3) uint8, changed in place.
        region: the part to draw on; marks are cut at its border.
        fineness: sub-pixels per pixel and axis.
    """

    def __init__(self, image: Image, region: Region, fineness: int) -> None:
        self._target = image[region.top : region.bottom, region.left : region.right]
        self._origin = np.array([region.left, region.top], np.float64)
        self._fineness = fineness
        self._pixels = self._target.repeat(fineness, axis=0).repeat(fineness, axis=1)

    def __enter__(self) -> "Canvas":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        height, width = self._target.shape[:2]
        self._target[:] = cv2.resize(self._pixels, (width, height), interpolation=cv2.INTER_AREA)

    def line(self, start: Point, end: Point, color: Color, width: float) -> None:
        """Draw a line with round ends, ``width`` pixels wide."""
        thickness = max(2 * round((width * self._fineness - _LINE_EXCESS) / 2), 1)
        margin = (thickness + 2) << _SHIFT
        height, wide = (side << _SHIFT for side in self._pixels.shape[:2])
        # OpenCV would walk the whole of a line that ends far outside
        frame = (-margin, -margin, wide + 2 * margin, height + 2 * margin)
        visible, first, last = cv2.clipLine(frame, self._place(start), self._place(end))
        if visible:
            cv2.line(self._pixels, first, last, color, thickness, cv2.LINE_AA, _SHIFT)

    def disc(self, center: Point, color: Color, radius: float) -> None:
        """Fill a disc."""
        size = max(round((radius * self._fineness - _DISC_EXCESS) * 2**_SHIFT), 1)
        cv2.circle(self._pixels, self._place(center), size, color, -1, cv2.LINE_AA, _SHIFT)

    def ring(self, center: Point, color: Color, radius: float, width: float) -> None:
        """Draw a ring whose stroke, ``width`` pixels wide, is centred on ``radius``."""
        thickness = max(2 * round((width * self._fineness - _LINE_EXCESS) / 2), 1)
        size = round(radius * self._fineness * 2**_SHIFT)
        cv2.circle(self._pixels, self._place(center), size, color, thickness, cv2.LINE_AA, _SHIFT)

    def _place(self, point: Point) -> tuple[int, int]:
        inside = np.clip(point, -_FAR, _FAR) - self._origin
        x, y = np.rint(((inside + 0.5) * self._fineness - 0.5) * 2**_SHIFT).astype(int)
        return int(x), int(y)
