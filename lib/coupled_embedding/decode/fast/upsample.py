"""Bilinear upsampling (align_corners=False) of whole maps and at single pixels, rounded as torch rounds."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Map = NDArray[np.float32]


class AxisWeights(NamedTuple):
    """Where each of n output pixels lies between the cells of one axis.

    first, second: (n,) int64 the two cells; weight: (n,) float32 the second one's weight.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    weight: NDArray[np.float32]


class Grid(NamedTuple):
    """The cells of a map under the pixels of the upsampled map."""

    rows: AxisWeights
    columns: AxisWeights


@lru_cache(maxsize=64)
def axis_weights(size_in: int, size_out: int) -> AxisWeights:
    """Return the weights of an axis of size_in cells upsampled to size_out pixels."""
    ratio = np.float32(size_in) / np.float32(size_out)
    source = ratio * (np.arange(size_out, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    source = np.maximum(source, np.float32(0))
    first = np.minimum(source.astype(np.int64), size_in - 1)
    second = np.minimum(first + 1, size_in - 1)
    weight = np.clip(source - first.astype(np.float32), np.float32(0), np.float32(1))
    for array in (first, second, weight):
        array.flags.writeable = False
    return AxisWeights(first, second, weight)


def grid(shape_in: tuple[int, ...], shape_out: tuple[int, ...]) -> Grid:
    """Return the grid of a map (h, w, ...) upsampled to (H, W)."""
    return Grid(axis_weights(shape_in[0], shape_out[0]), axis_weights(shape_in[1], shape_out[1]))


@njit(cache=True, nogil=True)
def lerp(a: Any, b: Any, weight: Any) -> Any:
    """Interpolate between two float32 numbers, rounded as torch rounds."""
    return (np.float32(1) - weight) * a + weight * b


@njit(cache=True, nogil=True)
def bilerp(a: Any, b: Any, c: Any, d: Any, across: Any, down: Any) -> Any:
    """Interpolate between four float32 numbers: a, b above, c, d below."""
    return lerp(lerp(a, b, across), lerp(c, d, across), down)


@njit(cache=True, nogil=True)
def sample_at(small, cells, y, x):
    """Return pixel (y, x) of a map (h, w) after upsampling."""
    above, below = cells.rows.first[y], cells.rows.second[y]
    left, right, weight = cells.columns.first[x], cells.columns.second[x], cells.columns.weight[x]
    return bilerp(
        small[above, left], small[above, right], small[below, left], small[below, right], weight, cells.rows.weight[y]
    )


def upsample(small: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Upsample a map (h, w) to (height, width)."""
    return _upsample(small, grid(small.shape, (height, width)))


@njit(cache=True, nogil=True)
def _upsample(small, cells):
    rows, columns = cells
    height, width = len(rows.first), len(columns.first)
    wide = np.empty((small.shape[0], width), np.float32)
    for y in range(small.shape[0]):
        source = small[y]
        for x in range(width):
            wide[y, x] = lerp(source[columns.first[x]], source[columns.second[x]], columns.weight[x])
    out = np.empty((height, width), np.float32)
    for y in range(height):
        above, below = wide[rows.first[y]], wide[rows.second[y]]
        for x in range(width):
            out[y, x] = lerp(above[x], below[x], rows.weight[y])
    return out
