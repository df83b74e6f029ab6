"""YOLO-pose folders: data.yaml, and a text file of normalized numbers for each image, as ultralytics reads them.

A label line is ``class cx cy w h`` and ``x y`` or ``x y v`` for each joint, in parts of the upright image's sides.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from coupled_embedding.data.importers.parts import (
    ImportedDataset,
    ImportedImage,
    ImportedPerson,
    ImportOptions,
    Joints,
    Pairs,
    choose_classes,
    number,
    others_left_out,
    split_name,
    upright_size,
)
from coupled_embedding.data.schema import MOST_JOINTS, load_schema
from coupled_embedding.data.sources import IMAGES
from coupled_embedding.utils.errors import DatasetError, short_repr
from coupled_embedding.utils.plain_yaml import parse_yaml, read_text

_SPLIT_KEYS = ("train", "val", "valid", "validation", "test")
# parts of a side that a value may lie outside of the image; pixels are larger by far
_OUTSIDE = (-1.0, 2.0)


def config_files(folder: Path) -> list[Path]:
    """Return the files of a folder that describe a YOLO data set: ``data.yaml`` if it does, else all that do."""
    found = []
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        try:
            content = parse_yaml(read_text(path))
        except (OSError, ValueError):
            continue
        if (
            isinstance(content, dict)
            and content.keys() & {"names", "nc", "kpt_shape"}
            and content.keys() & {*_SPLIT_KEYS}
        ):
            found.append(path)
    return [path for path in found if path.stem == "data"] or found


def read_yolo(source: Path, options: ImportOptions) -> ImportedDataset:
    """Read a YOLO-pose data set.

    Args:
        source: its folder, or the file in it that describes it (``data.yaml``).
        options: ``images`` is not used: the file says where they are.

    Raises:
        DatasetError: a file or line is malformed, or images are missing.
    """
    if options.images:
        raise DatasetError("--images: a YOLO data set's data.yaml says where the images are (path, train, val, test)")
    configs = config_files(source) if source.is_dir() else [source]
    if len(configs) != 1:
        found = ", ".join(path.name for path in configs) or "none"
        raise DatasetError(f"{source}: expected one data.yaml with train, val and names, found {found}; name the file")
    reader = _Reader.of(configs[0], options)
    splits: dict[str, list[ImportedImage]] = {}
    for key in _SPLIT_KEYS:
        if reader.content.get(key):
            splits.setdefault(split_name(key), []).extend(reader.split(key))
    if not splits:
        raise DatasetError(f"{reader.path}: no split: expected train, val or test with a folder or list of images")
    return ImportedDataset("yolo", reader.path, reader.joints, splits, reader.all_notes())


@dataclass
class _Reader:
    path: Path
    content: dict[str, Any]
    joints: Joints
    values: int  # of a joint: 2 or 3
    names: dict[int, str]  # of all classes
    people: list[int]  # the classes that are people
    notes: list[str]
    counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, path: Path, options: ImportOptions) -> "_Reader":
        """Read the file that describes the data set."""
        try:
            content = parse_yaml(read_text(path))
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path}: cannot read this YOLO data set file ({error})") from error
        if not isinstance(content, dict):
            raise DatasetError(f"{path}: expected a mapping with path, train, val, kpt_shape, flip_idx and names")
        shape = content.get("kpt_shape")
        is_shape = isinstance(shape, list) and len(shape) == 2 and all(type(n) is int for n in shape)
        count, values = shape if isinstance(shape, list) and is_shape else (0, 0)
        if not 1 <= count <= MOST_JOINTS or values not in (2, 3):
            raise DatasetError(
                f"{path}: kpt_shape: expected [number of joints, 2 or 3], got {short_repr(shape)}; without it the data "
                "set has boxes only, nothing to learn joints from"
            )
        names = _class_names(content, path)
        people = choose_classes(names, options.classes, str(path))
        notes: list[str] = []
        joints = _joints(content, count, people, options, path, notes)
        return cls(path, content, joints, values, names, people, notes)

    def split(self, key: str) -> Iterator[ImportedImage]:
        """Yield the images of a split."""
        paths = self._images(key)
        if not paths:
            raise DatasetError(f"{self.path}: {key}: no images in {short_repr(self.content[key])}")
        without = 0
        for path in paths:
            width, height = upright_size(path)
            labels = label_file(path)
            people: list[ImportedPerson] = []
            if labels.is_file():
                people = list(self._people(labels, width, height))
            without += not labels.is_file()
            yield ImportedImage(path, width, height, people)
        if without:
            self.notes.append(
                f"{key}: {without} of {len(paths)} images have no label file (such as {label_file(paths[-1])}, of the "
                "last image) and count as images without people"
                if without == len(paths)
                else f"{key}: {without} of {len(paths)} images have no label file and count as images without people"
            )

    def _images(self, key: str) -> list[Path]:
        entries = self.content[key]
        found: dict[Path, None] = {}
        for entry in entries if isinstance(entries, list) else [entries]:
            if not isinstance(entry, str):
                raise DatasetError(f"{self.path}: {key}: expected folders or text files, got {short_repr(entry)}")
            place = self._place(key, entry)
            if place.is_dir():
                files = sorted(
                    p for p in place.rglob("*.*") if p.suffix.lower() in IMAGES and not p.name.startswith(".")
                )
                found |= dict.fromkeys(files)
            else:
                found |= dict.fromkeys(self._listed(place))
        return list(found)

    def _roots(self) -> list[Path]:
        """Return where a split's folders may be: relative to ``path``, as seen from the file and from here."""
        folder, text = self.path.parent, self.content.get("path") or ""
        if not isinstance(text, str):
            raise DatasetError(f"{self.path}: path: expected the data set's folder, got {short_repr(text)}")
        # data sets are moved, and `path` is what is forgotten then
        return [folder / Path(text).expanduser(), Path(text).expanduser(), folder]

    def _place(self, key: str, entry: str) -> Path:
        # ultralytics' rule for ../train/images of Roboflow's exports, which lie beside the file
        names = [entry, *([entry[3:]] if entry.startswith("../") else [])]
        tried = list(dict.fromkeys(Path(os.path.abspath(root / name)) for root in self._roots() for name in names))
        for path in tried:
            if path.exists():
                return path.resolve()
        raise DatasetError(
            f"{self.path}: {key}: {short_repr(entry)} is not there; looked for {', '.join(map(str, tried))}; correct "
            "'path' or the split"
        )

    def _listed(self, file: Path) -> Iterator[Path]:
        """Yield the images that a text file lists, a path each line."""
        roots = [file.parent, *self._roots()]
        for row, line in enumerate(_lines(file, "list of images"), 1):
            if not (name := line.strip()):
                continue
            paths = [Path(os.path.abspath(root / name)) for root in roots]
            path = next((path for path in paths if os.path.isfile(path)), None)
            if path is None:
                raise DatasetError(
                    f"{file}: line {row}: no image {short_repr(name)} (looked for {paths[0]}, {paths[1]})"
                )
            yield path

    def _people(self, file: Path, width: int, height: int) -> Iterator[ImportedPerson]:
        size, seen = np.array([width, height], np.float64), set[tuple[float, ...]]()
        for row, line in enumerate(_lines(file, "labels"), 1):
            if not (words := line.split()):
                continue
            where, count = f"{file}: line {row}", len(self.joints.names)
            if len(words) != 5 + count * self.values:
                raise DatasetError(
                    f"{where}: expected {5 + count * self.values} numbers (class, box, {count} joints of {self.values} "
                    f"each: kpt_shape of {self.path.name}), got {len(words)}"
                )
            numbers = np.array([number(word, where) for word in words])
            if numbers[0] not in self.names:
                raise DatasetError(f"{where}: class {words[0]} is not in 'names' of {self.path}")
            if numbers[0] not in self.people or tuple(numbers) in seen:
                self.counts["others" if numbers[0] not in self.people else "copies"] += 1
                continue
            seen.add(tuple(numbers))
            joints = self._keypoints(numbers[5:].reshape(count, self.values), where)
            box = numbers[1:5].reshape(2, 2)
            used = np.concatenate((box, joints[joints[:, 2] > 0, :2]))
            if (used < _OUTSIDE[0]).any() or (used > _OUTSIDE[1]).any() or (box[1] < 0).any():
                raise DatasetError(
                    f"{where}: coordinates must be parts of the image's sides, from 0 to 1, and boxes' sides positive; "
                    f"got {float(used.max()):g} and {float(used.min()):g}"
                )
            joints[:, :2] *= size
            x, y = (box[0] - box[1] / 2) * size
            w, h = box[1] * size
            yield ImportedPerson(joints, (float(x), float(y), float(w), float(h)))

    def _keypoints(self, values: np.ndarray, where: str) -> np.ndarray:
        """Return (K, 3) of (K, 2 or 3)."""
        if self.values == 2:
            missing = (values < 0).any(1) | (values == 0).all(1)
            self.counts["missing"] += int(missing.sum())
            return np.column_stack((values, np.where(missing, 0, 2)))
        wrong = values[~np.isin(values[:, 2], (0, 1, 2)), 2]
        if len(wrong):
            raise DatasetError(f"{where}: the visibility of a joint must be 0, 1 or 2, got {float(wrong[0]):g}")
        return values

    def all_notes(self) -> list[str]:
        """Return what was assumed or left out."""
        if self.values == 2:
            text = f"joints at (0, 0) or below 0 are not labelled ({self.counts['missing']}), all others are visible"
            self.notes.append(f"kpt_shape has no visibility: {text}")
        if self.counts["copies"]:
            self.notes.append(f"{self.counts['copies']} labels left out that are equal to another one of their image")
        return self.notes + others_left_out("labels", self.counts["others"], self.path)


