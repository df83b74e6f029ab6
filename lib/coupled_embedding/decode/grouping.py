"""Grouping: candidates join the person whose mean tag is near, joint by joint (METHOD.md 5.4)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from coupled_embedding.decode.fast.munkres import munkres_columns
from coupled_embedding.decode.peaks import Candidates

Costs = NDArray[np.floating]

# (rounded distance costs, distances in units of the threshold) -> column of each row
Assignment = Callable[[Costs, Costs], NDArray[np.int64]]


@dataclass(frozen=True)
class CostRule:
    """The cost of a pair: ``step`` · rounded distance − score.

    Attributes:
        step: cost of a unit of rounded distance.
        reach: the largest rounded distance that is not prohibitive.
        prohibitive: cost of any farther pair, and of the columns that nobody has.
        dtype: in which distances and costs are computed, which decides ties.
    """

    step: float
    reach: float
    prohibitive: float
    dtype: type[np.floating]


COST_RULES = {
    "near": CostRule(1.0, 1.0, 1e5, np.float32),  # coupled embedding
    "steps": CostRule(100.0, np.inf, 1e10, np.float64),  # associative embedding and HigherHRNet
}


@dataclass(frozen=True)
class Groups:
    """P people as grouped, in the order in which they were started.

    Attributes:
        joints: (P, K, 3) float32: x, y in input pixels, score; zeros for an absent joint.
        found: (P, K) bool.
        tags: (P, T) float32 mean tags over the found joints.
    """

    joints: NDArray[np.float32]
    found: NDArray[np.bool_]
    tags: NDArray[np.float32]


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


ASSIGNMENTS: dict[str, Assignment] = {"munkres": assign_munkres, "scipy": assign_scipy}


def group(
    candidates: Sequence[Candidates],
    order: Sequence[int],
    tag_threshold: float = 1.0,
    assign: Assignment = assign_munkres,
    rule: CostRule = COST_RULES["near"],
    max_joined: int = 0,
) -> Groups:
    """Group the K joints' candidates into people.

    Candidates are assigned to people by least total cost. An assigned pair nearer than the
    threshold joins; any other candidate starts a new person, in score order.

    Args:
        candidates: one entry a joint.
        order: joint numbers in the order in which they are visited.
        tag_threshold: the distance that counts as 1.
        assign: solver; its cost matrix has no more rows than columns.
        rule: what a pair costs.
        max_joined: only so many people, those started first, can be joined; 0: all.
    """
    num_joints, tag_dim = len(candidates), candidates[0].tags.shape[1]
    capacity = sum(len(c.scores) for c in candidates)
    joints = np.zeros((capacity, num_joints, 3), np.float32)
    found = np.zeros((capacity, num_joints), bool)
    sums = np.zeros((capacity, tag_dim), np.float32)
    count = 0
    for joint in order:
        peaks = candidates[joint]
        if not len(peaks.scores):
            continue
        known = min(count, max_joined or count)
        people = _assign_people(peaks, sums[:known], found[:known], tag_threshold, assign, rule)
        newcomers = people < 0
        people[newcomers] = count + np.arange(newcomers.sum())
        count += int(newcomers.sum())
        joints[people, joint, :2] = peaks.pixels
        joints[people, joint, 2] = peaks.scores
        found[people, joint] = True
        sums[people] += peaks.tags
    means = sums[:count] / np.maximum(found[:count].sum(1, dtype=np.float32), 1)[:, None]
    return Groups(joints[:count], found[:count], means.astype(np.float32))


def _assign_people(
    peaks: Candidates, sums: NDArray, found: NDArray, tag_threshold: float, assign: Assignment, rule: CostRule
) -> NDArray[np.int64]:
    """Return the person of each candidate, -1 for a new one."""
    rows, people = len(peaks.scores), len(sums)
    result = np.full(rows, -1, np.int64)
    if not people:
        return result
    means = sums / found.sum(1, dtype=np.float32)[:, None]
    differences = peaks.tags[:, None].astype(rule.dtype) - means[None]
    distances = np.sqrt((differences**2).sum(-1)) / rule.dtype(tag_threshold)
    rounded = np.rint(distances)
    cost = np.full((rows, max(rows, people)), rule.prohibitive, rule.dtype)
    reached = rounded <= rule.reach
    cost[:, :people] = np.where(reached, rule.step * rounded - peaks.scores[:, None], rule.prohibitive)
    columns = assign(cost, distances)
    for row, column in enumerate(columns):
        if column < people and distances[row, column] < 1:
            result[row] = column
    return result
