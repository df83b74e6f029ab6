"""Layouts of real images: how many people are where, from an annotation file in CrowdPose's format."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from coupled_embedding.utils.errors import DatasetError, short_repr
from synthetic_crowd.skeleton import JOINT_COUNT, JOINT_NAMES

_WIDEST = 2.0  # of a canvas: longer side to shorter side
_MOST_PEOPLE = 99  # annotation ids are image id · 100 + number
_SMALLEST = 1.0  # pixels of the annotated image; smaller boxes are mistakes


@dataclass(frozen=True)
class Layout:
    """The P people of an annotated image.

    index: of the image in its file, from 0. width, height: pixels. boxes: (P, 4) float x, y, width, height
    in pixels, inside the image. keypoints: (P, 14, 3) float in CrowdPose's order, as annotated; visibility 0
    is not labelled.
    """

    index: int
    width: int
    height: int
    boxes: np.ndarray
    keypoints: np.ndarray

    def scaled(self, short_side: int) -> Layout:
        """The layout on a canvas whose shorter side is `short_side` pixels.

        A canvas is at most 2:1: a longer image fills its length, and has room on both sides.
        """
        long_side = max(self.width, self.height) * short_side / min(self.width, self.height)
        long_side = round(min(long_side, _WIDEST * short_side))
        width, height = (long_side, short_side) if self.width >= self.height else (short_side, long_side)
        scale = min(width / self.width, height / self.height)
        shift = (np.array([width, height]) - np.array([self.width, self.height]) * scale) / 2
        boxes, keypoints = self.boxes * scale, self.keypoints.copy()
        boxes[:, :2] += shift
        keypoints[..., :2] = keypoints[..., :2] * scale + shift
        return Layout(self.index, width, height, boxes, keypoints)


@dataclass(frozen=True)
class AnnotatedImages:
    """Layouts of the images with people, in the file's order, and the SHA-256 (hex) of the file."""

    layouts: list[Layout]
    sha256: str


def read_layouts(path: Path | str, every: int = 1, offset: int = 0) -> AnnotatedImages:
    """Read the layouts of images `offset`, `offset + every`, ... of an annotation file in CrowdPose's format.

    People are annotations that are no crowds (`iscrowd`); whoever's box is at most one pixel wide or high is left
    out, and images without people are. Of more than 99 people those with the largest boxes stay.

    Raises ValueError for every below 1 or an offset outside [0, every), and DatasetError that names file and field
    if the file is missing or not in CrowdPose's format, if a box is missing, or if no image has people.
    """
    if every < 1 or not 0 <= offset < every:
        raise ValueError(f"every and offset are {every} and {offset}; they must be at least 1, and from 0 to every - 1")
    path = Path(path)
    try:
        content = path.read_bytes()
        document = json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: cannot read this annotation file: {error}") from error
    _check_format(document, path)
    people: dict[int | float | str, list[dict]] = defaultdict(list)
    for entry in document["annotations"]:
        image_id = _identity(entry, "image_id", path)
        if not entry.get("iscrowd"):
            people[image_id].append(entry)
    chosen = list(enumerate(document["images"]))[offset::every]
    layouts = [_layout(index, image, people, path) for index, image in chosen]
    layouts = [layout for layout in layouts if len(layout.boxes)]
    if not layouts:
        raise DatasetError(
            f"{path}: none of the {len(chosen)} chosen images has a person whose 'bbox' is larger than a pixel"
        )
    return AnnotatedImages(layouts, sha256(content).hexdigest())


def _check_format(document: Any, path: Path) -> None:
    for key in ("images", "annotations", "categories"):
        if not isinstance(document, dict) or not isinstance(document.get(key), list):
            raise DatasetError(f"{path}: '{key}' must be a list: layouts need an annotation file in CrowdPose's format")
    for category in document["categories"]:
        names = category.get("keypoints") if isinstance(category, dict) else None
        if names != list(JOINT_NAMES):
            raise DatasetError(
                f"{path}: the 'keypoints' of its category are {short_repr(names)}; "
                f"layouts need CrowdPose's {JOINT_COUNT} joints: {', '.join(JOINT_NAMES)}"
            )


def _layout(index: int, image: Any, people: dict[int | float | str, list[dict]], path: Path) -> Layout:
    entries = people.get(_identity(image, "id", path), [])
    width, height = image.get("width"), image.get("height")
    if not (isinstance(width, int) and isinstance(height, int) and min(width, height) >= 1):
        raise DatasetError(f"{path}: image {short_repr(image)} needs a 'width' and a 'height' in whole pixels")
    boxes = np.array([_numbers(e, "bbox", 4, path) for e in entries]).reshape(-1, 4)
    keypoints = np.array([_numbers(e, "keypoints", 3 * JOINT_COUNT, path) for e in entries])
    corner = np.array([width, height])
    low = np.clip(boxes[:, :2], 0, corner)
    extent = np.clip(boxes[:, :2] + boxes[:, 2:], 0, corner) - low
    kept = np.flatnonzero((extent > _SMALLEST).all(1))
    kept = np.sort(kept[np.argsort(-extent[kept].prod(1), kind="stable")][:_MOST_PEOPLE])
    boxes = np.concatenate([low, extent], 1)[kept]
    return Layout(index, width, height, boxes, keypoints.reshape(-1, JOINT_COUNT, 3)[kept])


def _identity(entry: Any, key: str, path: Path) -> int | float | str:
    identity = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(identity, int | float | str):
        raise DatasetError(f"{path}: {short_repr(entry)} needs '{key}', a number or a text")
    return identity


def _numbers(entry: dict, field: str, count: int, path: Path) -> np.ndarray:
    try:
        values = np.array(entry.get(field), float)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if values.shape != (count,) or not np.isfinite(values).all():
        raise DatasetError(
            f"{path}: '{field}' of annotation {short_repr(entry.get('id'))} must be {count} finite numbers, "
            f"not {short_repr(entry.get(field))}"
        )
    return values
