"""The annotated people that an evaluation counts, checked, with missing fields filled in."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.coco import read_json
from coupled_embedding.data.evaluators import EVALUATORS
from coupled_embedding.data.io.entries import LABELS
from coupled_embedding.data.people import (
    PersonCategories,
    box_areas,
    person_categories,
    usable_areas,
    usable_boxes,
    whole_number,
)
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.evaluation.results import checked_column, checked_numbers, checked_table
from coupled_embedding.utils.errors import DatasetError, short_repr

PERSON = 1  # the one category of a `GroundTruth.dataset`


@dataclass(frozen=True)
class GroundTruth:
    """The N annotated people of the chosen images, as columns.

    Attributes:
        path: the annotation file.
        annotated: whether it has annotations at all; a benchmark does not publish those of its test images.
        images: chosen image id -> crowd index, None where the file has none.
        known_ids: the ids of all images of the file, chosen or not.
        categories: which of the file's annotations are people. All of them are scored together, as a
            network does not distinguish categories.
        image_ids: of each person.
        keypoints: (N, 3·K) x, y in image pixels, label.
        boxes: (N, 4) x, y, width, height in image pixels.
        areas: (N,) square image pixels.
        crowds: (N,) iscrowd: 0 or 1.
        num_keypoints: (N,); a person with 0 need not be detected.
        ids: of the annotations, as the file has them; None: it has none.
        head_boxes: (N, 4) x, y, width, height in image pixels (``head_box``); NaN where the file has none.
    """

    path: Path
    annotated: bool
    images: dict[int, float | None]
    known_ids: frozenset[int]
    categories: PersonCategories
    image_ids: list[int]
    keypoints: NDArray[np.float64]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    crowds: NDArray[np.int64]
    num_keypoints: NDArray[np.int64]
    ids: list[Any]
    head_boxes: NDArray[np.float64]

    def dataset(self) -> dict[str, Any]:
        """Return a fresh COCO data set of the chosen images; evaluators write into theirs."""
        columns = (self.keypoints, self.boxes, self.areas, self.crowds, self.num_keypoints)
        names = ("image_id", "keypoints", "bbox", "area", "iscrowd", "num_keypoints")
        rows = zip(self.image_ids, *(column.tolist() for column in columns), strict=True)
        return {
            "images": [{"id": i, "crowdIndex": crowd_index} for i, crowd_index in self.images.items()],
            # evaluators mistake a person of id 0 for "no match"; ids do not matter for scores otherwise
            "annotations": [
                {"id": number, "category_id": PERSON, **dict(zip(names, row, strict=True))}
                for number, row in enumerate(rows, 1)
            ],
            "categories": [{"id": PERSON, "name": "person"}],
        }

    def reason_undefined(self) -> str:
        """Return why no person counts, so that a score is n/a; empty if one does."""
        if ((self.crowds == 0) & (self.num_keypoints > 0)).any():
            return ""
        if not self.image_ids:
            return f"none of the {len(self.images)} images has an annotated person"
        crowds, unlabelled = int((self.crowds > 0).sum()), int((self.num_keypoints == 0).sum())
        return (
            f"of {len(self.image_ids)} annotated people {unlabelled} have no keypoints (num_keypoints 0) and {crowds} "
            "are crowd regions (iscrowd 1): an evaluator counts neither"
        )


def load_ground_truth(path: Path, schema: KeypointSchema, image_ids: Sequence[int] | None = None) -> GroundTruth:
    """Read the people of an annotation file, once, as the schema's benchmark counts them.

    Fields that are missing or empty are filled without touching the file: ``iscrowd`` 0,
    ``num_keypoints`` by counting labels, ``keypoints`` none (the person becomes an ignored region),
    ``area`` (also where 0 or 1, which was not measured) 0.53 · width · height of the box, a box without area that of
    the labelled joints. CrowdPose's rules use the box's area even where the file has another one.

    Args:
        path: COCO-format annotations.
        schema: names joints and rules (``evaluator``).
        image_ids: count only these images; None: all.

    Raises:
        DatasetError: the file is missing or malformed, has other joints than the schema, or an
            image id is not in it.
    """
    content = read_json(path, ["images"], optional=["annotations", "categories"])
    categories = person_categories(content, schema, path)
    images = known = _crowd_indices(content["images"], path)
    if image_ids is not None:
        if missing := [i for i in image_ids if i not in known]:
            raise DatasetError(f"{path}: no image has the id {missing[0]} (of {len(missing)} not found)")
        images = {int(i): known[i] for i in image_ids}
    people = [
        (image_id, annotation)
        for annotation in content.get("annotations", [])
        if (image_id := _image_of(annotation, categories, known, path)) is not None and image_id in images
    ]
    by_id: dict[Any, Any] = {}
    for _, annotation in people:
        own_id = annotation.get("id")
        earlier = by_id.setdefault(own_id, annotation) if isinstance(own_id, int | float | str) else annotation
        if earlier is not annotation and earlier == annotation:
            raise DatasetError(f"{path}: annotation {short_repr(own_id)} is listed twice; its person would count twice")
    return GroundTruth(
        path,
        "annotations" in content,
        images,
        frozenset(known),
        categories,
        [image_id for image_id, _ in people],
        **_columns([annotation for _, annotation in people], schema, path),
    )


def _crowd_indices(images: list[Any], path: Path) -> dict[int, float | None]:
    """Return the crowd index of each image by id."""
    crowd_indices: dict[int, float | None] = {}
    for image in images:
        identity = whole_number(image.get("id")) if isinstance(image, dict) else None
        if identity is None:
            raise DatasetError(f"{path}: image {image!s:.120} has no 'id' that is a whole number of up to 64 bits")
        if identity in crowd_indices:
            raise DatasetError(f"{path}: the image id {identity} stands there twice")
        crowd_index = image.get("crowdIndex")
        if crowd_index is not None:
            crowd_index = float(checked_numbers([crowd_index], 1, f"{path}: image {image['id']}: crowdIndex")[0])
        crowd_indices[identity] = crowd_index
    return crowd_indices


def _image_of(annotation: Any, categories: PersonCategories, known: dict[int, Any], path: Path) -> int | None:
    """Return the image id of a person's annotation, None for one of another category."""
    if not isinstance(annotation, dict):
        raise DatasetError(f"{path}: expected annotations with an 'image_id', got {short_repr(annotation)}")
    where = f"{path}: annotation {short_repr(annotation.get('id', '?'))}"
    is_person = categories.is_person(annotation.get("category_id"))
    if is_person is None:
        raise DatasetError(f"{where}: no category has the id {short_repr(annotation['category_id'])}")
    if not is_person:
        return None
    image_id = whole_number(annotation.get("image_id"))
    if image_id is None:
        raise DatasetError(f"{path}: annotation {short_repr(annotation)} has no 'image_id' that is a whole number")
    if image_id not in known:
        raise DatasetError(f"{where}: no image has the id {image_id}")
    return image_id


