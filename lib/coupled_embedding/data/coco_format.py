"""Reader of COCO-format keypoint annotations: COCO, CrowdPose, OCHuman and one's own."""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.records import ImageRecord
from coupled_embedding.errors import DatasetError
from coupled_embedding.keypoints import KeypointSchema
from coupled_embedding.paths import resolve


def dataset_root(schema: KeypointSchema, root: str = "") -> Path:
    """Return the data set's folder: ``root`` if given, else the schema's."""
    return resolve(root or schema.root)


def annotation_file(schema: KeypointSchema, split: str, root: str = "") -> Path:
    """Return the path of a split's annotation file."""
    return dataset_root(schema, root) / schema.split(split).annotations


def read_json(path: Path, keys: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
    """Read a JSON object that must hold lists under ``keys``; DatasetError says what is wrong.

    ``optional`` keys may be missing, but must be lists if they are there.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: no such annotation file; see README.md for where the data set goes") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: cannot read this annotation file: {error}") from error
    for key in (*keys, *optional):
        if key in optional and isinstance(content, dict) and key not in content:
            continue
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DatasetError(f"{path}: '{key}' must be a list in a COCO-format annotation file")
    return content


def load_records(
    schema: KeypointSchema, split: str, root: str = "", image_ids: Sequence[int] = ()
) -> list[ImageRecord]:
    """Read the photos of a split, in the file's order.

    People are annotations that are not crowds or have ``num_keypoints`` above 0. The
    segmentations of crowds and of people with ``num_keypoints`` 0 become ignore regions.

    Args:
        root: folder of the data set; empty: the schema's.
        image_ids: keep only these photos, in this order; empty: all.

    Raises:
        DatasetError: the file is missing or malformed, or an id is not in it.
    """
    path = annotation_file(schema, split, root)
    folder = dataset_root(schema, root) / schema.split(split).images
    content = read_json(path, ["images"], optional=["annotations", "categories"])
    check_categories(content, schema, path)
    by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for annotation in content.get("annotations", []):
        by_image[_whole(annotation, "image_id", path, "annotation")].append(annotation)
    images: dict[int, dict[str, Any]] = {}
    for image in content["images"]:
        identity = _whole(image, "id", path, "image")
        if identity in images:
            raise DatasetError(f"{path}: the image id {identity} stands there twice")
        images[identity] = image
    missing = [i for i in image_ids if i not in images]
    if missing:
        raise DatasetError(f"{path}: no image has the id {missing[0]} (of {len(missing)} not found)")
    chosen = image_ids or list(images)
    return [_record(images[i], by_image.get(i, []), folder, schema.num_joints, path) for i in chosen]


def check_categories(content: dict[str, Any], schema: KeypointSchema, path: Path) -> None:
    """Raise DatasetError if the file names other joints, or another order, than the schema."""
    for category in content.get("categories", []):
        names = category.get("keypoints") if isinstance(category, dict) else None
        if names and (not isinstance(names, list) or names != list(schema.joints)):
            raise DatasetError(
                f"{path}: the joints of category '{category.get('name')}' are {names!s:.400}, but the schema "
                f"'{schema.name}' expects {list(schema.joints)}; give DATASET.SCHEMA a schema that fits the file"
            )


def _field(item: Any, key: str, path: Path, kind: str) -> Any:
    if not isinstance(item, dict) or key not in item:
        raise DatasetError(f"{path}: {kind} {str(item)[:120]} has no '{key}'")
    return item[key]


def _whole(item: Any, key: str, path: Path, kind: str, least: float = -math.inf) -> int:
    value = _field(item, key, path, kind)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or value < least:
        raise DatasetError(f"{path}: {kind} {str(item)[:120]}: '{key}' must be a whole number, got {value!r:.80}")
    return int(value)


def _record(
    image: dict[str, Any], annotations: list[dict[str, Any]], folder: Path, num_joints: int, path: Path
) -> ImageRecord:
    people = [a for a in annotations if not a.get("iscrowd", 0) or _num_keypoints(a, path) > 0]
    keypoints = np.zeros((len(people), num_joints, 3), np.float32)
    boxes = np.zeros((len(people), 4), np.float32)
    for person, annotation in enumerate(people):
        keypoints[person] = _keypoints(annotation, num_joints, path)
        boxes[person] = _numbers(_field(annotation, "bbox", path, "annotation"), 4, "bbox", annotation, path)
    ignored = [a["segmentation"] for a in annotations if _is_ignored(a, path) and a.get("segmentation")]
    crowd_index = image.get("crowdIndex")
    if crowd_index is not None and not isinstance(crowd_index, int | float):
        raise DatasetError(f"{path}: image {image['id']}: crowdIndex must be a number, got {crowd_index!r:.80}")
    return ImageRecord(
        image_id=image["id"],
        path=folder / str(_field(image, "file_name", path, "image")),
        width=_whole(image, "width", path, "image", least=1),
        height=_whole(image, "height", path, "image", least=1),
        keypoints=keypoints,
        boxes=boxes,
        ignored=tuple(ignored),
        crowd_index=None if crowd_index is None else float(crowd_index),
    )


def _num_keypoints(annotation: dict[str, Any], path: Path) -> int:
    # custom files may lack this field; the labels tell as much
    if "num_keypoints" in annotation:
        return _whole(annotation, "num_keypoints", path, "annotation")
    labels = (annotation.get("keypoints") or [])[2::3]
    return sum(1 for label in labels if isinstance(label, int | float) and label > 0)


def _is_ignored(annotation: dict[str, Any], path: Path) -> bool:
    return bool(annotation.get("iscrowd", 0)) or _num_keypoints(annotation, path) == 0


def _keypoints(annotation: dict[str, Any], num_joints: int, path: Path) -> NDArray[np.float32]:
    values = annotation.get("keypoints")
    if values is None:
        return np.zeros((num_joints, 3), np.float32)
    return _numbers(values, 3 * num_joints, "keypoints", annotation, path).reshape(num_joints, 3)


def _numbers(values: Any, count: int, key: str, annotation: dict[str, Any], path: Path) -> NDArray[np.float32]:
    where = f"{path}: annotation {annotation.get('id', '?')} of image {annotation['image_id']}: {key}"
    if not isinstance(values, list) or len(values) != count:
        length = len(values) if isinstance(values, list) else "none"
        raise DatasetError(f"{where}: expected {count} numbers, got {length}")
    try:
        with np.errstate(over="ignore"):
            numbers = np.asarray(values, np.float64).astype(np.float32)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{where}: expected {count} numbers: {error}") from error
    if not np.isfinite(numbers).all():
        raise DatasetError(f"{where}: numbers must be finite")
    return numbers


def join_annotations(paths: Sequence[Path]) -> dict[str, Any]:
    """Return the images and annotations of several files as one; other fields from the first.

    Image ids must differ. Annotation ids, which some benchmarks count anew in each split, are
    kept if they differ and numbered from 1 otherwise.

    Raises:
        DatasetError: a file is malformed, categories differ, or an image is in two files.
    """
    contents = [read_json(path, ["images", "annotations"]) for path in paths]
    joined = {**contents[0], "images": [], "annotations": []}
    seen: dict[Any, Path] = {}
    for path, content in zip(paths, contents, strict=True):
        if content.get("categories") != contents[0].get("categories"):
            raise DatasetError(f"{path}: its categories are not those of {paths[0]}")
        for image in content["images"]:
            identity = _field(image, "id", path, "image")
            if identity in seen:
                raise DatasetError(f"{path}: image {identity} is in {seen[identity]} too")
            seen[identity] = path
        joined["images"] += content["images"]
        joined["annotations"] += content["annotations"]
    ids = [annotation.get("id") for annotation in joined["annotations"]]
    if len(set(ids)) != len(ids):
        joined["annotations"] = [{**a, "id": number} for number, a in enumerate(joined["annotations"], 1)]
    return joined
