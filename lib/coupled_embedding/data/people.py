"""Who is a person in a COCO-format file: one rule for reader, scorer, results writer and checker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.utils.errors import DatasetError, short_repr

# CrowdPose annotates no segments; a person fills about half of the box
BOX_FILL = 0.53
# in square pixels; exports write 0 or 1 for an area that was never measured
SMALLEST_AREA = 1.0
_PERSON_NAMES = {"person", "people", "human", "pedestrian"}


def whole_number(value: Any) -> int | None:
    """Return an id or a count as an int of up to 64 bits, ``1.0`` too, as some exports write them; None for others."""
    is_whole = type(value) is int or (type(value) is float and value.is_integer())
    return int(value) if is_whole and abs(value) < 2**63 else None


@dataclass(frozen=True)
class PersonCategories:
    """Which annotations of a file are people's.

    Attributes:
        people: category id -> name, in the file's order; their annotations are people.
        others: likewise of those that are not, such as cars; their annotations are left out.
        listed: whether the file lists categories; if not, every annotation is a person's.
    """

    people: dict[int, str]
    others: dict[int, str]
    listed: bool = True

    @property
    def result(self) -> int:
        """The category id that results carry: the first of the people's. A network does not distinguish them."""
        return next(iter(self.people), 1)

    def is_person(self, category_id: Any) -> bool | None:
        """Whether an annotation of this ``category_id`` (None: it has none) is a person's; None: no such category."""
        if category_id is None or not self.listed:
            return True
        number = whole_number(category_id)
        if number in self.people:
            return True
        return False if number in self.others else None


def person_categories(content: Mapping[str, Any], schema: KeypointSchema, path: Path) -> PersonCategories:
    """Return the categories of people: those with the schema's joints.

    Where no category lists joints, people are those whose annotations have keypoints, else the one
    called person, else all. ``schema.categories`` chooses among them.

    Raises:
        DatasetError: a category is malformed, none has the schema's joints, or a chosen one is not there.
    """
    entries = content.get("categories") or []
    names = _names(entries, path)
    if not entries:
        return PersonCategories({}, {}, listed=False)
    other = next((c for c in entries if c.get("keypoints")), None)
    people = [n for n, c in zip(names, entries, strict=True) if c.get("keypoints") == list(schema.joints)]
    if other and not people:
        raise DatasetError(
            f"{path}: the joints of category '{other.get('name')}' are {other['keypoints']!s:.400}, but the schema "
            f"'{schema.name}' expects {list(schema.joints)}; give DATASET.SCHEMA a schema that fits the file"
        )
    people = people or _by_use(content, names) or [n for n in names if names[n].lower() in _PERSON_NAMES] or list(names)
    people = _chosen(people, names, schema, path)
    return PersonCategories(
        {number: name for number, name in names.items() if number in people},
        {number: name for number, name in names.items() if number not in people},
    )


def category_warnings(annotations: Sequence[Any], categories: PersonCategories, path: Path) -> list[str]:
    """Return what looks wrong with which annotations of a file are people's.

    That is a category which is left out although its annotations have keypoints, and one that counts as people
    although none of its annotations has a labelled joint, while others have.
    """
    count: dict[int | None, int] = {}
    labelled: dict[int | None, int] = {}
    for annotation in annotations:
        if isinstance(annotation, dict) and not annotation.get("iscrowd"):
            number = whole_number(annotation.get("category_id"))
            count[number] = count.get(number, 0) + 1
            labelled[number] = labelled.get(number, 0) + _has_label(annotation.get("keypoints"))
    found = []
    for number, total in count.items():
        name = {**categories.people, **categories.others}.get(number or 0, "")
        name = (
            f"category '{name}' ({number})"
            if name
            else f"category_id {number}"
            if number is not None
            else "no category"
        )
        if number in categories.others and labelled[number]:
            found.append(
                f"{path}: {labelled[number]} of the {total} annotations of {name} have labelled joints, but are left "
                "out: the category does not list the joints of the schema in the schema's order"
            )
        if number not in categories.others and not labelled[number] and any(labelled.values()):
            found.append(
                f"{path}: none of the {total} annotations of {name} has a labelled joint; they count as people without "
                "keypoints, whose segmentations training ignores. If they are not people, give them a category of "
                "their own without keypoints, or choose with DATASET.CATEGORIES"
            )
    return found


