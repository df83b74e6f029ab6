"""Cut-out people with masks and joints, for copy-paste augmentation (`copy_paste`).

Cut-outs come from a JSON file whose images lie beside it, in a zip file or a folder of the same name: ``people.json``
and ``people.zip`` or ``people/``. The file has one of two formats. The first is made for cut-outs:

    {"keypoint_names": ["nose", "left_eye", ...],   # J names
     "people": [{"file_name": "0001.jpg",           # the person, with whatever is around
                 "mask": "0001.png",                # 255 where the person is, 0 elsewhere; of the same size
                 "width": 117, "height": 374,       # of both, in pixels
                 "keypoints": [x, y, label, ...],   # 3 · J numbers: pixels of the cut-out; 0 none, 1 hidden, 2 seen
                 "keypoint_scores": [s, ...],       # optional: J confidences in [0, 1]; missing: 1 for labelled joints
                 "score": 0.48}]}                   # optional and not used

The second is a COCO-format annotation file, whose people are cut out along their segmentations: those that are no
crowds, at least `MIN_HEIGHT` pixels high, and have at least `MIN_LABELLED` labelled joints. Their joints outside the
segmentation are hidden by something else, so their label is 1.

Joints are matched by name. Those that the file does not have get label 0 and confidence 0; others of the file are
left out.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.coco import read_split
from coupled_embedding.data.images import read_image, read_record_image
from coupled_embedding.data.io.data_errors import DataError, DataErrorPolicy, DataIssue
from coupled_embedding.data.io.segmentation import MAX_COORDINATE, check_segmentation
from coupled_embedding.data.people import whole_number
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema, Split
from coupled_embedding.utils.errors import DatasetError, short_repr
from coupled_embedding.utils.paths import path_error

MIN_LABELLED = 6  # joints of a person in a COCO-format file
MIN_HEIGHT = 64  # pixels of the box there: a smaller person, enlarged, is a blur
FOREGROUND = 127  # a mask's pixels above it are the person

_TOP = {"keypoint_names", "people"}
_REQUIRED = {"file_name", "mask", "width", "height", "keypoints"}
_FIELDS = _REQUIRED | {"keypoint_scores", "score"}


@dataclass(frozen=True)
class Cutout:
    """A person cut out of an image.

    Attributes:
        pixels: (h, w, 3) uint8, blue, green, red; what is outside the mask is not used.
        mask: (h, w) uint8, 0 to 255: how much of a pixel is the person.
        keypoints: (K, 3) float32: x, y in pixels of the cut-out, label (0 none, 1 hidden, 2 seen).
        confidence: (K,) float32 loss weights of the joints in [0, 1].
    """

    pixels: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    keypoints: NDArray[np.float32]
    confidence: NDArray[np.float32]


class CutoutSource:
    """The people of a file of cut-outs. Their images are read when they are asked for.

    It can be sent to loader processes: it holds paths and numbers, and each process opens the zip file itself.

    Args:
        path: the JSON file, of one of the module's two formats.
        joints: K names, in the order that the cut-outs' joints get.

    Raises:
        DatasetError: the file cannot be read, has none of the two formats, no usable person or none of the joints,
            or there are no images beside it.
    """

    def __init__(self, path: Path, joints: Sequence[str]) -> None:
        content, images = _read(path), _images_beside(path)
        names = _joint_names(path, content)
        columns = _columns(path, names, joints)
        self._people: list[_Files | _Segmented]
        if "people" in content:
            self._people = list(_people(path, images, content, columns))
        else:
            self._people = list(_segmented(path, images, names, columns))
        if not self._people:
            field = "people" if "people" in content else "annotations"
            raise DatasetError(f"{path}: '{field}' has no person that can be cut out; {__name__} says which can")

    def __len__(self) -> int:
        return len(self._people)

    def load(self, number: int) -> Cutout:
        """Read a person, 0 to ``len(self) - 1``.

        Raises:
            DataError: an image or mask is missing, damaged, not of the size in the file, or the mask is empty.
        """
        return self._people[number].load()


@dataclass(frozen=True)
class _Files:
    """A person of the cut-outs' own format; size is (width, height)."""

    where: str
    image: Path
    mask: Path
    size: tuple[int, int]
    keypoints: NDArray[np.float32]
    confidence: NDArray[np.float32]

    def load(self) -> Cutout:
        pixels = self._read(self.image, "file_name")
        mask = np.ascontiguousarray(self._read(self.mask, "mask")[..., 0])  # OpenCV would copy it at every step
        if not (mask > FOREGROUND).any():
            raise DataError(DataIssue(str(self.mask), f"the 'mask' of {self.where} is empty", "mask"))
        return Cutout(pixels, mask, self.keypoints, self.confidence)

    def _read(self, path: Path, field: str) -> NDArray[np.uint8]:
        pixels = read_image(path)
        height, width = pixels.shape[:2]
        if (width, height) != self.size:
            expected = f"'width' and 'height' are {self.size[0]}×{self.size[1]}"
            text = f"the '{field}' of {self.where} is {width}×{height} pixels, but its {expected}"
            raise DataError(DataIssue(str(path), text, field))
        return pixels


