"""What can be read and yet looks wrong: one list of kinds, for the checker, training and testing alike."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.evaluators import EVALUATORS, Evaluator
from coupled_embedding.data.io.data_errors import DataIssue
from coupled_embedding.data.joint_sides import unpaired_joints
from coupled_embedding.data.people import is_area, joint_boxes
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.utils.errors import DatasetError

# joints may lie this far outside the box, in parts of its longer side: boxes are drawn around what is
# seen, joints lie inside the body, and annotators of the one did not see the other
BOX_MARGIN = 0.1
# the share of people in larger crowds that is worth a warning
MANY = 0.05

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class People:
    """The T people of many images as columns.

    Attributes:
        records: the images.
        image, place: (T,) of each person: position of its image, and its own among the image's people.
        keypoints: (T, K, 3); boxes: (T, 4); sizes: (T, 2) width, height of the image.
        crowds: (T,) bool; counts: (T,) num_keypoints; areas: (T,), NaN: none is given.
        rules: of the evaluator; CrowdPose's do not use the file's areas, and its num_keypoints counts neither head
            nor neck.
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
    rules: Evaluator

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
        EVALUATORS[schema.evaluator],
    )


@dataclass(frozen=True)
class Kind:
    """Something that looks wrong with a person.

    Attributes:
        name: heading of a list.
        field: of the annotation.
        text: what is wrong, with ``str.format`` fields: outside, joints, box, count, area, size.
        warns: the share of the people from which training and testing warn of it, as it changes what is learned or
            scored; above 1: never, only the checker lists it.
    """

    name: str
    field: str
    text: str
    warns: float = 2.0