def _columns(annotations: list[dict[str, Any]], schema: KeypointSchema, path: Path) -> dict[str, Any]:
    """Return the numbers of annotations, checked, missing ones filled in."""

    def where(row: int, field: str) -> str:
        return f"{path}: annotation {annotations[row].get('id', '?')} of image {annotations[row]['image_id']}: {field}"

    def column(field: str, otherwise: Sequence[float]) -> NDArray[np.float64]:
        values = [other if a.get(field) is None else a[field] for a, other in zip(annotations, otherwise, strict=True)]
        # some tools write iscrowd as true and false
        numbers = [int(value) if isinstance(value, bool) else value for value in values]
        return checked_column(numbers, lambda row: where(row, field))

    def check(correct: Any, field: str, text: str) -> None:
        if not correct.all():
            raise DatasetError(f"{where(int(correct.argmin()), field)}: {text}")

    size, zeros = 3 * schema.num_joints, [0.0] * len(annotations)
    given = [a.get("keypoints") or [0] * size for a in annotations]
    keypoints = checked_table(given, size, lambda row: where(row, "keypoints"))
    check(np.isin(keypoints[:, 2::3], list(LABELS)).all(1), "keypoints", "labels must be 0, 1 or 2")
    boxes = checked_table([a.get("bbox") for a in annotations], 4, lambda row: where(row, "bbox"))
    check((boxes[:, 2:] >= 0).all(1), "bbox", "sides must not be below 0")
    has_head = np.array([a.get("head_box") is not None for a in annotations], bool)
    heads = checked_table([a.get("head_box") or [0] * 4 for a in annotations], 4, lambda row: where(row, "head_box"))
    check((heads[:, 2:] >= 0).all(1), "head_box", "sides must not be below 0")
    people = keypoints.reshape(-1, schema.num_joints, 3)
    if schema.evaluator in EVALUATORS and EVALUATORS[schema.evaluator].box_areas:
        areas = box_areas(usable_boxes(boxes, people))
    else:
        has_area = [a.get("area") is not None for a in annotations]
        areas = usable_areas(np.where(has_area, column("area", zeros), np.nan), boxes, people)
    labels = np.count_nonzero(keypoints[:, 2::3] > 0, axis=1)
    # the file's own count is used, as in the benchmarks: CrowdPose's differs from its labels
    counts = column("num_keypoints", labels.tolist())
    check((counts >= 0) & (counts % 1 == 0), "num_keypoints", "must be a whole number")
    crowds = column("iscrowd", zeros)
    check(np.isin(crowds, (0, 1)), "iscrowd", "must be 0 or 1")
    return {
        "keypoints": keypoints,
        "boxes": boxes,
        "areas": areas,
        "crowds": crowds.astype(np.int64),
        # a person without labelled joints cannot be detected, whatever the count says
        "num_keypoints": np.where(labels, counts, 0).astype(np.int64),
        "ids": [annotation.get("id") for annotation in annotations],
        "head_boxes": np.where(has_head[:, None], heads, np.nan),
    }
