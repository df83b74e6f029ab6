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

from coupled_embedding.decode.fast.upsample import Map, grid, sample_at, upsample
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
    rows, columns = cells
    width = len(columns.first)
    pixels = []
    scores = []
    column_max = np.empty(heatmap.shape[1], np.float32)
    promising = np.empty(width, np.int64)  # columns of pixels between the present two rows of cells
    count = 0
    last = -1
    for y in range(len(rows.first)):
        if rows.first[y] != last:
            last = rows.first[y]
            below = rows.second[y]
            largest = np.float32(-np.inf)
            for u in range(len(column_max)):
                a, b = heatmap[last, u], heatmap[below, u]
                column_max[u] = a if a > b else b  # one machine instruction; max() would handle NaN
            for u in range(len(column_max)):
                largest = column_max[u] if column_max[u] > largest else largest
            count = 0
            # at least, not above: interpolation may round two equal cells up
            if largest >= threshold:
                for x in range(width):
                    if column_max[columns.first[x]] >= threshold or column_max[columns.second[x]] >= threshold:
                        promising[count] = x
                        count += 1
        for number in range(count):
            x = promising[number]
            value = sample_at(heatmap, cells, y, x)
            if value > threshold and _is_maximum(heatmap, cells, y, x, radius, value, dedup_plateaus):
                pixels.append(y * width + x)
                scores.append(value)
    return np.array(pixels, np.int64), np.array(scores, np.float32)


@njit(cache=True, nogil=True)
def _is_maximum(heatmap, cells, y, x, radius, value, dedup_plateaus):
    # rings from the inside: a slope is rejected by its direct neighbors
    height, width = len(cells.rows.first), len(cells.columns.first)
    for ring in range(1, radius + 1):
        for v in range(max(y - ring, 0), min(y + ring + 1, height)):
            step = 1 if abs(v - y) == ring else 2 * ring
            for u in range(x - ring, x + ring + 1, step):
                if 0 <= u < width:
                    other = sample_at(heatmap, cells, v, u)
                    before = v < y or (v == y and u < x)
                    if other > value or (dedup_plateaus and before and other == value):
                        return False
    return True
