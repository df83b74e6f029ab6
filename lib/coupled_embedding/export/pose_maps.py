"""Maps of an exported model: upsampling, local maxima, and where a person's missing joints are. NumPy alone.

Everything rounds as the library's decode does, and equal values are ordered as there.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_EPS = np.float32(2e-6)  # covers the last digits of float32 in bounds
_TILE = 8  # blocks along a tile's side
_FIRST = 8  # blocks that are searched before the others
_CHUNK = 4096  # pixels whose tags are computed at a time


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

    def steps(self, mean: Floats, step: np.float32, chosen: Any = slice(None)) -> Floats:
        """Return the least round(‖tag − mean‖ / step) in some of them."""
        center = mean[:, None]
        gaps = np.maximum(self.low[:, chosen] - center, center - self.high[:, chosen])
        np.maximum(gaps, 0, out=gaps)
        return np.asarray(np.rint(np.sqrt(np.einsum("tb,tb->b", gaps, gaps)) / step * np.float32(0.99999)))


class _Joint(NamedTuple):
    """One joint's maps: heatmap (H, W) as upsampled, tags (T, h, w), and bounds of blocks and of tiles of them."""

    whole: Floats
    tags: Floats
    rows: _Axis
    columns: _Axis
    blocks: _Bounds
    tiles: _Bounds
    tile_of: Ints  # of each block


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
    joint = _Joint(whole, tags, rows, columns, blocks, tiles, tile_of)
    return np.array([_best_pixel(joint, mean, step) for mean in means], np.int64)


def _best_pixel(joint: _Joint, mean: Floats, step: np.float32) -> int:
    """Return the best pixel of one mean tag (T,)."""
    bounds = joint.tiles.heights - joint.tiles.steps(mean, step)
    inside = np.flatnonzero(joint.tile_of == bounds.argmax())
    best, place = _search_blocks(joint, inside, mean, step, np.float32(-np.inf), 0)
    left = np.flatnonzero((bounds >= best)[joint.tile_of])
    return _search_blocks(joint, left, mean, step, best, place)[1]


def _search_blocks(
    joint: _Joint, blocks: Ints, mean: Floats, step: np.float32, best: np.float32, place: int
) -> tuple[np.float32, int]:
    """Return the largest value, and its first pixel, of those so far and those in some blocks."""
    steps = joint.blocks.steps(mean, step, blocks)
    bounds = joint.blocks.heights[blocks] - steps
    # the most promising ones first, after which few of the others are left
    order = np.argpartition(-bounds, _FIRST) if len(blocks) > _FIRST else np.arange(len(blocks))
    for part in (order[:_FIRST], order[_FIRST:]):
        part = part[bounds[part] >= best]
        if len(part):
            best, place = _search_pixels(joint, blocks[part], steps[part], mean, step, best, place)
    return best, place


def _search_pixels(
    joint: _Joint, blocks: Ints, steps: Floats, mean: Floats, step: np.float32, best: np.float32, place: int
) -> tuple[np.float32, int]:
    """Do the same in all pixels of blocks whose tags are some steps away at least."""
    size = joint.whole.shape
    down, across = np.divmod(blocks, len(joint.columns.edges) - 1)
    y, x = _pixels(joint.rows.edges, down)[:, :, None], _pixels(joint.columns.edges, across)[:, None]
    pixels = y * size[1] + x  # (B, m, n)
    heights = joint.whole.reshape(-1)[pixels]
    inside = heights - steps[:, None, None] >= best
    pixels, heights = pixels[inside], heights[inside]
    for start in range(0, len(pixels), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        tags = sample(joint.tags, size, pixels[chunk] // size[1], pixels[chunk] % size[1])
        values = heights[chunk] - np.rint(np.sqrt(((tags - mean[:, None]) ** 2).sum(0)) / step)
        largest = values.max()
        first = int(pixels[chunk][values == largest].min())
        if largest > best or (largest == best and first < place):
            best, place = largest, first
    return best, place


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
