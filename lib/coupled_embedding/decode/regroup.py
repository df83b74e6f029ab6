"""Further passes of grouping, in which all people compete for all joints (docs/method.md 8.3)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.decode.grouping import Groups, group
from coupled_embedding.decode.options import DecodeOptions
from coupled_embedding.decode.peaks import Candidates


def regroup(groups: Groups, candidates: Sequence[Candidates], options: DecodeOptions) -> Groups:
    """Assign all candidates again, to the people as they are known now, and join people who complete each other.

    Grouping decides joint by joint, when it knows a person by the joints that it has visited so far; here mean tags
    are those of the whole person. As in k-means, but a person gets one candidate of a joint at most.

    Args:
        groups: people of the same candidates.
        candidates: one entry per joint.
        options: threshold and cost.
    """
    for _ in range(options.regroup):
        groups = _join(group(candidates, options, groups.tags), options.tag_threshold)
    return groups


def _join(groups: Groups, threshold: float) -> Groups:
    """Join people without a common joint whose mean tags are within the threshold, nearest first."""
    joints, found = groups.joints.copy(), groups.found.copy()
    counts = found.sum(1, dtype=np.float32)
    means, alive = groups.tags.astype(np.float64), np.ones(len(found), bool)
    distances = np.sqrt(((means[:, None] - means) ** 2).sum(-1))
    np.fill_diagonal(distances, np.inf)
    while len(distances):
        distances[(found.astype(np.int64) @ found.T.astype(np.int64)) > 0] = np.inf
        one, other = np.unravel_index(distances.argmin(), distances.shape)
        if distances[one, other] >= threshold:
            break
        one, other = min(one, other), max(one, other)
        joints[one] += joints[other]
        found[one] |= found[other]
        means[one] = (means[one] * counts[one] + means[other] * counts[other]) / (counts[one] + counts[other])
        counts[one] += counts[other]
        alive[other] = False
        near = np.sqrt(((means - means[one]) ** 2).sum(-1))
        distances[one] = distances[:, one] = np.where(alive & (np.arange(len(near)) != one), near, np.inf)
        distances[other] = distances[:, other] = np.inf
    people: NDArray[np.intp] = np.flatnonzero(alive)
    return Groups(joints, found, means.astype(np.float32)).select(people)
