"""MPII Human Pose: its MATLAB annotation file, for several people or for one."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.group_crops import HEIGHT, Crop, find_groups
from coupled_embedding.data.importers.held_out import HeldOut, read_held_out
from coupled_embedding.data.importers.matlab import MatlabValue, read_matlab
from coupled_embedding.data.importers.parts import (
    ImageFinder,
    ImportedDataset,
    ImportedImage,
    ImportedPerson,
    ImportOptions,
    Joints,
    upright_size,
)
from coupled_embedding.data.people import joint_boxes
from coupled_embedding.data.schema import load_schema
from coupled_embedding.utils.errors import DatasetError, short_repr

SCHEMA = "datasets/mpii.yaml"
SINGLE_SCHEMA = "datasets/mpii_single.yaml"
# of the training part: the images of every such video are for validation
VAL_EVERY = 7
# MATLAB counts pixels from 1
FIRST_PIXEL = 1.0
# of single people's boxes, below the center, in pixels of a scale of 1: the crop of published single-person systems,
# which shows feet rather than what is above the head
CROP_SHIFT = 15.0

_NOTES = {
    "empty": "images without annotated people left out, as people may be in them all the same",
    "nowhere": "people without joints, box and center left out",
    "guessed": "people without a center or scale: those of their joints",
    "alone": "people that are neither single nor near another one: of no group, which scores leave out",
    "unlisted": "people of validation images left out: the list does not have their centers",
    "headless": "people with joints and without a head box: scores by head size leave them out",
}


def read_mpii(source: Path, options: ImportOptions) -> ImportedDataset:
    """Read MPII's annotation file, all people of an image; see `_read`."""
    return _read("mpii", source, options, single=False)


def read_mpii_single(source: Path, options: ImportOptions) -> ImportedDataset:
    """Read MPII's annotation file, the people that it calls single, images without any left out; see `_read`."""
    return _read("mpii-single", source, options, single=True)


def mpii_files(source: Path) -> list[Path]:
    """Return a folder's MATLAB files; a file is its own."""
    return sorted(source.glob("*.mat")) if source.is_dir() else [source]


def _read(kind: str, source: Path, options: ImportOptions, single: bool) -> ImportedDataset:
    """Read the annotation file.

    Args:
        source: ``mpii_human_pose_v1_u12_1.mat``, or the folder that it is in.
        options: ``images`` default to the folder ``images`` beside the file or beside its folder; ``held_out`` lists
            the validation images of the training part, by default those of every 7th video.

    Raises:
        DatasetError: the file or a value in it is malformed, or an image is missing.
    """
    if options.joints or options.classes:
        raise DatasetError("--joints, --class: MPII's joints are known, and it has people only")
    paths = mpii_files(source)
    if len(paths) != 1:
        raise DatasetError(f"{source}: expected one MATLAB file, found {len(paths)}; name the file")
    top = paths[0].parent
    finder = ImageFinder([options.images] if options.images else [top / "images", top.parent / "images", top], paths[0])
    held_out = read_held_out(options.held_out) if options.held_out else None
    schema = load_schema(SINGLE_SCHEMA if single else SCHEMA)
    reader = _Reader(read_matlab(paths[0], "RELEASE"), finder, held_out, single, schema.num_joints)
    splits: dict[str, list[ImportedImage]] = {"train": [], "val": [], "test": []}
    for split, image in reader.images():
        splits[split].append(image)
    joints = Joints(schema.joints, schema.flip_pairs, schema.skeleton)
    kept = {split: images for split, images in splits.items() if images}
    schema_file = SINGLE_SCHEMA if single else SCHEMA
    return ImportedDataset(kind, paths[0], joints, kept, reader.all_notes(splits["val"]), schema_file)


