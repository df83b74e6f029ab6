"""How well could any network do? Annotations through targets and decode as perfect maps.

What is lost between annotations and the score is the cost of heatmap cells, of joints that
merge into one peak, and of the limit on candidates; learning cannot win it back.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from coupled_embedding.data.geometry import TestGeometry, apply_affine, fit_geometry
from coupled_embedding.data.pose_output import PoseMaps
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import Pose
from coupled_embedding.data.targets import SIGMA, gaussian_heatmaps, joint_cells
from coupled_embedding.decode.aggregate import MergedMaps, merge_resolutions
from coupled_embedding.decode.decode import DecodeSettings, decode

# far beyond the grouping threshold of 1; 0 stays the background's tag
TAG_STEP = 10.0


def annotated_poses(record: ImageRecord) -> list[Pose]:
    """Return a photo's labelled people as if found, each joint with score 1."""
    labelled = record.keypoints[(record.keypoints[..., 2] > 0).any(1)]
    poses = []
    for person in labelled.astype(np.float64):
        seen = person[:, 2] > 0
        keypoints = np.where(seen[:, None], np.c_[person[:, :2], np.ones(len(person))], 0.0)
        poses.append(Pose(keypoints, float(keypoints[:, 2].mean())))
    return poses


def perfect_maps(
    record: ImageRecord,
    geometry: TestGeometry,
    strides: Sequence[int],
    person_tags: NDArray[np.float32] | None = None,
) -> PoseMaps:
    """Return the maps that a network without error would put out for a photo.

    Args:
        record: the photo of N people.
        geometry: how the photo is laid into the input.
        strides: input pixels per cell, lowest resolution first.
        person_tags: (N, K, D) tags around each joint; without them every person's is a multiple
            of `TAG_STEP` of its own. The background's tag is 0.
    """
    if person_tags is None:
        numbers = np.arange(1, len(record.keypoints) + 1, dtype=np.float32)
        person_tags = np.broadcast_to(TAG_STEP * numbers[:, None, None], (*record.keypoints.shape[:2], 1))
    width, height = geometry.base_size
    matrix = geometry.to_input()
    heatmaps, tags = [], torch.zeros(0)
    for number, stride in enumerate(strides):
        joints = torch.from_numpy(record.keypoints.copy())[None]  # (1, N, K, 3)
        on_map = apply_affine(matrix, record.keypoints[..., :2]) / stride
        joints[0, ..., :2] = torch.from_numpy(on_map)
        cells, visible = joint_cells(joints, height // stride, width // stride)
        heatmaps.append(gaussian_heatmaps(cells, visible, height // stride, width // stride))
        if number == 0:
            shape = (height // stride, width // stride)
            owner = _owners(cells[0].numpy(), visible[0].numpy(), shape)
            background = np.zeros((1, *person_tags.shape[1:]), np.float32)
            table = np.concatenate((background, person_tags))  # (N + 1, K, D)
            tags = torch.from_numpy(table[owner, np.arange(owner.shape[0])[:, None, None]])[None]
    return PoseMaps(tuple(heatmaps), tags)


def _owners(cells: NDArray[np.int64], visible: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return (K, h, w): around each joint its person's number from 1 on, the nearest joint's where people overlap."""
    people, joints = visible.shape
    owners = np.zeros((joints, *shape), np.int64)
    nearest = np.full((joints, *shape), np.inf, np.float32)
    radius = int(3 * SIGMA + 1)
    for person in range(people):
        for joint in np.flatnonzero(visible[person]):
            x, y = cells[person, joint]
            rows = slice(max(y - radius, 0), y + radius + 1)
            columns = slice(max(x - radius, 0), x + radius + 1)
            ys, xs = np.ogrid[rows.start : min(rows.stop, shape[0]), columns.start : min(columns.stop, shape[1])]
            distance = ((ys - y) ** 2 + (xs - x) ** 2).astype(np.float32)
            closer = distance < nearest[joint, rows, columns]
            nearest[joint, rows, columns][closer] = distance[closer]
            owners[joint, rows, columns][closer] = person + 1
    return owners


def decoded_poses(record: ImageRecord, input_size: int, strides: Sequence[int], settings: DecodeSettings) -> list[Pose]:
    """Return the people that decode finds in a photo's perfect maps."""
    geometry = fit_geometry((record.width, record.height), input_size)
    maps = perfect_maps(record, geometry, strides)
    return decode(
        MergedMaps(merge_resolutions(maps), maps.tags).photo(0), geometry.base_size, geometry.to_photo(), settings
    )
