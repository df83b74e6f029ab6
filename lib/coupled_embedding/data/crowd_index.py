"""How crowded an image is, as CrowdPose measures it."""

import numpy as np


def crowd_index(keypoints: np.ndarray, boxes: np.ndarray) -> float:
    """CrowdPose's crowd index of an image (Li et al. 2019, eq. 1), 0 to 1.

    keypoints: (N, K, 3) x, y, visibility; joints of visibility 0 do not count. boxes: (N, 4) x, y, width,
    height, borders included. For each person the joints of others inside the person's box are divided by
    the person's own joints; the index is the mean over people with joints. Such a ratio has no upper
    bound, so the mean is clipped to 1. An image without people gives 0.
    """
    if not len(boxes):
        return 0.0
    keypoints, boxes = np.asarray(keypoints, float), np.asarray(boxes, float)
    labelled = keypoints[..., 2] > 0  # (N, K)
    own = labelled.sum(1)
    if not own.any():
        return 0.0
    low, high = boxes[:, None, None, :2], (boxes[:, :2] + boxes[:, 2:])[:, None, None]
    place = keypoints[None, ..., :2]
    inside = ((place >= low) & (place <= high)).all(-1) & labelled[None]  # (box, person, joint)
    others = inside.sum((1, 2)) - np.einsum("nnk->n", inside.astype(int))
    counted = own > 0
    return float(min((others[counted] / own[counted]).mean(), 1.0))
