"""From merged maps to people in photo coordinates (METHOD.md 5.3 to 5.7)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray
from yacs.config import CfgNode

from coupled_embedding.data.geometry import Array, apply_affine
from coupled_embedding.data.schema import KeypointSchema, Pose
from coupled_embedding.decode.aggregate import PhotoMaps
from coupled_embedding.decode.fast.bounds import all_finite
from coupled_embedding.decode.fast.refine import TagSearch
from coupled_embedding.decode.fast.upsample import Map, grid, value_at
from coupled_embedding.decode.grouping import ASSIGNMENTS, COST_RULES, Groups, group
from coupled_embedding.decode.peaks import Candidates, PeakSettings, find_candidates
from coupled_embedding.utils.errors import ConfigError, NotFiniteError

Joints = NDArray[np.float64]


@dataclass(frozen=True)
class DecodeSettings:
    """How maps become people; the defaults are the paper's for w32.

    Attributes:
        grouping_order: joint numbers in the order in which grouping visits them.
        peaks: which local maxima become candidates.
        tag_threshold: largest tag distance at which a candidate joins a person.
        assignment: a key of `grouping.ASSIGNMENTS`.
        refine: whether absent joints are looked up.
        absent_joints: where joints without a positive score go: ``"origin"``, the photo's
            corner (0, 0), as the method has it, keeping their score; ``"zero"``: there, with
            score 0, as HigherHRNet; or ``"guess"``: where refinement looked them up, else the
            middle of the person's joints.
        cost: a key of `grouping.COST_RULES`.
        max_joined: see `grouping.group`.
    """

    grouping_order: tuple[int, ...]
    peaks: PeakSettings = field(default_factory=PeakSettings)
    tag_threshold: float = 1.0
    assignment: str = "munkres"
    refine: bool = True
    absent_joints: str = "origin"
    cost: str = "near"
    max_joined: int = 0


def build_decode_settings(cfg: CfgNode, schema: KeypointSchema) -> DecodeSettings:
    """Build the settings of a config."""
    test = cfg.TEST
    return DecodeSettings(
        _grouping_order(test.GROUPING_ORDER, schema),
        PeakSettings(
            test.NMS_KERNEL, test.MAX_CANDIDATES, test.HEATMAP_THRESHOLD, test.ONE_PEAK_PER_PLATEAU, test.PEAK_TIES
        ),
        test.TAG_THRESHOLD,
        test.ASSIGNMENT,
        test.REFINE,
        test.ABSENT_JOINTS,
        test.GROUPING_COST,
        test.MAX_JOINED,
    )


def _grouping_order(names: Sequence[str], schema: KeypointSchema) -> tuple[int, ...]:
    """Return the numbers of the joints named, or the schema's order; ConfigError unless all are named once."""
    if not names:
        return schema.grouping_order
    if sorted(names) != sorted(schema.joints):
        raise ConfigError(
            f"TEST.GROUPING_ORDER: must name each joint of data set '{schema.name}' once ({', '.join(schema.joints)}), "
            f"got {', '.join(names)}"
        )
    return tuple(schema.joints.index(name) for name in names)


def decode(maps: PhotoMaps, base_size: tuple[int, int], to_photo: Array, settings: DecodeSettings) -> list[Pose]:
    """Find the people of one photo.

    Args:
        maps: heatmaps merged over resolutions and mirror, tags by layer.
        base_size: (width, height) of the network's input at scale factor 1, pixels.
        to_photo: affine map from input pixels to photo pixels.

    Returns:
        People in the order in which grouping started them.

    Raises:
        NotFiniteError: a map holds NaN or infinity.
    """
    size = base_size[1], base_size[0]
    search = TagSearch(maps.tags, size, settings.tag_threshold)  # first: on the way it sees whether all tags are finite
    if not (all_finite(maps.heatmaps) and search.finite()):
        raise NotFiniteError("the network put out NaN or infinite values; its weights or the input are damaged")
    candidates = [find_candidates(k, h, maps.tags, size, settings.peaks) for k, h in enumerate(maps.heatmaps)]
    groups = grouped(candidates, settings)
    scores = groups.joints[..., 2].mean(1)
    joints = _locate_joints(groups, maps.heatmaps, size, search if settings.refine else None)
    joints[..., :2] = apply_affine(to_photo, joints[..., :2])
    if settings.absent_joints != "guess":
        joints[..., :2] = np.where(joints[..., 2:] > 0, joints[..., :2], 0.0)
    if settings.absent_joints == "zero":
        joints[..., 2] = np.maximum(joints[..., 2], 0.0)
    return [Pose(keypoints, float(score)) for keypoints, score in zip(joints, scores, strict=True)]


def grouped(candidates: Sequence[Candidates], settings: DecodeSettings) -> Groups:
    """Group candidates, one entry a joint, as the settings have it."""
    assign, rule = ASSIGNMENTS[settings.assignment], COST_RULES[settings.cost]
    return group(candidates, settings.grouping_order, settings.tag_threshold, assign, rule, settings.max_joined)


def _locate_joints(groups: Groups, heatmaps: Map, size: tuple[int, int], search: TagSearch | None) -> Joints:
    joints = groups.joints.astype(np.float64)
    places = groups.joints[..., :2].astype(np.int64)
    for joint, heatmap in enumerate(heatmaps):
        found = groups.found[:, joint]
        absent = np.flatnonzero(~found)
        if search and len(absent):
            pixels = search.best_pixels(joint, heatmap, groups.tags[absent])
            places[absent, joint] = np.stack((pixels % size[1], pixels // size[1]), 1)
            found = np.ones_like(found)
        values, shifts = _look(heatmap, grid(heatmap.shape, size), places[:, joint])
        joints[found, joint, :2] = places[found, joint] + shifts[found]
        joints[absent, joint, 2] = np.where(found[absent], values[absent], 0.0)
        if not search and len(absent):
            weights = groups.found[absent, :, None]
            joints[absent, joint, :2] = (places[absent] * weights).sum(1) / weights.sum(1) + 0.5
    return joints


@njit(cache=True, nogil=True)
def _look(heatmap, cells, places):
    """Return the enlarged heatmap at places (P, 2) x, y, and how far the joint is from the pixel's corner.

    That is a quarter pixel towards the larger neighbour on each axis, then half a pixel to
    the cell's middle.
    """
    bottom, right = len(cells.rows.first) - 1, len(cells.columns.first) - 1
    values = np.empty(len(places), np.float32)
    shifts = np.empty((len(places), 2))
    for p in range(len(places)):
        x, y = places[p]
        values[p] = value_at(heatmap, cells, y, x)
        larger = value_at(heatmap, cells, y, min(x + 1, right)) > value_at(heatmap, cells, y, max(x - 1, 0))
        shifts[p, 0] = 0.75 if larger else 0.25
        larger = value_at(heatmap, cells, min(y + 1, bottom), x) > value_at(heatmap, cells, max(y - 1, 0), x)
        shifts[p, 1] = 0.75 if larger else 0.25
    return values, shifts
