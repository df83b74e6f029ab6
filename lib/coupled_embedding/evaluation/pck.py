"""Percentage of correct keypoints (PCK): the share of labelled joints found within a part of the person's size.

For one person a crop: the pose found in a person's box is compared with that person alone, so there is nothing to
match, and scores of poses do not matter. Benchmarks measure distances by the torso (Leeds Sports Pose) or the head
(MPII: PCKh).
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.evaluators import Evaluator
from coupled_embedding.data.people import usable_boxes, whole_number
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.evaluation.ground_truth import GroundTruth
from coupled_embedding.evaluation.results import Detections
from coupled_embedding.evaluation.scores import Scores
from coupled_embedding.utils.errors import DatasetError, short_repr

Array = NDArray[np.float64]

# joints without their side -> column of the benchmarks' tables; other joints, such as MPII's pelvis, do not count
GROUPS = {
    **dict.fromkeys(("head", "head_top", "neck", "upper_neck", "nose", "eye", "ear"), "Head"),
    **{name: name.title() for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")},
}
HEAD_SHARE = 0.6  # of the head box's diagonal, by MPII
TORSO = (("left_shoulder", "right_hip"), ("right_shoulder", "left_hip"))
HEAD_ENDS = (("head_top", "head"), ("upper_neck", "neck"))  # each joint by the names that it has


def joint_groups(schema: KeypointSchema) -> list[str]:
    """Return the column of each joint, K names of `GROUPS`; empty for one that does not count."""
    return [GROUPS.get(name.removeprefix("left_").removeprefix("right_"), "") for name in schema.joints]


def torso_sizes(keypoints: Array, schema: KeypointSchema) -> Array:
    """Return the distances (N,) from the left shoulder to the right hip; NaN where they are not known.

    Where one of these joints (N, K, 3) is not labelled it is the distance from the right shoulder to the left hip.
    """
    first, second = (_distances(keypoints, schema, pair) for pair in TORSO)
    return np.where(np.isfinite(first), first, second)


def head_sizes(keypoints: Array, head_boxes: Array, schema: KeypointSchema) -> Array:
    """Return the sizes (N,) of heads: 0.6 of the diagonal of the box (N, 4); NaN where they are not known.

    A person without a box has the distance from the head's top to the upper neck, joints of (N, K, 3).
    """
    sizes = HEAD_SHARE * np.hypot(head_boxes[:, 2], head_boxes[:, 3])
    ends = [next((name for name in names if name in schema.joints), "") for names in HEAD_ENDS]
    return np.where(np.isfinite(sizes), sizes, _distances(keypoints, schema, (ends[0], ends[1])))


def _distances(keypoints: Array, schema: KeypointSchema, pair: tuple[str, str]) -> Array:
    """Return the distances (N,) of two joints; NaN where one is not labelled, or none of the schema's."""
    if not set(pair) <= set(schema.joints):
        return np.full(len(keypoints), np.nan)
    first, second = (keypoints[:, schema.joints.index(name)] for name in pair)
    labelled = (first[:, 2] > 0) & (second[:, 2] > 0)
    return np.where(labelled, np.hypot(first[:, 0] - second[:, 0], first[:, 1] - second[:, 1]), np.nan)


# `Evaluator.normalizer` -> sizes (N,) of people, whose joints are (N, K, 3)
NORMALIZERS: dict[str, Callable[[GroundTruth, Array, KeypointSchema], Array]] = {
    "torso": lambda truth, keypoints, schema: torso_sizes(keypoints, schema),
    "head": lambda truth, keypoints, schema: head_sizes(keypoints, truth.head_boxes, schema),
    "box": lambda truth, keypoints, schema: usable_boxes(truth.boxes, keypoints)[:, 2:].max(1, initial=0.0),
}


