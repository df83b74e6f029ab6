"""A photo's tags as the network put them out, read in place."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from coupled_embedding.decode.fast.upsample import Map, grid, mix_corners


@dataclass(frozen=True)
class TagLayer:
    """Tags that a network put out for one photo, or for its mirror image.

    Attributes:
        values: (h, w, K, D) float32, contiguous: a channels-last network's own order.
        flip_index: of a mirror image: for each joint, the joint that it becomes in a mirror.
    """

    values: Map
    flip_index: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Cells down and across."""
        return self.values.shape[0], self.values.shape[1]

    def channel(self, joint: int) -> int:
        """Return which of the K holds a joint."""
        return joint if self.flip_index is None else self.flip_index[joint]

    def at(self, joint: int, pixels: NDArray[np.int64], size: tuple[int, int]) -> Map:
        """Return a joint's tags (C, D) at pixels (C, 2) x, y of the layer enlarged to (H, W)."""
        cells = grid(self.shape, size)
        return _tags_at(self.values, cells, self.channel(joint), self.flip_index is not None, pixels)


@njit(cache=True, nogil=True)
def _tags_at(values, cells, joint, mirrored, pixels):
    rows, columns = cells
    out = np.empty((pixels.shape[0], values.shape[3]), np.float32)
    last = values.shape[1] - 1
    for c in range(pixels.shape[0]):
        x, y = pixels[c]
        above, below, left, right = rows.first[y], rows.second[y], columns.first[x], columns.second[x]
        if mirrored:
            left, right = last - left, last - right
        _mix_tags(values, above, below, left, right, joint, rows.weight[y], columns.weight[x], out[c])
    return out


@njit(cache=True, nogil=True)
def _mix_tags(values, above, below, left, right, joint, down, across, out):
    """Fill in a joint's tag (D,) between four cells of a layer (h, w, K, D)."""
    for t in range(values.shape[3]):
        a, b = values[above, left, joint, t], values[above, right, joint, t]
        c, d = values[below, left, joint, t], values[below, right, joint, t]
        out[t] = mix_corners(a, b, c, d, across, down)