@dataclass(frozen=True)
class _Segmented:
    """A person of a COCO-format file, in pixels of the image."""

    record: ImageRecord
    segmentation: str  # JSON: as lists, those of a large data set would take several times the memory
    keypoints: NDArray[np.float32]

    def load(self) -> Cutout:
        pixels = read_record_image(self.record)
        mask = ~replace(self.record, ignored=(json.loads(self.segmentation),)).valid_mask()
        x, y, width, height = cv2.boundingRect(mask)
        if not width:
            text = f"a segmentation of image {self.record.image_id} covers no pixel"
            raise DataError(DataIssue(str(self.record.path), text, "segmentation", self.record.image_id))
        keypoints = self.keypoints.copy()
        column, row = np.rint(keypoints[:, :2]).astype(int).T
        inside = (column >= 0) & (column < mask.shape[1]) & (row >= 0) & (row < mask.shape[0])
        inside[inside] = mask[row[inside], column[inside]] > 0
        keypoints[~inside, 2] = np.minimum(keypoints[~inside, 2], 1)
        keypoints[:, :2] -= (x, y)
        area = np.s_[y : y + height, x : x + width]
        return Cutout(pixels[area], mask[area], keypoints, (keypoints[:, 2] > 0).astype(np.float32))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DatasetError(f"{path}: cannot read this file of cut-outs: {reason}") from error
    if not isinstance(content, dict) or not {"people", "annotations"} & set(content):
        raise DatasetError(f"{path}: expected a file of cut-outs with 'people', or a COCO-format file ('annotations')")
    return content


def _images_beside(path: Path) -> Path:
    archive, folder = path.with_suffix(".zip"), path.with_suffix("")
    if archive.is_file():
        return archive
    if folder.is_dir():
        return folder
    raise DatasetError(f"{path}: there is neither {archive} nor the folder {folder} with its images")


def _joint_names(path: Path, content: dict[str, Any]) -> list[str]:
    """Return the names of the joints in the file's order."""
    field, names = "'keypoint_names'", content.get("keypoint_names")
    if "people" not in content:
        field, categories = "'keypoints' of a category", content.get("categories")
        entries = [c for c in categories if isinstance(c, dict)] if isinstance(categories, list) else []
        names = next((c["keypoints"] for c in entries if c.get("keypoints")), None)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise DatasetError(f"{path}: {field} must list the names of the joints, got {short_repr(names)}")
    if len(set(names)) != len(names):
        raise DatasetError(f"{path}: {field} has a name twice: {short_repr(names)}")
    return names


def _columns(path: Path, names: Sequence[str], joints: Sequence[str]) -> NDArray[np.intp]:
    """Return for each of ``joints`` its place in ``names``, len(names) for those that are not there."""
    if not set(names) & set(joints):
        raise DatasetError(f"{path}: none of its joints {short_repr(names)} is one of {short_repr(list(joints))}")
    return np.array([names.index(joint) if joint in names else len(names) for joint in joints])