def label_file(image: Path) -> Path:
    """Return the label file of an image: the last folder ``images`` of its path is ``labels`` instead."""
    inside = f"{os.sep}images{os.sep}"
    return Path(f"{os.sep}labels{os.sep}".join(str(image).rsplit(inside, 1))).with_suffix(".txt")


def _lines(file: Path, what: str) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        raise DatasetError(f"{file}: cannot read this {what} file ({error})") from error


def _class_names(content: dict[str, Any], path: Path) -> dict[int, str]:
    names, count = content.get("names"), content.get("nc")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if names is None and type(count) is int and 0 < count <= MOST_JOINTS:
        names = {i: f"class_{i}" for i in range(count)}
    if not isinstance(names, dict) or not names or not all(type(key) is int for key in names):
        raise DatasetError(
            f"{path}: names: expected the classes' names, such as {{0: person}}, got {short_repr(names)}"
        )
    return {key: str(name) for key, name in names.items()}


def _joints(
    content: dict[str, Any], count: int, people: list[int], options: ImportOptions, path: Path, notes: list[str]
) -> Joints:
    flip = content.get("flip_idx")
    pairs = None if not flip else _pairs(flip, count, path)
    named = list(options.joints) or _joint_names(content.get("kpt_names"), people)
    if named is not None:
        if len(named) != count or not all(isinstance(name, str) for name in named):
            what = "--joints" if options.joints else "kpt_names"
            raise DatasetError(f"{path}: {what}: expected {count} joint names (kpt_shape), got {short_repr(named)}")
        return Joints(tuple(named), pairs)
    coco = load_schema("datasets/coco.yaml")
    if count == coco.num_joints and flip == list(coco.flip_index):
        notes.append("joint names: COCO's, as there are no kpt_names and flip_idx is COCO's; --joints gives others")
        return Joints(coco.joints, pairs)
    notes.append(f"joint names: joint_0 to joint_{count - 1}, as there are no kpt_names; --joints gives names")
    return Joints(tuple(f"joint_{i}" for i in range(count)), pairs)


def _joint_names(value: Any, people: list[int]) -> list[Any] | None:
    """Return the joints' names: a list, number -> name, or class -> list; None: there are none for the classes."""
    if isinstance(value, dict) and value and all(isinstance(name, str) for name in value.values()):
        return [value.get(i) for i in range(len(value))]
    if isinstance(value, dict):
        return next((value[number] for number in people if isinstance(value.get(number), list)), None)
    return value if isinstance(value, list) else None


def _pairs(flip: Any, count: int, path: Path) -> Pairs:
    is_list = isinstance(flip, list) and len(flip) == count and all(type(i) is int and 0 <= i < count for i in flip)
    if not is_list or any(flip[flip[i]] != i for i in range(count)):
        raise DatasetError(
            f"{path}: flip_idx: expected for each of the {count} joints the number (from 0) of the one that it becomes "
            f"in a flipped image, pairs each way, got {short_repr(flip)}"
        )
    return tuple((i, j) for i, j in enumerate(flip) if i < j)
