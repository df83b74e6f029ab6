"""Annotations with the scores of the program that made them: who is ignored, and how much a joint counts."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from invalid_annotations import HUGE, image, person

from coupled_embedding.data.coco import load_records
from coupled_embedding.data.io.data_errors import DataError, DataErrorPolicy
from coupled_embedding.data.io.entries import PseudoLabels
from coupled_embedding.data.schema import schema_from_dict

TRIANGLE = [[2, 1, 8, 1, 8, 6]]
BOX = [[1, 2, 4, 2, 4, 6.5, 1, 6.5]]  # of `person`


def read(folder, annotations, policy=None, min_score=0.0, full_score=0.0):
    """Return the record of an image of 20 × 10 pixels with these annotations."""
    content = {"images": [image()], "annotations": annotations}
    (folder / "all.json").write_text(json.dumps(content))
    schema = schema_from_dict(
        {
            "name": "animals",
            "joints": ["nose", "left_paw", "right_paw"],
            "flip_pairs": [["left_paw", "right_paw"]],
            "skeleton": [],
            "sigmas": [0.1, 0.1, 0.1],
            "root": str(folder),
            "splits": {"all": {"annotations": "all.json", "images": "images"}},
        },
        "animals.yaml",
    )
    (record,) = load_records(schema, "all", policy=policy, pseudo_labels=PseudoLabels(min_score, full_score))
    return record


def test_people_below_the_least_score_become_their_regions(tmp_path):
    annotations = [
        person(1, score=0.49, segmentation=TRIANGLE),
        person(2, score=0.5),
        person(3, score=0.1),
        person(4),
        person(5, score=1),
    ]
    record = read(tmp_path, annotations, min_score=0.5)
    assert record.ids == (2, 4, 5)
    assert len(record.keypoints) == len(record.boxes) == 3
    assert record.ignored == (TRIANGLE, BOX)
    assert record.annotations == 5
    mask = record.valid_mask()
    assert mask[2:6, 1:4].max() == 0  # the box
    assert mask[2, 6] == 0  # the triangle
    assert mask[8:].min() == 255


@pytest.mark.parametrize("segmentation", ["text", [], [[1, "x"] * 3], {"size": [1, 1], "counts": [1]}])
def test_without_a_valid_segmentation_the_box_is_ignored(tmp_path, segmentation):
    record = read(tmp_path, [person(score=0.1, segmentation=segmentation)], min_score=0.5)
    assert record.ignored == (BOX,)


def test_a_crowd_with_a_low_score_stays_one_region(tmp_path):
    crowds = [person(1, score=0.1, iscrowd=1, segmentation=TRIANGLE), person(2, score=0.9, iscrowd=1)]
    record = read(tmp_path, crowds, min_score=0.5)
    assert (record.ids, record.ignored) == ((2,), (TRIANGLE,))


def test_people_without_keypoints_are_regions_whatever_their_scores(tmp_path):
    no_joints = {"num_keypoints": 0, "keypoints": None, "segmentation": TRIANGLE}
    people = [person(n, score=n / 10, **no_joints) for n in (1, 9)]
    assert read(tmp_path, people, min_score=0.5).ignored == (TRIANGLE, TRIANGLE)


def test_without_a_least_score_all_people_are_learned_from(tmp_path):
    record = read(tmp_path, [person(1, score=0.0), person(2, score=-3)])
    assert (record.ids, record.ignored, record.confidence) == ((1, 2), (), None)


def test_without_pseudo_labels_scores_say_nothing(load):
    wrong = {"score": "high", "keypoint_scores": "none"}
    (record,) = load([image()], [person(score=0.0), person(8, **wrong)])
    assert (record.ids, record.ignored, record.confidence) == ((7, 8), (), None)


@given(scores=st.lists(st.floats(0, 3), min_size=3, max_size=3), full=st.floats(0.05, 1))
def test_joints_count_by_their_scores_at_most_whole(tmp_path_factory, scores, full):
    record = read(tmp_path_factory.getbasetemp(), [person(keypoint_scores=scores)], full_score=full)
    assert (record.confidence.shape, record.confidence.dtype) == ((1, 3), np.float32)
    assert record.confidence[0].tolist() == pytest.approx([min(1.0, s / full) for s in scores], rel=1e-5)


def test_people_without_scores_count_whole_beside_those_with_scores(tmp_path):
    annotations = [person(1, keypoint_scores=[0.2, 0.4, 0]), person(2), person(3, keypoint_scores=None)]
    record = read(tmp_path, annotations, full_score=0.4)
    assert record.confidence.tolist() == [[0.5, 1, 0], [1, 1, 1], [1, 1, 1]]


def test_nobodys_scores_are_none(tmp_path):
    assert read(tmp_path, [person(1), person(2)], full_score=0.4).confidence is None
    assert read(tmp_path, [person(keypoint_scores=[0.2, 0.4, 0])]).confidence is None
    assert read(tmp_path, [], full_score=0.4).confidence is None


def test_ignored_people_leave_no_row_of_confidence(tmp_path):
    annotations = [person(n, score=n / 10, keypoint_scores=[n / 10] * 3) for n in (1, 5, 2, 8)]
    record = read(tmp_path, annotations, min_score=0.3, full_score=1.0)
    assert record.ids == (5, 8)
    assert record.confidence == pytest.approx(np.array([[0.5] * 3, [0.8] * 3]))


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("score", "high", "score must be a number, got 'high'"),
        ("score", None, "score must be a number, got None"),
        ("score", True, "score must be a number, got True"),
        ("score", [0.5], r"score must be a number, got \[0\.5\]"),
        ("score", math.nan, "score must be a number, got nan"),
        ("keypoint_scores", [0.5, 0.5], "keypoint_scores: expected 3 numbers, got 2"),
        ("keypoint_scores", 0.5, "keypoint_scores: expected 3 numbers, got none"),
        ("keypoint_scores", "0.5", "keypoint_scores: expected 3 numbers, got none"),
        ("keypoint_scores", [0.5, "high", 0.5], "keypoint_scores: expected 3 numbers, got 'high'"),
        ("keypoint_scores", [0.5, None, 0.5], "keypoint_scores: expected 3 numbers, got None"),
        ("keypoint_scores", [0.5, [1], 0.5], r"keypoint_scores: expected 3 numbers, got \[1\]"),
        ("keypoint_scores", [0.5, math.nan, 0.5], "keypoint_scores: numbers must be finite"),
        ("keypoint_scores", [0.5, math.inf, 0.5], "keypoint_scores: numbers must be finite"),
        ("keypoint_scores", [0.5, HUGE, 0.5], "keypoint_scores: "),
        ("keypoint_scores", [0.5, -0.1, 0.5], "keypoint_scores: must not be below 0"),
    ],
)
def test_invalid_scores_are_named_with_file_annotation_and_field(tmp_path, field, value, text):
    annotations = [person(8), {**person(), field: value}]
    options = {"min_score": 0.2, "full_score": 0.4}
    with pytest.raises(DataError, match=rf"all\.json: annotation 7 of image 1: {text}") as raised:
        read(tmp_path, annotations, **options)
    assert raised.value.issue.field == field
    policy = DataErrorPolicy(skip=True)
    record = read(tmp_path, annotations, policy, **options)
    assert (record.ids, record.ignored) == ((8,), (BOX,))
    assert [(issue.field, issue.annotation_id) for issue in policy.issues] == [(field, 7)]


def test_scores_that_nothing_depends_on_are_not_read(tmp_path):
    annotation = {**person(), "score": None, "keypoint_scores": "none"}
    assert read(tmp_path, [annotation]).ids == (7,)
