"""Object keypoint similarity (OKS): how well poses fit the annotated people.

COCO's formula: exp(-d² / (2 · area · (2σ)²)) of each labelled joint, averaged over a person's
labelled joints; d in image pixels, area in square image pixels. It depends neither on the
scores of the joints nor on whether a labelled joint is seen or hidden.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coupled_embedding.data.outputs import Pose


def oks_matrix(
    true_keypoints: ArrayLike, areas: ArrayLike, predicted: ArrayLike, sigmas: ArrayLike
) -> NDArray[np.float64]:
    """Compare every annotated person with every pose.

    Args:
        true_keypoints: (N, K, 3) x, y in image pixels, label (above 0: labelled).
        areas: (N,) square image pixels.
        predicted: (M, K, 3) or (M, K, 2) x, y in image pixels; scores are ignored.
        sigmas: (K,) of the schema.

    Returns:
        (N, M) in [0, 1]. The row of a person without labelled joints is 0.
    """
    sigmas = np.asarray(sigmas, np.float64)
    true, poses = _as_people(true_keypoints, len(sigmas)), _as_people(predicted, len(sigmas))
    areas = np.asarray(areas, np.float64).reshape(-1)
    if len(areas) != len(true):
        raise ValueError(f"expected an area for each of the {len(true)} people, got {len(areas)}")
    squares = ((true[:, None, :, :2] - poses[None, :, :, :2]) ** 2).sum(axis=-1)  # (N, M, K)
    # the same tiny number as the benchmark's, so that an area of 0 does not divide by 0
    exponent = squares / (2 * sigmas) ** 2 / (areas[:, None, None] + np.spacing(1)) / 2
    labelled = true[:, None, :, 2] > 0  # (N, 1, K)
    total = (np.exp(-exponent) * labelled).sum(axis=-1)  # (N, M)
    return total / np.maximum(labelled.sum(axis=-1), 1)


def _as_people(keypoints: ArrayLike, count: int) -> NDArray[np.float64]:
    people = np.asarray(keypoints, np.float64)
    if people.size == 0:
        return np.zeros((0, count, 3))
    if people.ndim != 3 or people.shape[1] != count or people.shape[2] not in (2, 3):
        raise ValueError(f"expected people of shape (N, {count}, 3), got {people.shape}")
    return people


def image_quality(
    true_keypoints: ArrayLike, areas: ArrayLike, poses: Sequence[Pose], sigmas: ArrayLike
) -> float | None:
    """Rate in one number how well an image's people were detected, to pick good and bad examples.

    Pairs are made greedily, the highest OKS of the image first, each person once. Scores and
    surplus detections do not matter: this ranks images and is not a benchmark.

    Args:
        true_keypoints, areas, sigmas: as of `oks_matrix`.
        poses: detections, keypoints (K, 3) in image pixels.

    Returns:
        The mean OKS, in [0, 1], over people with a labelled joint, where a person without a
        partner counts 0; None where there is no such person.
    """
    true = _as_people(true_keypoints, np.size(sigmas))
    labelled = (true[..., 2] > 0).any(axis=1)
    if not labelled.any():
        return None
    areas = np.asarray(areas, np.float64).reshape(-1)[labelled]
    left = oks_matrix(true[labelled], areas, np.array([pose.keypoints for pose in poses]), sigmas)  # (N, M)
    total = 0.0
    for _ in range(min(left.shape)):
        row, column = np.unravel_index(left.argmax(), left.shape)
        total += float(left[row, column])
        left[row, :] = left[:, column] = -1
    return total / len(left)
