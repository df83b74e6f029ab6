"""How well could any network do? Annotations through targets and decode as perfect maps.

What is lost between annotations and the score is the cost of heatmap cells, of joints that merge into one peak, and of
the limit on candidates; no training can recover it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from coupled_embedding.data.gaussians import SIGMA, gaussian_heatmaps, joint_cells
from coupled_embedding.data.geometry import ResizeGeometry, apply_affine, resize_geometry
from coupled_embedding.data.outputs import Pose, PoseOutput
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.decode.aggregate import ImageMaps, MergedMaps, merge_resolutions
from coupled_embedding.decode.decode import decode
from coupled_embedding.decode.options import DecodeOptions

# far beyond the grouping threshold of 1; 0 stays the background's tag
TAG_STEP = 10.0


def annotated_poses(record: ImageRecord) -> list[Pose]:
    """Return an image's labelled people as poses, each joint with score 1."""
    labelled = record.keypoints[(record.keypoints[..., 2] > 0).any(1)].astype(np.float64)
    seen = labelled[..., 2:] > 0  # (N, K, 1)
    keypoints = np.concatenate((labelled[..., :2], np.ones_like(labelled[..., 2:])), -1) * seen
    return [Pose(person, float(person[:, 2].mean())) for person in keypoints]


def perfect_maps(
    record: ImageRecord,
    geometry: ResizeGeometry,
    strides: Sequence[int],
    person_tags: NDArray[np.float32] | None = None,
) -> ImageMaps:
    """Return the merged maps of a network without error for an image.

    Args:
        record: the image of N people.
        geometry: how the image is resized to the input.
        strides: input pixels per cell, lowest resolution first.
        person_tags: (N, K, D) tags around each joint; None: each person's own multiple of `TAG_STEP`. The background's
            tag is 0.
    """
    if person_tags is None:
        numbers = np.arange(1, len(record.keypoints) + 1, dtype=np.float32)
        person_tags = np.broadcast_to(TAG_STEP * numbers[:, None, None], (*record.keypoints.shape[:2], 1))
    in_input = apply_affine(geometry.to_input(), record.keypoints[..., :2])
    heatmaps, tags = [], torch.zeros(0)
    for stride in strides:
        height, width = geometry.base_size[1] // stride, geometry.base_size[0] // stride
        joints = torch.from_numpy(record.keypoints.copy())[None]  # (1, N, K, 3)
        joints[0, ..., :2] = torch.from_numpy(in_input / stride)
        cells, visible = joint_cells(joints, height, width)
        heatmaps.append(gaussian_heatmaps(cells, visible, height, width))
        if stride == strides[0]:
            owner = _owners(cells[0].numpy(), visible[0].numpy(), (height, width))
            background = np.zeros((1, *person_tags.shape[1:]), np.float32)
            table = np.concatenate((background, person_tags))  # (N + 1, K, D)
            tags = torch.from_numpy(table[owner, np.arange(owner.shape[0])[:, None, None]])[None]
    return MergedMaps(merge_resolutions(PoseOutput(tuple(heatmaps), tags)), tags).image(0)


def _owners(cells: NDArray[np.int64], visible: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return (K, h, w): around each joint its person's number from 1 on, the nearest joint's where people overlap."""
    people, joints = visible.shape
    owners = np.zeros((joints, *shape), np.int64)
    nearest = np.full((joints, *shape), np.inf, np.float32)
    radius = int(3 * SIGMA + 1)
    for person in range(people):
        for joint in np.flatnonzero(visible[person]):
            x, y = cells[person, joint]
            rows = slice(max(y - radius, 0), min(y + radius + 1, shape[0]))
            columns = slice(max(x - radius, 0), min(x + radius + 1, shape[1]))
            ys, xs = np.ogrid[rows, columns]
            distance = ((ys - y) ** 2 + (xs - x) ** 2).astype(np.float32)
            closer = distance < nearest[joint, rows, columns]
            nearest[joint, rows, columns][closer] = distance[closer]
            owners[joint, rows, columns][closer] = person + 1
    return owners


def decoded_poses(record: ImageRecord, input_size: int, strides: Sequence[int], options: DecodeOptions) -> list[Pose]:
    """Return the poses that decode detects in an image's perfect maps."""
    geometry = resize_geometry((record.width, record.height), input_size)
    maps = perfect_maps(record, geometry, strides)
    return decode(maps, geometry.base_size, geometry.to_image(), options)
