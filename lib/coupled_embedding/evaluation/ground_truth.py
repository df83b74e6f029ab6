"""The annotated people that an evaluation counts, checked, with missing fields filled in."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.coco_format import check_categories, read_json
from coupled_embedding.errors import DatasetError
from coupled_embedding.evaluation.oks import box_areas
from coupled_embedding.evaluation.results import checked_column, checked_numbers, checked_table
from coupled_embedding.keypoints import KeypointSchema


@dataclass(frozen=True)
class GroundTruth:
    """What an evaluation compares with: the N annotated people of the chosen images, as columns.

    Attributes:
        path: the annotation file.
        annotated: whether it has annotations at all; a benchmark keeps those of its test images
            to itself.
        images: chosen image id -> crowd index, None where the file has none.
        known_ids: the ids of all images of the file, chosen or not.
        people_categories: the categories that have keypoints.
        person_category: the one of them that results should name.
        image_ids, category_ids: of each person.
        keypoints: (N, 3·K) x, y in photo pixels, label.
        boxes: (N, 4) x, y, width, height in photo pixels.
        areas: (N,) square photo pixels.
        crowds: (N,) iscrowd: 0 or 1.
        num_keypoints: (N,) 0: nobody who must be found.
    """

    path: Path
    annotated: bool
    images: dict[int, float | None]
    known_ids: frozenset[int]
    people_categories: tuple[int, ...]
    person_category: int
    image_ids: list[int]
    category_ids: list[int]
    keypoints: NDArray[np.float64]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    crowds: NDArray[np.int64]
    num_keypoints: NDArray[np.int64]

    def dataset(self) -> dict[str, Any]:
        """Return a fresh COCO data set of the chosen images; evaluators write into theirs."""
        columns = (self.keypoints, self.boxes, self.areas, self.crowds, self.num_keypoints)
        names = ("keypoints", "bbox", "area", "iscrowd", "num_keypoints")
        rows = zip(self.image_ids, self.category_ids, *(column.tolist() for column in columns), strict=True)
        return {
            "images": [{"id": i, "crowdIndex": crowd_index} for i, crowd_index in self.images.items()],
            "annotations": [
                # evaluators mistake a person of id 0 for "no match"; ids play no other part in scores
                {"id": number, **dict(zip(("image_id", "category_id", *names), row, strict=True))}
                for number, row in enumerate(rows, 1)
            ],
            "categories": [{"id": i, "name": "person"} for i in self.people_categories],
        }


def load_ground_truth(path: Path, schema: KeypointSchema, image_ids: Sequence[int] | None = None) -> GroundTruth:
    """Read the people of an annotation file, once, as the schema's benchmark counts them.

    Missing fields are filled without touching the file: ``iscrowd`` 0, ``num_keypoints`` by
    counting labels, ``keypoints`` none (the person becomes an ignored region), ``category_id``
    the first category's, ``area`` 0.53 · width · height of the box. CrowdPose's rules use that
    area even where the file has another one.

    Args:
        path: COCO-format annotations.
        schema: names joints and rules (``evaluator``).
        image_ids: count only these images; None: all.

    Raises:
        DatasetError: the file is missing or malformed, has other joints than the schema, or an
            image id is not in it.
    """
    content = read_json(path, ["images"], optional=["annotations", "categories"])
    check_categories(content, schema, path)
    crowd_indices = dict(_image(image, path) for image in content["images"])
    chosen = _chosen(crowd_indices, image_ids, path)
    all_annotations = content.get("annotations", [])
    categories = _people_categories(content, all_annotations)
    default = min(categories)
    annotations = []
    for annotation in all_annotations:
        if not isinstance(annotation, dict) or not isinstance(annotation.get("image_id"), int):
            raise DatasetError(f"{path}: annotation {annotation!s:.120} has no 'image_id' that is a whole number")
        if annotation["image_id"] in chosen and annotation.get("category_id", default) in categories:
            annotations.append(annotation)
    return GroundTruth(
        path,
        "annotations" in content,
        chosen,
        frozenset(crowd_indices),
        tuple(sorted(set(categories))),
        categories[0],
        [annotation["image_id"] for annotation in annotations],
        [annotation.get("category_id", default) for annotation in annotations],
        **_columns(annotations, schema, path),
    )


def _columns(annotations: list[dict[str, Any]], schema: KeypointSchema, path: Path) -> dict[str, Any]:
    """Return the numbers of annotations, checked, missing ones filled in."""

    def where(row: int, field: str) -> str:
        return f"{path}: annotation {annotations[row].get('id', '?')} of image {annotations[row]['image_id']}: {field}"

    def column(field: str, values: list[Any]) -> NDArray[np.float64]:
        # some tools write iscrowd as true and false
        numbers = [int(value) if isinstance(value, bool) else value for value in values]
        return checked_column(numbers, lambda row: where(row, field))

    size = 3 * schema.num_joints
    unlabelled = [0] * size
    keypoints = checked_table(
        [a.get("keypoints") or unlabelled for a in annotations], size, lambda row: where(row, "keypoints")
    )
    boxes = checked_table([a.get("bbox") for a in annotations], 4, lambda row: where(row, "bbox"))
    areas = box_areas(boxes)
    if schema.evaluator != "crowdpose":
        areas = column("area", [_given(a, "area", area) for a, area in zip(annotations, areas.tolist(), strict=True)])
    labels = np.count_nonzero(keypoints[:, 2::3] > 0, axis=1).tolist()
    # the file's own count wins, as in the benchmarks: CrowdPose's differs from its labels
    counts = [_given(a, "num_keypoints", count) for a, count in zip(annotations, labels, strict=True)]
    return {
        "keypoints": keypoints,
        "boxes": boxes,
        "areas": areas,
        "crowds": column("iscrowd", [a.get("iscrowd") or 0 for a in annotations]).astype(np.int64),
        "num_keypoints": column("num_keypoints", counts).astype(np.int64),
    }


def _given(annotation: dict[str, Any], key: str, otherwise: float) -> Any:
    value = annotation.get(key)
    return otherwise if value is None else value


def _image(image: Any, path: Path) -> tuple[int, float | None]:
    identity = image.get("id") if isinstance(image, dict) else None
    if not isinstance(identity, int) or abs(identity) >= 2**63:
        raise DatasetError(f"{path}: image {image!s:.120} has no 'id' that is a whole number of up to 64 bits")
    crowd_index = image.get("crowdIndex")
    if crowd_index is not None:
        crowd_index = float(checked_numbers([crowd_index], 1, f"{path}: image {image['id']}: crowdIndex")[0])
    return identity, crowd_index


def _chosen(
    crowd_indices: dict[int, float | None], image_ids: Sequence[int] | None, path: Path
) -> dict[int, float | None]:
    if image_ids is None:
        return crowd_indices
    missing = [i for i in image_ids if i not in crowd_indices]
    if missing:
        raise DatasetError(f"{path}: no image has the id {missing[0]} (of {len(missing)} not found)")
    return {int(i): crowd_indices[i] for i in image_ids}


def _people_categories(content: dict[str, Any], annotations: list[Any]) -> list[int]:
    """Return the categories of people in the file's order: those that define keypoints, else all."""
    categories = [c for c in content.get("categories", []) if isinstance(c, dict) and isinstance(c.get("id"), int)]
    with_keypoints = [c["id"] for c in categories if c.get("keypoints")]
    if with_keypoints:
        return with_keypoints
    used = (a.get("category_id") for a in annotations if isinstance(a, dict))
    return sorted({c["id"] for c in categories} or {i for i in used if isinstance(i, int)}) or [1]
