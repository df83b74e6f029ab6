"""Bounds of a photo's maps by blocks and fields, which let refinement skip most pixels.

Pixels between the same four tag cells form a block, 8 × 8 blocks a field.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from coupled_embedding.decode.fast.upsample import mix

FIELD = 8  # blocks along a field's side
SLACK = np.float32(2e-6)  # covers the last digits of float32 in bounds


def all_finite(values: NDArray[np.float32]) -> bool:
    """Whether no value is NaN or infinite; the sum says so without a second array."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = values.sum()
    return bool(np.isfinite(total) or np.isfinite(values).all())


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
def _cells_under(axis, edges, field, count):
    """Return the first and last of an axis's cells under a field.

    Cells that no pixel touches, as a reduced map has them, go to the field before them: every
    cell is under some field.
    """
    start, end = field * FIELD, min((field + 1) * FIELD, len(edges) - 1)
    first = axis.first[edges[start]] if start else 0
    last = axis.first[edges[end]] - 1 if end < len(edges) - 1 else count - 1
    return first, max(last, axis.second[edges[end] - 1])


@njit(cache=True, nogil=True)
def field_ranges(values, mirrored, cells, blocks):
    """Return bounds of the tags inside each field, from the cells that it touches.

    Args:
        values: (h, w, K, D) tags.
        mirrored: whether the columns run backwards.
        cells: the tags' grid.
        blocks: of the grid.

    Returns:
        The least and the largest values, (K, D, fields) each, widened by rounding errors; and
        a sum of all tags, which is finite only if they are: memory is read once for both.
    """
    ys, xs = blocks
    rows, columns = cells
    down, across = (len(ys) + FIELD - 2) // FIELD, (len(xs) + FIELD - 2) // FIELD
    height, width = values.shape[:2]
    flat = values.reshape(height, width, -1)  # all joints at once: long runs of memory
    low = np.empty((down, across, flat.shape[2]), np.float32)
    high = np.empty((down, across, flat.shape[2]), np.float32)
    sums = np.zeros(flat.shape[2], np.float32)
    for i in range(down):
        top, bottom = _cells_under(rows, ys, i, height)
        for j in range(across):
            left, right = _cells_under(columns, xs, j, width)
            if mirrored:
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
                        sums[c] += one[c] + two[c] + three[c]
    return _by_channel(low, values.shape[2], -1), _by_channel(high, values.shape[2], 1), sums.sum()


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
def heat_bounds(heatmap, cells, blocks):
    """Bound the enlarged heatmap (h', w') inside each field by the largest cell that it touches.

    Rounding errors are those of the cells, which may be far larger than what is left of them
    when they cancel: the slack is that of the largest cell.

    Returns:
        The bounds, (fields down, fields across), and the slack that bounds of this heatmap need.
    """
    ys, xs = blocks
    rows, columns = cells
    out = np.empty(((len(ys) + FIELD - 2) // FIELD, (len(xs) + FIELD - 2) // FIELD), np.float32)
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
    return out + size * SLACK, size * SLACK


@njit(cache=True, nogil=True)
def block_bounds(heatmap, cells, blocks, slack, i, j, out):
    """Bound the enlarged heatmap (h', w') inside each block of field (i, j); fill in these of (down, across).

    The largest value of each column of cells, enlarged downwards, is enlarged sideways: the
    largest of sums is at most the sum of the largest.
    """
    ys, xs = blocks
    rows, columns = cells
    top, bottom = i * FIELD, min((i + 1) * FIELD, len(ys) - 1)
    start, stop = j * FIELD, min((j + 1) * FIELD, len(xs) - 1)
    left, right = columns.first[xs[start]], columns.second[xs[stop] - 1]
    row = np.empty(right - left + 1, np.float32)
    for by in range(top, bottom):
        row[:] = -np.inf
        for y in range(ys[by], ys[by + 1]):
            over, under, weight = rows.first[y], rows.second[y], rows.weight[y]
            for u in range(len(row)):
                row[u] = larger(mix(heatmap[over, left + u], heatmap[under, left + u], weight), row[u])
        for bx in range(start, stop):
            largest = np.float32(-np.inf)
            for x in range(xs[bx], xs[bx + 1]):
                here = mix(row[columns.first[x] - left], row[columns.second[x] - left], columns.weight[x])
                largest = larger(here, largest)
            out[by, bx] = largest + slack


@njit(cache=True, nogil=True)
def smaller(a, b):
    """Return the smaller number by one machine instruction; min() would look after NaN."""
    return a if a < b else b


@njit(cache=True, nogil=True)
def larger(a, b):
    """Return the larger number; see `smaller`."""
    return a if a > b else b
