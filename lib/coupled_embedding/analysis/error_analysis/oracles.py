"""An image decoded four times: predicted or oracle heatmaps, with predicted or oracle grouping.

What oracle heatmaps gain is the cost of detecting joints, what oracle tags gain that of grouping them.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.analysis.upper_bound import TAG_STEP, perfect_maps
from coupled_embedding.data.geometry import ResizeGeometry
from coupled_embedding.data.outputs import Pose
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.decode.aggregate import ImageMaps
from coupled_embedding.decode.decode import decode
from coupled_embedding.decode.options import DecodeOptions

RUNS = ("predicted", "oracle grouping", "oracle heatmaps", "oracle")
PREDICTED, ORACLE_GROUPING, ORACLE_HEATMAPS, ORACLE = RUNS


def circle_tags(people: int, joints: int, threshold: float) -> NDArray[np.float32]:
    """Return (N, K, 2) person tags on a circle, far apart.

    Between two of them, where maps mix tags, there is no third one, as there would be on a line.
    """
    turns = 2 * np.pi * np.arange(people) / max(people, 1)
    points = TAG_STEP * threshold * people * np.stack((np.cos(turns), np.sin(turns)), 1)
    return np.broadcast_to(points[:, None].astype(np.float32), (people, joints, 2))


def by_tags(options: DecodeOptions) -> DecodeOptions:
    """Return options that group by tags and refine, whatever groups: oracle grouping is the same for all."""
    if options.paf is None and options.centers is None:
        return options
    return replace(options, paf=None, centers=None, refine="fast")


def decode_runs(
    record: ImageRecord, maps: ImageMaps, geometry: ResizeGeometry, strides: tuple[int, ...], options: DecodeOptions
) -> dict[str, list[Pose]]:
    """Return the poses that each of `RUNS` detects in an image.

    Oracle tags are those of the nearest annotated joint of the kind within the reach of its Gaussian target, and the
    background's elsewhere, for peaks and refinement alike. With oracle heatmaps a flat top is one peak, whatever the
    options: duplicates are no fault of grouping. ``strides``: input pixels per cell of the network's resolutions.
    """
    people, joints = record.keypoints.shape[:2]
    oracle = perfect_maps(record, geometry, strides, circle_tags(people, joints, options.tag_threshold))
    dedup = replace(options, peaks=replace(options.peaks, dedup_plateaus=True))
    size, to_image = geometry.base_size, geometry.to_image()
    return {
        PREDICTED: decode(maps, size, to_image, options),
        ORACLE_GROUPING: decode(ImageMaps(maps.heatmaps, oracle.tags), size, to_image, by_tags(options)),
        ORACLE_HEATMAPS: decode(ImageMaps(oracle.heatmaps, maps.tags, maps.pafs, maps.centers), size, to_image, dedup),
        ORACLE: decode(oracle, size, to_image, by_tags(dedup)),
    }
