"""Detected people's boxes, for a second step that finds the joints in each: files of COCO's results formats."""

from collections.abc import Container
from pathlib import Path
from typing import Any

from coupled_embedding.data.people import PersonCategories, joint_boxes, whole_number
from coupled_embedding.data.person_crops import PersonBox
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.evaluation.results import checked_numbers, read_entries
from coupled_embedding.utils.errors import DatasetError, short_repr

WIDENED = 1.3  # joints lie inside a body: their extent is this much smaller than its box


def read_boxes(
    path: str | Path,
    schema: KeypointSchema,
    categories: PersonCategories,
    known_ids: Container[int],
    min_score: float = 0.0,
) -> dict[int, list[PersonBox]]:
    """Read people's boxes from a detections file (``bbox``) or a keypoint results file (``keypoints``).

    A pose's box is the extent of its joints of a score above 0, widened by 30 %; a pose without such joints has none.

    Args:
        path: a JSON list of entries with ``image_id``, ``score``, and ``bbox`` or ``keypoints``.
        schema: the joints of poses.
        categories: of the annotation file; entries whose ``category_id`` is another than people's are left out.
        known_ids: of the annotation file's images.
        min_score: boxes scored lower are left out.

    Returns:
        Image id -> its boxes, whose sources are numbers of the file's entries, from 0.

    Raises:
        DatasetError: the file cannot be read, or an entry lacks a field or has a wrong one.
    """
    boxes: dict[int, list[PersonBox]] = {}
    for number, entry in enumerate(read_entries(path, "file of boxes")):
        where = f"{path}: entry {number}"
        if not isinstance(entry, dict):
            raise DatasetError(f"{where}: expected a box with image_id, bbox and score, got {short_repr(entry)}")
        image_id = whole_number(_field(entry, "image_id", where))
        if image_id is None or image_id not in known_ids:
            raise DatasetError(f"{where}: image_id: no image has the id {short_repr(entry['image_id'])}")
        score = float(checked_numbers([_field(entry, "score", where)], 1, f"{where}: score")[0])
        is_person = categories.is_person(entry.get("category_id"))
        if is_person is None:
            raise DatasetError(f"{where}: category_id: no category has the id {short_repr(entry['category_id'])}")
        box = _box(entry, schema, where)
        if box and is_person and score >= min_score:
            boxes.setdefault(image_id, []).append(PersonBox(box, score, number))
    return boxes


def _field(entry: dict[str, Any], name: str, where: str) -> Any:
    if name not in entry:
        raise DatasetError(f"{where}: '{name}' is missing")
    return entry[name]


def _box(entry: dict[str, Any], schema: KeypointSchema, where: str) -> tuple[float, float, float, float] | None:
    """Return x, y, width, height in image pixels; None: a pose without a joint."""
    if "bbox" in entry:
        x, y, width, height = checked_numbers(entry["bbox"], 4, f"{where}: bbox").tolist()
        if width < 0 or height < 0:
            raise DatasetError(f"{where}: bbox: sides must not be below 0, got {short_repr(entry['bbox'])}")
        return x, y, width, height
    if "keypoints" not in entry:
        raise DatasetError(f"{where}: 'bbox' or 'keypoints' is missing")
    joints = checked_numbers(entry["keypoints"], 3 * schema.num_joints, f"{where}: keypoints").reshape(1, -1, 3)
    if not (joints[..., 2] > 0).any():
        return None
    x, y, width, height = joint_boxes(joints)[0].tolist()
    grown = (WIDENED - 1) / 2
    return x - grown * width, y - grown * height, WIDENED * width, WIDENED * height
