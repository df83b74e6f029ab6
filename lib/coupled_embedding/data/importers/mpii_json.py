"""JSON conversions of MPII: lists of single people, and COCO-style files."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.importers.coco_json import read_coco
from coupled_embedding.data.importers.held_out import read_list
from coupled_embedding.data.importers.mpii import CROP_SHIFT, FIRST_PIXEL, SCHEMA, SINGLE_SCHEMA, square_box
from coupled_embedding.data.importers.parts import (
    ImageFinder,
    ImportedDataset,
    ImportedImage,
    ImportedPerson,
    ImportOptions,
    Joints,
    number,
    split_name,
    upright_size,
)
from coupled_embedding.data.joint_sides import joint_side
from coupled_embedding.data.schema import load_schema
from coupled_embedding.utils.errors import DatasetError, short_repr

# what conversions call two of the joints
_OTHER_NAMES = {"upperneck": "neck", "headtop": "head", "tophead": "head", "topofhead": "head"}


def read_mpii_json(source: Path, options: ImportOptions) -> ImportedDataset:
    """Read a JSON conversion of MPII.

    Args:
        source: a file, or a folder with a file for each split (``train.json``, ``valid.json``, ``test.json``). A list
            has an entry for each single person: ``image``, ``center``, ``scale`` and, except in the test part,
            ``joints`` and ``joints_vis``. An object is a COCO-style file with MPII's joints.
        options: ``images`` default to the folder ``images`` beside the file or beside its folder, then its own folder.

    Raises:
        DatasetError: a file or entry is malformed, has other joints, or an image is missing.
    """
    if options.joints or options.classes:
        raise DatasetError("--joints, --class: MPII's joints are known, and it has people only")
    files = list_files(source)
    if not files:
        return _read_coco_style(source, options)
    schema = load_schema(SINGLE_SCHEMA)
    joints = Joints(schema.joints, schema.flip_pairs, schema.skeleton)
    reader = _ListReader(schema.num_joints, options.images)
    splits: dict[str, list[ImportedImage]] = {}
    for path in files:
        split = split_name(path.stem)
        splits[split if split in schema.splits else "all"] = list(reader.images(path))
    notes = [
        "coordinates are MATLAB's less 1: the first pixel is 0",
        "joints_vis 0 with coordinates: the joint is hidden, label 1",
        "lists have no head boxes, by which MPII scores: convert the MATLAB file for that, with such a list as --val",
        *(f"{total} {text}" for text, total in reader.counts.items()),
    ]
    return ImportedDataset("mpii-json", source, joints, splits, notes, SINGLE_SCHEMA)


def list_files(source: Path) -> list[Path]:
    """Return the files among JSON files that are lists of MPII's people."""
    paths = sorted(source.glob("*.json")) if source.is_dir() else [source]
    return [path for path in paths if is_list(path)]


def is_list(path: Path) -> bool:
    """Whether a file starts like a list of MPII's people."""
    try:
        with path.open("rb") as file:
            start = file.read(2000).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError:
        return False
    entry = start.partition(b"}")[0]
    return start[:1] == b"[" and b'"image"' in entry and (b'"joints' in entry or b'"scale"' in entry)


@dataclass
class _ListReader:
    num_joints: int
    folder: Path | None
    counts: Counter[str] = field(default_factory=Counter)
    ids: Iterator[int] = field(default_factory=lambda: count(1))

    def images(self, path: Path) -> Iterator[ImportedImage]:
        """Yield a file's images, in the order of their first entries."""
        top = path.parent
        finder = ImageFinder([self.folder] if self.folder else [top / "images", top.parent / "images", top], path)
        by_name: dict[str, list[ImportedPerson]] = {}
        for place, entry in enumerate(read_list(path)):
            where = f"{path}: entry {place}"
            name = entry.get("image") if isinstance(entry, dict) else None
            if not isinstance(name, str):
                raise DatasetError(f"{where}: expected an entry with the name of an 'image', got {short_repr(entry)}")
            by_name.setdefault(name, []).append(self._person(entry, where))
        for name, people in by_name.items():
            file = finder.find([name], f"image {short_repr(name)}")
            yield ImportedImage(file, *upright_size(file), people, {"id": next(self.ids)})

    def _person(self, entry: dict[str, Any], where: str) -> ImportedPerson:
        center = (_table(entry, "center", (2,), where) - FIRST_PIXEL).tolist()
        scale = float(_table(entry, "scale", (), where))
        if scale <= 0:
            raise DatasetError(f"{where}: scale: must be above 0, got {scale:g}")
        keypoints = np.zeros((self.num_joints, 3))
        if entry.get("joints") is not None:
            places = _table(entry, "joints", (self.num_joints, 2), where)
            seen = _table(entry, "joints_vis", (self.num_joints,), where) > 0
            # conversions write (-1, -1) or (0, 0) for a joint that is not annotated
            somewhere = (places > 0).any(1)
            self.counts["joints hidden"] += int((somewhere & ~seen).sum())
            keypoints[:, :2] = np.where((seen | somewhere)[:, None], places - FIRST_PIXEL, 0)
            keypoints[:, 2] = np.where(seen, 2, somewhere)
        return ImportedPerson(
            keypoints, square_box(center, scale, CROP_SHIFT), {"center": center, "scale": scale, "single_person": 1}
        )


def _table(entry: dict[str, Any], key: str, shape: tuple[int, ...], where: str) -> NDArray[np.float64]:
    """Return a field of numbers as an array of a shape."""
    try:
        values = np.array(entry.get(key))
    except ValueError:  # lists of different lengths
        values = np.zeros(0)
    if values.shape != shape or values.dtype.kind not in "iuf":
        expected = "×".join(map(str, shape)) + " numbers" if shape else "a number"
        raise DatasetError(f"{where}: {key}: expected {expected}, got {short_repr(entry.get(key))}")
    for value in values.ravel().tolist():
        number(value, f"{where}: {key}")
    return values.astype(np.float64)


def _read_coco_style(source: Path, options: ImportOptions) -> ImportedDataset:
    """Read COCO-style files whose joints are MPII's; fields such as ``head_box`` stay as they are."""
    schema = load_schema(SCHEMA)
    dataset = read_coco(source, options)
    if [_plain(name) for name in dataset.joints.names] != [_plain(name) for name in schema.joints]:
        raise DatasetError(
            f"{source}: its joints are {list(dataset.joints.names)!s:.400}, not MPII's, in its order: "
            f"{list(schema.joints)}; without --format mpii-json they are read as they are"
        )
    notes = [
        *dataset.notes,
        *_missing_fields([p for images in dataset.splits.values() for i in images for p in i.people]),
    ]
    joints = Joints(schema.joints, schema.flip_pairs, schema.skeleton)
    return replace(dataset, kind="mpii-json", joints=joints, notes=notes, schema=SCHEMA)


def _missing_fields(people: Sequence[ImportedPerson]) -> list[str]:
    texts = {
        "head_box": "without head_box (x, y, width, height), by which MPII scores",
        "group": "without group, center or scale: only people of groups are scored",
    }
    counts = {key: sum(person.fields.get(key) is None for person in people) for key in texts}
    return [f"{total} of {len(people)} people {texts[key]}" for key, total in counts.items() if total]


def _plain(name: str) -> tuple[str, str]:
    """Return a joint's side and what it is, in one spelling."""
    side, body = joint_side(name)
    part = "".join(c for c in body.lower() if c.isalnum())
    return side, _OTHER_NAMES.get(part, part)