def _selected(values: NDArray[np.float32], columns: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return the rows ``columns``; the row after the last is 0."""
    return np.concatenate((values, np.zeros_like(values[:1])))[columns]


def _segmented(path: Path, images: Path, names: Sequence[str], columns: NDArray[np.intp]) -> Iterator[_Segmented]:
    split = {"all": Split(path.name, images.name)}
    schema = KeypointSchema(path.stem, tuple(names), (), (), (), (), (), root=str(path.parent.absolute()), splits=split)
    for record, entries in read_split(schema, "all", "", (), DataErrorPolicy()):
        for raw, entry in entries:
            segmentation = raw.get("segmentation")
            if entry.person is None or entry.is_crowd or not segmentation or entry.person[1][3] < MIN_HEIGHT:
                continue
            keypoints = _selected(entry.person[0], columns)
            if (keypoints[:, 2] > 0).sum() < MIN_LABELLED:
                continue
            try:
                check_segmentation(segmentation, record.height, record.width)
            except ValueError as error:
                text = f"annotation {raw.get('id')} of image {record.image_id}: segmentation: {error}"
                raise DatasetError(f"{path}: {text}") from error
            yield _Segmented(record, json.dumps(segmentation), keypoints)


def _people(path: Path, images: Path, content: Any, columns: NDArray[np.intp]) -> Iterator[_Files]:
    if unknown := set(content) - _TOP:
        raise DatasetError(f"{path}: unknown field {short_repr(min(unknown))}; allowed: {', '.join(sorted(_TOP))}")
    people = content["people"]
    if not isinstance(people, list):
        raise DatasetError(f"{path}: 'people' must be a list, got {short_repr(people)}")
    count = len(content["keypoint_names"])
    for number, entry in enumerate(people):
        where = f"people[{number}]"
        try:
            keypoints, scores = _checked(entry, count)
        except ValueError as error:
            raise DatasetError(f"{path}: {where}: {error}") from error
        size = (int(entry["width"]), int(entry["height"]))
        files = images / entry["file_name"], images / entry["mask"]
        yield _Files(f"{where} in {path}", *files, size, _selected(keypoints, columns), _selected(scores, columns))


def _checked(entry: Any, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a person's keypoints (J, 3) and scores (J,); ValueError says which field is wrong."""
    if not isinstance(entry, dict):
        raise ValueError(f"expected a mapping, got {short_repr(entry)}")
    if unknown := set(entry) - _FIELDS:
        raise ValueError(f"unknown field {short_repr(min(unknown))}; allowed: {', '.join(sorted(_FIELDS))}")
    if missing := _REQUIRED - set(entry):
        raise ValueError(f"field '{min(missing)}' is missing")
    for key in ("file_name", "mask"):
        name = entry[key]
        if not isinstance(name, str) or not name or path_error(name) or Path(name).is_absolute() or ".." in name:
            raise ValueError(f"'{key}' must be a file's name, without '..', got {short_repr(name)}")
    for key in ("width", "height"):
        if (whole_number(entry[key]) or 0) < 1:
            raise ValueError(f"'{key}' must be a whole number from 1, got {short_repr(entry[key])}")
    keypoints = _numbers(entry, "keypoints", 3 * count, -MAX_COORDINATE, MAX_COORDINATE).reshape(count, 3)
    if not np.isin(keypoints[:, 2], (0, 1, 2)).all():
        raise ValueError(f"'keypoints': labels must be 0, 1 or 2, got {short_repr(entry['keypoints'][2::3])}")
    if "keypoint_scores" in entry:
        return keypoints, _numbers(entry, "keypoint_scores", count, 0, 1)
    return keypoints, (keypoints[:, 2] > 0).astype(np.float32)


def _numbers(entry: dict[str, Any], key: str, count: int, low: float, high: float) -> NDArray[np.float32]:
    values = entry[key]
    if not isinstance(values, list) or len(values) != count:
        length = len(values) if isinstance(values, list) else "none"
        raise ValueError(f"'{key}' must have {count} numbers, got {length}")
    for value in values:
        if type(value) not in (int, float) or not low <= value <= high:  # NaN is not
            raise ValueError(f"'{key}': expected numbers from {low:g} to {high:g}, got {short_repr(value)}")
    return np.array(values, np.float32)
