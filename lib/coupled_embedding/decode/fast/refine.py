"""Refinement: look up a person's absent joints at their best place (METHOD.md 5.6).

The best place maximises heatmap − round(‖tag − mean tag‖) over all input pixels. Pixels
between the same four tag cells form a block, 8 × 8 blocks a field. The cells around a block
or a field bound both terms, so that few blocks, and far fewer pixels, are looked at closely.
Neither map is ever enlarged.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from coupled_embedding.decode.fast.bounds import (
    FIELD,
    SLACK,
    Blocks,
    all_finite,
    block_bounds,
    block_edges,
    field_ranges,
    heat_bounds,
    larger,
    smaller,
)
from coupled_embedding.decode.fast.upsample import Grid, Map, grid, mix_corners, value_at
from coupled_embedding.decode.fast.views import TagLayer


class Layer(NamedTuple):
    """One joint's tags in a layer, and their ranges inside each field.

    Attributes:
        values: all of the layer's values in a row, of which this joint's at cell (y, x) begin
            at start + y · down + x · across; a mirrored photo's columns run backwards.
        low, high: (D, fields) bounds of the interpolated tags inside each field.
    """

    values: Map
    start: int
    down: int
    across: int
    low: Map
    high: Map


class Heat(NamedTuple):
    """A joint's heatmap (h', w'), its grid, and bounds of its enlargement.

    Attributes:
        fields: (fields down, fields across) bounds inside each field.
        slack: what bounds need for rounding errors.
    """

    values: Map
    cells: Grid
    fields: Map
    slack: np.float32


class TagSearch:
    """Looks up joints in one photo's maps.

    Args:
        tags: one or two layers of the same size.
        size: (H, W) to which maps are enlarged.
        step: tag distance that rounds to 1.
    """

    def __init__(self, tags: Sequence[TagLayer], size: tuple[int, int], step: float = 1.0) -> None:
        self.size, self.step = size, np.float32(step)
        self.cells = grid(tags[0].shape, size)
        self.blocks = Blocks(block_edges(*self.cells.rows[:2]), block_edges(*self.cells.columns[:2]))
        self.tags = list(tags)
        if len(tags) == 1:
            none = np.zeros((*tags[0].values.shape[:3], 0), np.float32)
            self.tags.append(TagLayer(none, tags[0].flip_index))
        self.ranges = [
            field_ranges(layer.values, layer.flip_index is not None, self.cells, self.blocks) for layer in self.tags
        ]

    def finite(self) -> bool:
        """Whether no tag is NaN or infinite."""
        sums = (total for _, _, total in self.ranges)
        return all(np.isfinite(total) or all_finite(tags.values) for total, tags in zip(sums, self.tags, strict=True))

    def best_pixels(self, joint: int, heatmap: Map, means: Map) -> NDArray[np.int64]:
        """Return each person's best pixel y·W + x for a joint, the first among equals.

        Args:
            joint: its number.
            heatmap: (h', w') float32, contiguous.
            means: (P, T) float32 mean tags of the people.
        """
        cells = grid(heatmap.shape, self.size)
        heat = Heat(heatmap, cells, *heat_bounds(heatmap, cells, self.blocks))
        one, two = (self._layer(number, joint) for number in range(2))
        return _best_pixels(heat, one, two, self.cells, self.blocks, means, self.step)

    def _layer(self, number: int, joint: int) -> Layer:
        tags, (low, high, _) = self.tags[number], self.ranges[number]
        _, width, joints, dims = tags.values.shape
        channel, cell = tags.channel(joint), joints * dims
        mirrored = tags.flip_index is not None
        start = channel * dims + (cell * (width - 1) if mirrored else 0)
        across = -cell if mirrored else cell
        return Layer(tags.values.reshape(-1), start, width * cell, across, low[channel], high[channel])


@njit(cache=True, nogil=True)
def _best_pixels(heat, one, two, tag_cells, blocks, means, step):
    hopes = np.empty(heat.fields.size, np.float32)
    bounds = np.empty((len(blocks.ys) - 1, len(blocks.xs) - 1), np.float32)  # filled in field by field
    bounded = np.zeros(heat.fields.size, np.bool_)
    result = np.empty(means.shape[0], np.int64)
    for person in range(means.shape[0]):
        mean = means[person]
        _field_hopes(heat.fields, one, two, mean, step, hopes)
        # the most promising field first, then the others in the order of memory
        favourite = hopes.argmax()
        best, place = np.float32(-np.inf), np.int64(0)
        for turn in range(-1, hopes.size):
            number = favourite if turn < 0 else turn
            if hopes[number] < best or turn == favourite:
                continue
            i, j = number // heat.fields.shape[1], number % heat.fields.shape[1]
            if not bounded[number]:
                block_bounds(heat.values, heat.cells, blocks, heat.slack, i, j, bounds)
                bounded[number] = True
            best, place = _search_field(heat, one, two, tag_cells, blocks, bounds, mean, step, i, j, best, place)
        result[person] = place
    return result


@njit(cache=True, nogil=True)
def _search_field(heat, one, two, tag_cells, blocks, bounds, mean, step, i, j, best, place):
    """Return the best value and its pixel after a look at field (i, j)."""
    ys, xs = blocks
    tag_rows, tag_columns = tag_cells
    width, dims = xs[-1], one.low.shape[0]
    first, second = mean[:dims], mean[dims:]
    for by in range(i * FIELD, min((i + 1) * FIELD, bounds.shape[0])):
        up, down = tag_rows.first[ys[by]], tag_rows.second[ys[by]]
        for bx in range(j * FIELD, min((j + 1) * FIELD, bounds.shape[1])):
            reach = _reach(bounds[by, bx], best, step)
            if reach < 0:
                continue
            left, right = tag_columns.first[xs[bx]], tag_columns.second[xs[bx]]
            a, b = _corners(one, up, down, left, right), _corners(two, up, down, left, right)
            near = _add_least(one.values, a, first, reach, np.float32(0))
            near = _add_least(two.values, b, second, reach, near)
            if near > reach:
                continue
            for y in range(ys[by], ys[by + 1]):
                for x in range(xs[bx], xs[bx + 1]):
                    height = value_at(heat.values, heat.cells, y, x)
                    reach = _reach(height, best, step)
                    if near > reach:
                        continue
                    v, w = tag_rows.weight[y], tag_columns.weight[x]
                    total = _add_distance(one.values, a, w, v, first, reach, np.float32(0))
                    total = _add_distance(two.values, b, w, v, second, reach, total)
                    value = height - np.rint(np.sqrt(total) / step)
                    if value > best or (value == best and y * width + x < place):
                        best, place = value, y * width + x
    return best, place


@njit(cache=True, nogil=True, inline="always")
def _reach(height, best, step):
    """Return the largest squared distance, a little more for rounding, at which a height can equal the best.

    Negative if none can.
    """
    steps = np.floor(height - best + (abs(height) + abs(best)) * SLACK)
    if steps < 0:
        return np.float32(-1)
    distance = (steps + np.float32(0.5)) * step
    return distance * distance * np.float32(1.00002)


@njit(cache=True, nogil=True, inline="always")
def _corners(layer, up, down, left, right):
    """Return where a joint's tags begin at the four cells around a block."""
    above, below = layer.start + up * layer.down, layer.start + down * layer.down
    left, right = left * layer.across, right * layer.across
    return above + left, above + right, below + left, below + right


