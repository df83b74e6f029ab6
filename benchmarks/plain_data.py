"""The released program's training loader, written plainly: whole images, loops over people, float targets.

Where docs/method.md, section 2, leaves the way open, the faster one is taken: joints are mapped a person at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.transforms import AffineParams

MAX_PEOPLE = 30
SIGMA = 2
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


@dataclass(frozen=True)
class PlainSample:
    """One training sample, ready for the network and its losses.

    Attributes:
        image: (3, S, S) float32, normalized.
        heatmaps: (K, h, w) float32 a resolution.
        masks: (h, w) float32 a resolution.
        joints: (30, K, 2) int64 a resolution: k·h·w + y·w + x and 1, a person's visible joints first.
        scales: (30,) float32.
    """

    image: Tensor
    heatmaps: list[np.ndarray]
    masks: list[np.ndarray]
    joints: list[np.ndarray]
    scales: np.ndarray

    def values(self) -> list[object]:
        """Return the fields in order, for torch's collate."""
        return [self.image, self.heatmaps, self.masks, self.joints, self.scales]


def sample(
    record: ImageRecord, params: AffineParams, size: int, strides: Sequence[int], flip_index: Sequence[int]
) -> PlainSample:
    """Return an image's sample under sampled parameters."""
    image = cv2.imread(str(record.path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    mask = record.valid_mask()
    source = (record.width, record.height)
    keypoints, boxes = kept_people(record)
    heatmaps, masks, joints = [], [], []
    for stride in strides:
        cells = size // stride
        matrix = params.matrix(source, cells)
        warped_mask = cv2.warpAffine(mask.copy(), matrix, (cells, cells), flags=cv2.INTER_LINEAR) / 255
        warped_mask = (warped_mask > 0.5).astype(np.float32)
        moved = moved_joints(keypoints, matrix)
        if params.flip:
            warped_mask = warped_mask[:, ::-1].copy()
            moved = moved[:, list(flip_index)]
            moved[:, :, 0] = cells - 1 - moved[:, :, 0]
        masks.append(warped_mask)
        heatmaps.append(gaussians(moved, cells))
        joints.append(joint_indices(moved, cells))
    matrix = params.matrix(source, size)
    image = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR)
    if params.flip:
        image = image[:, ::-1].copy()
    return PlainSample(normalized(image), heatmaps, masks, joints, box_scales(boxes, matrix, size))


def kept_people(record: ImageRecord) -> tuple[np.ndarray, np.ndarray]:
    """Return the keypoints and boxes of the 30 people with most labelled joints."""
    order = sorted(range(len(record.keypoints)), key=lambda n: -(record.keypoints[n, :, 2] > 0).sum())
    kept = sorted(order[:MAX_PEOPLE])
    return record.keypoints[kept].copy(), record.boxes[kept]


def moved_joints(keypoints: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Map joints (N, K, 3), a person at a time."""
    moved = keypoints.copy()
    for n, person in enumerate(keypoints):
        places = np.concatenate([person[:, :2], np.ones((len(person), 1))], 1)
        moved[n, :, :2] = np.dot(places, matrix.T)
    return moved


def box_scales(boxes: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Return (30,) person scales, from three corners of each mapped box."""
    scales = np.zeros(MAX_PEOPLE, np.float32)
    for n, (x, y, width, height) in enumerate(boxes.astype(np.float64)):
        corners = np.array([[x, y, 1], [x + width, y, 1], [x, y + height, 1]]) @ matrix.T
        sides = np.linalg.norm(corners[1] - corners[0]) * np.linalg.norm(corners[2] - corners[0])
        scales[n] = np.sqrt(sides) / size
    return scales


def gaussians(joints: np.ndarray, cells: int) -> np.ndarray:
    """Paste a Gaussian for each labelled joint of (N, K, 3) into (K, cells, cells) maps."""
    reach = 3 * SIGMA + 1
    axis = np.arange(-reach, reach + 1)
    patch = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * SIGMA**2))
    heatmaps = np.zeros((joints.shape[1], cells, cells), np.float32)
    for person in joints:
        for k, joint in enumerate(person):
            if joint[2] <= 0:
                continue
            x, y = int(joint[0]), int(joint[1])
            if x < 0 or y < 0 or x >= cells or y >= cells:
                continue
            left, top = max(0, x - reach), max(0, y - reach)
            right, bottom = min(cells, x + reach + 1), min(cells, y + reach + 1)
            pasted = patch[top - y + reach : bottom - y + reach, left - x + reach : right - x + reach]
            region = heatmaps[k, top:bottom, left:right]
            heatmaps[k, top:bottom, left:right] = np.maximum(region, pasted)
    return heatmaps


def joint_indices(joints: np.ndarray, cells: int) -> np.ndarray:
    """Return (30, K, 2) int64: flat index and 1 of each person's visible joints, then zeros."""
    indices = np.zeros((MAX_PEOPLE, joints.shape[1], 2), np.int64)
    for n, person in enumerate(joints):
        count = 0
        for k, joint in enumerate(person):
            x, y = int(joint[0]), int(joint[1])
            if joint[2] > 0 and 0 <= x < cells and 0 <= y < cells:
                indices[n, count] = (k * cells * cells + y * cells + x, 1)
                count += 1
    return indices


def normalized(image: np.ndarray) -> Tensor:
    """Turn an RGB image (S, S, 3) uint8 into (3, S, S) float32, as torchvision's two transforms do."""
    tensor = torch.from_numpy(image.transpose(2, 0, 1)).contiguous().to(torch.float32).div(255)
    return tensor.sub_(MEAN).div_(STD)


def batch(samples: Sequence[PlainSample]) -> list[Tensor | list[Tensor]]:
    """Stack samples: image, heatmaps, masks, joints, scales."""
    return default_collate([one.values() for one in samples])
