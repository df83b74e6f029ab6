"""Object keypoint similarity (OKS): how well found people fit the annotated ones.

COCO's formula: exp(-d² / (2 · area · (2σ)²)) of each labelled joint, averaged over a person's
labelled joints; d in photo pixels, area in square photo pixels. It depends neither on the
scores of the joints nor on whether a labelled joint is seen or hidden.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coupled_embedding.data.schema import Pose


def oks_matrix(
    true_keypoints: ArrayLike, areas: ArrayLike, predicted: ArrayLike, sigmas: ArrayLike
) -> NDArray[np.float64]:
    """Compare every annotated person with every found one.

    Args:
        true_keypoints: (N, K, 3) x, y in photo pixels, label (above 0: labelled).
        areas: (N,) square photo pixels.
        predicted: (M, K, 3) or (M, K, 2) x, y in photo pixels; scores are not looked at.
        sigmas: (K,) of the schema.

    Returns:
        (N, M) in [0, 1]. The row of a person without labelled joints is 0.
    """
    sigmas = np.asarray(sigmas, np.float64)
    count = len(sigmas)
    true = _as_people(true_keypoints, count)
    found = _as_people(predicted, count)
    areas = np.asarray(areas, np.float64).reshape(-1)
    if len(areas) != len(true):
        raise ValueError(f"expected an area for each of the {len(true)} people, got {len(areas)}")
    squares = ((true[:, None, :, :2] - found[None, :, :, :2]) ** 2).sum(axis=-1)  # (N, M, K)
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
    """Say in one number how well a photo's people were found, to pick good and bad examples.

    Pairs are made greedily, the highest OKS of the photo first, each person once. Scores and
    surplus detections play no part: this ranks photos, it is no benchmark.

    Args:
        true_keypoints: (N, K, 3) x, y in photo pixels, label.
        areas: (N,) square photo pixels, e.g. ``box_areas(record.boxes)``.
        poses: found people, keypoints (K, 3) in photo pixels.
        sigmas: (K,) of the schema.

    Returns:
        The mean OKS, in [0, 1], over people with a labelled joint, where a person without a
        partner counts 0; None where there is no such person.
    """
    true = _as_people(true_keypoints, np.size(sigmas))
    is_labelled = (true[..., 2] > 0).any(axis=1)
    if not is_labelled.any():
        return None
    similarity = oks_matrix(
        true[is_labelled],
        np.asarray(areas, np.float64).reshape(-1)[is_labelled],
        np.array([pose.keypoints for pose in poses]),
        sigmas,
    )
    return sum(_greedy_pairs(similarity)) / len(similarity)


def _greedy_pairs(similarity: NDArray[np.float64]) -> list[float]:
    """Return the values of the pairs that are made by taking the highest value left, again and again."""
    left = similarity.copy()  # (N, M)
    taken: list[float] = []
    for _ in range(min(left.shape)):
        row, column = np.unravel_index(left.argmax(), left.shape)
        taken.append(float(left[row, column]))
        left[row, :] = left[:, column] = -1
    return taken