@dataclass
class _Reader:
    release: MatlabValue
    finder: ImageFinder
    held_out: HeldOut | None
    single: bool
    num_joints: int
    counts: Counter[str] = field(default_factory=Counter)
    listed: int = 0

    def images(self) -> Iterator[tuple[str, ImportedImage]]:
        """Yield the images with people, each with its split."""
        entries = self.release.field("annolist").structs()
        if not entries:
            raise DatasetError(f"{self.release.where}.annolist: no images; is this MPII's annotation file?")
        trains = self.release.field("img_train").numbers()
        singles = self.release.field("single_person").items()
        activities = self.release.field("act").items()
        for name, values in (("img_train", trains), ("single_person", singles), ("act", activities)):
            if len(values) != len(entries) and (values or name != "act"):
                text = f"expected an element for each of the {len(entries)} images, got {len(values)}"
                raise DatasetError(f"{self.release.where}.{name}: {text}")
        for place, entry in enumerate(entries):
            rectangles = entry.field("annorect").structs()
            chosen = _numbers_of(singles[place], len(rectangles))
            file = entry.field("image").field("name")
            fields: dict[str, Any] = {"id": place + 1}
            if activities and (activity := activities[place].field("act_name").text()):
                fields["activity"] = activity
            video = entry.field("vididx").number()
            fields |= {} if video is None else {"video": int(video)}
            people = self._people(rectangles, chosen, place + 1)
            split = self._split(file.text(), trains[place], int(place + 1 if video is None else video))
            if self.single:
                people = self._single(people, split, file.text())
            if not people:
                self.counts["empty"] += not self.single
                continue
            path = self.finder.find([file.text()], file.where.removeprefix(f"{self.finder.source}: "))
            size = upright_size(path)
            # the box of a single person is the crop, wherever it reaches
            shown = people if self.single else [_inside(person, size) for person in people]
            yield split, ImportedImage(path, *size, shown, fields)

    def _split(self, name: str, train: float, video: int) -> str:
        if train not in (0, 1):
            raise DatasetError(f"{self.release.where}.img_train: expected 0 or 1, got {train:g}")
        if not train:
            return "test"
        if self.held_out:
            listed = name in self.held_out
            self.listed += listed
            return "val" if listed else "train"
        return "train" if video % VAL_EVERY else "val"

    def _people(self, rectangles: Sequence[MatlabValue], single: set[int], image: int) -> list[ImportedPerson]:
        people = []
        for order, rectangle in enumerate(rectangles, 1):
            person = self._person(rectangle)
            if person is None:
                self.counts["nowhere"] += 1
                continue
            fields = {"id": 1000 * image + order, **person.fields, "single_person": int(order in single)}
            people.append(replace(person, fields=fields))
        others = [i for i, person in enumerate(people) if not person.fields["single_person"]]
        centers = np.array([people[i].fields["center"] for i in others]).reshape(-1, 2)
        scales = np.array([people[i].fields["scale"] for i in others])
        for i, group in zip(others, find_groups(centers, scales), strict=True):
            self.counts["alone"] += not group and not self.single
            people[i] = replace(people[i], fields={**people[i].fields, **({"group": group} if group else {})})
        return people

    def _single(self, people: list[ImportedPerson], split: str, name: str) -> list[ImportedPerson]:
        """Return the single people, with joints where these are public; in listed images, those that are listed."""
        kept = []
        for person in people:
            labelled = (person.keypoints[:, 2] > 0).any()
            if not person.fields["single_person"] or (split != "test" and not labelled):
                continue
            x, y = person.fields["center"]
            place = (x + FIRST_PIXEL, y + FIRST_PIXEL)
            if split == "val" and self.held_out and not self.held_out.has_person(name, place):
                self.counts["unlisted"] += 1
                continue
            kept.append(replace(person, box=square_box(person.fields["center"], person.fields["scale"], CROP_SHIFT)))
        return kept

    def _person(self, rectangle: MatlabValue) -> ImportedPerson | None:
        """Return a person; None: nothing says where it is."""
        keypoints = self._keypoints(rectangle.field("annopoints").field("point"))
        corners = [rectangle.field(name).number() for name in ("x1", "y1", "x2", "y2")]
        x1, y1, x2, y2 = (0.0 if v is None else v for v in corners)
        head = [x1 - FIRST_PIXEL, y1 - FIRST_PIXEL, x2 - x1, y2 - y1] if None not in corners else []
        head = head if head and min(head[2:]) > 0 else []
        places = [rectangle.field("objpos").field(axis).number() for axis in "xy"]
        center = [v - FIRST_PIXEL for v in places if v is not None]
        scale = rectangle.field("scale").number()
        labelled = bool((keypoints[:, 2] > 0).any())
        box = _box(keypoints, head)
        if (len(center) < 2 or not scale or scale <= 0) and labelled:
            self.counts["guessed"] += 1
            x, y, width, height = box
            center = center if len(center) == 2 else [x + width / 2, y + height / 2]
            scale = scale if scale and scale > 0 else max(width, height, 1.0) / HEIGHT
        if len(center) < 2 or not scale or scale <= 0:
            return None
        if not labelled:
            box = square_box(center, scale)
        self.counts["headless"] += labelled and not head
        fields: dict[str, Any] = {"center": center, "scale": scale} | ({"head_box": head} if head else {})
        return ImportedPerson(keypoints, box, fields)

    def _keypoints(self, points: MatlabValue) -> NDArray[np.float64]:
        """Return (K, 3); a joint whose visibility is not given counts as visible."""
        keypoints = np.zeros((self.num_joints, 3))
        for point in points.structs():
            joint, x, y = (point.field(name).number() for name in ("id", "x", "y"))
            if x is None or y is None:
                continue
            if joint is None or joint not in range(self.num_joints):
                expected = f"a joint's number from 0 to {self.num_joints - 1}"
                raise DatasetError(f"{point.where}.id: expected {expected}, got {joint}")
            if keypoints[int(joint), 2]:
                raise DatasetError(f"{point.where}.id: joint {joint:g} is there twice")
            visible = point.field("is_visible").number()
            if visible not in (None, 0, 1):
                raise DatasetError(f"{point.where}.is_visible: expected 0 or 1, got {visible:g}")
            keypoints[int(joint)] = x - FIRST_PIXEL, y - FIRST_PIXEL, 1 if visible == 0 else 2
        return keypoints

    def all_notes(self, val: Sequence[ImportedImage]) -> list[str]:
        """Return what was assumed or left out."""
        notes = ["coordinates are MATLAB's less 1: the first pixel is 0"]
        if self.held_out:
            if not self.listed:
                raise DatasetError(f"{self.held_out.source}: none of its images is in the training part of MPII")
            missing = len(self.held_out.centers) - self.listed
            notes.append(f"val: the {self.listed} images of {self.held_out.source}, {missing} others of it not found")
        else:
            notes.append(f"val: the {len(val)} images of every {VAL_EVERY}th video, not the split of published scores")
        if not self.single:
            notes.append("group: neighbors that are not single people, by a rule, not the benchmark's list of groups")
        return notes + [f"{self.counts[key]} {text}" for key, text in _NOTES.items() if self.counts[key]]


