"""The mean tag of a pose, which decode uses to group and does not return."""

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.geometry import Array, apply_affine
from coupled_embedding.decode.aggregate import ImageMaps


def mean_tags_of(
    keypoints: NDArray[np.floating], maps: ImageMaps, base_size: tuple[int, int], to_input: Array
) -> NDArray[np.float32]:
    """Return the mean tag of each pose over its found joints, as grouping computes it.

    A joint that refinement added counts as found: a pose does not say which ones grouping had found.

    Args:
        keypoints: (N, K, 3) x, y in image pixels, score; a joint is found where the score is above 0.
        maps: that the poses were decoded from.
        base_size: (width, height) of the network's input at scale factor 1, pixels.
        to_input: affine map from image pixels to input pixels, `ResizeGeometry.to_input`.

    Returns:
        (N, T) float32, T values of all views; zeros for a pose without a found joint.

    Raises:
        ValueError: the keypoints' shape is not that of the maps' joints.
    """
    num_joints = len(maps.heatmaps)
    if keypoints.ndim != 3 or keypoints.shape[1:] != (num_joints, 3):
        raise ValueError(f"expected keypoints of shape (N, {num_joints}, 3), got {keypoints.shape}")
    width, height = base_size
    found = keypoints[..., 2] > 0
    # decode puts a joint a quarter or three quarters into its pixel, so its whole part is the pixel
    places = np.floor(apply_affine(to_input, np.where(found[..., None], keypoints[..., :2], 0.0)))
    pixels = np.clip(places, 0, (width - 1, height - 1)).astype(np.int64)  # (N, K, 2)
    sums = np.zeros((len(keypoints), sum(view.values.shape[3] for view in maps.tags)), np.float32)
    for joint in range(num_joints):
        tags = [view.at(joint, pixels[:, joint], (height, width)) for view in maps.tags]
        sums += np.concatenate(tags, 1) * found[:, joint, None]
    return sums / np.maximum(found.sum(1, dtype=np.float32), 1)[:, None]
