"""From merged maps to poses in image coordinates (docs/method.md, sections 5.3 to 5.7).

The same as `reference.decode_reference`, which reads more easily and has no further passes of grouping (TEST.REGROUP),
without ever upsampling a whole map.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray

from coupled_embedding.data.geometry import Array, apply_affine
from coupled_embedding.data.outputs import Pose
from coupled_embedding.decode import reference
from coupled_embedding.decode.aggregate import ImageMaps
from coupled_embedding.decode.centers import decode_by_centers
from coupled_embedding.decode.fast.refine import JointRefiner
from coupled_embedding.decode.fast.upsample import Map, grid, sample_at
from coupled_embedding.decode.grouping import Groups, group
from coupled_embedding.decode.options import DecodeOptions
from coupled_embedding.decode.paf_grouping import group_by_pafs, limb_order
from coupled_embedding.decode.peaks import Candidates, find_candidates
from coupled_embedding.decode.regroup import regroup
from coupled_embedding.utils.errors import NonFiniteError

Joints = NDArray[np.float64]
# joint, its heatmap (h', w'), the P people without it -> best pixel y·W + x of each, (P,)
Refine = Callable[[int, Map, Groups], NDArray[np.int64]]


def decode(maps: ImageMaps, base_size: tuple[int, int], to_image: Array, options: DecodeOptions) -> list[Pose]:
    """Find the people of one image.

    Args:
        maps: heatmaps merged over resolutions and flip, tags by view.
        base_size: (width, height) of the network's input at scale factor 1, pixels.
        to_image: affine map from input pixels to image pixels.
        options: peaks, grouping, refinement.

    Returns:
        Poses in the order in which grouping started the people, or best centers first, scale by scale.

    Raises:
        NonFiniteError: a map holds NaN or infinity.
    """
    check_finite(maps)
    if options.centers is not None:
        if maps.centers is None:
            raise ValueError("people by their centers: the maps have none")
        return [
            pose
            for scale in (maps, *maps.others)
            for pose in decode_by_centers(scale, base_size, to_image, options.centers, options.joint_threshold)
        ]
    size = base_size[1], base_size[0]
    candidates = [find_candidates(k, h, maps.tags, size, options.peaks) for k, h in enumerate(maps.heatmaps)]
    groups = group_candidates(candidates, maps, size, options)
    scores = groups.joints[..., 2].mean(1)
    joints = _locate_joints(groups, maps.heatmaps, size, REFINEMENTS[options.refine](maps, size, options))
    joints[..., :2] = apply_affine(to_image, joints[..., :2])
    if options.missing_joints != "guess":
        joints[..., :2] = np.where(joints[..., 2:] > 0, joints[..., :2], 0.0)
    if options.missing_joints == "zero":
        joints[..., 2] = np.maximum(joints[..., 2], 0.0)
    tags = groups.tags if groups.tags.shape[1] else [None] * len(joints)
    return [Pose(*pose) for pose in zip(joints, scores.tolist(), tags, strict=True)]


def group_candidates(
    candidates: Sequence[Candidates], maps: ImageMaps, size: tuple[int, int], options: DecodeOptions
) -> Groups:
    """Group the candidates of an input of (H, W) by tags, or by the maps' part affinity fields."""
    if options.paf is None:
        return regroup(group(candidates, options), candidates, options)
    if maps.pafs is None:
        raise ValueError("grouping by part affinity fields: the maps have none")
    order = limb_order(options.limbs, options.grouping_order)
    return group_by_pafs(candidates, maps.pafs, size, options.limbs, options.paf, order)


def is_compiled() -> bool:
    """Whether this machine has the compiled decode in its cache; without, the first decode takes about 20 s more."""
    if not hasattr(_sum, "signatures"):  # numba is switched off
        return True
    return bool(_sum.signatures) or any(Path(_sum.stats.cache_path or "").glob("decode._sum-*.nbi"))


def check_finite(maps: ImageMaps) -> None:
    """Raise NonFiniteError if a map holds NaN or infinity."""
    for other in maps.others:
        check_finite(other)
    fields = [values for values in (maps.pafs, maps.centers) if values is not None]
    if not all(_is_finite(values) for values in (maps.heatmaps, *(view.values for view in maps.tags), *fields)):
        raise NonFiniteError("the network output NaN or infinite values; its weights or the input are damaged")


