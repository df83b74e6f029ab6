"""The annotated people that an evaluation counts, checked, with missing fields filled in."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coupled_embedding.data.coco_format import check_categories, read_json
from coupled_embedding.errors import DatasetError
from coupled_embedding.evaluation.oks import box_areas
from coupled_embedding.evaluation.results import checked_numbers
from coupled_embedding.keypoints import KeypointSchema


@dataclass(frozen=True)
class GroundTruth:
    """What an evaluation compares with.

    Attributes:
        path: the annotation file.
        images: chosen image id -> crowd index, None where the file has none.
        annotations: COCO annotations of the chosen images, numbered from 1.
        category_ids: the categories that have keypoints.
        known_ids: the ids of all images of the file, chosen or not.
    """

    path: Path
    images: dict[int, float | None]
    annotations: list[dict[str, Any]]
    category_ids: tuple[int, ...]
    known_ids: frozenset[int]

    def dataset(self) -> dict[str, Any]:
        """Return a fresh COCO data set of the chosen images; evaluators write into theirs."""
        return {
            "images": [{"id": i, "crowdIndex": crowd_index} for i, crowd_index in self.images.items()],
            "annotations": [dict(annotation) for annotation in self.annotations],
            "categories": [{"id": i, "name": "person"} for i in self.category_ids],
        }


def load_ground_truth(path: Path, schema: KeypointSchema, image_ids: Sequence[int] | None = None) -> GroundTruth:
    """Read the people of an annotation file, as the schema's benchmark counts them.

    Missing fields are filled without touching the file: ``iscrowd`` 0, ``num_keypoints`` by
    counting labels, ``keypoints`` none (the person becomes an ignored region), ``category_id``
    the first category's, ``area`` 0.53 · width · height of the box. CrowdPose's rules use that
    area even where the file has another one.

    Args:
        path: COCO-format annotations.
        schema: names joints and rules (``evaluator``).
        image_ids: count only these images; None: all.

    Raises:
        DatasetError: the file is missing or malformed, has other joints than the schema or no
            annotations at all, or an image id is not in it.
    """
    content = read_json(path, ["images"])
    if "annotations" not in content:
        raise DatasetError(
            f"{path}: the file has no 'annotations' (the benchmark keeps those of its test images to itself): "
            "nothing can be scored here; write the results file and send it to the benchmark's server"
        )
    content = read_json(path, ["images", "annotations"])
    check_categories(content, schema, path)
    crowd_indices = dict(_image(image, path) for image in content["images"])
    chosen = _chosen(crowd_indices, image_ids, path)
    category_ids = _category_ids(content)
    annotations: list[dict[str, Any]] = []
    for annotation in content["annotations"]:
        if not isinstance(annotation, dict) or not isinstance(annotation.get("image_id"), int):
            raise DatasetError(f"{path}: annotation {annotation!s:.120} has no 'image_id' that is a whole number")
        if annotation["image_id"] in chosen and annotation.get("category_id", category_ids[0]) in category_ids:
            annotations.append(_filled(annotation, len(annotations) + 1, category_ids[0], schema, path))
    return GroundTruth(path, chosen, annotations, category_ids, frozenset(crowd_indices))


def _image(image: Any, path: Path) -> tuple[int, float | None]:
    if not isinstance(image, dict) or not isinstance(image.get("id"), int):
        raise DatasetError(f"{path}: image {image!s:.120} has no 'id' that is a whole number")
    crowd_index = image.get("crowdIndex")
    if crowd_index is not None:
        crowd_index = _number(crowd_index, f"{path}: image {image['id']}: crowdIndex")
    return image["id"], crowd_index


def _chosen(
    crowd_indices: dict[int, float | None], image_ids: Sequence[int] | None, path: Path
) -> dict[int, float | None]:
    if image_ids is None:
        return crowd_indices
    missing = [i for i in image_ids if i not in crowd_indices]
    if missing:
        raise DatasetError(f"{path}: no image has the id {missing[0]} (of {len(missing)} not found)")
    return {int(i): crowd_indices[i] for i in image_ids}


def _category_ids(content: dict[str, Any]) -> tuple[int, ...]:
    """Return the categories of people: those that define keypoints, else all of the file."""
    categories = [c for c in content.get("categories", []) if isinstance(c, dict) and isinstance(c.get("id"), int)]
    with_keypoints = [c for c in categories if c.get("keypoints")]
    ids = {c["id"] for c in with_keypoints or categories}
    used = (a.get("category_id") for a in content["annotations"] if isinstance(a, dict))
    return tuple(sorted(ids or {i for i in used if isinstance(i, int)})) or (1,)


def _filled(
    annotation: dict[str, Any], number: int, default_category: int, schema: KeypointSchema, path: Path
) -> dict[str, Any]:
    where = f"{path}: annotation {annotation.get('id', '?')} of image {annotation['image_id']}"
    size = 3 * schema.num_joints
    keypoints = checked_numbers(annotation.get("keypoints") or [0] * size, size, f"{where}: keypoints")
    box = checked_numbers(annotation.get("bbox"), 4, f"{where}: bbox")
    area, labelled = annotation.get("area"), annotation.get("num_keypoints")
    if area is None or schema.evaluator == "crowdpose":
        area = box_areas(box)[0]
    if labelled is None:
        labelled = np.count_nonzero(keypoints[2::3] > 0)
    return {
        # evaluators mistake a person of id 0 for "no match"; ids play no other part in scores
        "id": number,
        "image_id": annotation["image_id"],
        "category_id": annotation.get("category_id", default_category),
        "bbox": box.tolist(),
        "area": _number(area, f"{where}: area"),
        "iscrowd": int(_number(annotation.get("iscrowd") or 0, f"{where}: iscrowd")),
        # the file's own count wins, as in the benchmarks: CrowdPose's differs from its labels
        "num_keypoints": int(_number(labelled, f"{where}: num_keypoints")),
        "keypoints": keypoints.tolist(),
    }


def _number(value: Any, where: str) -> float:
    # some tools write iscrowd as true and false
    return float(checked_numbers([int(value) if isinstance(value, bool) else value], 1, where)[0])
