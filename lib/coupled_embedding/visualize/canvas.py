"""Sub-pixel drawing on a part of an image.

OpenCV's anti-aliased marks come out 1.4 pixels wider than requested, which drowns small people.
A canvas upsamples its part of the image, draws there, and averages back: fractional widths, exact
places, and pixels that nothing touches keep their value.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
from numpy.typing import NDArray

from coupled_embedding.visualize.palette import Color, Image

Points = NDArray[np.float64]

_SHIFT = 4  # fractional bits of the coordinates that OpenCV gets
_LINE_EXCESS = 1.4  # what OpenCV adds to the width of an anti-aliased line of even width
_DISC_EXCESS = 0.5  # and to the radius of an anti-aliased disc
_FAR = 1e6  # pixels; keeps coordinates of points far outside within 32 bits


class Canvas:
    """Draws on a part of an image; `paste` puts the drawing into the image.

    Coordinates and sizes are pixels of the image, with pixel centers at whole numbers.

    Args:
        image: (H, W, 3) uint8, changed in place.
        points: (P, 2); the part is the pixels within ``margin`` pixels of the box around them.
        margin: marks are cut there.
        fineness: sub-pixels per pixel and axis.
    """

    def __init__(self, image: Image, points: Points, margin: float, fineness: int) -> None:
        size = image.shape[1::-1]
        left, top = np.clip(np.floor(points.min(axis=0) - margin), 0, size).astype(int)
        right, bottom = np.clip(np.ceil(points.max(axis=0) + margin) + 1, 0, size).astype(int)
        self._target, self._origin, self._fineness = image[top:bottom, left:right], np.array((left, top)), fineness
        self._pixels = self._target.repeat(fineness, axis=0).repeat(fineness, axis=1)

    @property
    def empty(self) -> bool:
        """Whether the canvas has no pixel, and so cannot be drawn on."""
        return not self._target.size

    def paste(self) -> None:
        """Put the drawing into the image."""
        height, width = self._target.shape[:2]
        self._target[:] = cv2.resize(self._pixels, (width, height), interpolation=cv2.INTER_AREA)

    @contextmanager
    def transparent(self, alpha: float) -> Iterator[None]:
        """Lay what the block draws onto the canvas with an opacity of 0 to 1; marks do not show through each other."""
        before = self._pixels.copy() if alpha < 1 else self._pixels
        yield
        if alpha < 1:
            cv2.addWeighted(self._pixels, alpha, before, 1 - alpha, 0, dst=self._pixels)

    def line(self, start: Points, end: Points, color: Color, width: float) -> None:
        """Draw a line with round ends, ``width`` pixels wide."""
        thickness = self._thickness(width)
        margin = (thickness + 2) << _SHIFT
        height, wide = (side << _SHIFT for side in self._pixels.shape[:2])
        # OpenCV would walk the whole of a line that ends far outside
        frame = (-margin, -margin, wide + 2 * margin, height + 2 * margin)
        visible, first, last = cv2.clipLine(frame, self._place(start), self._place(end))
        if visible:
            cv2.line(self._pixels, first, last, color, thickness, cv2.LINE_AA, _SHIFT)

    def disc(self, center: Points, color: Color, radius: float) -> None:
        """Fill a disc."""
        size = max(round((radius * self._fineness - _DISC_EXCESS) * 2**_SHIFT), 1)
        cv2.circle(self._pixels, self._place(center), size, color, -1, cv2.LINE_AA, _SHIFT)

    def ring(self, center: Points, color: Color, radius: float, width: float) -> None:
        """Draw a ring whose stroke, ``width`` pixels wide, is centered on ``radius``."""
        size = round(radius * self._fineness * 2**_SHIFT)
        cv2.circle(self._pixels, self._place(center), size, color, self._thickness(width), cv2.LINE_AA, _SHIFT)

    def _thickness(self, width: float) -> int:
        return max(2 * round((width * self._fineness - _LINE_EXCESS) / 2), 1)

    def _place(self, point: Points) -> tuple[int, int]:
        inside = np.clip(point, -_FAR, _FAR) - self._origin
        x, y = np.rint(((inside + 0.5) * self._fineness - 0.5) * 2**_SHIFT).astype(int)
        return int(x), int(y)
