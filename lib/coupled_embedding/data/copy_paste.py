"""Copy-paste augmentation: cut-out people are pasted into an image, which makes crowds with exact occlusion.

The files that cut-outs come from are described in `cutouts`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.cutouts import FOREGROUND, Cutout, CutoutSource
from coupled_embedding.data.geometry import Array, apply_affine
from coupled_embedding.data.people import usable_boxes
from coupled_embedding.data.records import ImageRecord

__all__ = ["CopyPaste", "Cutout", "CutoutSource"]

MEASURE = 16.0  # pixels: people with a lower box are no measure for the size of others
ENLARGED = 2.0  # at most: beyond it the pixels of a cut-out show
TRIES = 10  # places per person until one is mostly inside the image
INSIDE = 0.5  # least share of a pasted person's mask that is inside

T = TypeVar("T")


@dataclass(frozen=True)
class CopyPaste:
    """Pastes people into an image.

    A pasted person is as high as ``size`` says or, in half of the images with people, about as high as one of these,
    and is at most twice as large as its cut-out. It stands next to that one or anywhere, at least half inside the image;
    where no such place is found, it is left out. Later people hide earlier ones. Regions that training ignores stay
    ignored where a person is pasted over them.

    Attributes:
        source: the people.
        flip_index: for each joint, its partner in a flipped image.
        probability: of an image to get people.
        most: people pasted into an image at most; their number is uniform from 1.
        size: range of a pasted person's height, as a share of the image's short side.
        rotation: largest rotation of a person, ± degrees.
    """

    source: CutoutSource
    flip_index: Sequence[int]
    probability: float
    most: int
    size: tuple[float, float]
    rotation: float

    def __call__(
        self, rng: np.random.Generator, record: ImageRecord, pixels: NDArray[np.uint8], reduction: int
    ) -> tuple[ImageRecord, NDArray[np.uint8]]:
        """Return an image with people pasted into it; neither the record nor the pixels given are modified.

        Joints that a pasted person covers get label 1 (hidden), joints of pasted people outside the image label 0.
        A pasted person has no id, and its box and area are those of its mask inside the image. Loss weights are added
        to a record that has them.

        Args:
            rng: the same state gives the same result, whatever the reduction.
            record: the image's people, in pixels of the whole image.
            pixels: (⌈height/reduction⌉, ⌈width/reduction⌉, 3) uint8, blue, green, red.
            reduction: how many times smaller than the record's coordinates the image was decoded.

        Raises:
            DataError: a cut-out cannot be read.
        """
        if rng.random() >= self.probability:
            return record, pixels
        boxes = usable_boxes(record.boxes, record.keypoints)
        neighbors = boxes[boxes[:, 3] >= MEASURE]
        pixels = pixels.copy()
        for _ in range(rng.integers(1, self.most, endpoint=True)):
            cutout = self.source.load(int(rng.integers(len(self.source))))
            flip = bool(rng.random() < 0.5)
            placed = self._place(rng, record, neighbors, cutout, flip)
            if placed is not None:
                matrix, points = placed
                record = _add_person(record, cutout, self.flip_index if flip else None, matrix, points)
                _draw(pixels, cutout, matrix, reduction)
        return record, pixels

    def _place(
        self, rng: np.random.Generator, record: ImageRecord, neighbors: Array, cutout: Cutout, flip: bool
    ) -> tuple[Array, NDArray[np.float32]] | None:
        """Sample a map (2, 3) from the cut-out's pixels to the image's.

        Args:
            neighbors: (N, 4) boxes of the people that set the size and may get company.

        Returns:
            It, and the mask's pixels (2, P) in the image; None if no place was found that is mostly inside.
        """
        mask = (cutout.mask > FOREGROUND).view(np.uint8)
        left, top, width, height = cv2.boundingRect(mask)
        middle = np.array([left + (width - 1) / 2, top + (height - 1) / 2])
        neighbor = neighbors[rng.integers(len(neighbors))] if len(neighbors) else None
        target = min(record.width, record.height) * rng.uniform(*self.size)
        if neighbor is not None and rng.random() < 0.5:
            target = neighbor[3] * rng.uniform(0.7, 1.3)
        angle = math.radians(rng.uniform(-self.rotation, self.rotation))
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        linear = min(target / height, ENLARGED) * turn * (-1 if flip else 1, 1)
        shape = np.ascontiguousarray(cv2.findNonZero(mask).reshape(-1, 2).T, np.float32)  # in rows of x and y: faster
        around = linear.astype(np.float32) @ (shape - middle.astype(np.float32)[:, None])
        beside = neighbor is not None and rng.random() < 0.5
        for _ in range(TRIES):
            if neighbor is not None and beside:
                center = neighbor[:2] + neighbor[2:] / 2 + neighbor[2] * rng.uniform(-1, 1, 2)
            else:
                center = rng.uniform(0, 1, 2) * (record.width, record.height)
            points = around + center.astype(np.float32)[:, None]
            if _inside(points, record).mean() >= INSIDE:
                return np.column_stack((linear, center - linear @ middle)), points
        return None


def _inside(points: NDArray[np.floating], record: ImageRecord) -> NDArray[np.bool_]:
    """Return whether points (2, P) are inside an image, whose pixel centers are at whole numbers."""
    x, y = points
    inside = (x >= -0.5) & (x < record.width - 0.5) & (y >= -0.5) & (y < record.height - 0.5)
    return np.asarray(inside)


def _add_person(
    record: ImageRecord, cutout: Cutout, flip_index: Sequence[int] | None, matrix: Array, points: NDArray[np.float32]
) -> ImageRecord:
    """Return the record with a person in front of the others.

    Args:
        flip_index: of the joints, if the map flips; else None.
        matrix: (2, 3), from the cut-out to the image.
        points: (2, P) the mask's pixels in the image.
    """
    order = list(range(len(cutout.keypoints)) if flip_index is None else flip_index)
    joints, confidence = cutout.keypoints[order], cutout.confidence[order]
    joints[:, :2] = apply_affine(matrix, joints[:, :2])
    joints[(joints[:, 2] == 0) | ~_inside(joints[:, :2].T, record)] = 0
    others = record.keypoints.copy()
    hidden = _covered(cutout.mask, matrix, others[..., :2])
    others[..., 2] = np.where(hidden, np.minimum(others[..., 2], 1), others[..., 2])
    points = np.compress(_inside(points, record), points, axis=1)
    scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    # a box is counted from the edge of the first pixel, half a pixel before its center
    low = np.maximum(points.min(1) + (1 - scale) / 2, 0)
    high = np.minimum(points.max(1) + (1 + scale) / 2, (record.width, record.height))
    box = np.concatenate((low, high - low)).astype(np.float32)
    count = len(others)
    known = record.confidence
    return replace(
        record,
        keypoints=np.concatenate((others, joints[None])),
        boxes=np.concatenate((record.boxes, box[None])),
        ids=_added(record.ids, None, count),
        crowds=_added(record.crowds, False, count),
        num_keypoints=_added(record.num_keypoints, int((joints[:, 2] > 0).sum()), count),
        areas=_added(record.areas, points.shape[1] * scale**2, count),
        confidence=None if known is None else np.concatenate((known, confidence[None])),
    )


def _added(values: tuple[T, ...], value: T, count: int) -> tuple[T, ...]:
    """Return what is known of ``count`` people with one more person's; empty: it is not known."""
    return (*values, value) if len(values) == count else values


