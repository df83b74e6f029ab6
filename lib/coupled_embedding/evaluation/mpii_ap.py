"""MPII's scores of several people: average precision joint by joint, within groups of people.

A joint is right within half a head size, which is 0.6 of the head box's diagonal. A pose and a person belong together
if each is the other's best by PCK, right joints over annotated joints. Joints of such a pose that are right are true
positives, all other predicted joints false ones; the area under a joint's interpolated precision-recall curve is its
average precision.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.group_crops import Crop, group_crop, nearest_crop
from coupled_embedding.data.people import whole_number
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.evaluation.ground_truth import GroundTruth
from coupled_embedding.evaluation.results import Detections, checked_column, checked_table
from coupled_embedding.evaluation.scores import Scores
from coupled_embedding.utils.errors import DatasetError, UserError, short_repr

# columns of the benchmark's table -> joints; pelvis and thorax do not count
COLUMNS = {
    "Head": ("neck", "head"),
    "Shoulder": ("right_shoulder", "left_shoulder"),
    "Elbow": ("right_elbow", "left_elbow"),
    "Wrist": ("right_wrist", "left_wrist"),
    "Hip": ("right_hip", "left_hip"),
    "Knee": ("right_knee", "left_knee"),
    "Ankle": ("right_ankle", "left_ankle"),
}
COUNTED = tuple(itertools.chain.from_iterable(COLUMNS.values()))


@dataclass(frozen=True)
class PersonGroup:
    """A group of an image: the rows of its people in the ground truth, and its crop."""

    image_id: int
    number: int
    rows: Sequence[int]
    crop: Crop


def mpii_groups(truth: GroundTruth) -> list[PersonGroup]:
    """Return the groups of the chosen images, in the order of the file.

    The fields ``group`` (number from 1 within the image, 0 or missing: of none), ``center`` and ``scale`` of the
    annotations say what they are.

    Raises:
        DatasetError: a person of a group has no valid center or scale.
    """
    rows: dict[tuple[int, int], list[int]] = {}
    for row, (image_id, entry) in enumerate(zip(truth.image_ids, truth.entries, strict=True)):
        number = whole_number(entry.get("group") or 0)
        if number is None or number < 0:
            where = _where(truth, row, "group")
            raise DatasetError(f"{where}: expected a whole number, got {short_repr(entry['group'])}")
        if number:
            rows.setdefault((image_id, number), []).append(row)
    grouped = [row for members in rows.values() for row in members]
    places = {row: place for place, row in enumerate(grouped)}
    centers = checked_table(*_field(truth, grouped, "center", 2))
    scales = checked_column(*_field(truth, grouped, "scale", 0))
    if (scales <= 0).any():
        raise DatasetError(f"{_where(truth, grouped[int(scales.argmin())], 'scale')}: must be above 0")
    found = []
    for (image_id, number), members in rows.items():
        own = [places[row] for row in members]
        found.append(PersonGroup(image_id, number, members, group_crop(centers[own], scales[own])))
    return found


def group_records(records: Sequence[ImageRecord], groups: Sequence[PersonGroup]) -> list[ImageRecord]:
    """Return what a test by groups shows: a record of each group's crop inside the image, squared, without people."""
    by_image: dict[int, list[PersonGroup]] = defaultdict(list)
    for group in groups:
        by_image[group.image_id].append(group)
    return [
        replace(
            record,
            keypoints=record.keypoints[:0],
            boxes=record.boxes[:0],
            region=own.crop.inside(record.width, record.height).region,
            source=own.number,
        )
        for record in records
        for own in by_image[record.image_id]
    ]


def _field(truth: GroundTruth, rows: Sequence[int], field: str, size: int) -> Any:
    """Return a field of some people, and where each is for errors: arguments of `checked_table` or `checked_column`."""
    values = [truth.entries[row].get(field) for row in rows]

    def where(place: int) -> str:
        return _where(truth, rows[place], field)

    return (values, size, where) if size else (values, where)


def _where(truth: GroundTruth, row: int, field: str) -> str:
    return f"{truth.path}: annotation {short_repr(truth.ids[row])} of image {truth.image_ids[row]}: {field}"


