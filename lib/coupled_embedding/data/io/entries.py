"""The entries of a COCO-format annotation file, field by field: what is wrong is named with file, id and field."""

import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.io.data_errors import BadInputError, Problem
from coupled_embedding.data.io.segmentation import MAX_COORDINATE, check_segmentation
from coupled_embedding.data.people import PersonCategories, whole_number
from coupled_embedding.data.records import MAX_PIXELS
from coupled_embedding.utils.errors import shown

LABELS = {0, 1, 2}


@dataclass(frozen=True)
class ImageEntry:
    """A photo as the annotation file lists it; see `ImageRecord`."""

    image_id: int
    path: Path
    width: int
    height: int
    crowd_index: float | None


@dataclass(frozen=True)
class AnnotationEntry:
    """An annotation: a person, a region that training ignores, or both.

    Attributes:
        person: keypoints (K, 3) and box (4,), float32; None: nobody to learn from.
        ignored: a COCO segmentation, or None.
        is_crowd: iscrowd.
        num_keypoints: as the file has it, else counted.
        area: square image pixels; NaN: the file has none.
    """

    person: tuple[NDArray[np.float32], NDArray[np.float32]] | None
    ignored: Any
    is_crowd: bool = False
    num_keypoints: int = 0
    area: float = math.nan


