"""What can be read and yet looks wrong: one list of kinds, for the checker, training and testing alike."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.io.data_errors import Problem
from coupled_embedding.data.people import is_area, joint_boxes
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema

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


def people_of(records: Sequence[ImageRecord], schema: KeypointSchema) -> People:
    """Return the people of records that `load_records` made."""
    numbers = [len(record.keypoints) for record in records]

    def column(values: list[object], dtype: type) -> NDArray:
        return np.array([v for part in values for v in part], dtype)  # type: ignore[attr-defined]

    return People(
        records,
        np.repeat(np.arange(len(records)), numbers),
        column([range(n) for n in numbers], np.int64),
        np.concatenate([np.zeros((0, schema.num_joints, 3), np.float32), *(r.keypoints for r in records)]),
        np.concatenate([np.zeros((0, 4), np.float32), *(r.boxes for r in records)]),
        np.repeat(np.array([(r.width, r.height) for r in records], np.float32).reshape(-1, 2), numbers, axis=0),
        column([r.crowds for r in records], np.bool_),
        column([r.num_keypoints for r in records], np.int64),
        column([r.areas for r in records], np.float64),
        schema.evaluator != "crowdpose",
    )


def _inside(people: People) -> Mask:
    """Whether each labelled joint is inside its image, (T, K)."""
    points = people.keypoints[..., :2]
    return np.asarray(people.labels & ((points >= 0) & (points <= people.sizes[:, None])).all(-1))


def _corners(people: People) -> tuple[NDArray, NDArray]:
    return people.boxes[:, :2], people.boxes[:, :2] + people.boxes[:, 2:]


def _boxless(people: People) -> Mask:
    return people.labelled & (people.boxes[:, 2:] <= 0).any(1)


def _joints_outside(people: People) -> Mask:
    return np.asarray((people.labels & ~_inside(people)).any(1))


def _nowhere_inside(people: People) -> Mask:
    return people.labelled & ~_inside(people).any(1)


def _people_outside(people: People) -> Mask:
    low, high = _corners(people)
    return people.labelled & ~_boxless(people) & ((low >= people.sizes) | (high <= 0)).any(1)


def _strays(people: People) -> Mask:
    low, high = _corners(people)
    margin = BOX_MARGIN * people.boxes[:, 2:].max(1, initial=0)[:, None, None]
    points = people.keypoints[..., :2]
    beyond = ((points < low[:, None] - margin) | (points > high[:, None] + margin)).any(-1)
    return (people.labels & beyond).any(1) & ~_boxless(people)


def _fractions(people: People) -> Mask:
    points = people.keypoints[..., :2]
    small = ((points >= 0) & (points <= 1)).all(-1) | ~people.labels
    return small.all(1) & (people.labels.sum(1) > 1) & (people.sizes.min(1) > 8)


def _on_one_point(people: People) -> Mask:
    return (people.labels.sum(1) > 2) & (joint_boxes(people.keypoints)[:, 2:] == 0).all(1) & ~_fractions(people)


def _in_the_corner(people: People) -> Mask:
    at_zero = people.labels & (people.keypoints[..., :2] == 0).all(-1)
    return at_zero.any(1) & ~_on_one_point(people) & ~_fractions(people)


def _areas_of_nothing(people: People) -> Mask:
    given = np.isfinite(people.areas) & people.labelled & ~people.crowds
    return given & ~is_area(people.areas) & people.scored_by_area


def _counts_differ(people: People) -> Mask:
    return people.labelled & (people.counts != people.labels.sum(1)) & (people.counts > 0) & people.scored_by_area


def _counted_as_nobody(people: People) -> Mask:
    return people.labelled & (people.counts == 0) & ~people.crowds & people.scored_by_area


def _counts_of_nothing(people: People) -> Mask:
    return ~people.labelled & (people.counts > 0)


def _labelled_crowds(people: People) -> Mask:
    return people.crowds & people.labelled


def _unlabelled(people: People) -> Mask:
    unmarked = np.array([not record.ignored for record in people.records], bool)[people.image]
    return ~people.labelled & (people.counts == 0) & unmarked


def _repeated(people: People) -> Mask:
    keys = np.concatenate((people.image[:, None], people.keypoints.reshape(len(people.image), -1)), 1)
    _, first = np.unique(keys, axis=0, return_index=True)
    again = np.ones(len(keys), bool)
    again[first] = False
    return again & people.labelled


@dataclass(frozen=True)
class Kind:
    """Something that looks wrong with a person.

    Attributes:
        name: heading of a list.
        field: of the annotation.
        where: which people it is wrong with.
        text: what is wrong, with ``str.format`` fields: labels, outside, joints, box, count, area, size.
        warns: whether training and testing warn of it, as it changes what is learned or scored.
    """

    name: str
    field: str
    where: Callable[[People], Mask]
    text: str
    warns: bool = False


KINDS = (
    Kind(
        "coordinates that look like fractions", "keypoints", _fractions,
        "all labelled joints lie between 0 and 1: coordinates must be in pixels, not parts of the image", True,
    ),
    Kind(
        "joints on one point", "keypoints", _on_one_point, "all {joints} labelled joints lie on the same point", True
    ),
    Kind(
        "labelled joints at (0, 0)", "keypoints", _in_the_corner,
        "a joint that is not annotated must have the label 0, not the place (0, 0)", True,
    ),
    Kind(
        "joints outside the photo", "keypoints", _joints_outside,
        "{outside} of {joints} labelled joints are outside the photo",
    ),
    Kind(
        "people without a joint inside the photo", "keypoints", _nowhere_inside,
        "all {joints} labelled joints are outside the photo of {size}: nothing to learn from", True,
    ),
    Kind(
        "boxes without area", "bbox", _boxless,
        "the box {box} has no area; that of the labelled joints is taken for the person's scale", True,
    ),
    Kind("people outside the photo", "bbox", _people_outside, "the box {box} is outside the photo of {size}"),
    Kind(
        "joints outside the box", "bbox", _strays,
        f"a labelled joint is more than {BOX_MARGIN:.0%} of the longer side outside the box {{box}}",
    ),
    Kind(
        "areas that say nothing", "area", _areas_of_nothing,
        "the area is {area}, so people are scored by 0.53 of the box's area, as if there were none", True,
    ),
    Kind(
        "num_keypoints and labels differ", "num_keypoints", _counts_differ,
        "num_keypoints is {count}, but {joints} joints are labelled",
    ),
    Kind(
        "num_keypoints 0 of people with joints", "num_keypoints", _counted_as_nobody,
        "{joints} joints are labelled, but num_keypoints is 0: the evaluator leaves such people out, and where a "
        "segmentation is given training masks it out of the heatmap loss", True,
    ),
    Kind(
        "num_keypoints without labels", "num_keypoints", _counts_of_nothing,
        "num_keypoints is {count}, but no joint is labelled: nobody to learn from or to find",
    ),
    Kind(
        "crowd flags on people with joints", "iscrowd", _labelled_crowds,
        "iscrowd is 1 for a person with {joints} labelled joints: the evaluator leaves crowds out, and where a "
        "segmentation is given training masks it out of the heatmap loss; a person needs iscrowd 0", True,
    ),
    Kind(
        "people without any label", "keypoints", _unlabelled,
        "no joint is labelled and no segmentation says where to ignore it",
    ),
    Kind("people annotated twice", "keypoints", _repeated, "has the same joints as another annotation of the photo"),
)  # fmt: skip


def suspicious(people: People) -> Iterator[tuple[Kind, NDArray[np.intp]]]:
    """Yield each kind with the rows of the people whom it is wrong with, where there are any."""
    for kind in KINDS:
        rows = np.flatnonzero(kind.where(people)) if len(people.image) else np.zeros(0, np.intp)
        if len(rows):
            yield kind, rows


def problem_of(people: People, kind: Kind, row: int) -> Problem:
    """Say what is wrong with a person."""
    record, own_id = people.records[people.image[row]], people.records[people.image[row]].ids[people.place[row]]
    joints = int(people.labels[row].sum())
    outside = joints - int(_inside(people)[row].sum()) if "{outside}" in kind.text else 0
    text = kind.text.format(
        joints=joints,
        outside=outside,
        box=[round(float(v), 2) for v in people.boxes[row]],
        count=people.counts[row],
        area=f"{people.areas[row]:g}",
        size=f"{record.width}×{record.height}",
    )
    name = f"annotation {'?' if own_id is None else own_id} of image {record.image_id}"
    return Problem(str(record.path), f"{name}: {text}", kind.field, record.image_id, own_id)


def warnings(records: Sequence[ImageRecord], schema: KeypointSchema) -> list[str]:
    """Return what training or testing on records should say first, a line for each kind with its first person."""
    people = people_of([r for r in records if len(r.ids) == len(r.keypoints)], schema)
    lines = []
    for kind, rows in suspicious(people):
        if kind.warns:
            lines.append(f"{kind.name}: {len(rows)} of {len(people.image)} people; {problem_of(people, kind, rows[0])}")
    return lines


_SIDES = re.compile(
    r"^(left|right|l|r)(?=[_ \-.A-Z])|(?<=[_ \-.])(left|right|Left|Right|[lrLR])$|^(Left|Right|L|R)(?=[A-Z_ ])"
)
_OTHER = {"left": "right", "right": "left", "l": "r", "r": "l"}


def _mirrored_name(name: str) -> str:
    """Return a joint's name with left for right; empty: it names no side."""
    match = _SIDES.search(name)
    if not match:
        return ""
    side = match[0]
    other = _OTHER[side.lower()]
    other = other.upper() if side.isupper() else other.capitalize() if side[0].isupper() else other
    return name[: match.start()] + other + name[match.end() :]


def unpaired_joints(schema: KeypointSchema) -> list[str]:
    """Say which joints a mirror would teach as the other side's: left and right ones that are no flip pair."""
    partner = {schema.joints[i]: schema.joints[j] for i, j in enumerate(schema.flip_index)}
    pairs = []
    for name in schema.joints:
        wanted = _mirrored_name(name)
        if wanted in partner and partner[name] != wanted and (wanted, name) not in pairs:
            pairs.append((name, wanted))
    return [
        f"{one} and {other} are not in flip_pairs of schema '{schema.name}': a mirrored image teaches each as the "
        "other; add the pair, or set AUGMENT.FLIP 0 and TEST.FLIP False"
        for one, other in pairs
    ]
