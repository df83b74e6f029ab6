"""From skeletons and the drawn canvas to CrowdPose's labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthetic_crowd.render import SCALE, Drawn
from synthetic_crowd.skeleton import JOINT_COUNT

SEEN, HIDDEN, OUTSIDE = 2, 1, 0
# Flesh in front of each joint, in statures: nearer surfaces of the same person hide the joint.
_FLESH = np.array([0.06, 0.06, 0.04, 0.04, 0.035, 0.035, 0.085, 0.085, 0.05, 0.05, 0.04, 0.04, 0.07, 0.065], np.float32)
_MARGIN = 0.04  # meters


@dataclass(frozen=True)
class Labels:
    """Labels of P people in image pixels; see Scene for shapes."""

    keypoints: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    person_map: np.ndarray


def inside_image(places: np.ndarray, width: int, height: int) -> np.ndarray:
    """Whether pixel places (..., 2) fall on a pixel of the image."""
    return np.asarray(((places >= -0.5) & (places < np.array([width, height]) - 0.5)).all(-1))


def flesh_before_joints(statures: np.ndarray, skirted: np.ndarray) -> np.ndarray:
    """(P, 14) meters of own flesh and cloth that may lie before a joint and still show it.

    statures: (P,) meters; skirted: (P,) bool, whose hips and knees are under a skirt.
    """
    flesh = _FLESH * statures[:, None] + _MARGIN
    flesh[:, 6:10] *= np.where(skirted, 2.0, 1.0)[:, None]
    return flesh


def label_people(
    places: np.ndarray, depths: np.ndarray, extents: np.ndarray, flesh: np.ndarray, drawn: Drawn
) -> Labels:
    """Label P drawn people.

    places: (P, 14, 2) joints in image pixels; depths: (P, 14) meters; extents: (P, 4) x0, y0, x1, y1 of
    the whole silhouettes in canvas pixels; flesh: (P, 14), see flesh_before_joints.
    """
    owner, depth = drawn.owner, drawn.depth
    person_map = np.maximum(owner, 0).astype(np.uint8)
    height, width = owner.shape
    visibility = _visibility(places, depths - flesh, owner, depth)
    keypoints = np.concatenate([places, visibility[..., None]], -1).astype(np.float32)
    keypoints[..., :2] = np.clip(keypoints[..., :2], 0, (width - 1, height - 1))
    keypoints[visibility == OUTSIDE] = 0
    areas = np.bincount(person_map.ravel(), minlength=len(places) + 1)[1:].astype(np.float32)
    return Labels(keypoints, _boxes(keypoints, extents, width, height), areas, person_map)


def _visibility(places: np.ndarray, nearest: np.ndarray, owner: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """(P, 14) visibilities: who is seen at the joint's pixel, and whether behind the depth `nearest` (P, 14).

    A joint on the rim of the silhouette may round to an empty pixel: then a direct neighbor that is the
    person's own decides.
    """
    height, width = owner.shape
    x, y = (np.rint(places[..., axis]).astype(int) for axis in (0, 1))
    numbers = np.arange(1, len(places) + 1)[:, None]
    cx, cy = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    seen = (owner[cy, cx] == numbers) & (depth[cy, cx] > nearest)
    empty = owner[cy, cx] < 0
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        nx, ny = np.clip(x + dx, 0, width - 1), np.clip(y + dy, 0, height - 1)
        seen |= empty & (owner[ny, nx] == numbers) & (depth[ny, nx] > nearest)
    visibility = np.where(seen, SEEN, HIDDEN)
    return np.where(inside_image(places, width, height), visibility, OUTSIDE)


def _boxes(keypoints: np.ndarray, extents: np.ndarray, width: int, height: int) -> np.ndarray:
    """(P, 4) boxes around silhouette and labelled joints, clipped to the image, x, y, width, height."""
    labelled = keypoints[..., 2:] > 0
    silhouette = extents / SCALE  # canvas pixel c covers image pixel c / SCALE: whole pixels, borders included
    low = np.minimum(silhouette[:, :2], np.where(labelled, keypoints[..., :2], np.inf).min(1))
    high = np.maximum(silhouette[:, 2:], np.where(labelled, keypoints[..., :2], -np.inf).max(1))
    corner = np.array([width, height], np.float32)
    low, high = np.clip(low, 0, corner), np.clip(high, 0, corner)
    return np.concatenate([low, high - low], 1).astype(np.float32)


def worth_labelling(labels: Labels, seen_joints: int = 3, seen_pixels: int = 20) -> np.ndarray:
    """(P,) bool: whether enough of a person is seen for an annotator to notice."""
    joints = (labels.keypoints[..., 2] == SEEN).sum(1)
    return (joints >= seen_joints) & (labels.areas >= seen_pixels) & (labels.keypoints.shape[1] == JOINT_COUNT)