def _covered(mask: NDArray[np.uint8], matrix: Array, points: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return whether image points (..., 2) are under a mask that a map (2, 3) takes to the image."""
    back = np.rint(apply_affine(np.asarray(cv2.invertAffineTransform(matrix)), points))
    inside = np.asarray(((back >= 0) & (back < (mask.shape[1], mask.shape[0]))).all(-1))
    column, row = back[inside].astype(int).T
    inside[inside] = mask[row, column] > FOREGROUND
    return inside


def _draw(pixels: NDArray[np.uint8], cutout: Cutout, matrix: Array, reduction: int) -> None:
    """Draw a cut-out into an image that was decoded ``reduction`` times smaller than where the map leads."""
    # pixel x of the reduced image covers r·x + (r − 1)/2 of the image
    matrix = np.column_stack((matrix[:, :2], matrix[:, 2] - (reduction - 1) / 2)) / reduction
    scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    layer: NDArray[Any] = _layer(cutout, scale)
    factor = int(1 / scale)
    if factor > 1:
        # a bilinear warp that shrinks by more than a half would skip pixels
        height, width = layer.shape[:2]
        layer = cv2.copyMakeBorder(layer, 0, -height % factor, 0, -width % factor, cv2.BORDER_CONSTANT)
        size = layer.shape[1] // factor, layer.shape[0] // factor
        layer = cv2.resize(layer, size, interpolation=cv2.INTER_AREA)
        matrix = np.column_stack((matrix[:, :2] * factor, matrix @ [(factor - 1) / 2, (factor - 1) / 2, 1]))
    height, width = layer.shape[:2]
    corners = apply_affine(matrix, np.array([[-1, -1], [width, -1], [width, height], [-1, height]], np.float64))
    left, top = np.maximum(np.floor(corners.min(0)), 0).astype(int)
    right, bottom = np.minimum(np.ceil(corners.max(0)) + 1, pixels.shape[1::-1]).astype(int)
    if right <= left or bottom <= top:
        return
    matrix = matrix - np.array([[0, 0, left], [0, 0, top]])
    warped = cv2.warpAffine(layer, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
    behind = cv2.cvtColor(cv2.bitwise_not(warped[..., 3]), cv2.COLOR_GRAY2BGR)
    area = pixels[top:bottom, left:right]
    area[:] = cv2.add(cv2.multiply(area, behind, scale=1 / 255), cv2.cvtColor(warped, cv2.COLOR_BGRA2BGR))


def _layer(cutout: Cutout, scale: float) -> NDArray[np.uint8]:
    """Return (h, w, 4) uint8: blue, green, red multiplied by alpha, and alpha, which rises inwards from the edge.

    Multiplied colors can be averaged without those outside the mask leaking in.
    """
    # about one image pixel to each side; blurred outwards, an edge would show what was behind the person
    width = 2 * max(1, round(1 / scale)) + 1
    alpha = np.minimum(cv2.blur(cutout.mask, (width, width), borderType=cv2.BORDER_CONSTANT), cutout.mask)
    colors = cv2.multiply(cutout.pixels, cv2.cvtColor(alpha, cv2.COLOR_GRAY2BGR), scale=1 / 255)
    return np.asarray(cv2.merge((*cv2.split(colors), alpha)), np.uint8)
