"""Reader of COCO-format keypoint annotations: COCO, CrowdPose, OCHuman and one's own."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.io.data_errors import DataError, DataErrorPolicy, DataIssue
from coupled_embedding.data.io.entries import AnnotationEntry, EntryReader, PseudoLabels
from coupled_embedding.data.people import category_warnings, person_categories
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.utils.errors import DatasetError, short_repr
from coupled_embedding.utils.paths import resolve


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
        missing: Any = [] if key in optional else None
        if not isinstance(content, dict) or not isinstance(content.get(key, missing), list):
            raise DatasetError(f"{path}: '{key}' must be a list in a COCO-format annotation file")
    return content


def load_records(
    schema: KeypointSchema,
    split: str,
    root: str = "",
    image_ids: Sequence[int] = (),
    policy: DataErrorPolicy | None = None,
    pseudo_labels: PseudoLabels | None = None,
) -> list[ImageRecord]:
    """Read the images of a split, in the file's order.

    People are annotations that are not crowds or have ``num_keypoints`` above 0. The
    segmentations of crowds and of people with ``num_keypoints`` 0 become ignore regions.

    Args:
        root: folder of the data set; empty: the schema's.
        image_ids: keep only these images, in this order; empty: all.
        policy: what happens to invalid entries; None: they are errors. Skipping leaves out invalid images with their
            annotations, and makes ignore regions of invalid annotations, where at least their region is valid.
        pseudo_labels: what scores of annotations mean; None: nothing.

    Raises:
        DatasetError: the file is missing or malformed, an id is not in it, or no image is valid.
    """
    images = read_split(schema, split, root, image_ids, policy or DataErrorPolicy(), pseudo_labels)
    return [record_of(image, entries, schema) for image, entries in images]


def read_split(
    schema: KeypointSchema,
    split: str,
    root: str,
    image_ids: Sequence[int],
    policy: DataErrorPolicy,
    pseudo_labels: PseudoLabels | None = None,
) -> Iterator[tuple[ImageRecord, list[tuple[Any, AnnotationEntry]]]]:
    """Yield each image without its people, and its annotations as in the file and as read; see `load_records`."""
    path, folder = annotation_file(schema, split, root), dataset_root(schema, root)
    content = read_json(path, ["images"], optional=["annotations", "categories"])
    categories = person_categories(content, schema, path)
    policy.warnings += category_warnings(content.get("annotations", []), categories, path)
    reader = EntryReader(
        path, folder, folder / schema.split(split).images, schema.num_joints, categories, pseudo_labels
    )
    images, known = _images(content["images"], reader, policy)
    by_image = _by_image(content.get("annotations", []), known, reader, policy)
    missing = [i for i in image_ids if i not in known]
    if missing:
        raise DatasetError(f"{path}: no image has the id {missing[0]} (of {len(missing)} not found)")
    valid = False
    for image_id in image_ids or list(images):
        try:
            image = reader.image(images[image_id]) if image_id in images else None
        except DataError as error:
            policy.handle(error.issue)
            continue
        if image:
            valid = True
            yield image, [(a, _annotation(a, image, reader, policy)) for a in by_image.get(image_id, [])]
    if policy.issues and not valid:
        raise DatasetError(f"{path}: no image of {len(content['images'])} is valid; {policy.issues[0]}")


def _images(entries: list[Any], reader: EntryReader, policy: DataErrorPolicy) -> tuple[dict[int, Any], set[int]]:
    """Return the entries by id, in the file's order, and all ids, those of unusable entries too."""
    images: dict[int, Any] = {}
    known: set[int] = set()
    for entry in entries:
        try:
            identity = reader.whole(entry, "id", "image")
            if identity in known:
                # whose annotations are they? only if both are the same image does it not matter
                if images.get(identity) != entry:
                    images.pop(identity, None)
                text = f"the image id {identity} is listed twice"
                raise DataError(DataIssue(str(reader.path), text, "id", identity))
        except DataError as error:
            policy.handle(error.issue)
            continue
        known.add(identity)
        images[identity] = entry
    return images, known


def _by_image(
    annotations: list[Any], known: set[int], reader: EntryReader, policy: DataErrorPolicy
) -> dict[int, list[dict[str, Any]]]:
    """Return the people's annotations by image id; those of no image, and copies of another one, are left out."""
    by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    seen: dict[Any, Any] = {}
    for annotation in annotations:
        if reader.is_of_others(annotation):
            continue
        try:
            image_id = reader.whole(annotation, "image_id")
            if image_id not in known:
                raise reader.fault(annotation, "image_id", ": no image has this image_id")
            own_id = reader.identity(annotation)
        except DataError as error:
            policy.handle(error.issue)
            continue
        if own_id is not None and seen.setdefault(own_id, annotation) is not annotation:
            policy.handle(reader.fault(annotation, "id", ": another annotation has this id").issue)
            if seen[own_id] == annotation:
                continue
        by_image[image_id].append(annotation)
    return by_image