def _is_finite(values: NDArray[np.float32]) -> bool:
    # the sum of finite numbers may overflow, which is rare enough for a second look
    return bool(np.isfinite(_sum(values.reshape(-1))) or np.isfinite(values).all())


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _sum(values):
    # four streams of memory are read three times as fast as one
    quarter = len(values) // 4
    first = second = third = fourth = np.float32(0)
    for i in range(quarter):
        first += values[i]
        second += values[quarter + i]
        third += values[2 * quarter + i]
        fourth += values[3 * quarter + i]
    for i in range(4 * quarter, len(values)):
        first += values[i]
    return first + second + third + fourth


def _fast(maps: ImageMaps, size: tuple[int, int], options: DecodeOptions) -> Refine:
    refiner = JointRefiner(maps.tags, size, options.tag_threshold)
    return lambda joint, heatmap, people: refiner.best_pixels(joint, heatmap, people.tags)


def _reference(maps: ImageMaps, size: tuple[int, int], options: DecodeOptions) -> Refine:
    tags = reference.upsampled_tags(maps, *size)
    return lambda joint, heatmap, people: reference.best_pixels(
        heatmap, tags[joint], people.tags, options.tag_threshold
    )


# TEST.REFINE -> what predicts missing joints of an image, whose input has a size (height, width)
REFINEMENTS: dict[str, Callable[[ImageMaps, tuple[int, int], DecodeOptions], Refine | None]] = {
    "none": lambda *_: None,
    "fast": _fast,
    "reference": _reference,
}


def _locate_joints(groups: Groups, heatmaps: Map, size: tuple[int, int], refine: Refine | None) -> Joints:
    """Return the joints (P, K, 3) with sub-pixel offsets; missing ones predicted, or in the middle with score 0."""
    joints = groups.joints.astype(np.float64)
    places = groups.joints[..., :2].astype(np.int64)
    for joint, heatmap in enumerate(heatmaps):
        found = groups.found[:, joint]
        missing = np.flatnonzero(~found)
        if refine and len(missing):
            pixels = refine(joint, heatmap, groups.select(missing))
            places[missing, joint] = np.stack((pixels % size[1], pixels // size[1]), 1)
            found = np.ones_like(found)
        values, offsets = subpixel_offset(heatmap, grid(heatmap.shape, size), places[:, joint])
        joints[found, joint, :2] = places[found, joint] + offsets[found]
        joints[missing, joint, 2] = np.where(found[missing], values[missing], 0.0)
        if not refine and len(missing):
            weights = groups.found[missing, :, None]
            joints[missing, joint, :2] = (places[missing] * weights).sum(1) / weights.sum(1) + 0.5
    return joints


@njit(cache=True, nogil=True)
def subpixel_offset(heatmap, cells, places):
    """Return the upsampled heatmap at places (P, 2) x, y, and how far the joint is from the pixel's corner.

    That is a quarter pixel towards the larger neighbor on each axis, then half a pixel to
    the middle of the pixel.
    """
    bottom, right = len(cells.rows.first) - 1, len(cells.columns.first) - 1
    values = np.empty(len(places), np.float32)
    offsets = np.empty((len(places), 2))
    for p in range(len(places)):
        x, y = places[p]
        values[p] = sample_at(heatmap, cells, y, x)
        larger = sample_at(heatmap, cells, y, min(x + 1, right)) > sample_at(heatmap, cells, y, max(x - 1, 0))
        offsets[p, 0] = 0.75 if larger else 0.25
        larger = sample_at(heatmap, cells, min(y + 1, bottom), x) > sample_at(heatmap, cells, max(y - 1, 0), x)
        offsets[p, 1] = 0.75 if larger else 0.25
    return values, offsets


def grouping_order(names: Sequence[str], joints: Sequence[str], default: Sequence[int]) -> tuple[int, ...]:
    """Return the numbers of the joints named, or the default order; ValueError unless each joint is named once."""
    if not names:
        return tuple(default)
    if sorted(names) != sorted(joints):
        raise ValueError(f"must name each joint once ({', '.join(joints)}), got {', '.join(names)}")
    return tuple(joints.index(name) for name in names)
