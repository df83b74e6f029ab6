"""From the outputs of an exported model to poses. It needs NumPy, as its neighbors do, and for one option SciPy.

Candidates are grouped into people by their tags, missing joints predicted at each person's best place, and joints
located to a quarter of a pixel; or people are found by their centers. The results are those of the library's decode
(Coupled Embedding, ECCV 2022). Arrays are
float32 as the model returns them; equal inputs give equal poses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.decode.pose_centers import mean_tags, people_by_centers, suppress
from coupled_embedding.export.pose_maps import Floats, Ints, best_pixels, local_maxima, sample, torch_topk, upsample

# cost of a unit of rounded tag distance, the largest rounded distance, the cost of pairs beyond it, type of the costs
_COSTS: dict[str, tuple[float, float, float, type[np.floating[Any]]]] = {
    "ce": (1.0, 1.0, 1e5, np.float32),  # coupled embedding
    "ae": (100.0, np.inf, 1e10, np.float64),  # associative embedding and HigherHRNet
}


@dataclass(frozen=True)
class Options:
    """How peaks become poses: ``decode`` of model.json.

    Attributes:
        grouping_order: joint numbers in the order in which grouping visits them.
        kernel: window of a local maximum, odd, in input pixels.
        max_candidates: candidates of a joint at most.
        threshold: scores must exceed it.
        dedup_plateaus: whether a flat top gives its first pixel only.
        tie_order: order of equal scores: ``"topk"``, as torch orders them, or ``"rows"``: by rows.
        tag_threshold: tag distance that counts as 1; at or above it no candidate joins a person.
        cost: ``"ce"`` or ``"ae"``.
        assignment: among equal costs ``"munkres"``: the choice of munkres 1.1.4; ``"scipy"``: the nearer tag.
        max_joined: only the first N people can be joined; 0: all.
        refine: whether missing joints are predicted; else they stay in the middle of the others.
        missing_joints: where joints without a positive score go: ``"origin"``: (0, 0), keeping their score;
            ``"zero"``: there, with score 0; ``"guess"``: where they were predicted.
        centers: ``threshold``, ``reach`` and ``max_people`` of people found by their centers; None: tags group joints.
        oks: ``sigmas``, ``threshold`` and ``joint_score``: of people found twice the better one stays; None: both do.
    """

    grouping_order: tuple[int, ...]
    kernel: int = 5
    max_candidates: int = 30
    threshold: float = 0.1
    dedup_plateaus: bool = False
    tie_order: str = "topk"
    tag_threshold: float = 1.0
    cost: str = "ce"
    assignment: str = "munkres"
    max_joined: int = 0
    refine: bool = True
    missing_joints: str = "origin"
    centers: Mapping[str, Any] | None = None
    oks: Mapping[str, Any] | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Options":
        """Return the options in ``decode`` of model.json; ValueError for an unknown or missing one."""
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown or "grouping_order" not in values:
            what = f"unknown {', '.join(sorted(unknown))}" if unknown else "no grouping_order"
            raise ValueError(f"decode options: {what}; is this decoder of the same version as the model?")
        return cls(**{**values, "grouping_order": tuple(values["grouping_order"])})


class People(NamedTuple):
    """N people, best first.

    keypoints: (N, K, 3) float64 x, y in image pixels and score; scores: (N,) float64; tags: (N, T) mean tags.
    """

    keypoints: NDArray[np.float64]
    scores: NDArray[np.float64]
    tags: Floats


class _Candidates(NamedTuple):
    pixels: Ints  # (C,) y·W + x
    scores: Floats  # (C,)
    tags: Floats  # (C, T)


def decode(
    outputs: Mapping[str, NDArray[Any]], size: tuple[int, int], to_image: NDArray[np.float64], options: Options
) -> People:
    """Find the people of one image.

    Args:
        outputs: of the model, without the batch's axis: ``heatmaps`` (K, h', w'), ``tags`` (K, T, h, w), and
            ``centers`` (1 + 2·K, h, w), or ``peak_pixels`` and ``peak_scores`` (K, M), ``peak_tags`` (K, M, T).
        size: (H, W) of the input, pixels.
        to_image: (2, 3) affine map from input pixels to image pixels.
        options: of model.json.

    Raises:
        ValueError: the maps hold NaN or infinity.
    """
    heatmaps, tags = outputs["heatmaps"], outputs["tags"]
    if not all(np.isfinite(maps).all() for name, maps in outputs.items() if not name.startswith("peak_")):
        raise ValueError("the network output NaN or infinite values; the model file or the input is damaged")
    if options.centers is not None:
        return _by_centers(heatmaps, tags, outputs["centers"], size, to_image, options)
    peaks: Any = zip(outputs["peak_pixels"], outputs["peak_scores"], outputs["peak_tags"], strict=True)
    found = [_candidates(k, _Candidates(*p), heatmaps, tags, size, options) for k, p in enumerate(peaks)]
    joints, is_found, means = group(found, size[1], options)
    scores = joints[..., 2].mean(1).astype(np.float64)
    keypoints = _locate(joints, is_found, means, heatmaps, tags, size, options)
    keypoints[..., :2] = keypoints[..., :2] @ to_image[:, :2].T + to_image[:, 2]
    if options.missing_joints != "guess":
        keypoints[..., :2] = np.where(keypoints[..., 2:] > 0, keypoints[..., :2], 0.0)
    if options.missing_joints == "zero":
        keypoints[..., 2] = np.maximum(keypoints[..., 2], 0.0)
    order = np.argsort(-scores, kind="stable")
    return People(keypoints[order], scores[order], means[order])


def _by_centers(
    heatmaps: Floats,
    tags: Floats,
    centers: Floats,
    size: tuple[int, int],
    to_image: NDArray[np.float64],
    options: Options,
) -> People:
    keypoints, scores = people_by_centers(heatmaps, centers, size, **(options.centers or {}))
    pixels = np.clip(keypoints[..., :2].astype(np.int64), 0, np.array(size[::-1]) - 1)
    of_joints = [sample(tags[k], size, pixels[:, k, 1], pixels[:, k, 0]).T for k in range(len(tags))]
    means = mean_tags(np.stack(of_joints, 1), keypoints[..., 2], options.threshold)
    keypoints[..., :2] = keypoints[..., :2] @ to_image[:, :2].T + to_image[:, 2]
    order = np.argsort(-scores, kind="stable")
    if options.oks is not None:
        sigmas = np.array(options.oks["sigmas"])
        order = suppress(keypoints, scores, sigmas, options.oks["threshold"], options.oks["joint_score"])
    return People(keypoints[order], scores[order], means[order])


# ---- candidates


def _candidates(
    joint: int, peaks: _Candidates, heatmaps: Floats, tags: Floats, size: tuple[int, int], options: Options
) -> _Candidates:
    threshold = np.float32(options.threshold)
    kept = peaks.scores > threshold
    scores = peaks.scores[kept]
    if not (scores[1:] == scores[:-1]).any():
        best = np.flatnonzero(kept)[: options.max_candidates]
        return _Candidates(peaks.pixels[best], peaks.scores[best], peaks.tags[best])
    # which of the equal peaks the model returns, and in which order, depends on what runs it
    whole = upsample(heatmaps[joint], size)
    suppressed = np.where(local_maxima(whole, options.kernel, options.dedup_plateaus), whole, np.float32(0)).reshape(-1)
    if options.tie_order == "topk":
        if options.dedup_plateaus:
            suppressed[suppressed <= threshold] = 0
        best = torch_topk(suppressed, options.max_candidates)
        best = best[suppressed[best] > threshold]
    else:
        best = np.flatnonzero(suppressed > threshold)
        best = best[np.argsort(-suppressed[best], kind="stable")][: options.max_candidates]
    at = sample(tags[joint], size, best // size[1], best % size[1])
    return _Candidates(best, suppressed[best], at.T)


# ---- grouping


def group(candidates: Sequence[_Candidates], width: int, options: Options) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Group the K joints' candidates into people, joint by joint at least total cost.

    Returns:
        Joints (P, K, 3) x, y in input pixels and score, which of them were found (P, K), and mean tags (P, T), in the
        order in which the people were started.
    """
    capacity = sum(len(joint.scores) for joint in candidates)
    joints = np.zeros((capacity, len(candidates), 3), np.float32)
    found = np.zeros((capacity, len(candidates)), bool)
    sums = np.zeros((capacity, candidates[0].tags.shape[1]), np.float32)
    count = 0
    for joint in options.grouping_order:
        peaks = candidates[joint]
        known = min(count, options.max_joined or count)
        people = _assign(peaks, sums[:known], found[:known], options)
        newcomers = people < 0
        people[newcomers] = count + np.arange(newcomers.sum())
        count += int(newcomers.sum())
        joints[people, joint] = np.stack((peaks.pixels % width, peaks.pixels // width, peaks.scores), 1)
        found[people, joint] = True
        sums[people] += peaks.tags
    means = sums[:count] / np.maximum(found[:count].sum(1, dtype=np.float32), 1)[:, None]
    return joints[:count], found[:count], means.astype(np.float32)


def _assign(peaks: _Candidates, sums: Floats, found: NDArray[np.bool_], options: Options) -> Ints:
    """Return the person of each candidate, -1 for a new one."""
    step, farthest, invalid, dtype = _COSTS[options.cost]
    rows, people = len(peaks.scores), len(sums)
    result = np.full(rows, -1, np.int64)
    if not people or not rows:
        return result
    means = sums / found.sum(1, dtype=np.float32)[:, None]
    differences = peaks.tags[:, None].astype(dtype) - means[None]
    distances = np.sqrt((differences**2).sum(-1)) / dtype(options.tag_threshold)
    rounded = np.rint(distances)
    cost = np.full((rows, max(rows, people)), invalid, dtype)
    cost[:, :people] = np.where(rounded <= farthest, step * rounded - peaks.scores[:, None], invalid)
    if options.assignment == "munkres":
        columns = munkres_columns(cost)
    else:
        from scipy.optimize import linear_sum_assignment

        # a thousandth of a rounding step orders equal costs and leaves the others alone
        cost = cost.astype(np.float64)
        cost[:, :people] += 1e-3 * np.minimum(distances, 2.0)
        columns = linear_sum_assignment(cost)[1]
    joined = columns < people
    joined[joined] = distances[joined, columns[joined]] < 1
    result[joined] = columns[joined]
    return result


def munkres_columns(cost: NDArray[np.floating[Any]]) -> Ints:
    """Assign each row of (rows, columns), with no more rows than columns, a column of its own at least total cost.

    Among equal costs the choice is that of the package munkres 1.1.4, which starts and searches in this order.
    """
    rows, n = cost.shape
    c = np.zeros((n, n), cost.dtype)  # missing rows cost nothing
    c[:rows] = cost
    c -= c.min(1, keepdims=True)
    zeros = c == 0
    star = np.full(n, -1)  # column of each row's star
    unused = np.ones(n, bool)
    for i in range(n):
        column = int(np.argmax(zeros[i] & unused))
        if zeros[i, column] and unused[column]:
            star[i], unused[column] = column, False
    while (star < 0).any():
        open_rows, open_columns = np.ones(n, bool), np.ones(n, bool)
        open_columns[star[star >= 0]] = False
        prime = np.full(n, -1)
        row = column = 0
        count = np.count_nonzero(zeros & open_columns, axis=1)  # of each row's zeros in open columns
        while True:
            places = np.flatnonzero((count > 0) & open_rows)
            if not len(places):
                least = c[np.ix_(open_rows, open_columns)].min()
                c[~open_rows] += least
                c[:, open_columns] -= least
                zeros = c == 0
                count = np.count_nonzero(zeros & open_columns, axis=1)
                row = column = 0
                continue
            row = places[np.searchsorted(places, row) % len(places)]  # the next one, cyclically
            inside = np.flatnonzero(zeros[row] & open_columns)
            column = inside[np.searchsorted(inside, column) - 1]  # the last one, cyclically
            prime[row] = column
            if star[row] < 0:
                break
            column = star[row]
            open_rows[row], open_columns[column] = False, True
            count += zeros[:, column]
        while row >= 0:  # prime, star, prime, ...: stars of the path go, its primes become stars
            column = prime[row]
            holder = np.flatnonzero(star == column)
            star[row] = column
            row = holder[0] if len(holder) else -1
    return star[:rows]


# ---- places


def _locate(
    joints: Floats,
    found: NDArray[np.bool_],
    means: Floats,
    heatmaps: Floats,
    tags: Floats,
    size: tuple[int, int],
    options: Options,
) -> NDArray[np.float64]:
    """Return the joints (P, K, 3) with sub-pixel offsets; missing ones predicted, or in the middle with score 0."""
    located = joints.astype(np.float64)
    places = joints[..., :2].astype(np.int64)
    for joint, heatmap in enumerate(heatmaps):
        here = found[:, joint]
        missing = np.flatnonzero(~here)
        if options.refine and len(missing):
            pixels = best_pixels(heatmap, tags[joint], means[missing], size, np.float32(options.tag_threshold))
            places[missing, joint] = np.stack((pixels % size[1], pixels // size[1]), 1)
            here = np.ones_like(here)
        x, y = places[:, joint].T
        right, left = np.minimum(x + 1, size[1] - 1), np.maximum(x - 1, 0)
        below, above = np.minimum(y + 1, size[0] - 1), np.maximum(y - 1, 0)
        values = sample(heatmap, size, np.stack((y, y, y, below, above)), np.stack((x, right, left, x, x)))
        offsets = np.where(values[[1, 3]] > values[[2, 4]], 0.75, 0.25).T
        located[here, joint, :2] = places[here, joint] + offsets[here]
        if options.refine:
            located[missing, joint, 2] = values[0, missing]
        elif len(missing):
            weights = found[missing, :, None]
            located[missing, joint, :2] = (places[missing] * weights).sum(1) / weights.sum(1) + 0.5
    return located