def _annotation(annotation: Any, image: ImageRecord, reader: EntryReader, policy: DataErrorPolicy) -> AnnotationEntry:
    try:
        return reader.annotation(annotation, image)
    except DataError as error:
        policy.handle(error.issue)
        return AnnotationEntry(None, reader.region_of_broken(annotation, image))


def record_of(
    image: ImageRecord, entries: Sequence[tuple[Any, AnnotationEntry]], schema: KeypointSchema
) -> ImageRecord:
    """Return an image with its people, from its annotations as in the file and as read."""
    people = [(raw, entry) for raw, entry in entries if entry.person]
    known = [entry.person for _, entry in people if entry.person]
    return replace(
        image,
        keypoints=np.array([joints for joints, _ in known], np.float32).reshape(-1, schema.num_joints, 3),
        boxes=np.array([box for _, box in known], np.float32).reshape(-1, 4),
        ignored=tuple(entry.ignored for _, entry in entries if entry.ignored is not None),
        annotations=len(entries),
        orientation=schema.orientation,
        ids=tuple(raw.get("id") for raw, _ in people),
        crowds=tuple(entry.is_crowd for _, entry in people),
        num_keypoints=tuple(entry.num_keypoints for _, entry in people),
        areas=tuple(entry.area for _, entry in people),
        confidence=_confidence([entry for _, entry in people], schema.num_joints),
    )


def _confidence(people: Sequence[AnnotationEntry], num_joints: int) -> NDArray[np.float32] | None:
    if all(entry.confidence is None for entry in people):
        return None
    whole = np.ones(num_joints, np.float32)
    return np.stack([whole if entry.confidence is None else entry.confidence for entry in people])


def join_annotations(paths: Sequence[Path]) -> dict[str, Any]:
    """Return the images and annotations of several files as one; other fields from the first.

    Image ids must differ. Annotation ids, which some benchmarks count from 1 in each split, are
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
            identity = _identity(image)
            if identity is None:
                raise DatasetError(f"{path}: image {short_repr(image)} has no 'id' that is a number or a text")
            if identity in seen:
                raise DatasetError(f"{path}: image {short_repr(identity)} is in {seen[identity]} too")
            seen[identity] = path
        for annotation in content["annotations"]:
            if not isinstance(annotation, dict) or ("id" in annotation and _identity(annotation) is None):
                text = f"annotation {short_repr(annotation)} is not a mapping, or its 'id' is neither a number nor text"
                raise DatasetError(f"{path}: {text}")
        joined["images"] += content["images"]
        joined["annotations"] += content["annotations"]
    ids = [annotation.get("id") for annotation in joined["annotations"]]
    if len(set(ids)) != len(ids):
        joined["annotations"] = [{**a, "id": number} for number, a in enumerate(joined["annotations"], 1)]
    return joined


def split_annotations(path: Path, every: int, most: int = 0) -> list[dict[str, Any]]:
    """Return a file's content twice: with all but every Nth image, in the file's order, and with these.

    Each image's annotations go with it; other fields are in both.

    Args:
        path: of the file.
        every: N.
        most: images in the second part; further ones stay in the first. 0: any number.

    Raises:
        DatasetError: the file is malformed, two images have the same id, an annotation is of none of the images, or
            one of the parts would have no image.
    """
    content = read_json(path, ["images", "annotations"])
    images, annotations = content["images"], content["annotations"]
    if not 2 <= every <= len(images):
        raise DatasetError(f"every {every}: expected 2 to {len(images)}, the number of images in {path}")
    part_of: dict[Any, bool] = {}
    for number, image in enumerate(images, 1):
        identity = _identity(image)
        if identity is None:
            raise DatasetError(f"{path}: image {short_repr(image)} has no 'id' that is a number or a text")
        if identity in part_of:
            raise DatasetError(f"{path}: image {short_repr(identity)} is listed twice")
        part_of[identity] = number % every == 0 and (not most or number // every <= most)
    owners = [_identity(annotation, "image_id") for annotation in annotations]
    for annotation, owner in zip(annotations, owners, strict=True):
        if owner not in part_of:
            raise DatasetError(f"{path}: annotation {short_repr(annotation)} is of none of the images")
    return [
        {
            **content,
            "images": [image for image in images if part_of[image["id"]] == part],
            "annotations": [a for a, owner in zip(annotations, owners, strict=True) if part_of[owner] == part],
        }
        for part in (False, True)
    ]


def _identity(entry: Any, key: str = "id") -> int | float | str | None:
    identity = entry.get(key) if isinstance(entry, dict) else None
    return identity if isinstance(identity, int | float | str) else None
