"""The annotated people that an evaluation counts, checked, with missing fields filled in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.coco import read_json
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
from coupled_embedding.utils.errors import DatasetError, shown

PERSON = 1  # the one category of a `GroundTruth.dataset`


@dataclass(frozen=True)
class GroundTruth:
    """What an evaluation compares with: the N annotated people of the chosen images, as columns.

    Attributes:
        path: the annotation file.
        annotated: whether it has annotations at all; a benchmark keeps those of its test images
            to itself.
        images: chosen image id -> crowd index, None where the file has none.
        known_ids: the ids of all images of the file, chosen or not.
        categories: which of the file's annotations are people. All of them are scored together, as a
            network does not tell categories.
        image_ids: of each person.
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
    categories: PersonCategories
    image_ids: list[int]
    keypoints: NDArray[np.float64]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    crowds: NDArray[np.int64]
    num_keypoints: NDArray[np.int64]

    def dataset(self) -> dict[str, Any]:
        """Return a fresh COCO data set of the chosen images; evaluators write into theirs."""
        columns = (self.keypoints, self.boxes, self.areas, self.crowds, self.num_keypoints)
        names = ("keypoints", "bbox", "area", "iscrowd", "num_keypoints")
        rows = zip(self.image_ids, *(column.tolist() for column in columns), strict=True)
        return {
            "images": [{"id": i, "crowdIndex": crowd_index} for i, crowd_index in self.images.items()],
            "annotations": [
                # evaluators mistake a person of id 0 for "no match"; ids play no other part in scores
                {"id": number, "category_id": PERSON, **dict(zip(("image_id", *names), row, strict=True))}
                for number, row in enumerate(rows, 1)
            ],
            "categories": [{"id": PERSON, "name": "person"}],
        }

    def why_nothing_is_found(self) -> str:
        """Say why no person counts, so that a score is n/a; empty: somebody does."""
        if ((self.crowds == 0) & (self.num_keypoints > 0)).any():
            return ""
        if not self.image_ids:
            return f"none of the {len(self.images)} images has an annotated person"
        crowds, unlabelled = int((self.crowds > 0).sum()), int((self.num_keypoints == 0).sum())
        return (
            f"of {len(self.image_ids)} annotated people {unlabelled} have no keypoints (num_keypoints 0) and {crowds} "
            "are crowd regions (iscrowd 1): an evaluator looks for neither"
        )


def load_ground_truth(path: Path, schema: KeypointSchema, image_ids: Sequence[int] | None = None) -> GroundTruth:
    """Read the people of an annotation file, once, as the schema's benchmark counts them.

    Fields that are missing or say nothing are filled without touching the file: ``iscrowd`` 0,
    ``num_keypoints`` by counting labels, ``keypoints`` none (the person becomes an ignored region),
    ``area`` (0 and 1 say nothing) 0.53 · width · height of the box, a box without area that of the
    labelled joints. CrowdPose's rules use the box's area even where the file has another one.

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
    crowd_indices = _images(content["images"], path)
    chosen = _chosen(crowd_indices, image_ids, path)
    annotations, owners = [], []
    for annotation in content.get("annotations", []):
        if not _is_person(annotation, categories, path):
            continue
        image_id = whole_number(annotation.get("image_id"))
        if image_id is None:
            raise DatasetError(f"{path}: annotation {shown(annotation)} has no 'image_id' that is a whole number")
        if image_id not in crowd_indices:
            raise DatasetError(f"{path}: annotation {shown(annotation.get('id', '?'))}: no image has the id {image_id}")
        if image_id in chosen:
            annotations.append(annotation)
            owners.append(image_id)
    return GroundTruth(
        path,
        "annotations" in content,
        chosen,
        frozenset(crowd_indices),
        categories,
        owners,
        **_columns(annotations, schema, path),
    )


def _is_person(annotation: Any, categories: PersonCategories, path: Path) -> bool:
    if not isinstance(annotation, dict):
        raise DatasetError(f"{path}: expected annotations with an 'image_id', got {shown(annotation)}")
    answer = categories.is_person(annotation.get("category_id"))
    if answer is None:
        number = annotation.get("id", "?")
        raise DatasetError(
            f"{path}: annotation {shown(number)}: no category has the id {shown(annotation['category_id'])}"
        )
    return answer


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
    mislabelled = ~np.isin(keypoints[:, 2::3], list(LABELS)).all(1)
    if mislabelled.any():
        raise DatasetError(f"{where(int(mislabelled.argmax()), 'keypoints')}: labels must be 0, 1 or 2")
    boxes = checked_table([a.get("bbox") for a in annotations], 4, lambda row: where(row, "bbox"))
    if (boxes[:, 2:] < 0).any():
        raise DatasetError(f"{where(int((boxes[:, 2:] < 0).any(1).argmax()), 'bbox')}: sides must not be below 0")
    people = keypoints.reshape(-1, schema.num_joints, 3)
    if schema.evaluator == "crowdpose":
        areas = box_areas(usable_boxes(boxes, people))
    else:
        areas = usable_areas(_areas(annotations, column), boxes, people)
    labels = np.count_nonzero(keypoints[:, 2::3] > 0, axis=1)
    # the file's own count wins, as in the benchmarks: CrowdPose's differs from its labels
    counts = column("num_keypoints", [_given(a, "num_keypoints", n) for a, n in zip(annotations, labels.tolist())])
    crowds = column("iscrowd", [a.get("iscrowd") or 0 for a in annotations])
    for field, wrong, allowed in (
        ("num_keypoints", (counts < 0) | (counts % 1 > 0), "a whole number"),
        ("iscrowd", ~np.isin(crowds, (0, 1)), "0 or 1"),
    ):
        if wrong.any():
            raise DatasetError(f"{where(int(wrong.argmax()), field)}: must be {allowed}")
    return {
        "keypoints": keypoints,
        "boxes": boxes,
        "areas": areas,
        "crowds": crowds.astype(np.int64),
        # nobody can be found by joints that are not labelled, whatever the count says
        "num_keypoints": np.where(labels, counts, 0).astype(np.int64),
    }


def _areas(
    annotations: list[dict[str, Any]], column: Callable[[str, list[Any]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return the areas of the file, NaN where it has none."""
    given = [annotation.get("area") for annotation in annotations]
    areas = column("area", [0.0 if area is None else area for area in given])
    areas[[area is None for area in given]] = np.nan
    return areas


def _given(annotation: dict[str, Any], key: str, otherwise: float) -> Any:
    value = annotation.get(key)
    return otherwise if value is None else value


def _images(images: list[Any], path: Path) -> dict[int, float | None]:
    """Return the crowd index of each image by id."""
    crowd_indices: dict[int, float | None] = {}
    for image in images:
        identity, crowd_index = _image(image, path)
        if identity in crowd_indices:
            raise DatasetError(f"{path}: the image id {identity} stands there twice")
        crowd_indices[identity] = crowd_index
    return crowd_indices


def _image(image: Any, path: Path) -> tuple[int, float | None]:
    identity = whole_number(image.get("id")) if isinstance(image, dict) else None
    if identity is None:
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
