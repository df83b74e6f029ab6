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

from coupled_embedding.inference.enlarge import Grid, grid, mix
from coupled_embedding.inference.tags import TagLayer

Map = NDArray[np.float32]
_FIELD = 8  # blocks along a field's side
_SLACK = np.float32(2e-6)  # covers the last digits of float32 in bounds


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


class Blocks(NamedTuple):
    """First pixels of the rows and columns of blocks, and the end of the last one."""

    ys: NDArray[np.int64]
    xs: NDArray[np.int64]


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
        return Layer(tags.values, step, *_field_ranges(tags.values, step, self.cells, self.blocks))

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
        return _best_pixels(
            heatmap, cells, one, two, channels[0], channels[-1], self.cells, self.blocks, means, self.step
        )


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
def _field_ranges(values, step, cells: Grid, blocks):  # type: ignore[no-untyped-def]
    """Return the least and largest value of each dimension in the cells of each field."""
    ys, xs = blocks
    rows, columns = cells
    down, across = (len(ys) + _FIELD - 2) // _FIELD, (len(xs) + _FIELD - 2) // _FIELD
    height, width = values.shape[:2]
    flat = values.reshape(height, width, -1)  # all joints at once: long runs of memory
    low = np.empty((down, across, flat.shape[2]), np.float32)
    high = np.empty((down, across, flat.shape[2]), np.float32)
    for i in range(down):
        top, bottom = rows.first[ys[i * _FIELD]], rows.second[ys[min((i + 1) * _FIELD, len(ys) - 1)] - 1]
        for j in range(across):
            left, right = columns.first[xs[j * _FIELD]], columns.second[xs[min((j + 1) * _FIELD, len(xs) - 1)] - 1]
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
def _by_channel(ranges, joints, side):  # type: ignore[no-untyped-def]
    """Return ranges (down, across, K·D) as (K, D, fields), widened: interpolation rounds past its corners."""
    fields = ranges.shape[0] * ranges.shape[1]
    flat = ranges.reshape(fields, -1)
    out = np.empty((flat.shape[1], fields), np.float32)
    for c in range(flat.shape[1]):
        for f in range(fields):
            out[c, f] = flat[f, c] + side * abs(flat[f, c]) * _SLACK
    return out.reshape(joints, flat.shape[1] // joints, fields)


@njit(cache=True, nogil=True)
def _best_pixels(heatmap, cells, one, two, first, second, tag_cells, blocks, means, step):  # type: ignore[no-untyped-def]
    ys, xs = blocks
    bounds = _block_bounds(heatmap, cells, ys, xs)
    fields = _field_bounds(bounds)
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
def _search_field(  # type: ignore[no-untyped-def]
    heatmap, cells, one, two, first, second, tag_cells, blocks, bounds, mean, step, i, j, best, place
):
    """Return the best value and its pixel after a look at field (i, j)."""
    ys, xs = blocks
    rows, columns = cells
    tag_rows, tag_columns = tag_cells
    a, b, flip, width = one.values, two.values, one.values.shape[1] - 1, xs[-1]
    here = np.empty(len(mean), np.float32)
    for by in range(i * _FIELD, min((i + 1) * _FIELD, bounds.shape[0])):
        up, down = tag_rows.first[ys[by]], tag_rows.second[ys[by]]
        for bx in range(j * _FIELD, min((j + 1) * _FIELD, bounds.shape[1])):
            if bounds[by, bx] < best:
                continue
            left, right = tag_columns.first[xs[bx]], tag_columns.second[xs[bx]]
            left_b, right_b = (left, right) if two.step > 0 else (flip - left, flip - right)
            near = _nearest_squared(a, up, down, left, right, first, mean, 0)
            near += _nearest_squared(b, up, down, left_b, right_b, second, mean, a.shape[3])
            rounded = np.rint(np.sqrt(near) / step * np.float32(0.99999))
            if bounds[by, bx] - rounded < best:
                continue
            for y in range(ys[by], ys[by + 1]):
                over, under, weight = rows.first[y], rows.second[y], rows.weight[y]
                for x in range(xs[bx], xs[bx + 1]):
                    c, d, across = columns.first[x], columns.second[x], columns.weight[x]
                    height = mix(
                        mix(heatmap[over, c], heatmap[over, d], across),
                        mix(heatmap[under, c], heatmap[under, d], across),
                        weight,
                    )
                    if height - rounded < best:
                        continue
                    _mixed(a, up, down, left, right, first, tag_rows.weight[y], tag_columns.weight[x], here, 0)
                    _mixed(
                        b,
                        up,
                        down,
                        left_b,
                        right_b,
                        second,
                        tag_rows.weight[y],
                        tag_columns.weight[x],
                        here,
                        a.shape[3],
                    )
                    total = np.float32(0)
                    for t in range(len(mean)):
                        total += (here[t] - mean[t]) * (here[t] - mean[t])
                    value = height - np.rint(np.sqrt(total) / step)
                    if value > best or (value == best and y * width + x < place):
                        best, place = value, y * width + x
    return best, place


@njit(cache=True, nogil=True)
def _block_bounds(heatmap, cells, ys, xs):  # type: ignore[no-untyped-def]
    """Bound the enlarged heatmap inside each block.

    The largest value of each column of cells, enlarged downwards, is enlarged sideways: the
    largest of sums is at most the sum of the largest.
    """
    out = np.empty((len(ys) - 1, len(xs) - 1), np.float32)
    row = np.empty(heatmap.shape[1], np.float32)
    rows, columns = cells
    for by in range(len(ys) - 1):
        row[:] = -np.inf
        for y in range(ys[by], ys[by + 1]):
            over, under, weight = rows.first[y], rows.second[y], rows.weight[y]
            for u in range(len(row)):
                row[u] = _larger(mix(heatmap[over, u], heatmap[under, u], weight), row[u])
        for bx in range(len(xs) - 1):
            largest = np.float32(-np.inf)
            for x in range(xs[bx], xs[bx + 1]):
                here = mix(row[columns.first[x]], row[columns.second[x]], columns.weight[x])
                largest = _larger(here, largest)
            out[by, bx] = largest + abs(largest) * _SLACK
    return out


@njit(cache=True, nogil=True)
def _field_bounds(bounds):  # type: ignore[no-untyped-def]
    height, width = bounds.shape
    out = np.full((-(-height // _FIELD), -(-width // _FIELD)), -np.inf, np.float32)
    for y in range(height):
        for x in range(width):
            out[y // _FIELD, x // _FIELD] = _larger(out[y // _FIELD, x // _FIELD], bounds[y, x])
    return out


@njit(cache=True, nogil=True)
def _field_hopes(fields, one, two, first, second, mean, step, out):  # type: ignore[no-untyped-def]
    """Fill in the most that each field can give a person: its heatmap less the least rounded distance."""
    out[:] = 0
    _add_gaps(one.low[first], one.high[first], mean[: one.values.shape[3]], out)
    _add_gaps(two.low[second], two.high[second], mean[one.values.shape[3] :], out)
    for f in range(len(out)):
        out[f] = fields[f] - np.rint(np.sqrt(out[f]) / step * np.float32(0.99999))


@njit(cache=True, nogil=True)
def _add_gaps(low, high, mean, out):  # type: ignore[no-untyped-def]
    # fields in the inner loop: many at a time
    for t in range(len(mean)):
        for f in range(len(out)):
            gap = _larger(_larger(low[t, f] - mean[t], mean[t] - high[t, f]), np.float32(0))
            out[f] += gap * gap


@njit(cache=True, nogil=True)
def _smaller(a, b):  # type: ignore[no-untyped-def]
    return a if a < b else b  # a machine instruction; min() would look after NaN


@njit(cache=True, nogil=True)
def _larger(a, b):  # type: ignore[no-untyped-def]
    return a if a > b else b


@njit(cache=True, nogil=True)
def _nearest_squared(values, up, down, left, right, joint, mean, start):  # type: ignore[no-untyped-def]
    """Bound from below the squared distance between a mean and the tags between four cells."""
    total = np.float32(0)
    for t in range(values.shape[3]):
        a, b = values[up, left, joint, t], values[up, right, joint, t]
        c, d = values[down, left, joint, t], values[down, right, joint, t]
        low, high = _smaller(_smaller(a, b), _smaller(c, d)), _larger(_larger(a, b), _larger(c, d))
        slack = _larger(abs(low), abs(high)) * _SLACK  # interpolation rounds past its corners
        gap = _larger(_larger(low - mean[start + t], mean[start + t] - high) - slack, np.float32(0))
        total += gap * gap
    return total


@njit(cache=True, nogil=True)
def _mixed(values, up, down, left, right, joint, weight, across, out, start):  # type: ignore[no-untyped-def]
    """Fill in one layer's tag between four cells."""
    for t in range(values.shape[3]):
        over = mix(values[up, left, joint, t], values[up, right, joint, t], across)
        under = mix(values[down, left, joint, t], values[down, right, joint, t], across)
        out[start + t] = mix(over, under, weight)
