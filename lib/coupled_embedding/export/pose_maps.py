"""Maps of an exported model: upsampling, local maxima, and where a person's missing joints are. NumPy alone.

Everything rounds as the library's decode does, and equal values are ordered as there.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_EPS = np.float32(2e-6)  # covers the last digits of float32 in bounds
_TILE = 8  # blocks along a tile's side
_FIRST = 8  # blocks that are searched before the others
_CHUNK = 4096  # blocks that are searched at a time
_PEOPLE = 32  # people whose joints are searched at a time


class _Axis(NamedTuple):
    first: Ints  # (n,) cell before each of n pixels
    second: Ints  # and after it
    weight: Floats  # of the second one
    edges: Ints  # first pixels of blocks, which lie between the same two cells, and n


@lru_cache(maxsize=64)
def _axis(cells: int, pixels: int) -> _Axis:
    ratio = np.float32(cells) / np.float32(pixels)
    source = ratio * (np.arange(pixels, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    edges = np.append(np.flatnonzero(np.diff(np.floor(source), prepend=-2)), pixels)
    source = np.maximum(source, np.float32(0))
    first = np.minimum(source.astype(np.int64), cells - 1)
    weight = np.clip(source - first.astype(np.float32), np.float32(0), np.float32(1))
    return _Axis(first, np.minimum(first + 1, cells - 1), weight, edges)


def _lerp(a: Floats, b: Floats, weight: Floats) -> Floats:
    result = (np.float32(1) - weight) * a
    result += weight * b
    return result


def upsample(heatmap: Floats, size: tuple[int, int]) -> Floats:
    """Upsample a map (h, w) bilinearly to (H, W)."""
    rows, columns = _axis(heatmap.shape[0], size[0]), _axis(heatmap.shape[1], size[1])
    wide = _lerp(heatmap[:, columns.first], heatmap[:, columns.second], columns.weight)
    return _lerp(wide[rows.first], wide[rows.second], rows.weight[:, None])


def sample(maps: Floats, size: tuple[int, int], y: Ints, x: Ints) -> Floats:
    """Return pixels y, x (...) of maps (..., h, w) upsampled to (H, W)."""
    rows, columns = _axis(maps.shape[-2], size[0]), _axis(maps.shape[-1], size[1])
    up, down, left, right = rows.first[y], rows.second[y], columns.first[x], columns.second[x]
    across = columns.weight[x]
    above = _lerp(maps[..., up, left], maps[..., up, right], across)
    below = _lerp(maps[..., down, left], maps[..., down, right], across)
    return _lerp(above, below, rows.weight[y])


def local_maxima(whole: Floats, kernel: int, dedup_plateaus: bool) -> NDArray[np.bool_]:
    """Return where a map (H, W) is not exceeded in a window of kernel² pixels; of a flat top the first pixel, if so."""
    radius = kernel // 2
    padded = np.pad(whole, radius, constant_values=-np.inf)
    views = np.lib.stride_tricks.sliding_window_view
    across = views(padded, kernel, 1).max(-1)
    kept = views(across, kernel, 0).max(-1) == whole
    if dedup_plateaus and radius:
        above = views(across[: len(whole) + radius - 1], radius, 0).max(-1)
        before = views(padded[radius:-radius, : whole.shape[1] + radius - 1], radius, 1).max(-1)
        kept &= (above < whole) & (before < whole)
    return np.asarray(kept)


def torch_topk(values: Floats, count: int) -> Ints:
    """Return the indices that `torch.topk` returns on the CPU: those of C++'s partial_sort of libstdc++.

    Of fewer than 64 · count values torch takes another algorithm; equal values are then in another order.
    """
    count = min(count, len(values))
    heap = [(float(values[i]), i) for i in range(count)]  # the least on top

    def sift(hole: int, length: int, item: tuple[float, int]) -> None:
        top, child = hole, hole
        while child < (length - 1) // 2:
            child = 2 * (child + 1)
            child -= heap[child][0] > heap[child - 1][0]
            heap[hole], hole = heap[child], child
        if length % 2 == 0 and child == (length - 2) // 2:
            child = 2 * child + 1
            heap[hole], hole = heap[child], child
        while hole > top and heap[(hole - 1) // 2][0] > item[0]:
            heap[hole], hole = heap[(hole - 1) // 2], (hole - 1) // 2
        heap[hole] = item

    for parent in range((count - 2) // 2, -1, -1):
        sift(parent, count, heap[parent])
    for start in range(count, len(values), 4096):
        part = values[start : start + 4096]
        for i in np.flatnonzero(part > heap[0][0]):
            if part[i] > heap[0][0]:
                sift(0, count, (float(part[i]), start + int(i)))
    for last in range(count - 1, 0, -1):
        item, heap[last] = heap[last], heap[0]
        sift(0, last, item)
    return np.array([i for _, i in heap], np.int64)


# ---- missing joints


class _Bounds(NamedTuple):
    """Of B blocks or tiles: the largest heatmap value (B,), the least and the largest tags (T, B)."""

    heights: Floats
    low: Floats
    high: Floats


class _Joint(NamedTuple):
    """One joint's maps: heatmap (H, W) as upsampled, tags (T, h, w), and bounds of blocks and of tiles of them."""

    whole: Floats
    tags: Floats
    rows: _Axis
    columns: _Axis
    blocks: _Bounds
    tiles: _Bounds
    tile_of: Ints  # of each block
    step: np.float32  # tag distance that counts as 1


