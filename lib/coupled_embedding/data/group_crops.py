"""MPII's groups of people: who is in one, and the part of the image that its test shows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

# in the units of MPII's `scale`, a person's height over 200 pixels
HEIGHT = 200.0
GROUP_GAP = 1.0  # people nearer to each other than this many heights are of one group
CROP_MARGIN = 0.75  # of a crop around the centers, in heights: a center lies about the middle of a person


class Crop(NamedTuple):
    """A rectangle, in image pixels."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def region(self) -> tuple[float, float, float]:
        """Center x, center y and side of the smallest square around the crop: an `ImageRecord.region`."""
        center = (self.left + self.right) / 2, (self.top + self.bottom) / 2
        return *center, max(self.right - self.left, self.bottom - self.top)

    def inside(self, width: int, height: int) -> "Crop":
        """Return the part that is inside an image; all of it, where none is."""
        left, right = max(self.left, 0.0), min(self.right, float(width))
        top, bottom = max(self.top, 0.0), min(self.bottom, float(height))
        return Crop(left, top, right, bottom) if left < right and top < bottom else self

    def holds(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return whether points (P, 2) are inside, (P,)."""
        low, high = (self.left, self.top), (self.right, self.bottom)
        return np.asarray(((points >= low) & (points <= high)).all(-1))


def group_crop(centers: NDArray[np.floating], scales: NDArray[np.floating]) -> Crop:
    """Return what a test may show of a group: around its people's centers, by the mean of their scales.

    Neither how many people there are nor where or how large each is follows from it, as the benchmark demands.

    Args:
        centers: (N, 2) in image pixels, N of 1 or more; scales: (N,) heights over 200 pixels.
    """
    margin = CROP_MARGIN * HEIGHT * float(scales.mean())
    left, top = (centers.min(0) - margin).tolist()
    right, bottom = (centers.max(0) + margin).tolist()
    return Crop(left, top, right, bottom)


def find_groups(centers: NDArray[np.floating], scales: NDArray[np.floating]) -> list[int]:
    """Return the group of each of an image's people, numbered from 1 in order of appearance; 0: of none.

    People are of one group if a chain of neighbors connects them, each nearer to the next than the mean of their
    heights; a person without a neighbor is of none. The benchmark's own list of groups is another file.

    Args:
        centers: (N, 2) in image pixels; scales: (N,).
    """
    if not len(centers):
        return []
    distances = np.linalg.norm(centers[:, None] - centers[None], axis=-1)
    heights = HEIGHT * (scales[:, None] + scales[None]) / 2
    _, labels = connected_components(distances < GROUP_GAP * heights, directed=False)
    numbers: dict[int, int] = {}
    sizes = np.bincount(labels)
    return [0 if sizes[one] < 2 else numbers.setdefault(one, len(numbers) + 1) for one in labels.tolist()]


def nearest_crop(points: NDArray[np.float64], crops: Sequence[Crop]) -> NDArray[np.int64]:
    """Return for points (P, 2) the position of the crop that holds each, (P,); -1: none does.

    Of several the one counts whose center is nearest, measured in parts of the crop's sides, so that a pose is of one
    group even where crops overlap.
    """
    if not crops or not len(points):
        return np.full(len(points), -1, np.int64)
    sides = np.array([(c.right - c.left, c.bottom - c.top) for c in crops])
    middles = np.array([(c.left + c.right, c.top + c.bottom) for c in crops]) / 2
    held = np.stack([crop.holds(points) for crop in crops], 1)
    offsets = np.abs((points[:, None] - middles) / np.where(sides > 0, sides, 1)).max(-1)
    return np.where(held.any(1), np.where(held, offsets, np.inf).argmin(1), -1)
