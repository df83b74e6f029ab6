"""Candidates: the local maxima of each joint's heatmap and the tags found there (METHOD.md 5.3)."""

from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch.nn import functional as F

from coupled_embedding.inference.enlarge import source_positions


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
    heatmap: NDArray[np.float32], tags: NDArray[np.float32], kernel: int, limit: int, threshold: float
) -> Candidates:
    """Return a joint's best local maxima above the threshold.

    A pixel is a local maximum if nothing in the (kernel × kernel) window around it is larger,
    so a plateau gives one candidate a pixel.

    Args:
        heatmap: (H, W) at input size.
        tags: (h, w, T) at stride 4, enlarged only where a candidate is.
        kernel: odd window size in pixels.
        limit: candidates at most.
        threshold: scores must exceed it.
    """
    pixels, scores = _local_maxima(heatmap, kernel // 2, np.float32(threshold))
    order = np.argsort(-scores, kind="stable")[: limit + 1]
    chosen = scores[order]
    if (chosen[1:] == chosen[:-1]).any():
        order = _order_of_topk(heatmap, kernel, limit, pixels)
    order = order[:limit]
    pixels = pixels[order]
    xy = np.stack((pixels % heatmap.shape[1], pixels // heatmap.shape[1]), 1)
    return Candidates(xy, scores[order], tags_at(tags, xy, heatmap.shape[0], heatmap.shape[1]))


def _order_of_topk(heatmap: NDArray[np.float32], kernel: int, limit: int, pixels: NDArray[np.int64]) -> NDArray:
    """Order candidates as `torch.topk` does on the CPU, whose order of equal values is its own."""
    whole = torch.from_numpy(heatmap)
    largest = F.max_pool2d(whole[None], kernel, 1, kernel // 2)[0]
    suppressed = whole * (largest == whole)
    best = suppressed.flatten().topk(min(limit, suppressed.numel())).indices.numpy()
    place = {int(pixel): i for i, pixel in enumerate(pixels)}
    return np.array([place[int(pixel)] for pixel in best if int(pixel) in place], np.int64)


@njit(cache=True, nogil=True)
def _local_maxima(heatmap, radius, threshold):  # type: ignore[no-untyped-def]
    height, width = heatmap.shape
    pixels = []
    scores = []
    for y in range(height):
        for x in range(width):
            value = heatmap[y, x]
            if value > threshold and _is_maximum(heatmap, y, x, radius, value):
                pixels.append(y * width + x)
                scores.append(value)
    return np.array(pixels, np.int64), np.array(scores, np.float32)


@njit(cache=True, nogil=True)
def _is_maximum(heatmap, y, x, radius, value):  # type: ignore[no-untyped-def]
    height, width = heatmap.shape
    for v in range(max(y - radius, 0), min(y + radius + 1, height)):
        for u in range(max(x - radius, 0), min(x + radius + 1, width)):
            if heatmap[v, u] > value:
                return False
    return True


@njit(cache=True, nogil=True)
def tags_at(tags: NDArray[np.float32], pixels: NDArray[np.int64], height: int, width: int) -> NDArray[np.float32]:
    """Return the tags (h, w, T), enlarged to (height, width), at pixels (C, 2) as (C, T)."""
    y0, y1, wy = source_positions(tags.shape[0], height)
    x0, x1, wx = source_positions(tags.shape[1], width)
    out = np.empty((pixels.shape[0], tags.shape[2]), np.float32)
    one = np.float32(1)
    for c in range(pixels.shape[0]):
        x, y = pixels[c]
        a, b, v, w = x0[x], x1[x], wx[x], wy[y]
        for t in range(tags.shape[2]):
            above = (one - v) * tags[y0[y], a, t] + v * tags[y0[y], b, t]
            below = (one - v) * tags[y1[y], a, t] + v * tags[y1[y], b, t]
            out[c, t] = (one - w) * above + w * below
    return out
