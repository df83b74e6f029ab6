"""The entries of a COCO-format annotation file, field by field: what is wrong is named with file, id and field."""

import math
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.io.data_errors import DataError, DataIssue
from coupled_embedding.data.io.segmentation import MAX_COORDINATE, check_segmentation
from coupled_embedding.data.people import PersonCategories, whole_number
from coupled_embedding.data.records import MAX_PIXELS, ImageRecord
from coupled_embedding.utils.errors import short_repr

LABELS = {0, 1, 2}


@dataclass(frozen=True)
class PseudoLabels:
    """How to train on annotations that a program made, with the scores that it gave them.

    Attributes:
        min_score: people of a lower ``score`` become regions that training ignores; 0: none do.
        full_score: joints count by their ``keypoint_scores`` as a share of this, at most whole; 0: all count alike.
    """

    min_score: float = 0.0
    full_score: float = 0.0


@dataclass(frozen=True)
class AnnotationEntry:
    """An annotation: a person, a region that training ignores, or both.

    Attributes:
        person: keypoints (K, 3) and box (4,), float32; None: no person to learn from.
        ignored: a COCO segmentation, or None.
        is_crowd: iscrowd.
        num_keypoints: as the file has it, else counted.
        area: square image pixels; NaN: the file has none.
        confidence: (K,) float32 in [0, 1]; None: the joints have no scores, or none are wanted.
    """

    person: tuple[NDArray[np.float32], NDArray[np.float32]] | None
    ignored: Any
    is_crowd: bool = False
    num_keypoints: int = 0
    area: float = math.nan
    confidence: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class EntryReader:
    """Reads entries of one annotation file; every method raises DataError for an invalid entry.

    Attributes:
        path: of the annotation file.
        root: of the data set: its images lie there.
        folder: of the split's images, or a zip file.
        num_joints: K.
        categories: which of its annotations are people.
        pseudo_labels: what scores of annotations mean; None: nothing.
    """

    path: Path
    root: Path
    folder: Path
    num_joints: int
    categories: PersonCategories
    pseudo_labels: PseudoLabels | None = None

    def fault(self, entry: Any, field: str, text: str, kind: str = "annotation") -> DataError:
        """Return the error of an entry; its ids go before ``text``. Kinds: ``image``, ``annotation``."""
        known = entry if isinstance(entry, dict) else {}
        own_id = _plain(known.get("id"))
        image_id = own_id if kind == "image" else _plain(known.get("image_id"))
        if image_id is None:
            name = f"{kind} {short_repr(entry)}"
        elif kind == "image":
            name = f"image {image_id}"
        else:
            name = f"annotation {'?' if own_id is None else own_id} of image {image_id}"
        whose = (image_id, own_id if kind == "annotation" else None)
        return DataError(DataIssue(str(self.path), f"{name}{text}", field, *whose))

    def whole(self, entry: Any, key: str, kind: str = "annotation", least: float = -np.inf) -> int:
        """Return the whole number of a field."""
        value = self._field(entry, key, kind)
        number = whole_number(value)
        if number is None or number < least:
            raise self.fault(entry, key, f": '{key}' must be a whole number, got {short_repr(value)}", kind)
        return number

    def _field(self, entry: Any, key: str, kind: str = "annotation") -> Any:
        if not isinstance(entry, dict) or key not in entry:
            raise self.fault(entry, key, f" has no '{key}'", kind)
        return entry[key]

    def is_of_others(self, entry: Any) -> bool:
        """Whether an annotation is of something else than people."""
        return isinstance(entry, dict) and self.categories.is_person(entry.get("category_id")) is False

    def identity(self, entry: Any) -> int | float | str | None:
        """Return an annotation's own id, which some files lack."""
        value = entry.get("id")
        if value is not None and _plain(value) is None:
            raise self.fault(entry, "id", f": 'id' must be a number, got {short_repr(value)}")
        return _plain(value)

    def image(self, entry: Any) -> ImageRecord:
        """Read an image's entry: a record without people."""
        image_id = self.whole(entry, "id", "image")
        width, height = (self.whole(entry, key, "image", least=1) for key in ("width", "height"))
        if width * height > MAX_PIXELS or max(width, height) > MAX_COORDINATE:
            limits = f"at most {MAX_PIXELS} are read, {MAX_COORDINATE} a side"
            raise self.fault(entry, "width", f": {width}×{height} pixels; {limits}", "image")
        crowd_index = entry.get("crowdIndex")
        if crowd_index is not None and not _is_finite(crowd_index):
            raise self.fault(
                entry, "crowdIndex", f": crowdIndex must be a number, got {short_repr(crowd_index)}", "image"
            )
        people = np.zeros((0, self.num_joints, 3), np.float32), np.zeros((0, 4), np.float32)
        crowd_index = None if crowd_index is None else float(crowd_index)
        return ImageRecord(image_id, self._image_path(entry), width, height, *people, crowd_index=crowd_index)

    def _image_path(self, entry: Any) -> Path:
        name = self._field(entry, "file_name", "image")
        if not isinstance(name, str) or not name or "\0" in name:
            text = f": 'file_name' must be a file's name, got {short_repr(name)}"
            raise self.fault(entry, "file_name", text, "image")
        path = self.folder / name
        if ".." in name or os.path.isabs(name):
            whole = Path(os.path.abspath(path))  # links aside
            if not any(whole.is_relative_to(os.path.abspath(folder)) for folder in (self.root, self.folder)):
                text = f": file_name {name!r:.200} leaves the data set's folder {self.root}"
                raise self.fault(entry, "file_name", text, "image")
        return path

    def annotation(self, entry: Any, image: ImageRecord) -> AnnotationEntry:
        """Read an annotation of an image.

        People are annotations that are not crowds or have ``num_keypoints`` above 0. Crowds and
        people with ``num_keypoints`` 0 become ignore regions.
        """
        category = entry.get("category_id")
        if self.categories.is_person(category) is None:
            raise self.fault(entry, "category_id", f": no category has the id {short_repr(category)}")
        crowd = entry.get("iscrowd") or 0
        if crowd not in (0, 1):
            raise self.fault(entry, "iscrowd", f": iscrowd must be 0 or 1, got {short_repr(crowd)}")
        count = self._num_keypoints(entry)
        # read for crowds too: an evaluator needs their boxes
        known = self._keypoints(entry), self._box(entry)
        ignored = (entry.get("segmentation") or None) if crowd or count == 0 else None
        if ignored is not None:
            try:
                check_segmentation(ignored, image.height, image.width)
            except ValueError as error:
                raise self.fault(entry, "segmentation", f": segmentation: {error}") from error
        area = entry.get("area")
        if area is not None and not _is_finite(area):
            raise self.fault(entry, "area", f": area must be a finite number, got {short_repr(area)}")
        person = known if not crowd or count > 0 else None
        confidence = None
        if person and self.pseudo_labels:
            confidence = self._confidence(entry, self.pseudo_labels.full_score)
            least = self.pseudo_labels.min_score
            if least > 0 and count and self._score(entry) < least:
                person, ignored = None, self.region_of_broken(entry, image)
        area = math.nan if area is None else float(area)
        return AnnotationEntry(person, ignored, bool(crowd), count, area, confidence)

    def _score(self, entry: Any) -> float:
        score = entry.get("score", math.inf)
        if not _is_number(score) or math.isnan(score):
            raise self.fault(entry, "score", f": score must be a number, got {short_repr(score)}")
        return float(score)

    def _confidence(self, entry: Any, full_score: float) -> NDArray[np.float32] | None:
        if full_score <= 0 or entry.get("keypoint_scores") is None:
            return None
        scores = self._numbers(entry, "keypoint_scores", entry["keypoint_scores"], self.num_joints)
        if (scores < 0).any():
            raise self.fault(entry, "keypoint_scores", ": keypoint_scores: must not be below 0")
        return (scores / full_score).clip(max=1).astype(np.float32)

    def region_of_broken(self, entry: Any, image: ImageRecord) -> Any:
        """Return what is known of where a broken annotation is: its segmentation, else its box as a polygon.

        A person is there, and to learn that there is none would be worse than to learn nothing.
        None if neither can be read.
        """
        segmentation = entry.get("segmentation")
        with suppress(ValueError):
            check_segmentation(segmentation, image.height, image.width)
            if segmentation:
                return segmentation
        with suppress(DataError):
            x, y, width, height = self._box(entry).tolist()
            return [[x, y, x + width, y, x + width, y + height, x, y + height]]
        return None

    def _num_keypoints(self, entry: Any) -> int:
        # custom files may lack this field; the labels say as much
        if entry.get("num_keypoints") is not None:
            return self.whole(entry, "num_keypoints", least=0)
        keypoints = entry.get("keypoints")
        labels = keypoints[2::3] if isinstance(keypoints, list) else []
        return sum(1 for label in labels if isinstance(label, int | float) and label > 0)

    def _keypoints(self, entry: Any) -> NDArray[np.float32]:
        values = entry.get("keypoints")
        if values is None or values == []:
            return np.zeros((self.num_joints, 3), np.float32)
        numbers = self._numbers(entry, "keypoints", values, 3 * self.num_joints)
        if wrong := [label for label in values[2::3] if label not in LABELS]:
            raise self.fault(entry, "keypoints", f": keypoints: labels must be 0, 1 or 2, got {wrong[0]!r}")
        return numbers.reshape(self.num_joints, 3)

    def _box(self, entry: Any) -> NDArray[np.float32]:
        numbers = self._numbers(entry, "bbox", self._field(entry, "bbox"), 4)
        if numbers[2] < 0 or numbers[3] < 0:
            raise self.fault(entry, "bbox", f": bbox: sides must not be below 0, got {entry['bbox']}")
        return numbers

    def _numbers(self, entry: Any, key: str, values: Any, count: int) -> NDArray[np.float32]:
        if not isinstance(values, list) or len(values) != count:
            length = len(values) if isinstance(values, list) else "none"
            raise self.fault(entry, key, f": {key}: expected {count} numbers, got {length}")
        try:
            numbers = np.asarray(values)
        except ValueError:  # lists of several lengths among them
            numbers = np.zeros(0)
        if numbers.shape != (count,) or numbers.dtype.kind not in "iuf":
            wrong = next((value for value in values if not _is_number(value)), "one too large")
            raise self.fault(entry, key, f": {key}: expected {count} numbers, got {short_repr(wrong)}")
        if not (np.abs(numbers) <= MAX_COORDINATE).all():
            raise self.fault(entry, key, f": {key}: numbers must be finite, within ±{MAX_COORDINATE} pixels")
        return numbers.astype(np.float32)


def _plain(value: Any) -> Any:
    """Return an id that can name its entry; None for anything else."""
    return value if isinstance(value, int | float | str) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    # a whole number may be larger than any float
    return _is_number(value) and abs(value) <= sys.float_info.max
