"""Further passes of grouping, in which all people compete for all joints (docs/method.md 8.3)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.decode.grouping import Groups, assign_people
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
        groups = _join(_assign_again(groups, candidates, options), options.tag_threshold)
    return groups


def _assign_again(groups: Groups, candidates: Sequence[Candidates], options: DecodeOptions) -> Groups:
    if not len(groups.tags):
        return groups
    joints, found, tags = [groups.joints * 0], [groups.found & False], [groups.tags * 0]
    for joint, peaks in enumerate(candidates):
        people = assign_people(peaks, groups.tags, options) if len(peaks.scores) else np.zeros(0, np.int64)
        values = np.concatenate((peaks.pixels, peaks.scores[:, None]), 1).astype(np.float32)
        old, new = people >= 0, np.flatnonzero(people < 0)
        joints[0][people[old], joint], found[0][people[old], joint] = values[old], True
        tags[0][people[old]] += peaks.tags[old]
        alone = np.arange(groups.joints.shape[1]) == joint
        joints.append(np.where(alone[None, :, None], values[new, None], 0).astype(np.float32))
        found.append(np.repeat(alone[None], len(new), 0))
        tags.append(peaks.tags[new])
    everyone = Groups(np.concatenate(joints), np.concatenate(found), np.concatenate(tags))
    counts = everyone.found.sum(1, dtype=np.float32)
    return Groups(everyone.joints, everyone.found, everyone.tags / np.maximum(counts, 1)[:, None]).select(
        np.flatnonzero(counts)
    )


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
