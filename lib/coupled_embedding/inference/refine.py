"""Refinement: look up a person's absent joints at their best place (METHOD.md 5.6).

The best place maximises heatmap − round(‖tag − mean tag‖) over all input pixels. Blocks of
pixels between four tag cells bound both terms, so few of them are ever looked at closely.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from coupled_embedding.inference.enlarge import source_positions


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
def refine_joint(
    heatmap: NDArray[np.float32], tags: NDArray[np.float32], means: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Return each person's best pixel y·W + x for one joint, the first among equals.

    Args:
        heatmap: (H, W) at input size.
        tags: (h, w, T) at stride 4.
        means: (P, T) the people's mean tags in units of the rounding step.
    """
    height, width = heatmap.shape
    y0, y1, wy = source_positions(tags.shape[0], height)
    x0, x1, wx = source_positions(tags.shape[1], width)
    ys, xs = block_edges(y0, y1), block_edges(x0, x1)
    peaks = _block_maxima(heatmap, ys, xs)
    flat = peaks.ravel()
    # the blocks with the highest heatmaps first: most others then cannot win
    order = np.argsort(-flat)
    result = np.empty(means.shape[0], np.int64)
    columns = peaks.shape[1]
    tag_dim = tags.shape[2]
    here = np.empty(tag_dim, np.float32)
    for person in range(means.shape[0]):
        mean = means[person]
        best, place = np.float32(-np.inf), np.int64(0)
        for number in order:
            if flat[number] < best:
                break
            by, bx = number // columns, number % columns
            top, bottom = tags[y0[ys[by]]], tags[y1[ys[by]]]
            left, right = x0[xs[bx]], x1[xs[bx]]
            if flat[number] - _least_rounded(top, bottom, left, right, mean) < best:
                continue
            for y in range(ys[by], ys[by + 1]):
                for x in range(xs[bx], xs[bx + 1]):
                    if heatmap[y, x] < best:
                        continue
                    _interpolate(top, bottom, left, right, wy[y], wx[x], here)
                    value = heatmap[y, x] - np.rint(_distance(here, mean))
                    pixel = y * width + x
                    if value > best or (value == best and pixel < place):
                        best, place = value, pixel
        result[person] = place
    return result


@njit(cache=True, nogil=True)
def _block_maxima(heatmap, ys, xs):  # type: ignore[no-untyped-def]
    out = np.empty((len(ys) - 1, len(xs) - 1), np.float32)
    row = np.empty(heatmap.shape[1], np.float32)
    for by in range(len(ys) - 1):
        row[:] = heatmap[ys[by]]
        for y in range(ys[by] + 1, ys[by + 1]):
            for x in range(len(row)):
                row[x] = max(row[x], heatmap[y, x])
        for bx in range(len(xs) - 1):
            largest = row[xs[bx]]
            for x in range(xs[bx] + 1, xs[bx + 1]):
                largest = max(largest, row[x])
            out[by, bx] = largest
    return out


@njit(cache=True, nogil=True)
def _least_rounded(top, bottom, left, right, mean):  # type: ignore[no-untyped-def]
    """Bound from below the rounded distance of every interpolated tag of a block.

    Each dimension of an interpolated tag lies between the least and the largest of the four
    corners; the slack and the factor below 1 cover the last digits of float32.
    """
    total = np.float32(0)
    for t in range(len(mean)):
        a, b, c, d = top[left, t], top[right, t], bottom[left, t], bottom[right, t]
        low, high = min(min(a, b), min(c, d)), max(max(a, b), max(c, d))
        slack = np.float32(4e-7) * max(abs(low), abs(high))
        gap = max(max(low - mean[t], mean[t] - high) - slack, np.float32(0))
        total += gap * gap
    return np.rint(np.sqrt(total) * np.float32(0.99999))


@njit(cache=True, nogil=True)
def _interpolate(top, bottom, left, right, wy, wx, out):  # type: ignore[no-untyped-def]
    one = np.float32(1)
    for t in range(len(out)):
        above = (one - wx) * top[left, t] + wx * top[right, t]
        below = (one - wx) * bottom[left, t] + wx * bottom[right, t]
        out[t] = (one - wy) * above + wy * below


@njit(cache=True, nogil=True)
def _distance(a, b):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    for t in range(len(a)):
        total += (a[t] - b[t]) * (a[t] - b[t])
    return np.sqrt(total)
