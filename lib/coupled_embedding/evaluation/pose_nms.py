"""Non-maximum suppression of whole poses: of several poses of one person the best stays.

RMPE's parametric suppression (Fang et al. 2017), with the paper's formulas or its released program's, and one by object
keypoint similarity. Both take the poses of one image, of any program or of several: scales, flips and models are merged
that way. A joint without a score above 0 is missing and is compared with nothing; a pose's box is the extent of its
joints, its box score the pose's score.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.outputs import Pose
from coupled_embedding.data.people import joint_boxes

Floats = NDArray[np.float64]
_BLOCK = 2**20  # joints that are compared at once: bounds the memory of an image with thousands of poses


class Kept(NamedTuple):
    """What is left of N poses, best first.

    Attributes:
        rows: (M,) which of them.
        keypoints: (M, K, 3) x, y in image pixels, score.
        scores: (M,).
    """

    rows: NDArray[np.intp]
    keypoints: Floats
    scores: Floats


@dataclass(frozen=True)
class ParametricNMS:
    """RMPE's suppression: a pose j goes if its distance d(i, j) = K_sim + λ·H_sim to a better one, i, is above η.

    K_sim is the sum of tanh(c_i/σ1)·tanh(c_j/σ1) of the scores of joints that lie near each other, H_sim that of
    exp(−‖k_i − k_j‖²/σ2), or of exp(−‖k_i − k_j‖/σ2). It measures likeness: equal poses have the largest. The defaults
    are the paper's formulas with the values of the released program.

    Attributes:
        sigma1: σ1, in units of joint scores.
        sigma2: σ2, in image pixels, or in square image pixels if ``squared``.
        lam: λ.
        eta: η.
        squared: whether H_sim takes squared distances.
        alpha: share of i's box: of the sides of a box around each joint of i in which the joint of j is near; and see
            ``match_pixels``.
        gate_pixels: a joint of j is near up to this distance instead; 0: by ``alpha``.
        match_joints: a pose also goes with as many joints close to those of a better one; 0: by d alone.
        match_pixels: a joint is close up to the lesser of this distance and ``alpha`` times i's longer side.
        merge_pixels: joints up to this distance from those of the pose that stays are averaged with them, weighted by
            their scores s, to the score Σs²/Σs; 0: the pose stays as it is.
        min_score: of a pose's best joint; other poses are left out in the end.
        rescore: whether a pose's score becomes its joints' mean + its own + 1.25 times the best joint's.
    """

    # that are fitted, two at a time; reach and limit together, as neither does anything far from the other's values
    PAIRS: ClassVar = (("sigma2", "eta"), ("sigma1", "lam"))

    sigma1: float = 1.0
    sigma2: float = 2.65
    lam: float = 1.7
    eta: float = 22.48
    squared: bool = True
    alpha: float = 0.1
    gate_pixels: float = 0.0
    match_joints: int = 0
    match_pixels: float = 7.0
    merge_pixels: float = 0.0
    min_score: float = 0.0
    rescore: bool = False

    def __post_init__(self) -> None:
        for name in ("sigma1", "sigma2", "lam", "eta", "alpha"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name}: expected a number above 0, got {getattr(self, name)}")
        for name in ("gate_pixels", "match_joints", "match_pixels", "merge_pixels", "min_score"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")

    def distances(self, keypoints: Floats) -> Floats:
        """Return d (N, N) of poses (N, K, 3); row i compares the better pose i with each j."""
        return self._compare(keypoints)[0]

    def apply(self, keypoints: Floats, scores: Floats) -> Kept:
        """Suppress poses (N, K, 3) of one image, by their scores (N,)."""
        distances, matches = self._compare(keypoints)
        removes = distances > self.eta
        if self.match_joints:
            removes |= matches >= self.match_joints
        rows, merged = [], []
        for row, removed in _clusters(scores, removes):
            pose = self._merge(keypoints[row], keypoints[[row, *removed]])
            if min(keypoints[row, :, 2].max(), pose[:, 2].max()) >= self.min_score:
                rows.append(row)
                merged.append(pose)
        kept, poses = np.array(rows, np.intp), np.array(merged, np.float64).reshape(-1, *keypoints.shape[1:])
        if not self.rescore or not rows:
            return Kept(kept, poses, scores[kept])
        joints = np.maximum(poses[..., 2], 0.0)
        rescored = joints.mean(1) + scores[kept] + 1.25 * joints.max(1)
        best_first = np.argsort(-rescored, kind="stable")
        return Kept(kept[best_first], poses[best_first], rescored[best_first])

    def __call__(self, poses: Sequence[Pose]) -> list[Pose]:
        """Return what is left of an image's poses, best first."""
        return _of_poses(self, poses)

    def _compare(self, keypoints: Floats) -> tuple[Floats, NDArray[np.int64]]:
        """Return d and the number of close joints, (N, N) both."""
        sizes, found = joint_boxes(keypoints)[:, 2:], keypoints[..., 2] > 0
        certainty = np.tanh(np.maximum(keypoints[..., 2], 0.0) / self.sigma1)

        def compare(rows: slice) -> tuple[Floats, NDArray[np.int64]]:
            apart = np.abs(keypoints[rows, None, :, :2] - keypoints[None, :, :, :2])  # (R, N, K, 2)
            squares = (apart**2).sum(-1)
            pixels, both = np.sqrt(squares), found[rows, None] & found
            reach = self.alpha * sizes[rows, None, None]  # (R, 1, 1, 2)
            near = pixels <= self.gate_pixels if self.gate_pixels else (apart <= reach / 2).all(-1)
            matching = (certainty[rows, None] * certainty * (near & both)).sum(-1)
            likeness = (np.exp(-(squares if self.squared else pixels) / self.sigma2) * both).sum(-1)
            close = pixels <= np.minimum(reach.max(-1), self.match_pixels)
            return matching + self.lam * likeness, (close & both).sum(-1)

        distances, matches = _in_blocks(keypoints, compare)
        return distances, matches

    def _merge(self, kept: Floats, cluster: Floats) -> Floats:
        """Return a pose (K, 3) averaged with those of its cluster (M, K, 3), itself among them."""
        if not self.merge_pixels or len(cluster) == 1:
            return kept
        pixels = np.sqrt(((cluster[..., :2] - kept[:, :2]) ** 2).sum(-1))
        near = (pixels <= self.merge_pixels) & (cluster[..., 2] > 0) & (kept[:, 2] > 0)
        weights = np.where(near, cluster[..., 2], 0.0)[..., None]  # (M, K, 1)
        total = weights.sum(0)
        merged = (weights * cluster).sum(0) / np.where(total > 0, total, 1.0)
        return np.where(total > 0, merged, kept)