@njit(cache=True, nogil=True, inline="always")
def _add_least(values, corners, mean, reach, total):
    """Add a bound from below of the squared distance between a mean and the tags between four cells.

    The sum is left unfinished once it is out of reach.
    """
    for t in range(len(mean)):
        a, b, c, d = values[corners[0] + t], values[corners[1] + t], values[corners[2] + t], values[corners[3] + t]
        low, high = smaller(smaller(a, b), smaller(c, d)), larger(larger(a, b), larger(c, d))
        slack = larger(abs(low), abs(high)) * SLACK  # interpolation rounds past its corners
        gap = larger(larger(low - mean[t], mean[t] - high) - slack, np.float32(0))
        total += gap * gap
        if total > reach:
            break
    return total


@njit(cache=True, nogil=True, inline="always")
def _add_distance(values, corners, across, down, mean, reach, total):
    """Add the squared distance between a mean and the tags at a pixel; unfinished once out of reach."""
    for t in range(len(mean)):
        a, b, c, d = values[corners[0] + t], values[corners[1] + t], values[corners[2] + t], values[corners[3] + t]
        gap = mix_corners(a, b, c, d, across, down) - mean[t]
        total += gap * gap
        if total > reach:
            break
    return total


@njit(cache=True, nogil=True)
def _field_hopes(fields, one, two, mean, step, out):
    """Fill in the most that each field can give a person: its heatmap less the least rounded distance."""
    out[:] = 0
    dims = one.low.shape[0]
    _add_gaps(one.low, one.high, mean[:dims], out)
    _add_gaps(two.low, two.high, mean[dims:], out)
    heights = fields.ravel()
    for f in range(len(out)):
        out[f] = heights[f] - np.rint(np.sqrt(out[f]) / step * np.float32(0.99999))


@njit(cache=True, nogil=True)
def _add_gaps(low, high, mean, out):
    # fields in the inner loop: many at a time
    for t in range(len(mean)):
        for f in range(len(out)):
            gap = larger(larger(low[t, f] - mean[t], mean[t] - high[t, f]), np.float32(0))
            out[f] += gap * gap
