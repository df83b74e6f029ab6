"""Refinement: look up a person's absent joints at their best place (METHOD.md 5.6).

The best place maximises heatmap − round(‖tag − mean tag‖) over all input pixels. Pixels
between the same four tag cells form a block; cells around a block bound both terms. A
first look at a few likely places makes the bounds bite before all blocks are gone through,
in the order of memory and for all people at once. Neither map is ever enlarged.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from coupled_embedding.inference.enlarge import Grid, grid, mix, value_at

Map = NDArray[np.float32]
_NET = 8  # blocks between the pixels of the first look
_SLACK = np.float32(2e-6)  # covers the last digits of float32 in bounds


def refine_joint(
    heatmap: Map,
    tags: Sequence[Map],
    means: Map,
    size: tuple[int, int],
    seeds: Sequence[NDArray[np.int64]] = (),
    step: float = 1.0,
) -> NDArray[np.int64]:
    """Return each person's best pixel y·W + x for one joint, the first among equals.

    Args:
        heatmap: (h', w') float32, contiguous.
        tags: one or two layers (h, w, D) of the same size.
        means: (P, T) the people's mean tags.
        size: (H, W) to which maps are enlarged.
        seeds: for each person pixels (n, 2) x, y worth a first look. They speed the search
            up and never change its result.
        step: distance that rounds to 1.
    """
    layers = tuple(tags) if len(tags) == 2 else (tags[0], tags[0][..., :0])
    points = np.concatenate(list(seeds)) if len(seeds) else np.zeros((0, 2), np.int64)
    ends = np.cumsum([len(s) for s in seeds]) if len(seeds) else np.zeros(len(means), np.int64)
    cells, tag_cells = grid(heatmap.shape, size), grid(tags[0].shape, size)
    field = TagField(layers[0], layers[1], tag_cells, np.float32(step))
    return _best_pixels(heatmap, cells, field, means, points, ends)


class TagField(NamedTuple):
    """The two layers (h, w, D) of a joint's tags, their grid and the distance that rounds to 1."""

    one: Map
    two: Map
    cells: Grid
    step: np.float32


