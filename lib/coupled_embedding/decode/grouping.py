"""Grouping: candidates join the person whose mean tag is near, joint by joint (docs/method.md 5.4)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from coupled_embedding.decode.fast.munkres import munkres_columns
from coupled_embedding.decode.options import DecodeOptions
from coupled_embedding.decode.peaks import Candidates

Costs = NDArray[np.floating]

# (rounded distance costs, distances in units of the threshold) -> column of each row
Assignment = Callable[[Costs, Costs], NDArray[np.int64]]


@dataclass(frozen=True)
class Groups:
    """P people as grouped, in the order in which they were started.

    Attributes:
        joints: (P, K, 3) float32: x, y in input pixels, score; zeros for a missing joint.
        found: (P, K) bool.
        tags: (P, T) float32 mean tags over the found joints.
    """

    joints: NDArray[np.float32]
    found: NDArray[np.bool_]
    tags: NDArray[np.float32]

    def select(self, people: NDArray[np.intp]) -> "Groups":
        """Return some of the people, by number."""
        return Groups(self.joints[people], self.found[people], self.tags[people])


def assign_munkres(cost: Costs, _distances: Costs) -> NDArray[np.int64]:
    """Assign by least cost; among equal costs the choice of `munkres` 1.1.4."""
    return munkres_columns(cost)


def assign_scipy(cost: Costs, distances: Costs) -> NDArray[np.int64]:
    """Assign by least cost; among (nearly) equal costs the nearer tags win."""
    # a thousandth of a rounding step orders equal costs and leaves the others alone
    total = cost.astype(np.float64)
    people = distances.shape[1]
    total[:, :people] += 1e-3 * np.minimum(distances, 2.0)
    return linear_sum_assignment(total)[1]


def tag_distances(tags: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the (n, m) Euclidean distances between tags (n, T) and (m, T)."""
    return np.asarray(np.sqrt(((tags[:, None] - others[None]) ** 2).sum(-1)))


ASSIGNMENTS: dict[str, Assignment] = {"munkres": assign_munkres, "scipy": assign_scipy}


def group(candidates: Sequence[Candidates], options: DecodeOptions, known: NDArray[np.float32] | None = None) -> Groups:
    """Group the K joints' candidates into people.

    Candidates are assigned to people by least total cost. An assigned pair nearer than the
    threshold joins; any other candidate starts a new person, in score order.

    Args:
        candidates: one entry per joint.
        options: order of the joints, threshold, cost, solver, how many people can be joined.
        known: (P, T) mean tags of people to assign all candidates to, of whom those without any are left out; None:
            people are known by their joints visited so far.
    """
    num_joints, tag_dim = len(candidates), candidates[0].tags.shape[1]
    count = 0 if known is None else len(known)
    capacity = count + sum(len(c.scores) for c in candidates)
    joints = np.zeros((capacity, num_joints, 3), np.float32)
    found = np.zeros((capacity, num_joints), bool)
    sums = np.zeros((capacity, tag_dim), np.float32)
    for joint in options.grouping_order:
        peaks = candidates[joint]
        if not len(peaks.scores):
            continue
        joinable = min(count, options.max_joined or count)
        so_far = sums[:joinable] / found[:joinable].sum(1, dtype=np.float32)[:, None] if known is None else known
        people = _assign_people(peaks, so_far, options)
        newcomers = people < 0
        people[newcomers] = count + np.arange(newcomers.sum())
        count += int(newcomers.sum())
        joints[people, joint, :2] = peaks.pixels
        joints[people, joint, 2] = peaks.scores
        found[people, joint] = True
        sums[people] += peaks.tags
    means = sums[:count] / np.maximum(found[:count].sum(1, dtype=np.float32), 1)[:, None]
    groups = Groups(joints[:count], found[:count], means.astype(np.float32))
    return groups if known is None else groups.select(np.flatnonzero(groups.found.any(1)))


def _assign_people(peaks: Candidates, means: NDArray, options: DecodeOptions) -> NDArray[np.int64]:
    """Return the person of each of a joint's candidates, by people's mean tags (P, T); -1: none's."""
    rule = options.cost_rule
    rows, people = len(peaks.scores), len(means)
    result = np.full(rows, -1, np.int64)
    if not people:
        return result
    distances = tag_distances(peaks.tags.astype(rule.dtype), means) / rule.dtype(options.tag_threshold)
    rounded = np.rint(distances) if rule.rounded else distances
    cost = np.full((rows, max(rows, people)), rule.invalid_cost, rule.dtype)
    reached = rounded <= rule.max_rounded_distance
    cost[:, :people] = np.where(reached, rule.step * rounded - peaks.scores[:, None], rule.invalid_cost)
    columns = ASSIGNMENTS[options.assignment](cost, distances)
    for row, column in enumerate(columns):
        if column < people and distances[row, column] < 1:
            result[row] = column
    return result
