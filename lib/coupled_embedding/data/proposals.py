"""Boxes as a detector would find them, drawn around annotated ones: RMPE's pose-guided proposals (PGPG).

A network of single people's crops that only saw annotated boxes in training is used to their edges; detected boxes are
off. Boxes are x, y, width, height in image pixels; shifts are those of a box's left, top, right and bottom edge, in
units of its width and height.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

Array = NDArray[np.float64]
SMALLEST_SIDE = 2.0  # of a drawn box, pixels
# mean and standard deviation of the shifts of the released program
RELEASED_SHIFTS = ((-0.0142, 0.1158), (0.0043, 0.068), (0.0154, 0.1337), (-0.0013, 0.0711))
RELEASED_SUB_BOX = 0.85


class Proposals(Protocol):
    """What draws boxes."""

    def propose(self, rng: np.random.Generator, box: Sequence[float] | Array, pose: NDArray[np.floating]) -> Array:
        """Draw a box.

        Args:
            rng: all randomness comes from here.
            box: (4,) annotated.
            pose: (K, 3) its person's joints: x, y, label, above 0 where the joint is labelled.

        Returns:
            (4,) float64, with sides of at least `SMALLEST_SIDE`.
        """


@dataclass(frozen=True)
class ReleasedProposals:
    """The released program's, the same for any pose.

    With u drawn from 0 to 1: above 0.85 a random part of the box of u times its sides; else each edge shifted by a
    normal draw.
    """

    def propose(self, rng: np.random.Generator, box: Sequence[float] | Array, pose: NDArray[np.floating]) -> Array:
        """Draw a box; see `Proposals.propose`. The pose is not looked at."""
        share, box = rng.random(), np.asarray(box, np.float64)
        if share > RELEASED_SUB_BOX:
            left_top = box[:2] + rng.random(2) * (1 - share) * box[2:]
            return np.concatenate((left_top, np.maximum(share * box[2:], SMALLEST_SIDE)))
        means, deviations = np.array(RELEASED_SHIFTS).T
        return shifted_box(box, rng.normal(means, deviations))


@dataclass(frozen=True)
class Mixture:
    """A mixture of G normal distributions of shifts.

    Attributes:
        weights: (G,) that sum to 1.
        means: (G, 4).
        covariances: (G, 4, 4).
    """

    weights: Array
    means: Array
    covariances: Array

    def draw(self, rng: np.random.Generator) -> Array:
        """Draw shifts (4,)."""
        part = rng.choice(len(self.weights), p=self.weights)
        return rng.multivariate_normal(self.means[part], self.covariances[part], method="cholesky")


@dataclass(frozen=True)
class PoseProposals:
    """Shifts by the kind of pose, as the paper has them: a mixture for each cluster of torso-normalized poses.

    Attributes:
        joints: K names.
        centers: (C, K, 2) the clusters' mean poses, as of `normalized_pose`.
        mixtures: of each cluster.
        pooled: for poses without a torso.
    """

    joints: tuple[str, ...]
    centers: Array
    mixtures: tuple[Mixture, ...]
    pooled: Mixture

    def cluster(self, pose: NDArray[np.floating]) -> int | None:
        """Return the number of a pose's (K, 3) cluster, by its labelled joints; None: it has no torso."""
        normalized = normalized_pose(pose, self.joints)
        if normalized is None:
            return None
        return int(np.nansum((self.centers - normalized) ** 2, (1, 2)).argmin())

    def propose(self, rng: np.random.Generator, box: Sequence[float] | Array, pose: NDArray[np.floating]) -> Array:
        """Draw a box; see `Proposals.propose`."""
        cluster = self.cluster(pose)
        mixture = self.pooled if cluster is None else self.mixtures[cluster]
        return shifted_box(np.asarray(box, np.float64), mixture.draw(rng))


def shifted_box(box: Array, shifts: Array) -> Array:
    """Return a box (4,) with its edges shifted by shifts (4,).

    >>> shifted_box(np.array([10.0, 20, 100, 200]), np.array([-0.1, 0, 0.25, 0.5])).tolist()
    [0.0, 20.0, 135.0, 300.0]
    """
    left_top, right_bottom = box[:2] + shifts[:2] * box[2:], box[:2] + (1 + shifts[2:]) * box[2:]
    return np.concatenate((left_top, np.maximum(right_bottom - left_top, SMALLEST_SIDE)))


def box_shifts(true: Array, found: Array) -> Array:
    """Return the shifts (N, 4) that take boxes (N, 4), with sides above 0, to others (N, 4)."""
    left_top = (found[:, :2] - true[:, :2]) / true[:, 2:]
    right_bottom = (found[:, :2] + found[:, 2:] - true[:, :2] - true[:, 2:]) / true[:, 2:]
    return np.hstack((left_top, right_bottom))


def normalized_pose(pose: NDArray[np.floating], joints: Sequence[str]) -> Array | None:
    """Return a pose's joints (K, 2) with the torso's middle at the origin and length 1, NaN where there is no label.

    The torso goes from the middle of the labelled shoulders to that of the labelled hips.

    Args:
        pose: (K, 3) x, y in image pixels, label.
        joints: K names, by which shoulders and hips are known.

    Returns:
        None: no shoulder or no hip is labelled, or they are less than a pixel apart.
    """
    labelled = pose[:, 2] > 0
    ends = [np.flatnonzero(labelled & [name in joint for joint in joints]) for name in ("shoulder", "hip")]
    if not all(len(end) for end in ends):
        return None
    top, bottom = (pose[end, :2].mean(0, dtype=np.float64) for end in ends)
    length = float(np.hypot(*(bottom - top)))
    if length < 1:
        return None
    return np.where(labelled[:, None], (pose[:, :2] - (top + bottom) / 2) / length, np.nan)


def match_boxes(true: Array, found: Array, min_iou: float = 0.5) -> list[tuple[int, int]]:
    """Return pairs of rows of annotated (N, 4) and detected (M, 4) boxes of one image, the largest overlap first.

    Args:
        true, found: boxes.
        min_iou: intersection over union that a pair must have.
    """
    if not len(true) or not len(found):
        return []
    overlaps = np.array(coco_mask.iou(np.asarray(true), np.asarray(found), [0] * len(found)))
    pairs = []
    while overlaps.max() >= min_iou:
        row, column = (int(number) for number in np.unravel_index(overlaps.argmax(), overlaps.shape))
        pairs.append((row, column))
        overlaps[row], overlaps[:, column] = -1, -1
    return pairs
