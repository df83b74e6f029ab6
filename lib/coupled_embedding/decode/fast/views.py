"""The tags of an image in the network's own layout, read in place."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from coupled_embedding.decode.fast.upsample import Map, bilerp, grid


@dataclass(frozen=True)
class TagView:
    """Tags that a network outputs for one image, or for the flipped image.

    Attributes:
        values: (h, w, K, D) float32, contiguous: the layout of a channels-last network.
        flip_index: of a flipped image: for each joint, its partner.
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
        """Return a joint's tags (C, D) at pixels (C, 2) x, y of the view upsampled to (H, W)."""
        cells = grid(self.shape, size)
        return _tags_at(self.values, cells, self.channel(joint), self.flip_index is not None, pixels)


@njit(cache=True, nogil=True)
def _tags_at(values, cells, joint, flipped, pixels):
    rows, columns = cells
    out = np.empty((pixels.shape[0], values.shape[3]), np.float32)
    last = values.shape[1] - 1
    for c in range(pixels.shape[0]):
        x, y = pixels[c]
        above, below, left, right = rows.first[y], rows.second[y], columns.first[x], columns.second[x]
        if flipped:
            left, right = last - left, last - right
        _bilerp_tags(values, above, below, left, right, joint, rows.weight[y], columns.weight[x], out[c])
    return out


@njit(cache=True, nogil=True)
def _bilerp_tags(values, above, below, left, right, joint, down, across, out):
    """Fill in a joint's tag (D,) between four cells of a view (h, w, K, D)."""
    for t in range(values.shape[3]):
        a, b = values[above, left, joint, t], values[above, right, joint, t]
        c, d = values[below, left, joint, t], values[below, right, joint, t]
        out[t] = bilerp(a, b, c, d, across, down)
