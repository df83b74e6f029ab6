"""How many of the detected annotated joints grouping puts together, and with whom."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from coupled_embedding.analysis.error_analysis.counts import share
from coupled_embedding.analysis.error_analysis.keypoint_errors import JITTER, keypoint_similarity
from coupled_embedding.data.geometry import ResizeGeometry, apply_affine
from coupled_embedding.data.outputs import Pose
from coupled_embedding.data.people import box_areas
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.decode.grouping import Groups


@dataclass(frozen=True)
class GroupingCounts:
    """Counts of an image's annotated joints; `sum_counts` adds images up."""

    labelled: int = 0  # joints of people with a labelled joint
    detected: int = 0  # of them, those with a candidate of their own
    counted: int = 0  # detected joints of people who have at least two
    together: int = 0  # of the counted, those in the group that holds most of their person's
    # of the counted, those in their person's group where each group belongs to one person: the best pairing
    one_to_one: int = 0

    def shares(self) -> dict[str, float]:
        """Return the detected joints as a share of the labelled, the others of the counted, by name."""
        return {
            "joints detected": share(self.detected, self.labelled),
            "joints grouped with their person": share(self.one_to_one, self.counted),
            "joints with most of their person's": share(self.together, self.counted),
        }


def grouping_counts(
    record: ImageRecord, groups: Groups, geometry: ResizeGeometry, sigmas: tuple[float, ...]
) -> GroupingCounts:
    """Count how an image's candidates were grouped.

    A candidate belongs to an annotated joint of its kind if their keypoint similarity is at least 0.5, with 0.53 of the
    box as the person's area; each belongs to one joint and each joint has one candidate, the nearest pairs first.
    """
    table = _shared_joints(record, groups, geometry, sigmas)
    counted = table[table.sum(1) >= 2]
    return GroupingCounts(
        int((record.keypoints[..., 2] > 0).sum()),
        int(table.sum()),
        int(counted.sum()),
        int(counted.max(1, initial=0).sum()),
        int(counted[linear_sum_assignment(counted, maximize=True)].sum()),
    )


def groups_of_poses(poses: Sequence[Pose], geometry: ResizeGeometry, threshold: float, num_joints: int) -> Groups:
    """Return poses as groups of the joints whose scores exceed the threshold, where no candidates were grouped."""
    keypoints = np.array([pose.keypoints for pose in poses]).reshape(-1, num_joints, 3)
    places = apply_affine(geometry.to_input(), keypoints[..., :2]) - 0.5
    joints = np.concatenate((places, keypoints[..., 2:]), 2).astype(np.float32)
    return Groups(joints, joints[..., 2] > threshold, np.zeros((len(joints), 0), np.float32))


def _shared_joints(
    record: ImageRecord, groups: Groups, geometry: ResizeGeometry, sigmas: tuple[float, ...]
) -> NDArray[np.int64]:
    """Return (N, P): how many joints a person has in a group."""
    areas = box_areas(record.boxes)
    table = np.zeros((len(record.keypoints), len(groups.found)), np.int64)
    centers = apply_affine(geometry.to_image(), groups.joints[..., :2].astype(np.float64) + 0.5)
    for joint, sigma in enumerate(sigmas):
        people = np.flatnonzero(record.keypoints[:, joint, 2] > 0)
        holders = np.flatnonzero(groups.found[:, joint])
        offsets = record.keypoints[people, None, joint, :2] - centers[None, holders, joint]
        squares = (offsets.astype(np.float64) ** 2).sum(-1)  # (people, holders)
        squares[keypoint_similarity(squares, areas[people, None], sigma) < JITTER] = np.inf
        while squares.size and np.isfinite(squares.min()):
            person, holder = np.unravel_index(squares.argmin(), squares.shape)
            table[people[person], holders[holder]] += 1
            squares[person, :] = squares[:, holder] = np.inf
    return table
