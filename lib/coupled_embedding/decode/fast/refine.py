"""Refinement: predict a person's missing joints at their best place (docs/method.md 5.6).

The best place maximizes heatmap − round(‖tag − mean tag‖) over all input pixels. Pixels
between the same four tag cells form a cell block, 8 × 8 blocks a tile. The cells around a block
or a tile bound both terms, so that few blocks, and far fewer pixels, are computed. Neither map
is upsampled as a whole.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from coupled_embedding.decode.fast.bounds import (
    EPS,
    TILE,
    CellBlocks,
    block_bounds,
    block_edges,
    heatmap_bounds,
    larger,
    smaller,
    tile_ranges,
)
from coupled_embedding.decode.fast.upsample import Grid, Map, bilerp, grid, sample_at
from coupled_embedding.decode.fast.views import TagView


class ViewSlice(NamedTuple):
    """The tags of one joint in a view, and their ranges inside each tile.

    Attributes:
        values: all of the view's values in a row, of which this joint's at cell (y, x) begin
            at start + y · down + x · across; the columns of a flipped image run backwards.
        low, high: (D, tiles) bounds of the interpolated tags inside each tile.
    """

    values: Map
    start: int
    down: int
    across: int
    low: Map
    high: Map


class HeatmapBounds(NamedTuple):
    """A joint's heatmap (h', w'), its grid, and bounds of its upsampled map.

    Attributes:
        tiles: (tiles down, tiles across) bounds inside each tile.
        eps: what bounds need for rounding errors.
    """

    values: Map
    cells: Grid
    tiles: Map
    eps: np.float32


class JointRefiner:
    """Finds the best pixel of a missing joint in the maps of one image.

    Args:
        tags: one or two views of the same size.
        size: (H, W) to which maps are upsampled.
        step: tag distance that rounds to 1.
    """

    def __init__(self, tags: Sequence[TagView], size: tuple[int, int], step: float = 1.0) -> None:
        self.size, self.step = size, np.float32(step)
        self.cells = grid(tags[0].shape, size)
        self.blocks = CellBlocks(block_edges(*self.cells.rows[:2]), block_edges(*self.cells.columns[:2]))
        self.tags = list(tags)
        if len(tags) == 1:
            none = np.zeros((*tags[0].values.shape[:3], 0), np.float32)
            self.tags.append(TagView(none, tags[0].flip_index))
        self.ranges = [
            tile_ranges(view.values, view.flip_index is not None, self.cells, self.blocks) for view in self.tags
        ]

    def best_pixels(self, joint: int, heatmap: Map, means: Map) -> NDArray[np.int64]:
        """Return each person's best pixel y·W + x for a joint, the first among equals.

        Args:
            joint: its number.
            heatmap: (h', w') float32, contiguous.
            means: (P, T) float32 mean tags of the people.
        """
        cells = grid(heatmap.shape, self.size)
        joint_map = HeatmapBounds(heatmap, cells, *heatmap_bounds(heatmap, cells, self.blocks))
        one, two = (self._slice(number, joint) for number in range(2))
        return _best_pixels(joint_map, one, two, self.cells, self.blocks, means, self.step)

    def _slice(self, number: int, joint: int) -> ViewSlice:
        tags, (low, high) = self.tags[number], self.ranges[number]
        _, width, joints, dims = tags.values.shape
        channel, cell = tags.channel(joint), joints * dims
        flipped = tags.flip_index is not None
        start = channel * dims + (cell * (width - 1) if flipped else 0)
        across = -cell if flipped else cell
        return ViewSlice(tags.values.reshape(-1), start, width * cell, across, low[channel], high[channel])


@njit(cache=True, nogil=True)
def _best_pixels(joint_map, one, two, tag_cells, blocks, means, step):
    upper_bounds = np.empty(joint_map.tiles.size, np.float32)
    bounds = np.empty((len(blocks.ys) - 1, len(blocks.xs) - 1), np.float32)  # filled in tile by tile
    bounded = np.zeros(joint_map.tiles.size, np.bool_)
    result = np.empty(means.shape[0], np.int64)
    for person in range(means.shape[0]):
        mean = means[person]
        _tile_upper_bounds(joint_map.tiles, one, two, mean, step, upper_bounds)
        # the most promising tile first, then the others in the order of memory
        best_tile = upper_bounds.argmax()
        best, place = np.float32(-np.inf), np.int64(0)
        for turn in range(-1, upper_bounds.size):
            number = best_tile if turn < 0 else turn
            if upper_bounds[number] < best or turn == best_tile:
                continue
            i, j = number // joint_map.tiles.shape[1], number % joint_map.tiles.shape[1]
            if not bounded[number]:
                block_bounds(joint_map.values, joint_map.cells, blocks, joint_map.eps, i, j, bounds)
                bounded[number] = True
            best, place = _search_tile(joint_map, one, two, tag_cells, blocks, bounds, mean, step, i, j, best, place)
        result[person] = place
    return result


@njit(cache=True, nogil=True)
def _search_tile(joint_map, one, two, tag_cells, blocks, bounds, mean, step, i, j, best, place):
    """Return the best value and its pixel after a search of tile (i, j)."""
    ys, xs = blocks
    tag_rows, tag_columns = tag_cells
    width, dims = xs[-1], one.low.shape[0]
    first, second = mean[:dims], mean[dims:]
    for by in range(i * TILE, min((i + 1) * TILE, bounds.shape[0])):
        up, down = tag_rows.first[ys[by]], tag_rows.second[ys[by]]
        for bx in range(j * TILE, min((j + 1) * TILE, bounds.shape[1])):
            max_sq_dist = _max_sq_dist(bounds[by, bx], best, step)
            if max_sq_dist < 0:
                continue
            left, right = tag_columns.first[xs[bx]], tag_columns.second[xs[bx]]
            a, b = _corners(one, up, down, left, right), _corners(two, up, down, left, right)
            near = _add_least(one.values, a, first, max_sq_dist, np.float32(0))
            near = _add_least(two.values, b, second, max_sq_dist, near)
            if near > max_sq_dist:
                continue
            for y in range(ys[by], ys[by + 1]):
                for x in range(xs[bx], xs[bx + 1]):
                    height = sample_at(joint_map.values, joint_map.cells, y, x)
                    max_sq_dist = _max_sq_dist(height, best, step)
                    if near > max_sq_dist:
                        continue
                    v, w = tag_rows.weight[y], tag_columns.weight[x]
                    total = _add_distance(one.values, a, w, v, first, max_sq_dist, np.float32(0))
                    total = _add_distance(two.values, b, w, v, second, max_sq_dist, total)
                    value = height - np.rint(np.sqrt(total) / step)
                    if value > best or (value == best and y * width + x < place):
                        best, place = value, y * width + x
    return best, place


@njit(cache=True, nogil=True, inline="always")
def _max_sq_dist(height, best, step):
    """Return the largest squared distance, a little more for rounding, at which a height can equal the best.

    Negative if none can.
    """
    steps = np.floor(height - best + (abs(height) + abs(best)) * EPS)
    if steps < 0:
        return np.float32(-1)
    distance = (steps + np.float32(0.5)) * step
    return distance * distance * np.float32(1.00002)


@njit(cache=True, nogil=True, inline="always")
def _corners(view, up, down, left, right):
    """Return where a joint's tags begin at the four cells around a block."""
    above, below = view.start + up * view.down, view.start + down * view.down
    left, right = left * view.across, right * view.across
    return above + left, above + right, below + left, below + right


