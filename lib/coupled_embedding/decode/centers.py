"""People by their centers (docs/method.md 9.6): `pose_centers` with a fast search, and the people's tags."""

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from coupled_embedding.data.geometry import Array, apply_affine
from coupled_embedding.data.outputs import Pose
from coupled_embedding.decode.aggregate import ImageMaps
from coupled_embedding.decode.fast.upsample import Map
from coupled_embedding.decode.fast.views import TagView
from coupled_embedding.decode.options import CenterRule
from coupled_embedding.decode.pose_centers import mean_tags, people_by_centers


def decode_by_centers(
    maps: ImageMaps, base_size: tuple[int, int], to_image: Array, rule: CenterRule, threshold: float = 0.0
) -> list[Pose]:
    """Find the people of one image; TEST.POSE_NMS drops a person who is found twice.

    Args:
        maps: with center maps, all finite.
        base_size: (width, height) of the network's input at scale factor 1, pixels.
        to_image: affine map from input pixels to image pixels.
        rule: which centers, and how far a joint may be from where they predict it.
        threshold: joints of higher scores give a person its tag; where there are none, all do.

    Returns:
        Poses, best centers first; their scores are `people_by_centers`'s.
    """
    assert maps.centers is not None
    size = base_size[1], base_size[0]
    joints, scores = people_by_centers(
        maps.heatmaps, maps.centers, size, rule.threshold, rule.reach, rule.max_people, best_cells
    )
    tags = mean_tags(_tags_at(maps.tags, joints[..., :2].astype(np.int64), size), joints[..., 2], threshold)
    joints[..., :2] = apply_affine(to_image, joints[..., :2])
    people = zip(joints, scores.tolist(), tags if tags.shape[1] else [None] * len(tags), strict=True)
    return [Pose(*person) for person in people]


@njit(cache=True, nogil=True)
def best_cells(heatmaps, predicted, reaches):
    """Return what `pose_centers.best_cells` returns, without looking at cells that are too far off to be best."""
    people, joints, _ = predicted.shape
    height, width = heatmaps.shape[1:]
    places = np.zeros((people, joints, 2), np.int64)
    scores = np.zeros((people, joints))
    for k in range(joints):
        heatmap = heatmaps[k]
        largest = max(heatmap.max(), 0)
        for p in range(people):
            x, y, reach = predicted[p, k, 0], predicted[p, k, 1], reaches[p]
            column = min(max(int(np.floor(x)), 0), width - 1)
            row = min(max(int(np.floor(y)), 0), height - 1)
            best = -np.inf
            for ring in range(max(height, width)):
                # no cell of this ring of cells, or of a later one, is nearer
                if ring and largest <= best * (ring - 0.5 + reach):
                    break
                for i in range(max(row - ring, 0), min(row + ring, height - 1) + 1):
                    step = 1 if abs(i - row) == ring or not ring else 2 * ring
                    for j in range(column - ring, column + ring + 1, step):
                        if j < 0 or j >= width:
                            continue
                        distance = np.sqrt((j + 0.5 - x) ** 2 + (i + 0.5 - y) ** 2)
                        value = max(heatmap[i, j], 0) / (distance + reach)
                        if value > best:
                            best = value
                            places[p, k, 0], places[p, k, 1] = j, i
            scores[p, k] = max(heatmap[places[p, k, 1], places[p, k, 0]], 0)
    return places, scores


def _tags_at(views: Sequence[TagView], pixels: NDArray[np.int64], size: tuple[int, int]) -> Map:
    """Return the tags (P, K, T) of all views at the joints' pixels (P, K, 2) of an input of (H, W)."""
    pixels = np.clip(pixels, 0, np.array(size[::-1]) - 1)
    return np.stack(
        [np.concatenate([view.at(k, pixels[:, k], size) for view in views], 1) for k in range(pixels.shape[1])], 1
    )
