"""Boxes of detections and of keypoint results, and what is wrong with a file."""

import json

import pytest

from coupled_embedding.data.people import PersonCategories
from coupled_embedding.data.person_crops import PersonBox
from coupled_embedding.data.schema import load_schema
from coupled_embedding.evaluation import read_boxes
from coupled_embedding.utils.errors import DatasetError

SCHEMA = load_schema("datasets/synthetic.yaml")
CATEGORIES = PersonCategories({1: "person"}, {3: "car"})


@pytest.fixture
def read(tmp_path):
    """read(entries or text, min_score): the boxes of a file for images 7 and 8."""

    def write_and_read(content, min_score=0.0):
        path = tmp_path / "boxes.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return read_boxes(path, SCHEMA, CATEGORIES, {7, 8}, min_score)

    return write_and_read


def joints(*placed):
    """Return 3·K numbers: joints x, y, score first, the others at (0, 0) without a score."""
    values = [number for joint in placed for number in joint]
    return values + [0.0] * (3 * SCHEMA.num_joints - len(values))


def test_detections_are_numbered_and_filtered_by_score_and_category(read):
    content = [
        {"image_id": 8, "bbox": [1, 2, 3, 4], "score": 0.5, "category_id": 1},
        {"image_id": 7, "bbox": [1, 2, 3, 4.5], "score": 0.25},
        {"image_id": 8, "bbox": [0, 0, 9, 9], "score": 1, "category_id": 3},
        {"image_id": 8, "bbox": [5, 5, 0, 0], "score": 0.75, "keypoints": "not read"},
    ]
    first, second, third = (
        PersonBox((1, 2, 3, 4), 0.5, 0), PersonBox((1, 2, 3, 4.5), 0.25, 1), PersonBox((5, 5, 0, 0), 0.75, 3)
    )  # fmt: skip
    assert read(content) == {8: [first, third], 7: [second]}
    assert read(content, 0.5) == {8: [first, third]}
    assert read([]) == {}


def test_poses_make_boxes_of_their_found_joints_widened_by_thirty_percent(read):
    content = [
        {
            "image_id": 7,
            "category_id": 1,
            "score": 0.5,
            "keypoints": joints((10, 20, 0.1), (30, 60, 0.9), (500, 500, 0)),
        },
        {"image_id": 7, "category_id": 1, "score": 0.4, "keypoints": joints((10, 20, 0))},
        {"image_id": 7, "category_id": 1, "score": 0.3, "keypoints": joints((10, 20, 1))},
    ]
    (whole, point) = read(content)[7]
    assert whole.box == pytest.approx((7, 14, 26, 52))
    assert (whole.score, whole.source) == (0.5, 0)
    assert point == PersonBox((10, 20, 0, 0), 0.3, 2)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "cannot read this file of boxes"),
        ("{}", "expected a list of poses"),
        ([3], "entry 0: expected a box with image_id, bbox and score, got 3"),
        ([{"bbox": [0, 0, 1, 1], "score": 1}], "entry 0: 'image_id' is missing"),
        ([{"image_id": 9, "bbox": [0, 0, 1, 1], "score": 1}], "entry 0: image_id: no image has the id 9"),
        ([{"image_id": "7", "bbox": [0, 0, 1, 1], "score": 1}], "entry 0: image_id: no image has the id '7'"),
        ([{"image_id": 7, "bbox": [0, 0, 1, 1]}], "entry 0: 'score' is missing"),
        ([{"image_id": 7, "bbox": [0, 0, 1, 1], "score": "1"}], "entry 0: score: expected 1 finite numbers"),
        ([{"image_id": 7, "bbox": [0, 0, 1, 1], "score": 1, "category_id": 2}], "entry 0: category_id: no category"),
        ([{"image_id": 7, "score": 1}], "entry 0: 'bbox' or 'keypoints' is missing"),
        ([{"image_id": 7, "bbox": [0, 0, 1], "score": 1}], "entry 0: bbox: expected 4 numbers, got 3"),
        ([{"image_id": 7, "bbox": [0, 0, 1, None], "score": 1}], "entry 0: bbox: expected 4 finite numbers"),
        ([{"image_id": 7, "bbox": [0, 0, 1, -2], "score": 1}], "entry 0: bbox: sides must not be below 0"),
        ([{"image_id": 7, "keypoints": [1, 2, 3], "score": 1}], "entry 0: keypoints: expected 42 numbers, got 3"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(read, tmp_path, content, text):
    with pytest.raises(DatasetError) as raised:
        read(content)
    assert text in str(raised.value)
    assert str(tmp_path / "boxes.json") in str(raised.value)


@pytest.mark.bad_input
def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"none\.json: no such file of boxes"):
        read_boxes(tmp_path / "none.json", SCHEMA, CATEGORIES, {7})
