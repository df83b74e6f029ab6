"""What looks wrong is warned of by kind, and left and right joints without a flip pair are found by their names."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coupled_embedding.data.audit import KINDS, issue_of, people_of, suspicious, warnings
from coupled_embedding.data.joint_sides import unpaired_joints
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema, load_schema

JOINTS = ("nose", "left_paw", "right_paw")


def schema(joints=JOINTS, flip_pairs=((1, 2),), evaluator="coco"):
    count = len(joints)
    return KeypointSchema(
        "animals", joints, flip_pairs, (), (0.1,) * count, tuple(range(count)), ((0, 0, 0),) * count, evaluator
    )


def record(keypoints, box=(2, 2, 30, 20), crowd=False, count=None, area=np.nan, ignored=()):
    joints = np.array(keypoints, np.float32).reshape(1, 3, 3)
    count = int((joints[..., 2] > 0).sum()) if count is None else count
    boxes = np.array([box], np.float32)
    return ImageRecord(
        5, Path("5.jpg"), 40, 32, joints, boxes, ignored, None, 1, "auto", (9,), (crowd,), (count,), (area,)
    )


VALID = [3, 4, 2, 8, 9, 1, 0, 0, 0]


def kinds(*records, evaluator="coco"):
    people = people_of(records, schema(evaluator=evaluator))
    return {kind.name: [issue_of(people, kind, row) for row in rows] for kind, rows in suspicious(people)}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"keypoints": [0.1, 0.2, 2, 0.9, 0.5, 2, 0, 0, 0]}, "coordinates that look like fractions"),
        ({"keypoints": [7, 7, 2] * 3}, "joints on one point"),
        ({"keypoints": [0, 0, 2, 8, 9, 1, 9, 9, 1], "box": (0, 0, 30, 20)}, "labelled joints at (0, 0)"),
        ({"box": (2, 2, 0, 20)}, "boxes without area"),
        ({"area": 0.0}, "areas that say nothing"),
        ({"count": 0}, "num_keypoints 0 of people with joints"),
        ({"count": 3}, "num_keypoints and labels differ"),
        ({"keypoints": [0] * 9, "count": 3}, "num_keypoints without labels"),
        ({"crowd": True}, "crowd flags on people with joints"),
        ({"keypoints": [0] * 9}, "people without any label"),
    ],
)
def test_each_kind_is_found_alone_with_its_ids(changes, name):
    found = kinds(record(VALID), record(**({"keypoints": VALID} | changes)))
    assert list(found) == [name]
    (issue,) = found[name]
    assert (issue.image_id, issue.annotation_id) == (5, 9)
    assert str(issue).startswith("5.jpg: annotation 9 of image 5: ")


def test_a_person_elsewhere_cannot_be_learned_from():
    away = record([99, 4, 2, 98, 9, 1, 0, 0, 0], (90, 2, 20, 20))
    assert set(kinds(away)) == {
        "joints outside the image",
        "people without a joint inside the image",
        "people outside the image",
    }
    (line,) = warnings([away], schema())
    assert line.startswith("people without a joint inside the image: 1 of 1 people; 5.jpg")


def test_crowdposes_own_counts_and_areas_are_not_suspicious():
    assert kinds(record(VALID, count=0, area=0.0), evaluator="crowdpose") == {}


def test_training_is_warned_of_what_changes_it_and_of_nothing_else():
    odd = [record(VALID, count=3), record(VALID, area=1.0), record(VALID, crowd=True)]
    assert [line.split(":")[0] for line in warnings([record(VALID), *odd], schema())] == [
        "areas that say nothing",
        "crowd flags on people with joints",
    ]
    assert warnings([], schema()) == []
    assert {kind.field for kind in KINDS} <= {"keypoints", "bbox", "area", "num_keypoints", "iscrowd"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("left_hand", "right_hand"),
        ("hand_left", "hand_right"),
        ("LeftHand", "RightHand"),
        ("l_hand", "r_hand"),
        ("hand.L", "hand.R"),
        ("LHand", "RHand"),
        ("left hand", "right hand"),
    ],
)
def test_sides_without_a_flip_pair_are_named(one, other):
    (line,) = unpaired_joints(schema(("nose", one, other), ()))
    assert one in line
    assert other in line
    assert "flip_pairs" in line
    assert unpaired_joints(schema(("nose", one, other))) == []


def test_crossed_pairs_are_named_and_names_without_sides_are_not():
    crossed = schema(("left_a", "right_a", "left_b", "right_b"), ((0, 3), (2, 1)))
    assert len(unpaired_joints(crossed)) == 2
    assert unpaired_joints(schema(("lip", "rib", "leftover"), ())) == []
    for name in ("coco", "crowdpose", "synthetic"):
        assert unpaired_joints(load_schema(f"datasets/{name}.yaml")) == []


@pytest.mark.parametrize(
    "names",
    [
        ("LEFT_HAND", "RIGHT_HAND"),
        ("HAND_LEFT", "HAND_RIGHT"),
        ("HandLeft", "HandRight"),
        ("handL", "handR"),
        ("L.hand", "R.hand"),
        ("forearm.L.001", "forearm.R.001"),
        ("front_left_paw", "front_right_paw"),
        ("mouth_(left)", "mouth_(right)"),
        ("lefthand", "righthand"),
        ("lhand", "rhand"),
        ("lt_hand", "rt_hand"),
        ("Lft_hand", "Rgt_hand"),
        ("mixamorig:LeftArm", "mixamorig:RightArm"),
        ("Left_Hand", "right_hand"),
    ],
)
def test_sides_are_found_however_they_are_written(names):
    (line,) = unpaired_joints(schema(("nose", *names), ()))
    assert line.startswith(f"{names[0]} and {names[1]} are not in flip_pairs")
    assert unpaired_joints(schema(("nose", *names))) == []


def test_a_side_without_a_partner_is_named_once_it_is_in_no_pair():
    misspelt = ("nose", "left_hand", "right_hands")
    assert [line.split(" names")[0] for line in unpaired_joints(schema(misspelt, ()))] == ["left_hand", "right_hands"]
    assert unpaired_joints(schema(misspelt)) == []


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"area": 1e6}, "areas that do not fit the box"),
        ({"area": 2.0}, "areas that do not fit the box"),
        ({"box": (2, 2, 52, 42)}, "boxes beyond the image"),
        ({"keypoints": [3, 4, 2, 8, 9, 1, 7, 7, 0]}, "joints with coordinates and label 0"),
    ],
)
def test_numbers_of_another_unit_or_meaning_are_found_and_warned_of(changes, name):
    odd = record(**({"keypoints": VALID} | changes))
    assert list(kinds(record(VALID), odd)) == [name]
    assert any(line.startswith(f"{name}: 1 of 1 people") for line in warnings([odd], schema()))


def test_boxes_that_contradict_the_joints_are_warned_of_when_they_are_many():
    far = record(VALID, (20, 20, 10, 10))
    assert any("joints outside the box: 2 of 3" in line for line in warnings([far, far, record(VALID)], schema()))
    assert not any("joints outside the box" in line for line in warnings([far, *[record(VALID)] * 3], schema()))


def test_a_labelled_joint_at_the_origin_is_no_fraction():
    found = kinds(record([0, 0, 2, 0, 0, 2, 0, 0, 0], (0, 0, 30, 20)))
    assert list(found) == ["labelled joints at (0, 0)"]
    assert "coordinates that look like fractions" in kinds(record([0.5, 0.5, 2, 0, 0, 0, 0, 0, 0], (0, 0, 30, 20)))


def crowd(count, crowd_index=None):
    one = record(VALID)
    return replace(
        one,
        keypoints=np.repeat(one.keypoints, count, 0)
        + np.arange(count)[:, None, None] * np.float32([0.1, 0, 0]) * (one.keypoints[..., 2:] > 0),
        boxes=np.repeat(one.boxes, count, 0),
        ids=tuple(range(count)),
        crowds=(False,) * count,
        num_keypoints=(2,) * count,
        areas=(np.nan,) * count,
        crowd_index=crowd_index,
    )


def test_what_no_score_can_count_is_named():
    (line,) = warnings([crowd(25), crowd(3)], schema())
    assert "1 images have more than 20 people, such as 5.jpg with 25" in line
    assert warnings([crowd(20)], schema()) == []
    (line,) = warnings([crowd(2, 40.0)], schema(evaluator="crowdpose"))
    assert "a crowdIndex is 40: it must be from 0 to 1" in line


def test_joints_as_annotations_of_their_own_are_named():
    points = [record([3, 4, 2, 0, 0, 0, 0, 0, 0]), record([0, 0, 0, 8, 9, 1, 0, 0, 0])]
    (line,) = warnings(points, schema())
    assert "none of the 2 labelled people has more than one labelled joint" in line