def _inside(person: ImportedPerson, size: tuple[int, int]) -> ImportedPerson:
    """Return a person whose box is cut off at the image's border; the same where nothing of it is inside."""
    assert person.box
    crop = Crop(person.box[0], person.box[1], person.box[0] + person.box[2], person.box[1] + person.box[3]).inside(
        *size
    )
    return replace(person, box=(crop.left, crop.top, crop.right - crop.left, crop.bottom - crop.top))


def square_box(center: Sequence[float], scale: float, shift: float = 0.0) -> tuple[float, float, float, float]:
    """Return the square x, y, width, height of a person's height around a center, moved down by shift · scale."""
    side = HEIGHT * scale
    return center[0] - side / 2, center[1] + shift * scale - side / 2, side, side


def _numbers_of(cell: MatlabValue, count: int) -> set[int]:
    """Return the numbers, from 1, of the rectangles of single people."""
    numbers = cell.numbers()
    for value in numbers:
        if value not in range(1, count + 1):
            raise DatasetError(f"{cell.where}: expected numbers of the image's {count} people, got {short_repr(value)}")
    return {int(value) for value in numbers}


def _box(keypoints: NDArray[np.float64], head: Sequence[float]) -> tuple[float, float, float, float]:
    """Return the smallest box x, y, width, height around the labelled joints and the head box."""
    x, y, width, height = joint_boxes(keypoints[None])[0].tolist()
    if not head or not (keypoints[:, 2] > 0).any():
        return x, y, width, height
    left, top = min(x, head[0]), min(y, head[1])
    return left, top, max(x + width, head[0] + head[2]) - left, max(y + height, head[1] + head[3]) - top
