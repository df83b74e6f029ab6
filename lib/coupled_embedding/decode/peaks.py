"""Candidates: the local maxima of each joint's heatmap and the tags there (docs/method.md 5.3).

The heatmap is upsampled as a whole only where equal peaks need an order: an upsampled pixel is at most the
largest of its four cells, so only pixels between cells of which one reaches the threshold are computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch.nn import functional as F

from coupled_embedding.decode.fast.upsample import Map, bilerp, grid, upsample
from coupled_embedding.decode.fast.views import TagView
from coupled_embedding.decode.options import PeakOptions


@dataclass(frozen=True)
class Candidates:
    """Peaks of one joint, best first.

    Attributes:
        pixels: (C, 2) int64 x, y in input pixels.
        scores: (C,) float32 heatmap values.
        tags: (C, T) float32.
    """

    pixels: NDArray[np.int64]
    scores: NDArray[np.float32]
    tags: NDArray[np.float32]


def find_candidates(
    joint: int,
    heatmap: Map,
    tags: Sequence[TagView],
    size: tuple[int, int],
    options: PeakOptions = PeakOptions(),  # noqa: B008 - frozen
) -> Candidates:
    """Return a joint's best local maxima above the threshold.

    A pixel is a local maximum if nothing in the (kernel × kernel) window around it is larger,
    so a plateau gives one candidate a pixel unless `dedup_plateaus` is set.

    Args:
        joint: its number.
        heatmap: (h', w') float32, contiguous.
        tags: views whose values, concatenated, are a pixel's tag.
        size: (H, W) of the upsampled maps.
        options: which maxima.
    """
    cells = grid(heatmap.shape, size)
    radius, limit = options.kernel // 2, options.max_candidates
    pixels, scores = _local_maxima(heatmap, cells, radius, np.float32(options.threshold), options.dedup_plateaus)
    order = np.argsort(-scores, kind="stable")[: limit + 1]
    if options.tie_order == "topk":
        chosen = scores[order]
        if (chosen[1:] == chosen[:-1]).any():
            order = _order_of_topk(upsample(heatmap, *size), options, pixels, scores)
    order = order[:limit]
    pixels = pixels[order]
    xy = np.stack((pixels % size[1], pixels // size[1]), 1)
    return Candidates(xy, scores[order], np.concatenate([view.at(joint, xy, size) for view in tags], 1))


def _order_of_topk(heatmap: Map, options: PeakOptions, pixels: NDArray[np.int64], scores: Map) -> NDArray[np.int64]:
    """Order candidates as `torch.topk` does on the CPU, which has its own order of equal values."""
    whole = torch.from_numpy(heatmap)
    largest = F.max_pool2d(whole[None], options.kernel, 1, options.kernel // 2)[0]
    suppressed = whole * (largest == whole)
    if options.dedup_plateaus:  # dropped pixels must not take the places of others
        suppressed = torch.zeros_like(suppressed)
        suppressed.view(-1)[torch.from_numpy(pixels)] = torch.from_numpy(scores)
    best = suppressed.flatten().topk(min(options.max_candidates, suppressed.numel())).indices.numpy()
    place = {int(pixel): i for i, pixel in enumerate(pixels)}
    return np.array([place[int(pixel)] for pixel in best if int(pixel) in place], np.int64)


@njit(cache=True, nogil=True)
def _local_maxima(heatmap, cells, radius, threshold, dedup_plateaus):
    # plain arrays: each look into a tuple of arrays counts references, which takes longer than a sample
    above, below, down = rows = cells.rows.first, cells.rows.second, cells.rows.weight
    left, right, across = columns = cells.columns.first, cells.columns.second, cells.columns.weight
    width = len(left)
    back, forth = _steps(left, right, across)
    up, on = _steps(above, below, down)
    # of an interpolation, generously; in a window of one pixel any pixel is a maximum
    rounding = np.float32(1e-5) * _largest_size(heatmap) if radius else np.float32(np.inf)
    pixels = []
    scores = []
    column_max = np.empty(heatmap.shape[1], np.float32)
    row_starts, column_starts = _blocks(above), _blocks(left)
    for row in range(len(row_starts) - 1):
        y0, y1 = row_starts[row], row_starts[row + 1]
        top, bottom = above[y0], below[y0]
        # at the threshold counts: interpolation may round two equal cells up
        if _larger(heatmap[top], heatmap[bottom], column_max) < threshold:
            continue
        for column in range(len(column_starts) - 1):
            x0, x1 = column_starts[column], column_starts[column + 1]
            if column_max[left[x0]] < threshold and column_max[right[x0]] < threshold:
                continue
            a, b = heatmap[top, left[x0]], heatmap[top, right[x0]]
            c, d = heatmap[bottom, left[x0]], heatmap[bottom, right[x0]]
            # between the same cells values rise towards one side of a row, and of a column: only the last pixel there
            # can be a maximum, and all others are left out before they are interpolated
            rise_across = _rise(b - a, d - c, down[y0], down[y1 - 1])
            rise_down = _rise(c - a, d - b, across[x0], across[x1 - 1])
            for y in range(y0, y1):
                if abs(rise_down) * (on[y] if rise_down > 0 else up[y]) > rounding:
                    continue
                for x in range(x0, x1):
                    if abs(rise_across) * (forth[x] if rise_across > 0 else back[x]) > rounding:
                        continue
                    value = bilerp(a, b, c, d, across[x], down[y])
                    if value > threshold and _is_maximum(heatmap, rows, columns, y, x, radius, value, dedup_plateaus):
                        pixels.append(y * width + x)
                        scores.append(value)
    found, values = np.array(pixels, np.int64), np.array(scores, np.float32)
    by_rows = np.argsort(found)
    return found[by_rows], values[by_rows]


# maps are finite: without NaN to handle, a maximum is one machine instruction for many numbers
@njit(cache=True, nogil=True, fastmath={"nnan", "nsz", "reassoc"})
def _larger(one, other, out):
    """Fill out with the larger of two rows' cells, and return the largest."""
    largest = out[0] = max(one[0], other[0])
    for i in range(1, len(one)):
        out[i] = max(one[i], other[i])
        largest = max(largest, out[i])
    return largest


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz", "reassoc"})
def _largest_size(heatmap):
    largest = np.float32(0)
    for value in heatmap.ravel():
        largest = max(largest, abs(value))
    return largest


