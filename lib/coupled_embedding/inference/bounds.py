"""Bounds of a photo's maps by blocks and fields, which let refinement skip most pixels.

Pixels between the same four tag cells form a block, 8 × 8 blocks a field.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from coupled_embedding.inference.enlarge import mix

FIELD = 8  # blocks along a field's side
SLACK = np.float32(2e-6)  # covers the last digits of float32 in bounds


class Blocks(NamedTuple):
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
def field_ranges(values, step, cells, blocks):
    """Return bounds of the tags inside each field, from the cells that it touches.

    Args:
        values: (h, w, K, D) tags.
        step: 1, or -1 if the columns run backwards.
        cells: the tags' grid.
        blocks: of the grid.

    Returns:
        The least and the largest values, (K, D, fields) each, widened by rounding errors.
    """
    ys, xs = blocks
    rows, columns = cells
    down, across = (len(ys) + FIELD - 2) // FIELD, (len(xs) + FIELD - 2) // FIELD
    height, width = values.shape[:2]
    flat = values.reshape(height, width, -1)  # all joints at once: long runs of memory
    low = np.empty((down, across, flat.shape[2]), np.float32)
    high = np.empty((down, across, flat.shape[2]), np.float32)
    for i in range(down):
        top, bottom = rows.first[ys[i * FIELD]], rows.second[ys[min((i + 1) * FIELD, len(ys) - 1)] - 1]
        for j in range(across):
            left, right = columns.first[xs[j * FIELD]], columns.second[xs[min((j + 1) * FIELD, len(xs) - 1)] - 1]
            if step < 0:
                left, right = width - 1 - right, width - 1 - left
            least, most = low[i, j], high[i, j]
            least[:] = flat[top, left]
            most[:] = flat[top, left]
            for y in range(top, bottom + 1):
                for x in range(left, right + 1):
                    for c in range(flat.shape[2]):
                        value = flat[y, x, c]
                        least[c] = value if value < least[c] else least[c]
                        most[c] = value if value > most[c] else most[c]
    return _by_channel(low, values.shape[2], -1), _by_channel(high, values.shape[2], 1)


@njit(cache=True, nogil=True)
def _by_channel(ranges, joints, side):
    """Return ranges (down, across, K·D) as (K, D, fields), widened: interpolation rounds past its corners."""
    fields = ranges.shape[0] * ranges.shape[1]
    flat = ranges.reshape(fields, -1)
    out = np.empty((flat.shape[1], fields), np.float32)
    for c in range(flat.shape[1]):
        for f in range(fields):
            out[c, f] = flat[f, c] + side * abs(flat[f, c]) * SLACK
    return out.reshape(joints, flat.shape[1] // joints, fields)


@njit(cache=True, nogil=True)
def block_bounds(heatmap, cells, blocks, slack):
    """Bound the enlarged heatmap (h', w') inside each block, (blocks down, blocks across).

    The largest value of each column of cells, enlarged downwards, is enlarged sideways: the
    largest of sums is at most the sum of the largest. Rounding errors are those of the cells,
    which may be far larger than what is left of them when they cancel: the slack is that of
    the largest cell.
    """
    ys, xs = blocks
    out = np.empty((len(ys) - 1, len(xs) - 1), np.float32)
    row = np.empty(heatmap.shape[1], np.float32)
    rows, columns = cells
    for by in range(len(ys) - 1):
        row[:] = -np.inf
        for y in range(ys[by], ys[by + 1]):
            over, under, weight = rows.first[y], rows.second[y], rows.weight[y]
            for u in range(len(row)):
                row[u] = larger(mix(heatmap[over, u], heatmap[under, u], weight), row[u])
        for bx in range(len(xs) - 1):
            largest = np.float32(-np.inf)
            for x in range(xs[bx], xs[bx + 1]):
                here = mix(row[columns.first[x]], row[columns.second[x]], columns.weight[x])
                largest = larger(here, largest)
            out[by, bx] = largest + slack
    return out


@njit(cache=True, nogil=True)
def field_bounds(bounds):
    """Return the largest bound of the blocks of each field, (fields down, fields across)."""
    height, width = bounds.shape
    out = np.full((-(-height // FIELD), -(-width // FIELD)), -np.inf, np.float32)
    for y in range(height):
        for x in range(width):
            out[y // FIELD, x // FIELD] = larger(out[y // FIELD, x // FIELD], bounds[y, x])
    return out


@njit(cache=True, nogil=True)
def smaller(a, b):
    """Return the smaller number by one machine instruction; min() would look after NaN."""
    return a if a < b else b


@njit(cache=True, nogil=True)
def larger(a, b):
    """Return the larger number; see `smaller`."""
    return a if a > b else b
