"""Labels drawn over a scene, to look at."""

from __future__ import annotations

import cv2
import numpy as np

from synthetic_crowd.labels import OUTSIDE, SEEN
from synthetic_crowd.scene import Scene
from synthetic_crowd.skeleton import SKELETON_EDGES

_HUES = 0.381966  # golden ratio: neighbors differ


def draw_labels(scene: Scene) -> np.ndarray:
    """The scene's image, (height, width, 3) uint8 BGR, with boxes, bones and joints.

    One color per person; a full dot is a seen joint, a ring a hidden one; the person's left is ringed white.
    """
    image = scene.image.copy()
    for number, (keypoints, box) in enumerate(zip(scene.keypoints, scene.boxes, strict=True)):
        hue = int(number * _HUES % 1 * 180)
        color = cv2.cvtColor(np.array([[[hue, 170, 255]]], np.uint8), cv2.COLOR_HSV2BGR)[0, 0].tolist()
        x, y, width, height = np.rint(box).astype(int).tolist()
        cv2.rectangle(image, (x, y), (x + width - 1, y + height - 1), color, 1)
        _draw_person(image, keypoints, color)
    return image


def _draw_person(image: np.ndarray, keypoints: np.ndarray, color: list[int]) -> None:
    """Draw bones and joints (14, 3) in place."""
    radius = max(2, image.shape[1] // 160)
    places = [tuple(place) for place in np.rint(keypoints[:, :2]).astype(int).tolist()]
    for first, second in SKELETON_EDGES:
        if min(keypoints[first, 2], keypoints[second, 2]) > OUTSIDE:
            cv2.line(image, places[first], places[second], color, 1, cv2.LINE_AA)
    for joint, place in enumerate(places):
        if keypoints[joint, 2] > OUTSIDE:
            cv2.circle(image, place, radius, color, -1 if keypoints[joint, 2] == SEEN else 1)
            if joint < 12 and joint % 2 == 0:
                cv2.circle(image, place, radius + 1, (255, 255, 255), 1)
