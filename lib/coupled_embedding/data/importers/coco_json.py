"""COCO-format keypoint files as exports have them: CVAT's "COCO Keypoints 1.0", Roboflow's, and single files."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coupled_embedding.data.coco import read_json, read_split
from coupled_embedding.data.importers.parts import (
    ImageFinder,
    ImportedDataset,
    ImportedImage,
    ImportedPerson,
    ImportOptions,
    Joints,
    Pairs,
    choose_classes,
    others_left_out,
    split_name,
)
from coupled_embedding.data.io.data_errors import DataErrorPolicy
from coupled_embedding.data.people import whole_number
from coupled_embedding.data.schema import MOST_JOINTS, KeypointSchema, Split
from coupled_embedding.utils.errors import DatasetError, short_repr

ROBOFLOW = "_annotations.coco.json"  # beside the images of each split
# of annotations, kept as they are; the rest is computed again or belongs to the exporting program
_KEPT = (
    *("id", "iscrowd", "num_keypoints", "area", "segmentation", "score", "keypoint_scores", "track_id"),
    *("head_box", "center", "scale", "single_person", "group"),  # MPII's
)
_PREFIX = "person_keypoints_"  # of COCO's files, and of CVAT's


@dataclass(frozen=True)
class _File:
    """An annotation file: its split, and where its images may be."""

    path: Path
    split: str
    folders: tuple[Path, ...]


def read_roboflow(source: Path, options: ImportOptions) -> ImportedDataset:
    """Read a COCO export of Roboflow.

    Args:
        source: its folder, with ``train``, ``valid`` and ``test`` in it, or one of these, or a file
            ``_annotations.coco.json``.
        options: ``images`` are beside the annotations by default.

    Raises:
        DatasetError: a file or entry is malformed, or an image is missing.
    """
    paths = roboflow_files(source)
    if not paths:
        raise DatasetError(f"{source}: no {ROBOFLOW} in it or its folders; export as 'COCO' from a keypoint project")
    files = []
    for path in paths:
        split = split_name(path.parent.name)
        split = split if split in ("train", "val", "test") else "all"
        files.append(_File(path, split, (options.images or path.parent,)))
    return _read("roboflow", source, files, options)


def roboflow_files(source: Path) -> list[Path]:
    """Return a Roboflow export's annotation files."""
    if not source.is_dir():
        return [source]
    return sorted(source.glob(ROBOFLOW)) or sorted(source.glob(f"*/{ROBOFLOW}"))


def read_coco(source: Path, options: ImportOptions) -> ImportedDataset:
    """Read COCO-format files.

    Args:
        source: a file, or a folder with files in it or in its ``annotations/``; of several, those whose categories or
            annotations have keypoints. CVAT's are ``annotations/person_keypoints_SUBSET.json``.
        options: ``images`` default to ``images/SUBSET``, ``images``, ``SUBSET`` of the source's folder, the folder, and
            that of the file.

    Raises:
        DatasetError: a file or entry is malformed, or an image is missing.
    """
    files = []
    for path in coco_files(source):
        subset = path.stem.removeprefix(_PREFIX) if path.stem.startswith(_PREFIX) or source.is_dir() else ""
        top = path.parent.parent if path.parent.name == "annotations" else path.parent
        folders = (options.images,) if options.images else (top / "images", top, path.parent)
        places = [place for folder in folders for place in ((folder / subset, folder) if subset else (folder,))]
        split = split_name(subset)
        files.append(_File(path, split, tuple(places)))
    if source.is_dir() and len(files) > 1:
        files = [file for file in files if _has_keypoints(file.path)]
    if not files:
        raise DatasetError(f"{source}: no COCO-format annotation file with keypoints in it or its annotations/")
    return _read("coco", source, files, options)


def coco_files(source: Path) -> list[Path]:
    """Return a folder's JSON files, or those of its ``annotations/``; a file is its own."""
    if not source.is_dir():
        return [source]
    return sorted((source / "annotations").glob("*.json")) or sorted(source.glob("*.json"))


def _has_keypoints(path: Path) -> bool:
    content = read_json(path, [], optional=["categories", "annotations"])
    entries = [*content.get("categories", []), *content.get("annotations", [])[:1000]]
    return any(isinstance(entry, dict) and entry.get("keypoints") for entry in entries)