def mpii_scores(
    truth: GroundTruth,
    detections: Detections,
    schema: KeypointSchema,
    image_ids: Container[int] | None = None,
    joints: Sequence[str] = COUNTED,
) -> Scores:
    """Return AP, the mean over the joints, and the mean of each of `COLUMNS`, in [0, 1].

    A pose is of the group whose crop holds the middle of the box around its joints (the nearest of several). It does
    not count where none does, nor where it was found in another group's crop (``group`` of results). Joints with a
    score of 0 are not predicted. Of equal PCKs and equal scores the first in the files' order counts as the better one.
    People of no group, or without a head box or a labelled joint among ``joints``, need not be detected.

    Args:
        truth: people with ``head_box``, ``group``, ``center`` and ``scale``.
        detections: poses of the chosen images; each joint has a score.
        schema: names the joints.
        image_ids: score only the groups of these images; None: of all.
        joints: that count.

    Returns:
        NaN where no joint of a kind is annotated, and notes on people who do not count.

    Raises:
        UserError: the schema lacks a joint.
        DatasetError: a field of an annotation is missing or malformed.
    """
    if missing := [joint for joint in joints if joint not in schema.joints]:
        raise UserError(
            f"schema '{schema.name}': evaluator mpii scores the joint '{missing[0]}', which the schema does not have"
        )
    chosen = [schema.joints.index(joint) for joint in joints]
    known = truth.keypoints.reshape(-1, schema.num_joints, 3)[:, chosen]
    found = detections.keypoints.reshape(-1, schema.num_joints, 3)
    groups = [group for group in mpii_groups(truth) if image_ids is None or group.image_id in image_ids]
    people, headless = _people_of_groups(truth, groups, known)
    heads = truth.head_boxes[:, 2:]
    poses = [found[rows][:, chosen] for rows in _poses_of_groups(groups, found, detections)]
    right = [true_joints(known[rows], heads[rows], own) for rows, own in zip(people, poses, strict=True)]
    every = np.concatenate([np.zeros((0, len(chosen), 3)), *poses])
    hits = np.concatenate([np.zeros((0, len(chosen)), bool), *right])
    labelled = (known[[row for rows in people for row in rows], :, 2] > 0).sum(0)
    values = [
        average_precision(every[:, j, 2][predicted], hits[:, j][predicted], int(labelled[j]))
        for j, predicted in enumerate((every[..., 2] > 0).T)
    ]
    by_joint = dict(zip(joints, values, strict=True))
    columns = {name: [by_joint[joint] for joint in own if joint in by_joint] for name, own in COLUMNS.items()}
    scores = {"AP": _mean(values)} | {name: _mean(own) for name, own in columns.items()}
    reason = truth.reason_undefined() or "no person of a group (field 'group') with a head_box has such a joint"
    reasons = {name: reason for name, value in scores.items() if math.isnan(value)}
    return Scores(scores, reasons, (f"{headless} people of groups do not count: no head_box",) if headless else ())


def _people_of_groups(
    truth: GroundTruth, groups: Sequence[PersonGroup], known: NDArray[np.float64]
) -> tuple[list[list[int]], int]:
    """Return the rows of each group's people who count, and how many do not for want of a head box."""
    labelled: list[bool] = np.any(known[..., 2] > 0, axis=1).tolist()
    headless, people = 0, []
    for group in groups:
        members = []
        for row in group.rows:
            if not labelled[row] or truth.num_keypoints[row] == 0 or truth.crowds[row]:
                continue
            width, height = truth.head_boxes[row, 2:].tolist()
            if math.isnan(width):
                headless += 1
                continue
            if width <= 0 or height <= 0:
                box = truth.head_boxes[row].tolist()
                raise DatasetError(f"{_where(truth, row, 'head_box')}: width and height must be above 0, got {box}")
            members.append(row)
        people.append(members)
    return people, headless


def _poses_of_groups(
    groups: Sequence[PersonGroup], found: NDArray[np.float64], detections: Detections
) -> list[list[int]]:
    """Return for each group the rows of the poses (N, K, 3) that are in its crop, and were found in no other's."""
    predicted = found[..., 2:] > 0
    low = np.where(predicted, found[..., :2], np.inf).min(1, initial=np.inf)
    high = np.where(predicted, found[..., :2], -np.inf).max(1, initial=-np.inf)
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row in np.flatnonzero(predicted.any((1, 2))).tolist():
        rows_of[detections.image_ids[row]].append(row)
    places: dict[int, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        places[group.image_id].append(place)
    members: list[list[int]] = [[] for _ in groups]
    for image_id, own in places.items():
        rows = rows_of[image_id]
        nearest = nearest_crop((low[rows] + high[rows]) / 2, [groups[place].crop for place in own])
        for row, chosen in zip(rows, nearest.tolist(), strict=True):
            if chosen >= 0 and detections.groups[row] in (None, groups[own[chosen]].number):
                members[own[chosen]].append(row)
    return members


def true_joints(
    people: NDArray[np.float64], heads: NDArray[np.float64], poses: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return which joints of P poses are true positives, (P, J).

    Args:
        people: (G, J, 3) x, y, label of people with a labelled joint each.
        heads: (G, 2) width and height of head boxes.
        poses: (P, J, 3) x, y, score, 0 for a joint that is not predicted.
    """
    if not len(people) or not len(poses):
        return np.zeros(poses.shape[:2], bool)
    labelled = people[..., 2] > 0
    squared = ((poses[:, None, :, :2] - people[None, :, :, :2]) ** 2).sum(-1)
    diagonals = (heads**2).sum(-1)
    # distance <= 0.5 · 0.6 · diagonal, as whole numbers, so that a joint at the limit is right whatever roots round to
    near = 100 * squared <= 9 * diagonals[:, None]
    near &= labelled & (poses[:, None, :, 2] > 0)
    pck = near.sum(-1) / labelled.sum(-1)
    best_person = pck.argmax(1)
    own = np.where(np.arange(len(people)) == best_person[:, None], pck, 0)
    best_pose = own.argmax(0)
    right = np.zeros(poses.shape[:2], bool)
    matched = np.flatnonzero(own.max(0) > 0)
    right[best_pose[matched]] = near[best_pose[matched], matched]
    return right


def average_precision(scores: NDArray[np.float64], right: NDArray[np.bool_], total: int) -> float:
    """Return the area under the interpolated precision-recall curve; NaN if nothing is to be found.

    Args:
        scores, right: (N,) of each prediction; of equal scores the first is ranked first.
        total: how many are to be found.
    """
    if not total:
        return math.nan
    right = right[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    # recall rises by 1/total at each right one
    return float(envelope[right].sum() / total)


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan
