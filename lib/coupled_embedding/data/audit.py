"""What can be read and yet looks wrong: one list of kinds, for the checker, training and testing alike."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.io.data_errors import DataIssue
from coupled_embedding.data.people import is_area, joint_boxes
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.utils.errors import DatasetError

# joints may lie this far outside the box, in parts of its longer side: boxes are drawn around what is
# seen, joints lie inside the body, and annotators of the one did not see the other
BOX_MARGIN = 0.1

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class People:
    """The T people of many images as columns.

    Attributes:
        records: the images.
        image, place: (T,) of each person: position of its image, and its own among the image's people.
        keypoints: (T, K, 3); boxes: (T, 4); sizes: (T, 2) width, height of the image.
        crowds: (T,) bool; counts: (T,) num_keypoints; areas: (T,), NaN: none is given.
        scored_by_area: whether the evaluator uses the file's areas; CrowdPose's uses boxes, and counts
            neither head nor neck in num_keypoints.
    """

    records: Sequence[ImageRecord]
    image: NDArray[np.int64]
    place: NDArray[np.int64]
    keypoints: NDArray[np.float32]
    boxes: NDArray[np.float32]
    sizes: NDArray[np.float32]
    crowds: Mask
    counts: NDArray[np.int64]
    areas: NDArray[np.float64]
    scored_by_area: bool

    @property
    def labels(self) -> Mask:
        """Whether each joint is labelled, (T, K)."""
        return np.asarray(self.keypoints[..., 2] > 0)

    @property
    def labelled(self) -> Mask:
        """Whether each person has a labelled joint."""
        return np.asarray(self.labels.any(1))

    @property
    def inside(self) -> Mask:
        """Whether each labelled joint is inside its image, (T, K)."""
        points = self.keypoints[..., :2]
        return np.asarray(self.labels & ((points >= 0) & (points <= self.sizes[:, None])).all(-1))


def people_of(records: Sequence[ImageRecord], schema: KeypointSchema) -> People:
    """Return the people of records that `load_records` made."""
    numbers = [len(record.keypoints) for record in records]

    def column(values: Iterable[Iterable[Any]], dtype: type) -> NDArray:
        return np.array([v for part in values for v in part], dtype)

    return People(
        records,
        np.repeat(np.arange(len(records)), numbers),
        column((range(n) for n in numbers), np.int64),
        np.concatenate([np.zeros((0, schema.num_joints, 3), np.float32), *(r.keypoints for r in records)]),
        np.concatenate([np.zeros((0, 4), np.float32), *(r.boxes for r in records)]),
        np.repeat(np.array([(r.width, r.height) for r in records], np.float32).reshape(-1, 2), numbers, axis=0),
        column((r.crowds for r in records), np.bool_),
        column((r.num_keypoints for r in records), np.int64),
        column((r.areas for r in records), np.float64),
        schema.evaluator != "crowdpose",
    )


@dataclass(frozen=True)
class Kind:
    """Something that looks wrong with a person.

    Attributes:
        name: heading of a list.
        field: of the annotation.
        text: what is wrong, with ``str.format`` fields: outside, joints, box, count, area, size.
        warns: whether training and testing warn of it, as it changes what is learned or scored.
    """

    name: str
    field: str
    text: str
    warns: bool = False


KINDS = (
    Kind(
        "coordinates that look like fractions", "keypoints",
        "all labelled joints lie between 0 and 1: coordinates must be in pixels, not parts of the image", True,
    ),
    Kind("joints on one point", "keypoints", "all {joints} labelled joints lie on the same point", True),
    Kind(
        "labelled joints at (0, 0)", "keypoints",
        "a joint that is not annotated must have the label 0, not the place (0, 0)", True,
    ),
    Kind("joints outside the image", "keypoints", "{outside} of {joints} labelled joints are outside the image"),
    Kind(
        "people without a joint inside the image", "keypoints",
        "all {joints} labelled joints are outside the image of {size}: nothing to learn from", True,
    ),
    Kind(
        "boxes without area", "bbox",
        "the box {box} has no area; that of the labelled joints is taken for the person's scale", True,
    ),
    Kind("people outside the image", "bbox", "the box {box} is outside the image of {size}"),
    Kind(
        "joints outside the box", "bbox",
        f"a labelled joint is more than {BOX_MARGIN:.0%} of the longer side outside the box {{box}}",
    ),
    Kind(
        "areas that say nothing", "area",
        "the area is {area}, so people are scored by 0.53 of the box's area, as if there were none", True,
    ),
    Kind(
        "num_keypoints and labels differ", "num_keypoints", "num_keypoints is {count}, but {joints} joints are labelled"
    ),
    Kind(
        "num_keypoints 0 of people with joints", "num_keypoints",
        "{joints} joints are labelled, but num_keypoints is 0: the evaluator leaves such people out, and where a "
        "segmentation is given training masks it out of the heatmap loss", True,
    ),
    Kind(
        "num_keypoints without labels", "num_keypoints",
        "num_keypoints is {count}, but no joint is labelled: no person to learn from or to find",
    ),
    Kind(
        "crowd flags on people with joints", "iscrowd",
        "iscrowd is 1 for a person with {joints} labelled joints: the evaluator leaves crowds out, and where a "
        "segmentation is given training masks it out of the heatmap loss; a person needs iscrowd 0", True,
    ),
    Kind(
        "people without any label", "keypoints",
        "no joint is labelled and no segmentation says where to ignore it",
    ),
    Kind("people annotated twice", "keypoints", "has the same joints as another annotation of the image"),
)  # fmt: skip


def _suspects(people: People) -> dict[str, Mask]:
    """Return which people each of `KINDS` is wrong with: name -> (T,)."""
    points, labels, inside, labelled = people.keypoints[..., :2], people.labels, people.inside, people.labelled
    joints, counts, by_area = labels.sum(1), people.counts, people.scored_by_area
    small = (((points >= 0) & (points <= 1)).all(-1) | ~labels).all(1)
    fractions = small & (joints > 1) & (people.sizes.min(1) > 8)
    on_one_point = (joints > 2) & (joint_boxes(people.keypoints)[:, 2:] == 0).all(1) & ~fractions
    low, high = people.boxes[:, :2], people.boxes[:, :2] + people.boxes[:, 2:]
    boxless = labelled & (people.boxes[:, 2:] <= 0).any(1)
    margin = BOX_MARGIN * people.boxes[:, 2:].max(1, initial=0)[:, None, None]
    beyond = ((points < low[:, None] - margin) | (points > high[:, None] + margin)).any(-1)
    no_area = np.isfinite(people.areas) & ~is_area(people.areas)
    unmarked = np.array([not record.ignored for record in people.records], bool)[people.image]
    keys = np.concatenate((people.image[:, None], people.keypoints.reshape(len(people.image), -1)), 1)
    again = np.ones(len(keys), bool)
    again[np.unique(keys, axis=0, return_index=True)[1]] = False
    return {
        "coordinates that look like fractions": fractions,
        "joints on one point": on_one_point,
        "labelled joints at (0, 0)": (labels & (points == 0).all(-1)).any(1) & ~on_one_point & ~fractions,
        "joints outside the image": (labels & ~inside).any(1),
        "people without a joint inside the image": labelled & ~inside.any(1),
        "boxes without area": boxless,
        "people outside the image": labelled & ~boxless & ((low >= people.sizes) | (high <= 0)).any(1),
        "joints outside the box": (labels & beyond).any(1) & ~boxless,
        "areas that say nothing": labelled & no_area & ~people.crowds & by_area,
        "num_keypoints and labels differ": labelled & (counts != joints) & (counts > 0) & by_area,
        "num_keypoints 0 of people with joints": labelled & (counts == 0) & ~people.crowds & by_area,
        "num_keypoints without labels": ~labelled & (counts > 0),
        "crowd flags on people with joints": labelled & people.crowds,
        "people without any label": ~labelled & (counts == 0) & unmarked,
        "people annotated twice": labelled & again,
    }


def suspicious(people: People) -> Iterator[tuple[Kind, NDArray[np.intp]]]:
    """Yield each kind with the rows of the people whom it is wrong with, where there are any."""
    suspects = _suspects(people) if len(people.image) else {}
    for kind in KINDS if suspects else ():
        if len(rows := np.flatnonzero(suspects[kind.name])):
            yield kind, rows


def issue_of(people: People, kind: Kind, row: int) -> DataIssue:
    """Return what is wrong with a person."""
    record, own_id = people.records[people.image[row]], people.records[people.image[row]].ids[people.place[row]]
    joints = int(people.labels[row].sum())
    text = kind.text.format(
        joints=joints,
        outside=joints - int(people.inside[row].sum()) if "{outside}" in kind.text else 0,
        box=[round(float(v), 2) for v in people.boxes[row]],
        count=people.counts[row],
        area=f"{people.areas[row]:g}",
        size=f"{record.width}×{record.height}",
    )
    name = f"annotation {'?' if own_id is None else own_id} of image {record.image_id}"
    return DataIssue(str(record.path), f"{name}: {text}", kind.field, record.image_id, own_id)


def warnings(records: Sequence[ImageRecord], schema: KeypointSchema) -> list[str]:
    """Return what training or testing on records should say first, a line for each kind with its first person."""
    people = people_of([r for r in records if len(r.ids) == len(r.keypoints)], schema)
    lines = []
    for kind, rows in suspicious(people):
        if kind.warns:
            lines.append(f"{kind.name}: {len(rows)} of {len(people.image)} people; {issue_of(people, kind, rows[0])}")
    return lines


def training_warnings(
    records: Sequence[ImageRecord], schema: KeypointSchema, file: Path, max_people: int, flips: bool
) -> list[str]:
    """Return what a training on records should say first, a line each; see `warnings`.

    Raises:
        DatasetError: no person has a labelled joint; ``file``, the annotations, is named.
    """
    if not people_of(records, schema).labelled.any():
        count = sum(record.annotations for record in records)
        raise DatasetError(
            f"{file}: no person to learn from: {count} annotations of people in {len(records)} images, none with a "
            "labelled joint (keypoints x, y, label above 0); tools/check_dataset.py says more"
        )
    lines = warnings(records, schema)
    crowded = [r for r in records if (r.keypoints[..., 2] > 0).any(1).sum() > max_people]
    if crowded:
        lines.append(
            f"{len(crowded)} images have more labelled people than DATASET.MAX_PEOPLE {max_people}, such as "
            f"{crowded[0].path}: those with fewest joints are left out"
        )
    return lines + (unpaired_joints(schema) if flips else [])


_SIDES = re.compile(
    r"^(left|right|l|r)(?=[_ \-.A-Z])|(?<=[_ \-.])(left|right|Left|Right|[lrLR])$|^(Left|Right|L|R)(?=[A-Z_ ])"
)
_OTHER = {"left": "right", "right": "left", "l": "r", "r": "l"}


def _flipped_name(name: str) -> str:
    """Return a joint's name with left for right; empty: it names no side."""
    match = _SIDES.search(name)
    if not match:
        return ""
    side = match[0]
    other = _OTHER[side.lower()]
    other = other.upper() if side.isupper() else other.capitalize() if side[0].isupper() else other
    return name[: match.start()] + other + name[match.end() :]


def unpaired_joints(schema: KeypointSchema) -> list[str]:
    """Return a line for each left and right joint that are no flip pair: a flip teaches each as the other."""
    partner = {schema.joints[i]: schema.joints[j] for i, j in enumerate(schema.flip_index)}
    pairs = []
    for name in schema.joints:
        wanted = _flipped_name(name)
        if wanted in partner and partner[name] != wanted and (wanted, name) not in pairs:
            pairs.append((name, wanted))
    return [
        f"{one} and {other} are not in flip_pairs of schema '{schema.name}': a flipped image teaches each as the "
        "other; add the pair, or set AUGMENT.FLIP 0 and TEST.FLIP False"
        for one, other in pairs
    ]