@dataclass(frozen=True)
class OksNMS:
    """Suppression by object keypoint similarity, over joints of both poses and the mean area of their boxes.

    Attributes:
        sigmas: (K,) of the schema.
        threshold: a pose goes if its OKS with a better one is above; with ``soft``, scores fall by exp(−OKS²/threshold)
            with each better pose, and none goes.
        joint_score: only joints of higher scores in both poses are compared.
        soft: whether poses fall in score instead.
    """

    PAIRS: ClassVar = (("threshold", "joint_score"),)  # that are fitted, two at a time

    sigmas: tuple[float, ...]
    threshold: float = 0.9
    joint_score: float = 0.2
    soft: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold: expected a number above 0 up to 1, got {self.threshold}")
        if not 0 <= self.joint_score < np.inf:
            raise ValueError(f"joint_score: expected 0 or more, got {self.joint_score}")

    def similarities(self, keypoints: Floats) -> Floats:
        """Return the OKS (N, N) of poses (N, K, 3); 0 for two that share no joint."""
        areas, found = joint_boxes(keypoints)[:, 2:].prod(1), keypoints[..., 2] > self.joint_score
        variances = (2 * np.asarray(self.sigmas)) ** 2

        def compare(rows: slice) -> tuple[Floats]:
            squares = ((keypoints[rows, None, :, :2] - keypoints[None, :, :, :2]) ** 2).sum(-1)  # (R, N, K)
            # the same tiny number as the benchmark's, so that areas of 0 do not divide by 0
            area = (areas[rows, None] + areas) / 2 + np.spacing(1)
            both = found[rows, None] & found
            total = (np.exp(-squares / variances / area[..., None] / 2) * both).sum(-1)
            return (total / np.maximum(both.sum(-1), 1),)

        return _in_blocks(keypoints, compare)[0]

    def apply(self, keypoints: Floats, scores: Floats) -> Kept:
        """Suppress poses (N, K, 3) of one image, by their scores (N,)."""
        similarities = self.similarities(keypoints)
        if self.soft:
            rows, kept_scores = self._soften(similarities, scores)
        else:
            rows = np.array([row for row, _ in _clusters(scores, similarities > self.threshold)], np.intp)
            kept_scores = scores[rows]
        return Kept(rows, keypoints[rows], kept_scores)

    def __call__(self, poses: Sequence[Pose]) -> list[Pose]:
        """Return what is left of an image's poses, best first."""
        return _of_poses(self, poses)

    def _soften(self, similarities: Floats, scores: Floats) -> tuple[NDArray[np.intp], Floats]:
        """Return all rows, best first by what the better ones left of their scores, and these scores."""
        factors, left, rows = np.exp(-(similarities**2) / self.threshold), scores.copy(), []
        softened = np.full(len(scores), -np.inf)
        for _ in range(len(scores)):
            row = int(left.argmax())
            rows.append(row)
            softened[row], left[row] = left[row], -np.inf
            left *= np.where(np.isfinite(left), factors[row], 1.0)
        return np.array(rows, np.intp), softened[rows]


PoseNMS = ParametricNMS | OksNMS


def _in_blocks(keypoints: Floats, compare: Callable[[slice], tuple[Any, ...]]) -> list[Any]:
    """Return what a comparison of some rows (R, K, 3) with all poses returns, for all rows."""
    count, joints = keypoints.shape[:2]
    step = max(1, _BLOCK // max(1, count * joints))
    parts = [compare(slice(start, start + step)) for start in range(0, max(count, 1), step)]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def _clusters(scores: Floats, removes: NDArray[np.bool_]) -> Iterator[tuple[int, list[int]]]:
    """Yield each pose that stays, best first, with those that it removes; of equal scores the first is better."""
    left = np.ones(len(scores), bool)
    for row in np.argsort(-scores, kind="stable").tolist():
        if left[row]:
            left[row] = False
            removed = np.flatnonzero(left & removes[row])
            left[removed] = False
            yield row, removed.tolist()


def _of_poses(nms: PoseNMS, poses: Sequence[Pose]) -> list[Pose]:
    if not poses:
        return []
    keypoints = np.array([pose.keypoints for pose in poses], np.float64)
    kept = nms.apply(keypoints, np.array([pose.score for pose in poses], np.float64))
    rows = zip(kept.rows.tolist(), kept.keypoints, kept.scores.tolist(), strict=True)
    return [replace(poses[row], keypoints=joints, score=score) for row, joints, score in rows]