@dataclass(frozen=True)
class EntryReader:
    """Reads entries of one annotation file; every method raises BadInputError for an entry that is wrong.

    Attributes:
        path: of the annotation file.
        root: of the data set: its photos lie there.
        folder: of the split's photos, or a zip file.
        num_joints: K.
        categories: which of its annotations are people.
    """

    path: Path
    root: Path
    folder: Path
    num_joints: int
    categories: PersonCategories

    def fault(self, entry: Any, kind: str, field: str, text: str) -> BadInputError:
        """Return the error of an entry; its ids go before ``text``. Kinds: ``image``, ``annotation``."""
        known = entry if isinstance(entry, dict) else {}
        own_id = _plain(known.get("id"))
        image_id = own_id if kind == "image" else _plain(known.get("image_id"))
        name = f"{kind} {shown(entry)}"
        if image_id is not None:
            name = f"image {image_id}"
            if kind == "annotation":
                name = f"annotation {'?' if own_id is None else own_id} of {name}"
        whose = (image_id, own_id if kind == "annotation" else None)
        return BadInputError(Problem(str(self.path), f"{name}{text}", field, *whose))

    def whole(self, entry: Any, key: str, kind: str, least: float = -np.inf) -> int:
        """Return the whole number of a field."""
        value = self._field(entry, key, kind)
        number = whole_number(value)
        if number is None or number < least:
            raise self.fault(entry, kind, key, f": '{key}' must be a whole number, got {shown(value)}")
        return number

    def _field(self, entry: Any, key: str, kind: str) -> Any:
        if not isinstance(entry, dict) or key not in entry:
            raise self.fault(entry, kind, key, f" has no '{key}'")
        return entry[key]

    def is_of_others(self, entry: Any) -> bool:
        """Whether an annotation is of something else than people."""
        return isinstance(entry, dict) and self.categories.is_person(entry.get("category_id")) is False

    def identity(self, entry: Any) -> int | float | str | None:
        """Return an annotation's own id, which some files lack."""
        value = entry.get("id")
        if value is not None and _plain(value) is None:
            raise self.fault(entry, "annotation", "id", f": 'id' must be a number, got {shown(value)}")
        return _plain(value)

    def image(self, entry: Any) -> ImageEntry:
        """Read a photo's entry."""
        image_id = self.whole(entry, "id", "image")
        width, height = (self.whole(entry, key, "image", least=1) for key in ("width", "height"))
        if width * height > MAX_PIXELS or max(width, height) > MAX_COORDINATE:
            limits = f"at most {MAX_PIXELS} are read, {MAX_COORDINATE} a side"
            raise self.fault(entry, "image", "width", f": {width}×{height} pixels; {limits}")
        crowd_index = entry.get("crowdIndex")
        if crowd_index is not None and not _is_finite(crowd_index):
            raise self.fault(entry, "image", "crowdIndex", f": crowdIndex must be a number, got {shown(crowd_index)}")
        return ImageEntry(
            image_id, self._photo(entry), width, height, None if crowd_index is None else float(crowd_index)
        )

    def _photo(self, entry: Any) -> Path:
        name = self._field(entry, "file_name", "image")
        if not isinstance(name, str) or not name or "\0" in name:
            raise self.fault(entry, "image", "file_name", f": 'file_name' must be a file's name, got {shown(name)}")
        path = self.folder / name
        if (".." in name or os.path.isabs(name)) and not self._holds(path):
            raise self.fault(
                entry, "image", "file_name", f": file_name {name!r:.200} leaves the data set's folder {self.root}"
            )
        return path

    def _holds(self, path: Path) -> bool:
        """Whether a path is inside the data set's folder or that of its photos, links aside."""
        whole = Path(os.path.abspath(path))
        return any(whole.is_relative_to(os.path.abspath(folder)) for folder in (self.root, self.folder))

    def annotation(self, entry: Any, image: ImageEntry) -> AnnotationEntry:
        """Read an annotation of a photo.

        People are annotations that are not crowds or have ``num_keypoints`` above 0. Crowds and
        people with ``num_keypoints`` 0 become ignore regions.
        """
        category = entry.get("category_id")
        if self.categories.is_person(category) is None:
            raise self.fault(entry, "annotation", "category_id", f": no category has the id {shown(category)}")
        crowd = entry.get("iscrowd") or 0
        if crowd not in (0, 1):
            raise self.fault(entry, "annotation", "iscrowd", f": iscrowd must be 0 or 1, got {shown(crowd)}")
        count = self._num_keypoints(entry)
        # read for crowds too: an evaluator needs their boxes
        known = self._keypoints(entry), self._box(entry)
        person = known if not crowd or count > 0 else None
        ignored = (entry.get("segmentation") or None) if crowd or count == 0 else None
        if ignored is not None:
            try:
                check_segmentation(ignored, image.height, image.width)
            except ValueError as error:
                raise self.fault(entry, "annotation", "segmentation", f": segmentation: {error}") from error
        return AnnotationEntry(person, ignored, bool(crowd), count, self._area(entry))

    def _area(self, entry: Any) -> float:
        value = entry.get("area")
        if value is None:
            return math.nan
        if not _is_finite(value):
            raise self.fault(entry, "annotation", "area", f": area must be a finite number, got {shown(value)}")
        return float(value)

    def region_of_broken(self, entry: Any, image: ImageEntry) -> Any:
        """Return what is known of where a broken annotation is: its segmentation, else its box as a polygon.

        Somebody is there, and to learn that nobody is would be worse than to learn nothing.
        None if neither can be read.
        """
        segmentation = entry.get("segmentation")
        try:
            check_segmentation(segmentation, image.height, image.width)
        except ValueError:
            segmentation = None
        if segmentation:
            return segmentation
        try:
            x, y, width, height = self._box(entry).tolist()
        except BadInputError:
            return None
        return [[x, y, x + width, y, x + width, y + height, x, y + height]]

    def _num_keypoints(self, entry: Any) -> int:
        # custom files may lack this field; the labels tell as much
        if "num_keypoints" in entry:
            return self.whole(entry, "num_keypoints", "annotation", least=0)
        keypoints = entry.get("keypoints")
        labels = keypoints[2::3] if isinstance(keypoints, list) else []
        return sum(1 for label in labels if isinstance(label, int | float) and label > 0)

    def _keypoints(self, entry: Any) -> NDArray[np.float32]:
        values = entry.get("keypoints")
        if values is None:
            return np.zeros((self.num_joints, 3), np.float32)
        numbers = self._numbers(entry, "keypoints", values, 3 * self.num_joints)
        if not set(values[2::3]) <= LABELS:
            wrong = next(label for label in values[2::3] if label not in LABELS)
            raise self.fault(entry, "annotation", "keypoints", f": keypoints: labels must be 0, 1 or 2, got {wrong!r}")
        return numbers.reshape(self.num_joints, 3)

    def _box(self, entry: Any) -> NDArray[np.float32]:
        numbers = self._numbers(entry, "bbox", self._field(entry, "bbox", "annotation"), 4)
        if numbers[2] < 0 or numbers[3] < 0:
            raise self.fault(entry, "annotation", "bbox", f": bbox: sides must not be below 0, got {entry['bbox']}")
        return numbers

    def _numbers(self, entry: Any, key: str, values: Any, count: int) -> NDArray[np.float32]:
        if not isinstance(values, list) or len(values) != count:
            length = len(values) if isinstance(values, list) else "none"
            raise self.fault(entry, "annotation", key, f": {key}: expected {count} numbers, got {length}")
        try:
            numbers = np.asarray(values)
        except ValueError:  # lists of several lengths among them
            numbers = np.zeros(0)
        if numbers.shape != (count,) or numbers.dtype.kind not in "iuf":
            wrong = next((value for value in values if not _is_number(value)), "one too large")
            raise self.fault(entry, "annotation", key, f": {key}: expected {count} numbers, got {shown(wrong)}")
        if not (np.abs(numbers) <= MAX_COORDINATE).all():
            raise self.fault(
                entry, "annotation", key, f": {key}: numbers must be finite, within ±{MAX_COORDINATE} pixels"
            )
        return numbers.astype(np.float32)


def _plain(value: Any) -> Any:
    """Return an id that can name its entry; None for anything else."""
    return value if isinstance(value, int | float | str) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    # a whole number may be larger than any float
    return _is_number(value) and abs(value) <= sys.float_info.max
