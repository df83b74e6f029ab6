"""Bilinear enlargement (align_corners=False) of whole maps and at single pixels, as torch does it."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Map = NDArray[np.float32]


class Lattice(NamedTuple):
    """Where each of n output pixels lies between the cells of one axis.

    first, second: (n,) int64 the two cells; weight: (n,) float32 the second one's weight.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    weight: NDArray[np.float32]


class Grid(NamedTuple):
    """A map's cells under the pixels of its enlargement."""

    rows: Lattice
    columns: Lattice


@lru_cache(maxsize=64)
def lattice(size_in: int, size_out: int) -> Lattice:
    """Return the lattice of an axis of size_in cells enlarged to size_out pixels."""
    ratio = np.float32(size_in) / np.float32(size_out)
    source = ratio * (np.arange(size_out, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    source = np.maximum(source, np.float32(0))
    first = np.minimum(source.astype(np.int64), size_in - 1)
    second = np.minimum(first + 1, size_in - 1)
    weight = np.clip(source - first.astype(np.float32), np.float32(0), np.float32(1))
    for array in (first, second, weight):
        array.flags.writeable = False
    return Lattice(first, second, weight)


def grid(shape_in: tuple[int, ...], shape_out: tuple[int, ...]) -> Grid:
    """Return the grid of a map (h, w, ...) enlarged to (H, W)."""
    return Grid(lattice(shape_in[0], shape_out[0]), lattice(shape_in[1], shape_out[1]))


@njit(cache=True, nogil=True)
def mix(a: Any, b: Any, weight: Any) -> Any:
    """Return the point between two float32 numbers, rounded as torch rounds it."""
    return (np.float32(1) - weight) * a + weight * b


@njit(cache=True, nogil=True)
def mix_corners(a: Any, b: Any, c: Any, d: Any, across: Any, down: Any) -> Any:
    """Return the point between four float32 numbers: a, b above, c, d below."""
    return mix(mix(a, b, across), mix(c, d, across), down)


@njit(cache=True, nogil=True)
def value_at(small, cells, y, x):
    """Return pixel (y, x) of the enlargement of a map (h, w)."""
    above, below = cells.rows.first[y], cells.rows.second[y]
    left, right, weight = cells.columns.first[x], cells.columns.second[x], cells.columns.weight[x]
    return mix_corners(
        small[above, left], small[above, right], small[below, left], small[below, right], weight, cells.rows.weight[y]
    )


def enlarge(small: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Enlarge a map (h, w) to (height, width)."""
    return _enlarge(small, grid(small.shape, (height, width)))


@njit(cache=True, nogil=True)
def _enlarge(small, cells):
    rows, columns = cells
    height, width = len(rows.first), len(columns.first)
    wide = np.empty((small.shape[0], width), np.float32)
    for y in range(small.shape[0]):
        source = small[y]
        for x in range(width):
            wide[y, x] = mix(source[columns.first[x]], source[columns.second[x]], columns.weight[x])
    out = np.empty((height, width), np.float32)
    for y in range(height):
        above, below = wide[rows.first[y]], wide[rows.second[y]]
        for x in range(width):
            out[y, x] = mix(above[x], below[x], rows.weight[y])
    return out
