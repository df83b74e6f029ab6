"""How many of the detected true joints grouping puts together, and with whom."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from coupled_embedding.analysis.error_analysis.keypoint_errors import JITTER, keypoint_similarity
from coupled_embedding.data.geometry import TestGeometry, apply_affine
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.decode.grouping import Groups
from coupled_embedding.evaluation import box_areas


@dataclass(frozen=True)
class GroupingTally:
    """Counts of a photo's true joints; `tally.total` adds photos up.

    Attributes:
        labelled: joints of people with a labelled joint.
        detected: of them, those with a candidate of their own.
        judged: detected joints of people who have at least two.
        together: of the judged, those in the group that holds most of their person's.
        one_to_one: of the judged, those in their person's group where each group belongs to
            one person only: the pairing with the most such joints.
    """

    labelled: int = 0
    detected: int = 0
    judged: int = 0
    together: int = 0
    one_to_one: int = 0


def grouping_tally(record: ImageRecord, groups: Groups, geometry: TestGeometry, sigmas: ArrayLike) -> GroupingTally:
    """Count how a photo's candidates were grouped.

    A candidate belongs to a true joint of its kind if their keypoint similarity is at least
    0.5, with 0.53 of the box as the person's area; each belongs to one joint and each joint has
    one candidate, the nearest pairs first.
    """
    table = _joints_shared(record, groups, geometry, np.asarray(sigmas, np.float64))
    detected = table.sum(1)
    judged = table[detected >= 2]
    rows, columns = linear_sum_assignment(judged, maximize=True)
    return GroupingTally(
        int((record.keypoints[..., 2] > 0).sum()),
        int(detected.sum()),
        int(judged.sum()),
        int(judged.max(1, initial=0).sum()),
        int(judged[rows, columns].sum()),
    )


def _joints_shared(
    record: ImageRecord, groups: Groups, geometry: TestGeometry, sigmas: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return (N, P): how many joints a person has in a group."""
    areas = box_areas(record.boxes)
    table = np.zeros((len(record.keypoints), len(groups.found)), np.int64)
    middles = apply_affine(geometry.to_photo(), groups.joints[..., :2].astype(np.float64) + 0.5)
    for joint, sigma in enumerate(sigmas):
        people = np.flatnonzero(record.keypoints[:, joint, 2] > 0)
        holders = np.flatnonzero(groups.found[:, joint])
        offsets = record.keypoints[people, None, joint, :2] - middles[None, holders, joint]
        squares = (offsets.astype(np.float64) ** 2).sum(-1)  # (people, holders)
        near = keypoint_similarity(squares, areas[people, None], sigma) >= JITTER
        for person, holder in _nearest_first(np.where(near, squares, np.inf)):
            table[people[person], holders[holder]] += 1
    return table


def _nearest_first(squares: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pair rows with columns, the least finite value left again and again."""
    left, pairs = squares.copy(), []
    while left.size and np.isfinite(left.min()):
        row, column = np.unravel_index(left.argmin(), left.shape)
        pairs.append((int(row), int(column)))
        left[row, :] = left[:, column] = np.inf
    return pairs
