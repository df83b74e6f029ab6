"""From merged maps to people in photo coordinates (METHOD.md 5.3 to 5.7)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from yacs.config import CfgNode

from coupled_embedding.geometry import Array, apply_affine
from coupled_embedding.inference.enlarge import enlarge
from coupled_embedding.inference.grouping import ASSIGNMENTS, Groups, group
from coupled_embedding.inference.peaks import find_candidates
from coupled_embedding.inference.refine import refine_joint
from coupled_embedding.keypoints import KeypointSchema, Pose

Map = NDArray[np.float32]


@dataclass(frozen=True)
class DecodeSettings:
    """How maps become people; the defaults are the paper's for w32.

    Attributes:
        grouping_order: joint numbers in the order in which grouping visits them.
        kernel: window of the peak search, odd, in input pixels.
        max_candidates: peaks per joint.
        threshold: peaks must exceed it.
        tag_threshold: largest tag distance at which a candidate joins a person.
        assignment: a key of `grouping.ASSIGNMENTS`.
        refine: whether absent joints are looked up.
    """

    grouping_order: tuple[int, ...]
    kernel: int = 5
    max_candidates: int = 30
    threshold: float = 0.1
    tag_threshold: float = 1.0
    assignment: str = "munkres"
    refine: bool = True


def build_decode_settings(cfg: CfgNode, schema: KeypointSchema) -> DecodeSettings:
    """Build the settings of a config."""
    test = cfg.TEST
    return DecodeSettings(
        schema.grouping_order,
        test.NMS_KERNEL,
        test.MAX_CANDIDATES,
        test.HEATMAP_THRESHOLD,
        test.TAG_THRESHOLD,
        test.ASSIGNMENT,
        test.REFINE,
    )


def decode(
    heatmaps: Map, tags: Map, base_size: tuple[int, int], to_photo: Array, settings: DecodeSettings
) -> list[Pose]:
    """Find the people of one photo.

    Args:
        heatmaps: (K, H', W') float32, merged over resolutions and mirror.
        tags: (K, h, w, T) float32.
        base_size: (width, height) of the network's input at scale factor 1, pixels.
        to_photo: affine map from input pixels to photo pixels.

    Returns:
        People in the order in which grouping started them.

    Raises:
        ValueError: a map holds NaN or infinity.
    """
    if not (np.isfinite(heatmaps).all() and np.isfinite(tags).all()):
        raise ValueError("the network put out NaN or infinite values; its weights or the input are damaged")
    width, height = base_size
    large = [h if h.shape == (height, width) else enlarge(h, height, width) for h in heatmaps]
    candidates = [
        find_candidates(h, t, settings.kernel, settings.max_candidates, settings.threshold)
        for h, t in zip(large, tags, strict=True)
    ]
    groups = group(candidates, settings.grouping_order, settings.tag_threshold, ASSIGNMENTS[settings.assignment])
    scores = groups.joints[..., 2].mean(1)
    joints = _locate_joints(groups, large, tags, settings)
    joints[..., :2] = _to_photo(joints, to_photo)
    return [Pose(keypoints, float(score)) for keypoints, score in zip(joints, scores, strict=True)]


def _locate_joints(groups: Groups, heatmaps: list[Map], tags: Map, settings: DecodeSettings) -> NDArray[np.float64]:
    joints = groups.joints.astype(np.float64)
    for joint, heatmap in enumerate(heatmaps):
        found = groups.found[:, joint]
        if settings.refine and not found.all():
            step = np.float32(settings.tag_threshold)
            pixels = refine_joint(heatmap, tags[joint] / step, groups.tags[~found] / step)
            y, x = np.divmod(pixels, heatmap.shape[1])
            joints[~found, joint] = np.stack((x, y, heatmap[y, x]), 1)
            found = np.ones_like(found)
        x, y = joints[found, joint, 0].astype(int), joints[found, joint, 1].astype(int)
        joints[found, joint, 0] += _quarter_shift(heatmap, y, x, 0, 1)
        joints[found, joint, 1] += _quarter_shift(heatmap, y, x, 1, 0)
    return joints


def _quarter_shift(heatmap: Map, y: NDArray, x: NDArray, dy: int, dx: int) -> NDArray[np.float64]:
    """Move a quarter pixel towards the larger neighbour, then half a pixel to the cell's middle."""
    bottom, right = heatmap.shape[0] - 1, heatmap.shape[1] - 1
    after = heatmap[np.minimum(y + dy, bottom), np.minimum(x + dx, right)]
    before = heatmap[np.maximum(y - dy, 0), np.maximum(x - dx, 0)]
    return np.where(after > before, 0.25, -0.25) + 0.5


def _to_photo(joints: NDArray[np.float64], to_photo: Array) -> NDArray[np.float64]:
    """Map (P, K, 3) joints to photo pixels; those without a positive score go to (0, 0)."""
    return np.where(joints[..., 2:] > 0, apply_affine(to_photo, joints[..., :2]), 0.0)