@njit(cache=True, nogil=True, inline="always")
def _add_least(values, corners, mean, max_sq_dist, total):
    """Add a bound from below of the squared distance between a mean and the tags between four cells.

    The sum is left unfinished once it exceeds ``max_sq_dist``.
    """
    for t in range(len(mean)):
        a, b, c, d = values[corners[0] + t], values[corners[1] + t], values[corners[2] + t], values[corners[3] + t]
        low, high = smaller(smaller(a, b), smaller(c, d)), larger(larger(a, b), larger(c, d))
        eps = larger(abs(low), abs(high)) * EPS  # interpolation rounds past its corners
        gap = larger(larger(low - mean[t], mean[t] - high) - eps, np.float32(0))
        total += gap * gap
        if total > max_sq_dist:
            break
    return total


@njit(cache=True, nogil=True, inline="always")
def _add_distance(values, corners, across, down, mean, max_sq_dist, total):
    """Add the squared distance between a mean and the tags at a pixel; unfinished once beyond ``max_sq_dist``."""
    for t in range(len(mean)):
        a, b, c, d = values[corners[0] + t], values[corners[1] + t], values[corners[2] + t], values[corners[3] + t]
        gap = bilerp(a, b, c, d, across, down) - mean[t]
        total += gap * gap
        if total > max_sq_dist:
            break
    return total


@njit(cache=True, nogil=True)
def _tile_upper_bounds(tiles, one, two, mean, step, out):
    """Fill in the most that each tile can give a person: its heatmap less the least rounded distance."""
    out[:] = 0
    dims = one.low.shape[0]
    _add_gaps(one.low, one.high, mean[:dims], out)
    _add_gaps(two.low, two.high, mean[dims:], out)
    heights = tiles.ravel()
    for f in range(len(out)):
        out[f] = heights[f] - np.rint(np.sqrt(out[f]) / step * np.float32(0.99999))


@njit(cache=True, nogil=True)
def _add_gaps(low, high, mean, out):
    # tiles in the inner loop: many at a time
    for t in range(len(mean)):
        for f in range(len(out)):
            gap = larger(larger(low[t, f] - mean[t], mean[t] - high[t, f]), np.float32(0))
            out[f] += gap * gap