def _read(kind: str, source: Path, files: Sequence[_File], options: ImportOptions) -> ImportedDataset:
    splits: dict[str, list[ImportedImage]] = {}
    notes: list[str] = []
    first: tuple[Path, Joints] | None = None
    for file in files:
        content = read_json(file.path, ["images", "annotations"], optional=["categories"])
        joints, people = _people(content, file.path, options)
        first = first or (file.path, joints)
        if joints.names != first[1].names:
            raise DatasetError(f"{file.path}: its joints {list(joints.names)!s:.400} are not those of {first[0]}")
        if file.split in splits:
            raise DatasetError(f"{file.path}: a second file of split '{file.split}'; convert them one by one")
        splits[file.split] = list(_images(file, joints, people, notes))
        others = [a for a in content["annotations"] if isinstance(a, dict) and people]
        count = sum(whole_number(a.get("category_id")) not in people for a in others)
        notes += others_left_out("annotations", count, file.path)
    assert first
    return ImportedDataset(kind, source, first[1], splits, notes)


def _people(content: dict[str, Any], path: Path, options: ImportOptions) -> tuple[Joints, list[int]]:
    """Return the joints, and the ids of the categories that have them; no ids: there are no categories."""
    entries = {whole_number(c.get("id")): c for c in content.get("categories", []) if isinstance(c, dict)}
    # Roboflow adds a row for the supercategory, without joints or with a copy of them
    annotations = [a for a in content["annotations"] if isinstance(a, dict)]
    used = {whole_number(a.get("category_id")) for a in annotations if a.get("keypoints")}
    listed = {number: c for number, c in entries.items() if number is not None and c.get("keypoints")}
    if not listed:
        if not options.joints or not used:
            raise DatasetError(
                f"{path}: no category lists 'keypoints', the joints' names; "
                + ("give them with --joints" if used else "and no annotation has any: export keypoints, not boxes")
            )
        return Joints(options.joints), _chosen(
            {n: c for n, c in entries.items() if n in used and n is not None}, path, options
        )
    if options.joints:
        raise DatasetError(f"--joints: the categories of {path} name the joints")
    chosen = _chosen({n: c for n, c in listed.items() if n in used or options.classes} or listed, path, options)
    names = listed[chosen[0]]["keypoints"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) > MOST_JOINTS:
        raise DatasetError(f"{path}: categories: keypoints: expected the joints' names, got {short_repr(names)}")
    if any(listed[number]["keypoints"] != names for number in chosen):
        raise DatasetError(f"{path}: the chosen categories have different joints; choose one with --class")
    return Joints(tuple(names), edges=_edges(listed[chosen[0]].get("skeleton"), len(names))), chosen


def _chosen(entries: dict[int, dict[str, Any]], path: Path, options: ImportOptions) -> list[int]:
    names = {number: str(entry.get("name", number)) for number, entry in entries.items()}
    if not entries or (not options.classes and len(set(names.values())) == 1):
        return list(names)  # copies of one category
    return choose_classes(names, options.classes, str(path))


def _edges(skeleton: Any, count: int) -> Pairs | None:
    """Return a category's skeleton, numbered from 1 (by some programs from 0); None if it is none."""
    pairs = skeleton if isinstance(skeleton, list) else []
    if not pairs or not all(isinstance(p, list) and len(p) == 2 and all(type(i) is int for i in p) for p in pairs):
        return None
    least = 0 if any(0 in pair for pair in pairs) else 1
    if not all(least <= i < count + least for pair in pairs for i in pair):
        return None
    return tuple((a - least, b - least) for a, b in pairs)


def _images(file: _File, joints: Joints, people: Sequence[int], notes: list[str]) -> Iterator[ImportedImage]:
    """Yield a file's images, read and validated as in a test: every fault is an error that names file and entry."""
    count = len(joints.names)
    base = Path(os.path.abspath(file.path.parent))
    schema = KeypointSchema(
        "import", joints.names, (), (), (0.1,) * count, tuple(range(count)), ((0, 0, 0),) * count,
        splits={file.split: Split(str(file.path.absolute()), str(base))}, categories=tuple(map(str, people)),
    )  # fmt: skip
    finder, policy = ImageFinder(file.folders, file.path), DataErrorPolicy()
    for image, annotations in read_split(schema, file.split, str(base), (), policy):
        name = Path(os.path.relpath(image.path, base)).as_posix()
        path = finder.find([name], f"image {image.image_id}")
        persons = [_person(raw, count) for raw, _ in annotations]
        fields = {"id": image.image_id} | ({} if image.crowd_index is None else {"crowdIndex": image.crowd_index})
        yield ImportedImage(path, image.width, image.height, persons, fields)
    notes += policy.warnings


def _person(raw: dict[str, Any], count: int) -> ImportedPerson:
    keypoints = np.array(raw.get("keypoints") or [0] * 3 * count, np.float64).reshape(count, 3)
    fields = {key: raw[key] for key in _KEPT if raw.get(key) not in (None, [])}
    x, y, width, height = map(float, raw["bbox"])
    return ImportedPerson(keypoints, (x, y, width, height), fields)
