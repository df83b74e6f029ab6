"""A photo decoded four times: found or true heatmaps, with found or true tags.

What true heatmaps win is the cost of finding joints, what true tags win that of grouping them.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.analysis.upper_bound import TAG_STEP, perfect_maps
from coupled_embedding.data.geometry import TestGeometry
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import Pose
from coupled_embedding.decode.aggregate import MergedMaps, PhotoMaps, merge_resolutions
from coupled_embedding.decode.decode import DecodeSettings, decode

AS_FOUND, TRUE_TAGS, TRUE_HEATMAPS, ALL_TRUE = "as found", "true grouping", "true heatmaps", "all true"
RUNS = (AS_FOUND, TRUE_TAGS, TRUE_HEATMAPS, ALL_TRUE)


def circle_tags(people: int, joints: int, threshold: float) -> NDArray[np.float32]:
    """Return (N, K, 2) person tags on a circle, far apart.

    Between two of them, where maps mix tags, lies no third one, as it would on a line.
    """
    turns = 2 * np.pi * np.arange(people) / max(people, 1)
    points = TAG_STEP * threshold * people * np.stack((np.cos(turns), np.sin(turns)), 1)
    return np.broadcast_to(points[:, None].astype(np.float32), (people, joints, 2))


def decode_runs(
    record: ImageRecord, maps: PhotoMaps, geometry: TestGeometry, strides: tuple[int, ...], settings: DecodeSettings
) -> dict[str, list[Pose]]:
    """Return the people that each of `RUNS` finds in a photo.

    True tags are those of the nearest true joint of the kind within the reach of its Gaussian
    target, and the background's elsewhere, for peaks and refinement alike. With true heatmaps
    a flat top is one peak, whatever the settings: duplicates are no fault of grouping.

    Args:
        record: the photo.
        maps: what the network put out.
        geometry: how the photo lies in the input.
        strides: input pixels per cell of the network's resolutions, lowest first.
        settings: of decode.
    """
    people, joints = record.keypoints.shape[:2]
    perfect = perfect_maps(record, geometry, strides, circle_tags(people, joints, settings.tag_threshold))
    true = MergedMaps(merge_resolutions(perfect), perfect.tags).photo(0)
    single = replace(settings, peaks=replace(settings.peaks, one_per_plateau=True))
    size, back = geometry.base_size, geometry.to_photo()
    return {
        AS_FOUND: decode(maps, size, back, settings),
        TRUE_TAGS: decode(PhotoMaps(maps.heatmaps, true.tags), size, back, settings),
        TRUE_HEATMAPS: decode(PhotoMaps(true.heatmaps, maps.tags), size, back, single),
        ALL_TRUE: decode(true, size, back, single),
    }