def _has_label(keypoints: Any) -> bool:
    labels = keypoints[2::3] if isinstance(keypoints, list) else []
    return any(isinstance(label, int | float) and label > 0 for label in labels)


def _names(entries: Sequence[Any], path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for entry in entries:
        number = whole_number(entry.get("id")) if isinstance(entry, dict) else None
        if number is None:
            raise DatasetError(
                f"{path}: categories: expected entries with an 'id' that is whole, got {short_repr(entry)}"
            )
        if number in names:
            raise DatasetError(f"{path}: categories: the id {number} is listed twice")
        names[number] = str(entry.get("name", number))[:100]
    return names


def _by_use(content: Mapping[str, Any], names: Mapping[int, str]) -> list[int]:
    """Return the categories whose annotations have labelled joints."""
    annotations = content.get("annotations") or []
    entries = [a for a in annotations if isinstance(a, dict)]
    used = {whole_number(a.get("category_id")) for a in entries if _has_label(a.get("keypoints"))}
    return [number for number in names if number in used]


def _chosen(people: list[int], names: Mapping[int, str], schema: KeypointSchema, path: Path) -> list[int]:
    if not schema.categories:
        return people
    chosen: list[int] = []
    for wanted in schema.categories:
        matches = [n for n, name in names.items() if wanted in (name, str(n))]
        if not [n for n in matches if n in people]:
            there = ", ".join(f"{names[n]} ({n})" for n in people)
            raise DatasetError(f"{path}: DATASET.CATEGORIES: no category '{wanted}' with joints; there are {there}")
        chosen += matches
    return [n for n in people if n in chosen]


def joint_boxes(keypoints: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the smallest boxes (N, 4) x, y, width, height around labelled joints (N, K, 3); 0 without any."""
    labelled = keypoints[..., 2:] > 0
    points = keypoints[..., :2].astype(np.float64)
    low = np.where(labelled, points, np.inf).min(1, initial=np.inf)
    high = np.where(labelled, points, -np.inf).max(1, initial=-np.inf)
    boxes = np.concatenate((low, high - low), 1)
    return np.where(np.isfinite(boxes), boxes, 0.0)


def usable_boxes(boxes: NDArray[np.floating], keypoints: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the people's boxes (N, 4); where one has no area, that of the labelled joints (N, K, 3)."""
    usable = boxes.astype(np.float64)
    empty = (usable[:, 2:] <= 0).any(1)
    if empty.any():
        usable[empty] = joint_boxes(keypoints[empty])
    return usable


def box_areas(boxes: Any) -> NDArray[np.float64]:
    """Estimate the areas of people, (N,) square pixels, from boxes (N, 4) in image pixels: 0.53 · width · height."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    # in the benchmark's order of factors: the last bit decides on which side of a limit an area lies
    return boxes[:, 3] * boxes[:, 2] * BOX_FILL


def is_area(areas: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Whether areas (N,) say anything: NaN (none is given), 0 and 1 do not, nor does what no image can hold."""
    with np.errstate(invalid="ignore"):
        return (areas > SMALLEST_AREA) & (areas <= 1e5**2)


def usable_areas(
    areas: NDArray[np.floating], boxes: NDArray[np.floating], keypoints: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the areas by which people are scored, in square image pixels.

    Args:
        areas: (N,) of the file, NaN where it has none.
        boxes: (N, 4), of which they are estimated where a person with a labelled joint has no usable area.
        keypoints: (N, K, 3).
    """
    estimates = box_areas(usable_boxes(boxes, keypoints))
    labelled = (keypoints[..., 2] > 0).any(1)
    # what scorers leave out anyway keeps its own area
    trusted = np.where(labelled, is_area(areas), np.isfinite(areas))
    return np.where(trusted, areas, np.where(labelled, np.maximum(estimates, SMALLEST_AREA), estimates))
