"""Bounds of an image's maps by cell blocks and tiles, which let refinement skip most pixels.

Pixels between the same four tag cells form a cell block, 8 × 8 blocks a tile.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from coupled_embedding.decode.fast.upsample import lerp

TILE = 8  # blocks along a tile's side
EPS = np.float32(2e-6)  # covers the last digits of float32 in bounds


class CellBlocks(NamedTuple):
    """First pixels of the rows and columns of blocks, and the end of the last one."""

    ys: NDArray[np.int64]
    xs: NDArray[np.int64]


@njit(cache=True, nogil=True)
def block_edges(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where runs of pixels between the same two tag cells begin, and the end."""
    edges = [0]
    for i in range(1, len(first)):
        if first[i] != first[i - 1] or second[i] != second[i - 1]:
            edges.append(i)
    edges.append(len(first))
    return np.array(edges)


@njit(cache=True, nogil=True)
def _cells_under(axis, edges, tile, count):
    """Return the first and last of an axis's cells under a tile.

    Cells that no pixel touches, as a reduced map has them, go to the tile before them: every
    cell is under some tile.
    """
    start, end = tile * TILE, min((tile + 1) * TILE, len(edges) - 1)
    first = axis.first[edges[start]] if start else 0
    last = axis.first[edges[end]] - 1 if end < len(edges) - 1 else count - 1
    return first, max(last, axis.second[edges[end] - 1])


@njit(cache=True, nogil=True)
def tile_ranges(values, flipped, cells, blocks):
    """Return bounds of the tags inside each tile, from the cells that it touches.

    Args:
        values: (h, w, K, D) tags.
        flipped: whether the columns run backwards.
        cells: the tags' grid.
        blocks: of the grid.

    Returns:
        The least and the largest values, (K, D, tiles) each, widened by rounding errors.
    """
    ys, xs = blocks
    rows, columns = cells
    down, across = (len(ys) + TILE - 2) // TILE, (len(xs) + TILE - 2) // TILE
    height, width = values.shape[:2]
    flat = values.reshape(height, width, -1)  # all joints at once: long runs of memory
    low = np.empty((down, across, flat.shape[2]), np.float32)
    high = np.empty((down, across, flat.shape[2]), np.float32)
    for i in range(down):
        top, bottom = _cells_under(rows, ys, i, height)
        for j in range(across):
            left, right = _cells_under(columns, xs, j, width)
            if flipped:
                left, right = width - 1 - right, width - 1 - left
            least, most = low[i, j], high[i, j]
            least[:] = flat[top, left]
            most[:] = flat[top, left]
            for x in range(left, right + 1):
                # three cells a turn, so that the ranges so far are read and written a third as often
                for y in range(top, bottom + 1, 3):
                    one, two, three = flat[y, x], flat[min(y + 1, bottom), x], flat[min(y + 2, bottom), x]
                    for c in range(flat.shape[2]):
                        least[c] = smaller(least[c], smaller(one[c], smaller(two[c], three[c])))
                        most[c] = larger(most[c], larger(one[c], larger(two[c], three[c])))
    return _by_channel(low, values.shape[2], -1), _by_channel(high, values.shape[2], 1)


@njit(cache=True, nogil=True)
def _by_channel(ranges, joints, side):
    """Return ranges (down, across, K·D) as (K, D, tiles), widened: interpolation rounds past its corners."""
    tiles = ranges.shape[0] * ranges.shape[1]
    flat = ranges.reshape(tiles, -1)
    out = np.empty((flat.shape[1], tiles), np.float32)
    for c in range(flat.shape[1]):
        for f in range(tiles):
            out[c, f] = flat[f, c] + side * abs(flat[f, c]) * EPS
    return out.reshape(joints, flat.shape[1] // joints, tiles)


@njit(cache=True, nogil=True)
def heatmap_bounds(heatmap, cells, blocks):
    """Bound the upsampled heatmap (h', w') inside each tile by the largest cell that it touches.

    Rounding errors are those of the cells, which may be far larger than what is left of them
    when they cancel: eps is that of the largest cell.

    Returns:
        The bounds, (tiles down, tiles across), and the eps that bounds of this heatmap need.
    """
    ys, xs = blocks
    rows, columns = cells
    out = np.empty(((len(ys) + TILE - 2) // TILE, (len(xs) + TILE - 2) // TILE), np.float32)
    above = np.empty(heatmap.shape[1], np.float32)
    below = np.full(heatmap.shape[1], np.float32(np.inf))
    size = np.float32(0)
    for i in range(out.shape[0]):
        above[:] = -np.inf
        top, bottom = _cells_under(rows, ys, i, heatmap.shape[0])
        for y in range(top, bottom + 1):  # one row after the other: many cells at a time
            for x in range(len(above)):
                above[x] = larger(heatmap[y, x], above[x])
                below[x] = smaller(heatmap[y, x], below[x])
        for j in range(out.shape[1]):
            most = np.float32(-np.inf)
            left, right = _cells_under(columns, xs, j, heatmap.shape[1])
            for x in range(left, right + 1):
                most = larger(above[x], most)
            out[i, j] = most
            size = larger(most, size)
    for x in range(len(below)):
        size = larger(-below[x], size)
    return out + size * EPS, size * EPS


@njit(cache=True, nogil=True)
def block_bounds(heatmap, cells, blocks, eps, i, j, out):
    """Bound the upsampled heatmap (h', w') inside each block of tile (i, j); fill in these of (down, across).

    The largest value of each column of cells, upsampled downwards, is upsampled sideways: the
    largest of sums is at most the sum of the largest.
    """
    ys, xs = blocks
    rows, columns = cells
    top, bottom = i * TILE, min((i + 1) * TILE, len(ys) - 1)
    start, stop = j * TILE, min((j + 1) * TILE, len(xs) - 1)
    left, right = columns.first[xs[start]], columns.second[xs[stop] - 1]
    row = np.empty(right - left + 1, np.float32)
    for by in range(top, bottom):
        row[:] = -np.inf
        for y in range(ys[by], ys[by + 1]):
            over, under, weight = rows.first[y], rows.second[y], rows.weight[y]
            for u in range(len(row)):
                row[u] = larger(lerp(heatmap[over, left + u], heatmap[under, left + u], weight), row[u])
        for bx in range(start, stop):
            largest = np.float32(-np.inf)
            for x in range(xs[bx], xs[bx + 1]):
                here = lerp(row[columns.first[x] - left], row[columns.second[x] - left], columns.weight[x])
                largest = larger(here, largest)
            out[by, bx] = largest + eps


@njit(cache=True, nogil=True)
def smaller(a, b):
    """Return the smaller number by one machine instruction; min() would handle NaN."""
    return a if a < b else b


@njit(cache=True, nogil=True)
def larger(a, b):
    """Return the larger number; see `smaller`."""
    return a if a > b else b
