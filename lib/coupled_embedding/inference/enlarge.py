"""Bilinear enlargement (align_corners=False) of whole maps and at single pixels, as torch does it."""

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def source_positions(size_in: int, size_out: int):  # type: ignore[no-untyped-def]
    """Return, for each output pixel, the two input cells and the second one's weight."""
    first = np.empty(size_out, np.int64)
    second = np.empty(size_out, np.int64)
    weight = np.empty(size_out, np.float32)
    ratio = np.float32(size_in) / np.float32(size_out)
    for i in range(size_out):
        source = ratio * (np.float32(i) + np.float32(0.5)) - np.float32(0.5)
        source = max(source, np.float32(0))
        first[i] = min(int(source), size_in - 1)
        second[i] = min(first[i] + 1, size_in - 1)
        weight[i] = min(max(source - np.float32(first[i]), np.float32(0)), np.float32(1))
    return first, second, weight


@njit(cache=True, nogil=True)
def enlarge(small: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Enlarge a map (h, w) to (height, width)."""
    y0, y1, wy = source_positions(small.shape[0], height)
    x0, x1, wx = source_positions(small.shape[1], width)
    rows = np.empty((small.shape[0], width), np.float32)
    one = np.float32(1)
    for y in range(small.shape[0]):
        source = small[y]
        for x in range(width):
            rows[y, x] = (one - wx[x]) * source[x0[x]] + wx[x] * source[x1[x]]
    out = np.empty((height, width), np.float32)
    for y in range(height):
        above, below, w = rows[y0[y]], rows[y1[y]], wy[y]
        for x in range(width):
            out[y, x] = (one - w) * above[x] + w * below[x]
    return out