KINDS = (
    Kind(
        "coordinates that look like fractions", "keypoints",
        "all labelled joints lie between 0 and 1: coordinates must be in pixels, not parts of the image", 0.0,
    ),
    Kind("joints on one point", "keypoints", "all {joints} labelled joints lie on the same point", True),
    Kind(
        "labelled joints at (0, 0)", "keypoints",
        "a joint that is not annotated must have the label 0, not the place (0, 0)", 0.0,
    ),
    Kind(
        "joints with coordinates and label 0", "keypoints",
        "a joint with label 0 has coordinates: it counts as not annotated, and is neither learned nor scored", 0.0,
    ),
    Kind("joints outside the image", "keypoints", "{outside} of {joints} labelled joints are outside the image"),
    Kind(
        "people without a joint inside the image", "keypoints",
        "all {joints} labelled joints are outside the image of {size}: nothing to learn from", 0.0,
    ),
    Kind(
        "boxes without area", "bbox",
        "the box {box} has no area; that of the labelled joints is taken for the person's scale (a single joint has "
        "none, and cannot be found by a scorer)", 0.0,
    ),
    Kind(
        "boxes beyond the image", "bbox",
        f"the box {{box}} leaves the image of {{size}} by more than {BOX_MARGIN:.0%} of its longer side: COCO's boxes "
        "are x, y, width, height in pixels", 0.1,
    ),
    Kind("people outside the image", "bbox", "the box {box} is outside the image of {size}"),
    Kind(
        "joints outside the box", "bbox",
        f"a labelled joint is more than {BOX_MARGIN:.0%} of the longer side outside the box {{box}}", 0.5,
    ),
    Kind(
        "areas that say nothing", "area",
        "the area is {area}, so people are scored by 0.53 of the box's area, as if there were none", 0.0,
    ),
    Kind(
        "areas that do not fit the box", "area",
        "the area is {area}, but the box is {box}: people are scored by areas in square pixels of the image", 0.1,
    ),
    Kind(
        "num_keypoints and labels differ", "num_keypoints", "num_keypoints is {count}, but {joints} joints are labelled"
    ),
    Kind(
        "num_keypoints 0 of people with joints", "num_keypoints",
        "{joints} joints are labelled, but num_keypoints is 0: the evaluator leaves such people out, and where a "
        "segmentation is given training masks it out of the heatmap loss", 0.0,
    ),
    Kind(
        "num_keypoints without labels", "num_keypoints",
        "num_keypoints is {count}, but no joint is labelled: no person to learn from or to find", 0.0,
    ),
    Kind(
        "crowd flags on people with joints", "iscrowd",
        "iscrowd is 1 for a person with {joints} labelled joints: the evaluator leaves crowds out, and where a "
        "segmentation is given training masks it out of the heatmap loss; a person needs iscrowd 0", 0.0,
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
    joints, counts, by_area = labels.sum(1), people.counts, not people.rules.box_areas
    small = (((points >= 0) & (points <= 1)).all(-1) | ~labels).all(1)
    somewhere = (labels & (points != 0).any(-1)).any(1)
    fractions = small & somewhere & (people.sizes.min(1) > 8)
    on_one_point = (joints > 2) & (joint_boxes(people.keypoints)[:, 2:] == 0).all(1) & ~fractions
    low, high = people.boxes[:, :2], people.boxes[:, :2] + people.boxes[:, 2:]
    boxless = labelled & (people.boxes[:, 2:] <= 0).any(1)
    margin = BOX_MARGIN * people.boxes[:, 2:].max(1, initial=0)[:, None, None]
    beyond = ((points < low[:, None] - margin) | (points > high[:, None] + margin)).any(-1)
    no_area = np.isfinite(people.areas) & ~is_area(people.areas)
    box_area = people.boxes[:, 2:].astype(np.float64).prod(1)
    misfit = is_area(people.areas) & ((people.areas > 1.05 * box_area) | (people.areas < 0.02 * box_area))
    reach, outside = margin[:, 0], ((low >= people.sizes) | (high <= 0)).any(1)
    unmarked = np.array([not record.ignored for record in people.records], bool)[people.image]
    keys = np.concatenate((people.image[:, None], people.keypoints.reshape(len(people.image), -1)), 1)
    again = np.ones(len(keys), bool)
    again[np.unique(keys, axis=0, return_index=True)[1]] = False
    return {
        "coordinates that look like fractions": fractions,
        "joints on one point": on_one_point,
        "labelled joints at (0, 0)": (labels & (points == 0).all(-1)).any(1) & ~on_one_point & ~fractions,
        "joints with coordinates and label 0": (~labels & (points != 0).any(-1)).any(1),
        "joints outside the image": (labels & ~inside).any(1),
        "people without a joint inside the image": labelled & ~inside.any(1),
        "boxes without area": boxless,
        "boxes beyond the image": labelled & ~outside & ((low < -reach) | (high > people.sizes + reach)).any(1),
        "people outside the image": labelled & ~boxless & outside,
        "joints outside the box": (labels & beyond).any(1) & ~boxless,
        "areas that say nothing": labelled & no_area & ~people.crowds & by_area,
        "areas that do not fit the box": labelled & misfit & ~boxless & ~people.crowds & by_area,
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
        if len(rows) >= kind.warns * max(int(people.labelled.sum()), 1):
            lines.append(f"{kind.name}: {len(rows)} of {len(people.image)} people; {issue_of(people, kind, rows[0])}")
    return lines + split_warnings(people)


def split_warnings(people: People) -> list[str]:
    """Return what looks wrong with the people of a split as a whole."""
    lines, joints = [], people.labels.sum(1)
    if people.labels.shape[1] > 2 and len(joints) > 1 and joints.max() == 1:
        lines.append(
            f"none of the {int(people.labelled.sum())} labelled people has more than one labelled joint: is each joint "
            "an annotation of its own? An annotation is one person, with all joints"
        )
    counted, most = people.labelled & ~people.crowds & (people.counts > 0), people.rules.max_detections
    each = np.bincount(people.image[counted], minlength=len(people.records))
    if each[each > most].sum() > MANY * max(each.sum(), 1):
        lines.append(
            f"{int((each > most).sum())} images have more than {most} people, such as "
            f"{people.records[int(each.argmax())].path} with {each.max()}: scores count {most} detections per image, "
            "so the others cannot be found"
        )
    indices = [r.crowd_index for r in people.records if r.crowd_index is not None]
    if max(indices, default=0.0) > 1:
        lines.append(f"a crowdIndex is {max(indices):g}: it must be from 0 to 1, or images are of the wrong difficulty")
    return lines


def training_warnings(
    records: Sequence[ImageRecord],
    schema: KeypointSchema,
    file: Path,
    max_people: int,
    flips: bool,
    skipped: Sequence[DataIssue] = (),
) -> list[str]:
    """Return what a training on records should say first, a line each; see `warnings`.

    Raises:
        DatasetError: no person has a labelled joint; ``file``, the annotations, is named, and the first entry that was
            skipped as invalid.
    """
    if not people_of(records, schema).labelled.any():
        count = sum(record.annotations for record in records)
        raise DatasetError(
            f"{file}: no person to learn from: {count} annotations of people in {len(records)} images, none valid with "
            f"a labelled joint (keypoints x, y, label above 0)"
            + (f"; {len(skipped)} entries are invalid, such as {skipped[0].text}" if skipped else "")
            + "; tools/check_dataset.py lists everything"
        )
    lines = warnings(records, schema)
    crowded = [r for r in records if (r.keypoints[..., 2] > 0).any(1).sum() > max_people]
    if crowded:
        lines.append(
            f"{len(crowded)} images have more labelled people than DATASET.MAX_PEOPLE {max_people}, such as "
            f"{crowded[0].path}: those with fewest joints are left out"
        )
    return lines + (unpaired_joints(schema) if flips else [])