class _Search:
    """The best value so far of each of P people, and its first pixel.

    Args:
        joint: that they miss.
        means: (P, T) their mean tags.
    """

    def __init__(self, joint: _Joint, means: Floats) -> None:
        self.joint, self.means = joint, means
        self.best = np.full(len(means), -np.inf, np.float32)
        self.places = np.full(len(means), joint.whole.size)

    def run(self) -> Ints:
        """Return the pixels (P,)."""
        joint = self.joint
        bounds = joint.tiles.heights - _steps(joint.tiles.low, joint.tiles.high, self.means[..., None], joint.step)
        most = bounds.argmax(1)
        self._blocks(*np.nonzero(joint.tile_of == most[:, None]))
        bounds[np.arange(len(most)), most] = -np.inf
        self._blocks(*np.nonzero((bounds >= self.best[:, None])[:, joint.tile_of]))
        return self.places

    def _blocks(self, people: Ints, blocks: Ints) -> None:
        """Search in pairs of person and block; people in order."""
        bounds = self.joint.blocks
        steps = _steps(bounds.low[:, blocks], bounds.high[:, blocks], self.means[people].T, self.joint.step)
        most = bounds.heights[blocks] - steps
        kept = np.flatnonzero(most >= self.best[people])
        kept = kept[np.lexsort((-most[kept], people[kept]))]
        # each person's most promising ones first, after which few of the others are left
        rank = np.arange(len(kept)) - np.searchsorted(people[kept], people[kept])
        for part in (kept[rank < _FIRST], kept[rank >= _FIRST]):
            part = part[most[part] >= self.best[people[part]]]
            for start in range(0, len(part), _CHUNK):
                chunk = part[start : start + _CHUNK]
                self._pixels(people[chunk], blocks[chunk], steps[chunk])

    def _pixels(self, people: Ints, blocks: Ints, steps: Floats) -> None:
        """Search all pixels of pairs of person and block, whose tags are some steps away at least."""
        joint, (_, width) = self.joint, self.joint.whole.shape
        down, across = np.divmod(blocks, len(joint.columns.edges) - 1)
        y, x = _pixels(joint.rows.edges, down)[:, :, None], _pixels(joint.columns.edges, across)[:, None]
        heights = joint.whole[y, x]  # (B, m, n)
        inside = heights - steps[:, None, None] >= self.best[people][:, None, None]
        heights, pixels = heights[inside], (y * width + x)[inside]
        people = np.broadcast_to(people[:, None, None], inside.shape)[inside]
        tags = sample(joint.tags, joint.whole.shape, pixels // width, pixels % width)
        values = heights - np.rint(np.sqrt(((tags - self.means[people].T) ** 2).sum(0)) / joint.step)
        before = self.best.copy()
        np.maximum.at(self.best, people, values)
        self.places[self.best > before] = joint.whole.size
        first = values == self.best[people]
        np.minimum.at(self.places, people[first], pixels[first])


def best_pixels(heatmap: Floats, tags: Floats, means: Floats, size: tuple[int, int], step: np.float32) -> Ints:
    """Return for each mean tag the first pixel y·W + x that maximizes heatmap − round(‖tag − mean‖ / step).

    The cells around a block of pixels bound its tags, and so do those around a tile of blocks: the tags of few pixels
    are upsampled.

    Args:
        heatmap: (h', w') of one joint.
        tags: (T, h, w) of the same.
        means: (P, T) of people.
        size: (H, W) to which both are upsampled.
        step: tag distance that counts as 1.
    """
    rows, columns = _axis(tags.shape[1], size[0]), _axis(tags.shape[2], size[1])
    whole = upsample(heatmap, size)
    heights = np.maximum.reduceat(np.maximum.reduceat(whole, rows.edges[:-1], 0), columns.edges[:-1], 1)
    low, high = _ranges(tags, rows, columns)
    tiles = _Bounds(_tiles(np.maximum, heights), _tiles(np.minimum, low), _tiles(np.maximum, high))
    blocks = _Bounds(heights.reshape(-1), low.reshape(len(low), -1), high.reshape(len(high), -1))
    down, across = (np.arange(length) // _TILE for length in heights.shape)
    tile_of = (down[:, None] * (across[-1] + 1) + across).reshape(-1)
    joint = _Joint(whole, tags, rows, columns, blocks, tiles, tile_of, step)
    parts = (means[start : start + _PEOPLE] for start in range(0, len(means), _PEOPLE))
    return np.concatenate([_Search(joint, part).run() for part in parts])


def _steps(low: Floats, high: Floats, means: Floats, step: np.float32) -> Floats:
    """Return the least round(‖tag − mean‖ / step) of tags between low and high (T, B), of means (..., T, B)."""
    gaps = np.maximum(low - means, means - high)
    np.maximum(gaps, 0, out=gaps)
    return np.asarray(np.rint(np.sqrt((gaps * gaps).sum(-2)) / step * np.float32(0.99999)))


def _pixels(edges: Ints, blocks: Ints) -> Ints:
    """Return the pixels (B, m) of blocks along an axis; those of smaller blocks are repeated."""
    longest = np.diff(edges).max()
    return np.minimum(edges[blocks][:, None] + np.arange(longest), edges[blocks + 1][:, None] - 1)


def _ranges(tags: Floats, rows: _Axis, columns: _Axis) -> tuple[Floats, Floats]:
    """Return the least and the largest of tags (T, h, w) at the cells around each block, and a little for rounding."""
    y, x = rows.edges[:-1], columns.edges[:-1]
    above, below = tags[:, rows.first[y]], tags[:, rows.second[y]]
    low, high = np.minimum(above, below), np.maximum(above, below)
    low = np.minimum(low[:, :, columns.first[x]], low[:, :, columns.second[x]])
    high = np.maximum(high[:, :, columns.first[x]], high[:, :, columns.second[x]])
    return low - np.abs(low) * _EPS, high + np.abs(high) * _EPS


def _tiles(extreme: np.ufunc, blocks: Floats) -> Floats:
    """Return the extremes of blocks (..., down, across) inside each tile, (..., tiles)."""
    for axis in (-2, -1):
        blocks = extreme.reduceat(blocks, np.arange(0, blocks.shape[axis], _TILE), axis)
    return blocks.reshape(*blocks.shape[:-2], -1)