class Blocks(NamedTuple):
    """First pixels of the rows and columns of blocks, with the end, and the (rows, columns) bounds of the heatmap."""

    ys: NDArray[np.int64]
    xs: NDArray[np.int64]
    bounds: Map


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
def _best_pixels(heatmap, cells, tags, means, points, ends):  # type: ignore[no-untyped-def]
    width = len(cells.columns.first)
    ys = block_edges(tags.cells.rows.first, tags.cells.rows.second)
    xs = block_edges(tags.cells.columns.first, tags.cells.columns.second)
    blocks = Blocks(ys, xs, _block_bounds(heatmap, cells, ys, xs))
    best = np.full(means.shape[0], -np.inf, np.float32)
    place = np.zeros(means.shape[0], np.int64)
    _first_look(heatmap, cells, tags, means, points, ends, blocks, best, place)
    rows, columns = _blocks_of_pixels(ys), _blocks_of_pixels(xs)
    for person in range(len(best)):
        by, bx = rows[place[person] // width], columns[place[person] % width]
        around = max(by - _NET, 0), by + _NET + 1, max(bx - _NET, 0), bx + _NET + 1
        own = slice(person, person + 1)
        _search(heatmap, cells, tags, means[own], blocks, around, best[own], place[own])
    if len(best):
        _search(heatmap, cells, tags, means, blocks, (0, len(ys), 0, len(xs)), best, place)
    return place


@njit(cache=True, nogil=True)
def _blocks_of_pixels(edges):  # type: ignore[no-untyped-def]
    out = np.empty(edges[-1], np.int64)
    for block in range(len(edges) - 1):
        out[edges[block] : edges[block + 1]] = block
    return out


@njit(cache=True, nogil=True)
def _first_look(heatmap, cells, tags, means, points, ends, blocks, best, place):  # type: ignore[no-untyped-def]
    """Try the seeds of each person, and for everybody a sparse net of pixels."""
    here = np.empty(means.shape[1], np.float32)
    width = len(cells.columns.first)
    start = 0
    for person in range(len(best)):
        for number in range(start, ends[person]):
            x, y = points[number]
            _tags_at(tags, y, x, here)
            value = value_at(heatmap, cells, y, x) - _rounded_distance(here, means, person, tags.step)
            _keep_better(best, place, person, value, y * width + x)
        start = ends[person]
    for by in range(_NET // 2, len(blocks.ys) - 1, _NET):
        for bx in range(_NET // 2, len(blocks.xs) - 1, _NET):
            y, x = blocks.ys[by], blocks.xs[bx]
            height = value_at(heatmap, cells, y, x)
            _tags_at(tags, y, x, here)
            for person in range(len(best)):
                value = height - _rounded_distance(here, means, person, tags.step)
                _keep_better(best, place, person, value, y * width + x)


@njit(cache=True, nogil=True)
def _search(heatmap, cells, tags, means, blocks, area, best, place):  # type: ignore[no-untyped-def]
    """Update best and place by the blocks of an area, in the order of memory."""
    ys, xs, bounds = blocks
    rows, columns = cells
    one, two, (tag_rows, tag_columns), step = tags
    top, bottom, left, right = area
    dims, width = means.shape[1], len(columns.first)
    low, high, here = np.empty(dims, np.float32), np.empty(dims, np.float32), np.empty(dims, np.float32)
    rounded = np.empty(len(best), np.float32)
    least = best.min()
    for by in range(top, min(bottom, bounds.shape[0])):
        above, below = tag_rows.first[ys[by]], tag_rows.second[ys[by]]
        for bx in range(left, min(right, bounds.shape[1])):
            bound = bounds[by, bx]
            if bound < least:
                continue
            before, after = tag_columns.first[xs[bx]], tag_columns.second[xs[bx]]
            _tag_ranges(one, two, above, below, before, after, low, high)
            promising = np.float32(np.inf)  # the height that somebody needs
            for person in range(len(best)):
                needed = best[person] - abs(best[person]) * _SLACK - _SLACK  # it was rounded itself
                rounded[person] = _least_rounded(low, high, means, person, bound - needed, step)
                promising = min(promising, needed + rounded[person] * (np.float32(1) - _SLACK))
            if bound < promising:
                continue
            for y in range(ys[by], ys[by + 1]):
                up, down, weight = rows.first[y], rows.second[y], rows.weight[y]
                for x in range(xs[bx], xs[bx + 1]):
                    c, d, across = columns.first[x], columns.second[x], columns.weight[x]
                    height = mix(
                        mix(heatmap[up, c], heatmap[up, d], across),
                        mix(heatmap[down, c], heatmap[down, d], across),
                        weight,
                    )
                    if height < promising:
                        continue
                    _mixed_tags(one, two, above, below, before, after, tag_rows.weight[y], tag_columns.weight[x], here)
                    for person in range(len(best)):
                        if height - rounded[person] >= best[person]:
                            value = height - _rounded_distance(here, means, person, step)
                            _keep_better(best, place, person, value, y * width + x)
            least = best.min()


@njit(cache=True, nogil=True)
def _keep_better(best, place, person, value, pixel):  # type: ignore[no-untyped-def]
    if value > best[person] or (value == best[person] and pixel < place[person]):
        best[person], place[person] = value, pixel


@njit(cache=True, nogil=True)
def _block_bounds(heatmap, cells, ys, xs):  # type: ignore[no-untyped-def]
    """Bound the enlarged heatmap inside each block by the largest cell that it touches."""
    out = np.empty((len(ys) - 1, len(xs) - 1), np.float32)
    row = np.empty(heatmap.shape[1], np.float32)
    rows, columns = cells
    for by in range(len(ys) - 1):
        low, high = rows.first[ys[by]], rows.second[ys[by + 1] - 1]
        row[:] = heatmap[low]
        for v in range(low + 1, high + 1):
            source = heatmap[v]
            for u in range(len(row)):
                row[u] = max(row[u], source[u])
        for bx in range(len(xs) - 1):
            left, right = columns.first[xs[bx]], columns.second[xs[bx + 1] - 1]
            largest = row[left]
            for u in range(left + 1, right + 1):
                largest = max(largest, row[u])
            out[by, bx] = largest + abs(largest) * _SLACK
    return out


@njit(cache=True, nogil=True)
def _tag_ranges(one, two, above, below, left, right, low, high):  # type: ignore[no-untyped-def]
    """Fill in the range of each dimension of the tags between four cells.

    An interpolated tag lies between the least and the largest of its corners.
    """
    start = 0
    for layer in range(2):
        values = one if layer == 0 else two
        for t in range(values.shape[2]):
            a, b = values[above, left, t], values[above, right, t]
            c, d = values[below, left, t], values[below, right, t]
            smallest, largest = min(min(a, b), min(c, d)), max(max(a, b), max(c, d))
            slack = max(abs(smallest), abs(largest)) * _SLACK
            low[start + t], high[start + t] = smallest - slack, largest + slack
        start += values.shape[2]


@njit(cache=True, nogil=True)
def _least_rounded(low, high, means, person, margin, step):  # type: ignore[no-untyped-def]
    """Bound from below the rounded distance of tags inside the ranges; infinite if it is above `margin`."""
    # beyond the middle of the last allowed step and the next one
    limit = step * (np.floor(margin) + np.float32(0.5)) * np.float32(1.00001)
    limit = limit * limit if margin >= 0 else np.float32(-1)
    total = np.float32(0)
    for t in range(len(low)):
        mean = means[person, t]
        gap = max(max(low[t] - mean, mean - high[t]), np.float32(0))
        total += gap * gap
        if total > limit:
            return np.float32(np.inf)
    return np.rint(np.sqrt(total) / step * np.float32(0.99999))


@njit(cache=True, nogil=True)
def _mixed_tags(one, two, above, below, left, right, down, across, out):  # type: ignore[no-untyped-def]
    """Fill in the tag between four cells."""
    start = 0
    for layer in range(2):
        values = one if layer == 0 else two
        for t in range(values.shape[2]):
            top = mix(values[above, left, t], values[above, right, t], across)
            bottom = mix(values[below, left, t], values[below, right, t], across)
            out[start + t] = mix(top, bottom, down)
        start += values.shape[2]


@njit(cache=True, nogil=True)
def _tags_at(tags, y, x, out):  # type: ignore[no-untyped-def]
    """Fill in the tag of pixel (y, x)."""
    rows, columns = tags.cells
    above, below, left, right = rows.first[y], rows.second[y], columns.first[x], columns.second[x]
    _mixed_tags(tags.one, tags.two, above, below, left, right, rows.weight[y], columns.weight[x], out)


@njit(cache=True, nogil=True)
def _rounded_distance(here, means, person, step):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    for t in range(len(here)):
        gap = here[t] - means[person, t]
        total += gap * gap
    return np.rint(np.sqrt(total) / step)
