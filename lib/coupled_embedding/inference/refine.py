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

from coupled_embedding.inference.bounds import (
    FIELD,
    SLACK,
    Blocks,
    block_bounds,
    block_edges,
    field_bounds,
    field_ranges,
    larger,
    smaller,
)
from coupled_embedding.inference.enlarge import Map, grid, mix_corners
from coupled_embedding.inference.tags import TagLayer, mix_tags


class Layer(NamedTuple):
    """One layer of a photo's tags and the ranges inside each field.

    Attributes:
        values: (h, w, K, D) as the network put them out.
        step: 1, or -1 if the columns run backwards: those of a mirrored photo.
        low, high: (K, D, fields) bounds of the interpolated tags inside each field.
    """

    values: Map
    step: int
    low: Map
    high: Map


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
        self.layers = [self._layer(layer) for layer in tags]
        if len(tags) == 1:
            none = np.zeros((*tags[0].values.shape[:3], 0), np.float32)
            self.layers.append(self._layer(TagLayer(none)))

    def _layer(self, tags: TagLayer) -> Layer:
        step = 1 if tags.flip_index is None else -1
        return Layer(tags.values, step, *field_ranges(tags.values, step, self.cells, self.blocks))

    def best_pixels(self, joint: int, heatmap: Map, means: Map) -> NDArray[np.int64]:
        """Return each person's best pixel y·W + x for a joint, the first among equals.

        Args:
            joint: its number.
            heatmap: (h', w') float32, contiguous.
            means: (P, T) float32 mean tags of the people.
        """
        one, two = self.layers
        channels = [layer.channel(joint) for layer in self.tags]
        cells = grid(heatmap.shape, self.size)
        slack = SLACK * np.float32(max(heatmap.max(), -heatmap.min()))
        bounds = block_bounds(heatmap, cells, self.blocks, slack)
        return _best_pixels(
            heatmap, cells, bounds, one, two, channels[0], channels[-1], self.cells, self.blocks, means, self.step
        )


@njit(cache=True, nogil=True)
def _best_pixels(heatmap, cells, bounds, one, two, first, second, tag_cells, blocks, means, step):
    fields = field_bounds(bounds)
    across = fields.shape[1]
    hopes = np.empty(fields.size, np.float32)
    result = np.empty(means.shape[0], np.int64)
    for person in range(means.shape[0]):
        mean = means[person]
        _field_hopes(fields.ravel(), one, two, first, second, mean, step, hopes)
        # the most promising field first, then the others in the order of memory
        favourite = hopes.argmax()
        best, place = np.float32(-np.inf), np.int64(0)
        for turn in range(hopes.size + 1):
            number = favourite if turn == 0 else turn - 1
            i, j = number // across, number % across
            if hopes[number] >= best and (turn == 0 or number != favourite):
                best, place = _search_field(
                    heatmap, cells, one, two, first, second, tag_cells, blocks, bounds, mean, step, i, j, best, place
                )
        result[person] = place
    return result


@njit(cache=True, nogil=True)
def _search_field(heatmap, cells, one, two, first, second, tag_cells, blocks, bounds, mean, step, i, j, best, place):
    """Return the best value and its pixel after a look at field (i, j)."""
    ys, xs = blocks
    rows, columns = cells
    tag_rows, tag_columns = tag_cells
    a, b, flip, width = one.values, two.values, one.values.shape[1] - 1, xs[-1]
    split = a.shape[3]
    here = np.empty(len(mean), np.float32)
    for by in range(i * FIELD, min((i + 1) * FIELD, bounds.shape[0])):
        up, down = tag_rows.first[ys[by]], tag_rows.second[ys[by]]
        for bx in range(j * FIELD, min((j + 1) * FIELD, bounds.shape[1])):
            if bounds[by, bx] < best:
                continue
            left, right = tag_columns.first[xs[bx]], tag_columns.second[xs[bx]]
            left_b, right_b = (left, right) if two.step > 0 else (flip - left, flip - right)
            near = _nearest_squared(a, up, down, left, right, first, mean, 0)
            near += _nearest_squared(b, up, down, left_b, right_b, second, mean, split)
            rounded = np.rint(np.sqrt(near) / step * np.float32(0.99999))
            if bounds[by, bx] - rounded < best:
                continue
            for y in range(ys[by], ys[by + 1]):
                over, under, weight = rows.first[y], rows.second[y], rows.weight[y]
                for x in range(xs[bx], xs[bx + 1]):
                    c, d, across = columns.first[x], columns.second[x], columns.weight[x]
                    height = mix_corners(
                        heatmap[over, c], heatmap[over, d], heatmap[under, c], heatmap[under, d], across, weight
                    )
                    if height - rounded < best:
                        continue
                    v, w = tag_rows.weight[y], tag_columns.weight[x]
                    mix_tags(a, up, down, left, right, first, v, w, here[:split])
                    mix_tags(b, up, down, left_b, right_b, second, v, w, here[split:])
                    total = np.float32(0)
                    for t in range(len(mean)):
                        total += (here[t] - mean[t]) * (here[t] - mean[t])
                    value = height - np.rint(np.sqrt(total) / step)
                    if value > best or (value == best and y * width + x < place):
                        best, place = value, y * width + x
    return best, place


@njit(cache=True, nogil=True)
def _field_hopes(fields, one, two, first, second, mean, step, out):
    """Fill in the most that each field can give a person: its heatmap less the least rounded distance."""
    out[:] = 0
    _add_gaps(one.low[first], one.high[first], mean[: one.values.shape[3]], out)
    _add_gaps(two.low[second], two.high[second], mean[one.values.shape[3] :], out)
    for f in range(len(out)):
        out[f] = fields[f] - np.rint(np.sqrt(out[f]) / step * np.float32(0.99999))


@njit(cache=True, nogil=True)
def _add_gaps(low, high, mean, out):
    # fields in the inner loop: many at a time
    for t in range(len(mean)):
        for f in range(len(out)):
            gap = larger(larger(low[t, f] - mean[t], mean[t] - high[t, f]), np.float32(0))
            out[f] += gap * gap


@njit(cache=True, nogil=True)
def _nearest_squared(values, up, down, left, right, joint, mean, start):
    """Bound from below the squared distance between a mean and the tags between four cells."""
    total = np.float32(0)
    for t in range(values.shape[3]):
        a, b = values[up, left, joint, t], values[up, right, joint, t]
        c, d = values[down, left, joint, t], values[down, right, joint, t]
        low, high = smaller(smaller(a, b), smaller(c, d)), larger(larger(a, b), larger(c, d))
        slack = larger(abs(low), abs(high)) * SLACK  # interpolation rounds past its corners
        gap = larger(larger(low - mean[start + t], mean[start + t] - high) - slack, np.float32(0))
        total += gap * gap
    return total
