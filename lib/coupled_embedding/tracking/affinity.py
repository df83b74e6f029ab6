"""How alike the people of a frame are to tracks: OKS of poses × similarity of tags."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# sigmas describe how annotators differ; people also move in ways that no constant velocity predicts
_TOLERANCE = 1.5
_UNKNOWN_VELOCITY = 2.0  # tolerance of a person seen once
_GROWTH = 0.3  # of the tolerance, for each frame without the person


@dataclass(frozen=True)
class Observation:
    """A person in a frame.

    Attributes:
        frame: its number.
        keypoints: (K, 3) x, y in image pixels, score; all 0 for a missing joint.
        area: of the box, square image pixels.
        tag: (T,), or None.
    """

    frame: int
    keypoints: Array
    area: float
    tag: Array | None


def shared_oks(earlier: Array, later: Array, areas: Array, sigmas: Array, tolerance: Array | float = 1.0) -> Array:
    """Compare poses by OKS over the joints that both have.

    The mean over these joints of exp(-d² / (2 · area · (2σ · tolerance)²)). A joint that one of the two lacks counts
    neither for nor against; poses without a common joint have OKS 0.

    Args:
        earlier: (M, K, 3) x, y in image pixels, score; a joint is missing where the score is 0.
        later: (N, K, 3) likewise.
        areas: (M,) of the earlier people, square image pixels; below 1 they count as 1.
        sigmas: (K,) of the schema.
        tolerance: (M,) or one number, by which distances are divided; 1 is OKS itself.

    Returns:
        (M, N) in [0, 1].
    """
    shared = (earlier[:, None, :, 2] > 0) & (later[None, :, :, 2] > 0)  # (M, N, K)
    squares = ((earlier[:, None, :, :2] - later[None, :, :, :2]) ** 2).sum(-1)
    scale = np.maximum(areas, 1.0) * np.broadcast_to(tolerance, areas.shape) ** 2
    likeness = np.exp(-squares / (2 * scale[:, None, None] * (2 * sigmas) ** 2)) * shared
    return np.asarray(likeness.sum(-1) / np.maximum(shared.sum(-1), 1))


def tag_similarity(earlier: Array, later: Array, temperature: float) -> Array:
    """Compare mean tags (M, T) and (N, T) by exp(-‖a - b‖² / (2 · temperature²)): (M, N) in [0, 1]."""
    squares = ((earlier[:, None] - later[None]) ** 2).sum(-1)
    return np.asarray(np.exp(-squares / (2 * temperature**2)))


def affinities(
    tracks: Sequence[Sequence[Observation]],
    frame: int,
    keypoints: Array,
    tags: Array | None,
    sigmas: Array,
    temperature: float,
    window: int,
) -> Array:
    """Compare every track with every person of a frame: the best over the track's observations.

    Each observation is moved along at the track's velocity. What happens out of sight cannot be known, so OKS tolerates
    more with every such frame, and counts less: it is divided by the root of the tolerance's growth. The similarity of
    tags is left out where either side has none.

    Args:
        tracks: the latest observations of T people, the newest last; at least one each, all before this frame.
        frame: number of this frame.
        keypoints: (N, K, 3), 0 for missing joints.
        tags: (N, D), or None.
        sigmas: (K,).
        temperature: of the tags' similarity.
        window: frames; a person out of sight is moved along for no longer.

    Returns:
        (T, N) in [0, 1].
    """
    poses, areas, tolerances, weights, earlier_tags, counts = [], [], [], [], [], []
    for seen in tracks:
        unseen = frame - seen[-1].frame - 1
        growth = 1 + _GROWTH * unseen
        ahead = min(frame, seen[-1].frame + window) - np.array([o.frame for o in seen])
        moved = np.stack([o.keypoints for o in seen])
        moved[..., :2] += _velocity(seen) * ahead[:, None, None]
        poses.append(moved)
        counts.append(len(seen))
        areas += [max(o.area for o in seen)] * len(seen)  # a hidden part makes a box small
        tolerances += [_TOLERANCE * growth * (_UNKNOWN_VELOCITY if len(seen) == 1 else 1.0)] * len(seen)
        weights += [growth**-0.5] * len(seen)
        earlier_tags += [o.tag for o in seen]
    result = shared_oks(np.concatenate(poses), keypoints, np.array(areas), sigmas, np.array(tolerances))
    result *= np.array(weights)[:, None]
    tagged = [(number, tag) for number, tag in enumerate(earlier_tags) if tag is not None]
    if tags is not None and tagged:
        rows, known = zip(*tagged, strict=True)
        result[list(rows)] *= tag_similarity(np.stack(known), tags, temperature)
    return np.asarray(np.maximum.reduceat(result, np.cumsum([0, *counts[:-1]]), axis=0))


def _velocity(seen: Sequence[Observation]) -> Array:
    """Return pixels a frame (2,): the median over joints of the way from the oldest to the newest observation."""
    first, last = seen[0], seen[-1]
    shared = (first.keypoints[:, 2] > 0) & (last.keypoints[:, 2] > 0)
    if first is last or not shared.any():
        return np.zeros(2)
    ways = (last.keypoints - first.keypoints)[shared, :2]
    return np.asarray(np.median(ways, axis=0) / (last.frame - first.frame))
