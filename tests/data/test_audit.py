"""What looks wrong is warned of by kind, and left and right joints without a flip pair are found by their names."""

from pathlib import Path

import numpy as np
import pytest

from coupled_embedding.data.audit import KINDS, issue_of, people_of, suspicious, unpaired_joints, warnings
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