def pck_scores(
    truth: GroundTruth, detections: Detections, schema: KeypointSchema, rules: Evaluator, source: str = "results"
) -> Scores:
    """Score the poses found in annotated people's boxes.

    A joint is right if it lies within a threshold times the person's size. A score is the share of right ones among the
    labelled joints of all people: of one column of the benchmarks' tables, or of all of them (the mean, which comes
    first). A person without a pose has no right joint. Crowds and people whose size is not known do not count.

    Args:
        truth: the annotated people.
        detections: poses with ``annotation_id``; of several of one person the best scored counts.
        schema: names the joints.
        rules: normalizer and thresholds.
        source: names the results in errors.

    Returns:
        ``PCK@0.2`` (or ``PCKh@0.5``), ``Head``, ``Shoulder`` and so on at the first threshold, then the mean at each
        further threshold.

    Raises:
        DatasetError: a pose names no annotated person, or two people of the file have one id.
    """
    keypoints = truth.keypoints.reshape(-1, schema.num_joints, 3)
    sizes = NORMALIZERS[rules.normalizer](truth, keypoints, schema)
    labelled_people = (truth.crowds == 0) & (truth.num_keypoints > 0)
    counts = labelled_people & (sizes > 0)  # False for NaN
    predicted = _poses_of(truth, detections, source)
    distances = np.hypot(*np.moveaxis(predicted - keypoints[..., :2], -1, 0))  # (N, K), NaN without a pose
    groups = joint_groups(schema)
    labelled = (keypoints[..., 2] > 0) & counts[:, None] & np.array([bool(group) for group in groups])
    with np.errstate(invalid="ignore"):
        right = [labelled & (distances <= reach * sizes[:, None]) for reach in rules.thresholds]
    stem = "PCKh" if rules.normalizer == "head" else "PCK"
    values = {f"{stem}@{rules.thresholds[0]:g}": _share(right[0], labelled)}
    for name in dict.fromkeys(GROUPS.values()):
        joints = [number for number, group in enumerate(groups) if group == name]
        if joints:
            values[name] = _share(right[0][:, joints], labelled[:, joints])
    for reach, part in zip(rules.thresholds[1:], right[1:], strict=True):
        values[f"{stem}@{reach:g}"] = _share(part, labelled)
    reason = truth.reason_undefined() or f"no labelled joint of a person of known size ({rules.normalizer})"
    left_out = int((labelled_people & ~counts).sum())
    total = int(labelled_people.sum())
    note = f"{left_out} of {total} people do not count: their size ({rules.normalizer}) is not annotated"
    reasons = {name: reason for name, value in values.items() if math.isnan(value)}
    return Scores(values, reasons, (note,) if left_out else ())


def _share(right: NDArray[np.bool_], labelled: NDArray[np.bool_]) -> float:
    return float(right.sum() / labelled.sum()) if labelled.any() else math.nan


def _poses_of(truth: GroundTruth, detections: Detections, source: str) -> Array:
    """Return the joints (N, K, 2) found for each annotated person, NaN for people without a pose."""
    rows: dict[int, int] = {}
    for row in np.flatnonzero((truth.keypoints[:, 2::3] > 0).any(1)).tolist():
        own_id = truth.ids[row]
        number = whole_number(own_id)
        if number is None or number in rows:
            which = "no whole number" if number is None else "that of another person"
            raise DatasetError(
                f"{truth.path}: annotation {short_repr(own_id)} of image {truth.image_ids[row]}: id: it is {which}; "
                "PCK finds a person's pose by it"
            )
        rows[number] = row
    count = truth.keypoints.shape[1] // 3
    joints = detections.keypoints.reshape(-1, count, 3)[..., :2]
    predicted = np.full((len(truth.ids), count, 2), np.nan)
    for number in np.argsort(detections.scores, kind="stable"):  # the best one last
        own = whole_number(detections.annotation_ids[number])
        person = None if own is None else rows.get(own)
        if person is None or truth.image_ids[person] != detections.image_ids[number]:
            shown = short_repr(detections.annotation_ids[number])
            raise DatasetError(
                f"{source}: a pose of image {detections.image_ids[number]}: annotation_id: {shown} is no person of "
                f"that image in {truth.path}; PCK scores poses that were found in annotated people's boxes "
                "(DATASET.CROPS people, TEST.BOXES '')"
            )
        predicted[person] = joints[number]
    return predicted
