"""From the maps of one person's crop to the pose (docs/method.md 9.2)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.geometry import Array, apply_affine
from coupled_embedding.data.outputs import Pose
from coupled_embedding.data.pafs import Limbs
from coupled_embedding.decode.aggregate import ImageMaps
from coupled_embedding.utils.errors import NonFiniteError


@dataclass(frozen=True)
class SinglePersonOptions:
    """How the maps of one person's crop become a pose.

    Attributes:
        shift: cells that a joint moves from the middle of its cell towards the larger neighbor, on each axis.
    """

    shift: float = 0.25
    joint_threshold: ClassVar[float] = 0.0  # the score above which a joint counts as found: each has its best place
    limbs: ClassVar[Limbs] = ()
    paf: ClassVar[None] = None
    centers: ClassVar[None] = None


def decode_single(
    maps: ImageMaps, base_size: tuple[int, int], to_image: Array, options: SinglePersonOptions
) -> list[Pose]:
    """Return the one pose of a crop: each joint at its heatmap's maximum.

    Args:
        maps: heatmaps merged over resolutions, flip and scale factors; tags are not used.
        base_size: (width, height) of the network's input at scale factor 1, pixels.
        to_image: affine map from input pixels to image pixels.
        options: the shift within a cell.

    Returns:
        One pose: a joint's score is its heatmap's value, the person's the mean of them.

    Raises:
        NonFiniteError: a heatmap holds NaN or infinity.
    """
    heatmaps = maps.heatmaps
    if not np.isfinite(heatmaps).all():
        raise NonFiniteError("the network output NaN or infinite values; its weights or the input are damaged")
    joints, height, width = heatmaps.shape
    best = heatmaps.reshape(joints, -1).argmax(1)  # of equal ones the first, row by row
    y, x = np.divmod(best, width)
    each = np.arange(joints)
    cells = np.stack(
        (x + options.shift * _slope(heatmaps[each, y], x), y + options.shift * _slope(heatmaps[each, :, x], y)), 1
    )
    points = (cells + 0.5) * (np.array(base_size) / (width, height))
    scores = heatmaps[each, y, x].astype(np.float64)
    keypoints = np.concatenate((apply_affine(to_image, points), scores[:, None]), 1)
    return [Pose(keypoints, float(scores.mean()))]


def _slope(lines: NDArray[np.float32], places: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return 1, −1 or 0 a line (K, n): to which side of a place (K,) the larger neighbor is; 0 also at the line's ends.

    A line's end has one neighbor, which says nothing.
    """
    last, each = lines.shape[1] - 1, np.arange(len(lines))
    before, after = lines[each, np.maximum(places - 1, 0)], lines[each, np.minimum(places + 1, last)]
    inside = (places > 0) & (places < last)
    return np.where(inside, np.sign(after.astype(np.float64) - before), 0.0)
