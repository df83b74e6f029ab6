"""How well the tags at an image's annotated joints separate its people, apart from detection."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.analysis.error_analysis.counts import share
from coupled_embedding.analysis.error_analysis.tags import Array, JointTags

SHRINKAGE = 0.1
_TINY = 1e-12


@dataclass(frozen=True)
class Separation:
    """Counts over an image's people with two or more present joints; `sum_counts` adds images up."""

    pairs: int = 0  # of such people
    close_pairs: int = 0  # of them, those whose mean tags are nearer than the grouping threshold
    separable_pairs: int = 0  # of them, those all of whose joints are on their side of a hyperplane: `sides_of_pair`
    pair_joints: int = 0  # joints of all pairs
    pair_joints_right: int = 0  # of them, those on their own side
    joints: int = 0  # joints of such people in images of two or more people
    joints_nearest: int = 0  # of them, those nearer to the mean of their person's others than to another person's mean
    joints_far: int = 0  # of them, those at the grouping threshold or farther from that mean

    def shares(self) -> dict[str, float]:
        """Return the counts as shares of all joints, or of all pairs, by name."""
        return {
            "joints nearest to their own mean tag": share(self.joints_nearest, self.joints),
            "joints far from their own mean tag": share(self.joints_far, self.joints),
            "joints on their side, pair by pair": share(self.pair_joints_right, self.pair_joints),
            "pairs separable": share(self.separable_pairs, self.pairs),
            "pairs too close": share(self.close_pairs, self.pairs),
        }


def separation(tags: JointTags, threshold: float) -> Separation:
    """Count how an image's people are separated, by all T tag values, as grouping with a threshold uses them.

    Without tags there is nothing to count.
    """
    if not tags.dims:
        return Separation()
    people, means = np.flatnonzero(tags.present.sum(1) >= 2), tags.means()
    own = {person: tags.values[person, tags.present[person]] for person in people}  # (n, T)
    pairs = list(combinations(people, 2))
    sides = [sides_of_pair(own[a], own[b]) for a, b in pairs]
    counts = np.zeros(3, np.int64)
    everyone = np.flatnonzero(tags.present.any(1))
    for person in people if len(everyone) > 1 else ():
        rest = (own[person].sum(0) - own[person]) / (len(own[person]) - 1)
        distances = np.linalg.norm(own[person] - rest, axis=1)
        others = means[everyone[everyone != person]]
        to_others = np.linalg.norm(own[person][:, None] - others[None], axis=2).min(1)
        counts += len(distances), (distances < to_others).sum(), (distances >= threshold).sum()
    return Separation(
        len(pairs),
        sum(int(np.linalg.norm(means[a] - means[b]) < threshold) for a, b in pairs),
        sum(int(side.all()) for side in sides),
        sum(len(side) for side in sides),
        sum(int(side.sum()) for side in sides),
        *counts.tolist(),
    )


def sides_of_pair(one: Array, other: Array) -> NDArray[np.bool_]:
    """Return for each joint of two people whether it is on its person's side of a hyperplane.

    The hyperplane is Fisher's linear discriminant of all joints but the one in question: normal (W + λI)⁻¹ (m₁ − m₂),
    through the middle of the two mean tags; W is the people's summed scatter about their means, λ a tenth of its mean
    diagonal. Without leaving the joint out, some thirty joints could be separated in 16 dimensions regardless of their
    tags. Tags are (n, T) and (m, T), n and m at least 2; the result is (n + m,). A joint exactly between is on no side.
    """
    return np.concatenate((_on_own_side(one, other), _on_own_side(other, one)))


def _on_own_side(own: Array, other: Array) -> NDArray[np.bool_]:
    count, dims = own.shape
    offsets, residuals = own - own.mean(0), other - other.mean(0)
    means = own.mean(0) - offsets / (count - 1)  # each without its joint
    # leaving a joint out takes n/(n − 1) times its offset's square from the scatter
    squares = offsets[:, :, None] * offsets[:, None, :]  # (n, T, T)
    scatter = offsets.T @ offsets + residuals.T @ residuals - squares * (count / (count - 1))
    shrinkage = SHRINKAGE * np.maximum(np.trace(scatter, axis1=1, axis2=2), 0) / dims + _TINY
    gaps = means - other.mean(0)
    normals = np.linalg.solve(scatter + shrinkage[:, None, None] * np.eye(dims), gaps[..., None])[..., 0]
    return np.asarray(((own - (means + other.mean(0)) / 2) * normals).sum(1) > 0)
