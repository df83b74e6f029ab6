"""From center maps to people (docs/method.md 9.6). NumPy alone: exports carry this file.

A center predicts where its joints are, each of which then goes to the best cell of its heatmap nearby. Two people may
take the same cell; `suppress` drops a person who is found twice.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# heatmaps (K, h, w), places (P, K, 2) in cells, reaches (P,) -> cells (P, K, 2) x, y, the heatmaps there (P, K)
Search = Callable[[Map, Floats, Floats], tuple[Ints, Floats]]
_LEAST = 0.5  # cells: no reach is smaller


def best_cells(heatmaps: Map, predicted: Floats, reaches: Floats) -> tuple[Ints, Floats]:
    """Return each joint's cell with the largest heatmap / (distance from where its center predicts it + reach).

    Negative values, which a network's linear heatmaps may have, count as 0. Of equal cells the nearest to the predicted
    place is best.
    """
    height, width = heatmaps.shape[1:]
    values = np.maximum(heatmaps, 0).astype(np.float64)
    places = np.empty(predicted.shape, np.int64)
    for p, k in np.ndindex(predicted.shape[:2]):
        across, down = (np.arange(n) + 0.5 - predicted[p, k, axis] for axis, n in enumerate((width, height)))
        distances = np.hypot(across, down[:, None])
        if values[k].any():
            best = (values[k] / (distances + reaches[p])).argmax()
        else:
            best = distances.argmin()
        places[p, k] = best % width, best // width
    return places, values[np.arange(len(values)), places[..., 1], places[..., 0]]


def people_by_centers(
    heatmaps: Map,
    centers: Map,
    size: tuple[int, int],
    threshold: float,
    reach: float,
    max_people: int,
    search: Search = best_cells,
) -> tuple[Floats, Floats]:
    """Find the people of one image.

    Args:
        heatmaps: (K, h', w').
        centers: (1 + 2·K, h, w) center maps: a heatmap of centers, and from the middle of a cell the displacements x, y
            to each joint, in cells.
        size: (H, W) of the input.
        threshold: which a center's score must exceed.
        reach: share of the longer side of the predicted joints' extent: at that distance a joint's heatmap counts half.
        max_people: the best ones.
        search: finds the joints' cells.

    Returns:
        Joints (P, K, 3) x, y in input pixels and score, and people's scores (P,): the geometric mean of the center's
        and the mean of the joints'. Best centers first.
    """
    cells = find_centers(centers[0], threshold)[:max_people]  # (P, 2)
    x, y = cells.T
    fine, coarse = (np.array(maps.shape[:0:-1], np.float64) for maps in (heatmaps, centers))  # (w, h)
    displacements = centers[1:, y, x].reshape(len(heatmaps), 2, len(x)).transpose(2, 0, 1)
    predicted = (displacements + (cells[:, None] + 0.5)) * (fine / coarse)
    places, scores = search(heatmaps, predicted, np.maximum(reach * np.ptp(predicted, 1).max(1, initial=0), _LEAST))
    points = (places + 0.5 + peak_offsets(heatmaps, places)) * (np.array(size[::-1]) / fine)
    return np.concatenate((points, scores[..., None]), 2), np.sqrt(centers[0, y, x] * scores.mean(1))


def find_centers(heatmap: Map, threshold: float) -> Ints:
    """Return the cells (P, 2) x, y above the threshold that no neighbor exceeds, best first.

    Of equal neighbors the first is one, row by row.
    """
    padded = np.pad(heatmap, 1, constant_values=-np.inf)
    height, width = heatmap.shape
    is_best = heatmap > threshold
    for number in (0, 1, 2, 3, 5, 6, 7, 8):  # without the cell itself
        down, across = divmod(number, 3)
        neighbor = padded[down : down + height, across : across + width]
        is_best &= heatmap > neighbor if number < 4 else heatmap >= neighbor
    y, x = np.nonzero(is_best)
    order = np.argsort(-heatmap[y, x], kind="stable")
    return np.stack((x[order], y[order]), 1)


def peak_offsets(heatmaps: Map, places: Ints) -> Floats:
    """Return where in its cell (P, K, 2) a peak is, of −½ to ½ from the middle on each axis.

    That is the top of the parabola through the logarithms of the cell and its neighbors, which is exact for a Gaussian;
    0 at a map's border.
    """
    joints, height, width = heatmaps.shape
    x, y = places[..., 0], places[..., 1]

    def at(dx: int, dy: int) -> Floats:
        rows, columns = np.clip(y + dy, 0, height - 1), np.clip(x + dx, 0, width - 1)
        values = heatmaps[np.arange(joints), rows, columns].astype(np.float64)
        return np.asarray(np.log(np.maximum(values, 1e-6)))

    middle = at(0, 0)
    offsets = []
    for dx, dy, place, last in ((1, 0, x, width - 1), (0, 1, y, height - 1)):
        before, after = at(-dx, -dy), at(dx, dy)
        bend = before - 2 * middle + after
        top = 0.5 * (before - after) / np.where(bend < 0, bend, -1)
        offsets.append(np.where((bend < 0) & (place > 0) & (place < last), np.clip(top, -0.5, 0.5), 0.0))
    return np.stack(offsets, -1)


def mean_tags(tags: Map, scores: Floats, threshold: float) -> Map:
    """Return mean tags (P, T) of joints (P, K, T) whose scores (P, K) exceed the threshold; if none does, of all."""
    counted = scores > threshold
    weights = np.where(counted.any(1, keepdims=True), counted, True)[..., None].astype(np.float32)
    return np.asarray((tags * weights).sum(1) / weights.sum(1))


def suppress(joints: Floats, scores: Floats, sigmas: Floats, threshold: float, joint_score: float) -> Ints:
    """Return which of P people stay, best first: those whose OKS with no better one is above the threshold.

    Over the joints whose scores exceed ``joint_score`` in both, and the mean area of their boxes of joints with scores.
    """
    kept: list[int] = []
    seen, found = joints[..., 2:] > 0, joints[..., 2] > joint_score
    low, high = (np.where(seen, joints[..., :2], end).T for end in (np.inf, -np.inf))  # (2, K, P)
    areas = np.prod(np.maximum(high.max(1) - low.min(1), 0), 0)
    for one in np.argsort(-scores, kind="stable").tolist():
        squared = ((joints[kept, :, :2] - joints[one, :, :2]) ** 2).sum(-1)
        area = (areas[kept] + areas[one]) / 2 + np.spacing(1)
        both = found[kept] & found[one]
        alike = (np.exp(-squared / (8 * sigmas**2 * area[:, None])) * both).sum(1) / np.maximum(both.sum(1), 1)
        if not (alike > threshold).any():
            kept.append(one)
    return np.array(kept, np.int64)