@njit(cache=True, nogil=True)
def _blocks(first):
    """Return where the pixels between the same two cells begin, and the number of all."""
    starts = [0]
    for i in range(1, len(first)):
        if first[i] != first[i - 1]:
            starts.append(i)
    starts.append(len(first))
    return np.array(starts)


@njit(cache=True, nogil=True)
def _rise(one, other, weight, last):
    """Return the smaller of the rises at a block's first and last pixel, of their weights; 0: if their signs differ."""
    start = (np.float32(1) - weight) * one + weight * other
    end = (np.float32(1) - last) * one + last * other
    if (start > 0) != (end > 0):
        return np.float32(0)
    return start if abs(start) < abs(end) else end


@njit(cache=True, nogil=True)
def _steps(first, second, weight):
    """Return how much nearer to the one cell, and to the other, each pixel's neighbors are; 0: between other cells."""
    back, forth = np.zeros(len(first), np.float32), np.zeros(len(first), np.float32)
    for i in range(1, len(first)):
        if first[i] == first[i - 1] and second[i] == second[i - 1]:
            forth[i - 1] = back[i] = weight[i] - weight[i - 1]
    return back, forth


@njit(cache=True, nogil=True)
def _is_maximum(heatmap, rows, columns, y, x, radius, value, dedup_plateaus):
    above, below, down = rows
    left, right, across = columns
    # rings from the inside: a slope is rejected by its direct neighbors
    for ring in range(1, radius + 1):
        for v in range(max(y - ring, 0), min(y + ring + 1, len(above))):
            step = 1 if abs(v - y) == ring else 2 * ring
            for u in range(x - ring, x + ring + 1, step):
                if 0 <= u < len(left):
                    a, b = heatmap[above[v], left[u]], heatmap[above[v], right[u]]
                    c, d = heatmap[below[v], left[u]], heatmap[below[v], right[u]]
                    other = bilerp(a, b, c, d, across[u], down[v])
                    before = v < y or (v == y and u < x)
                    if other > value or (dedup_plateaus and before and other == value):
                        return False
    return True
