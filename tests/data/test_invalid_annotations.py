"""Invalid annotation files: raised errors name file, id and field; skipping leaves out as little as possible."""

import numpy as np
import pytest
from invalid_annotations import HUGE, both, image, person
from pycocotools import mask as coco_mask

from coupled_embedding.data.coco import load_records
from coupled_embedding.data.io.data_errors import DataErrorPolicy
from coupled_embedding.data.io.segmentation import check_segmentation, compressed_counts
from coupled_embedding.data.schema import schema_from_dict
from coupled_embedding.utils.errors import DatasetError

pytestmark = pytest.mark.bad_input

SQUARE = [[0, 0, 4, 0, 4, 4, 0, 4]]
BOX = [[1, 2, 4, 2, 4, 6.5, 1, 6.5]]  # of the annotations below, as a polygon


# changes of a person -> field, and what training then ignores there
PEOPLE = {
    "too few joints": ({"keypoints": [1, 2, 2]}, "keypoints", BOX),
    "too many joints": ({"keypoints": [1, 2, 2] * 5}, "keypoints", BOX),
    "joints that are text": ({"keypoints": ["1"] * 9}, "keypoints", BOX),
    "joints that are null": ({"keypoints": [None] * 9}, "keypoints", BOX),
    "joints that are no list": ({"keypoints": 5}, "keypoints", BOX),
    "lists in joints": ({"keypoints": [[1, 2], *[0] * 8]}, "keypoints", BOX),
    "a joint that is NaN": ({"keypoints": [float("nan"), 2, 2, *[0] * 6]}, "keypoints", BOX),
    "a joint that is infinite": ({"keypoints": [float("inf"), 2, 2, *[0] * 6]}, "keypoints", BOX),
    "a joint far away": ({"keypoints": [1e7, 2, 2, *[0] * 6]}, "keypoints", BOX),
    "a joint beyond float32": ({"keypoints": [1e300, 2, 2, *[0] * 6]}, "keypoints", BOX),
    "a joint beyond float64": ({"keypoints": [HUGE, 2, 2, *[0] * 6]}, "keypoints", BOX),
    "label 3": ({"keypoints": [1, 2, 3, *[0] * 6]}, "keypoints", BOX),
    "label -1": ({"keypoints": [1, 2, -1, *[0] * 6]}, "keypoints", BOX),
    "label 0.5": ({"keypoints": [1, 2, 0.5, *[0] * 6]}, "keypoints", BOX),
    "no joints counted, broken ones": ({"num_keypoints": None, "keypoints": "many"}, "keypoints", BOX),
    "a box of three": ({"bbox": [1, 2, 3]}, "bbox", None),
    "no box": ({"bbox": None}, "bbox", None),
    "a box that is NaN": ({"bbox": [1, 2, 3, float("nan")]}, "bbox", None),
    "a box far away": ({"bbox": [1e9, 2, 3, 4]}, "bbox", None),
    "a box of a negative side": ({"bbox": [5, 5, -3, 4]}, "bbox", None),
    "a broken box with a segmentation": ({"bbox": [1, 2, 3], "segmentation": SQUARE}, "bbox", SQUARE),
    "broken joints with a segmentation": ({"keypoints": [1], "segmentation": SQUARE}, "keypoints", SQUARE),
    "both broken": ({"bbox": [1, 2, 3], "segmentation": [[float("nan")] * 6]}, "bbox", None),
    "a crowd flag of 2": ({"iscrowd": 2}, "iscrowd", BOX),
    "a crowd flag of text": ({"iscrowd": "0"}, "iscrowd", BOX),
    "a count of text": ({"num_keypoints": "2"}, "num_keypoints", BOX),
    "a count below 0": ({"num_keypoints": -1}, "num_keypoints", BOX),
    "a count that is NaN": ({"num_keypoints": float("nan")}, "num_keypoints", BOX),
    "an unknown category": ({"category_id": 9}, "category_id", BOX),
    "a category that is a list": ({"category_id": [1]}, "category_id", BOX),
    "an id that is a list": ({"id": [1]}, "id", "left out"),
    "no image id": ({"image_id": None}, "image_id", "left out"),
    "an image id of text": ({"image_id": "1"}, "image_id", "left out"),
    "an image id that is NaN": ({"image_id": float("nan")}, "image_id", "left out"),
    "an unknown image": ({"image_id": 99}, "image_id", "left out"),
}


@pytest.mark.parametrize("name", PEOPLE)
def test_a_broken_person_is_named_or_becomes_a_region_to_ignore(load, tmp_path, name):
    changes, field, region = PEOPLE[name]
    issue, (record,), issues = both(load, [image()], [person(1), person(7, **changes), person(3)])
    assert (issue.file, issue.field) == (str(tmp_path / "all.json"), field)
    if "id" not in changes:
        assert issue.annotation_id == 7
    if region != "left out":
        assert issue.image_id == 1
        assert f"annotation {7} of image 1" in issue.text
    # the image and the other people stay
    assert record.keypoints.shape == (2, 3, 3)
    np.testing.assert_array_equal(record.keypoints[1], np.reshape(person()["keypoints"], (3, 3)))
    assert record.ignored == (() if region in (None, "left out") else (region,))
    assert record.valid_mask().shape == (10, 20)
    assert len(issues) == 1


@pytest.mark.parametrize("entry", [3, None, [], "text"])
def test_an_annotation_that_is_no_object_is_left_out(load, entry):
    issue, (record,), _ = both(load, [image()], [entry, person()])
    assert issue.field == "image_id"
    assert len(record.keypoints) == 1


RUNS = {"size": [10, 20], "counts": [100, 20, 80]}
COMPRESSED = coco_mask.encode(np.asfortranarray(np.eye(10, 20, dtype=np.uint8)))["counts"].decode()
REGIONS = {
    "text": "text",
    "a number": 7,
    "no size": {"counts": [200]},
    "no counts": {"size": [10, 20]},
    "another size": {"size": [20, 10], "counts": [200]},
    "too few pixels": {"size": [10, 20], "counts": [100]},
    "too many pixels": {"size": [10, 20], "counts": [201]},
    "runs below 0": {"size": [10, 20], "counts": [-5, 205]},
    "runs that are text": {"size": [10, 20], "counts": ["200"]},
    "compressed of another image": {"size": [10, 20], "counts": coco_mask.encode(np.ones((50, 50), np.uint8, "F"))},
    "compressed far too long": {"size": [10, 20], "counts": "oooooooo0" * 3},
    "compressed and cut": {"size": [10, 20], "counts": "o"},
    "compressed of other letters": {"size": [10, 20], "counts": "ä\x01"},
    "a flat polygon": [0, 0, 4, 0, 4, 4],
    "letters": [["a", "b", "c", "d", "e", "f"]],
    "nulls": [[None] * 6],
    "NaN": [[float("nan")] * 6],
    # pycocotools would walk its edges pixel by pixel
    "a polygon far away": [[0, 0, 1e12, 0, 1e12, 1e12]],
    "an odd number": [[0, 0, 4, 0, 4, 4, 0]],
    "points as pairs": [[[0, 0], [4, 0], [4, 4]]],
}
REGIONS["compressed of another image"]["counts"] = REGIONS["compressed of another image"]["counts"]["counts"].decode()


@pytest.mark.parametrize("name", REGIONS)
@pytest.mark.parametrize("kind", [{"iscrowd": 1, "num_keypoints": 0}, {"num_keypoints": 0}])
def test_a_region_that_cannot_be_read_is_named_or_its_box_takes_its_place(load, name, kind):
    broken = person(7, **kind, segmentation=REGIONS[name])
    issue, (record,), _ = both(load, [image()], [broken, person(1)])
    assert (issue.field, issue.annotation_id, issue.image_id) == ("segmentation", 7, 1)
    assert (record.ignored, len(record.keypoints)) == ((BOX,), 1)


def test_an_unused_segmentation_is_nobodys_concern(load):
    (record,) = load([image()], [person(segmentation="text")])
    assert record.ignored == ()


def test_compressed_runs_are_those_of_pycocotools():
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask = (rng.random((37, 61)) < rng.random()).astype(np.uint8)
        edges = np.flatnonzero(np.diff(np.r_[0, mask.ravel("F")])).tolist()
        expected = np.diff([0, *edges, mask.size]).tolist()
        runs = coco_mask.encode(np.asfortranarray(mask))
        assert compressed_counts(runs["counts"]) == compressed_counts(runs["counts"].decode()) == expected
        check_segmentation(runs, 37, 61)


def test_annotations_that_share_an_id_stay_unless_they_are_the_same(load):
    other = person(7, keypoints=[5, 5, 2, *[0] * 6], num_keypoints=1)
    issue, (record,), _ = both(load, [image()], [person(7), other])
    assert (issue.field, issue.annotation_id) == ("id", 7)
    assert len(record.keypoints) == 2
    _, (record,), _ = both(load, [image()], [person(7), person(7)])
    assert len(record.keypoints) == 1


def test_annotations_without_ids_are_fine(load):
    (record,) = load([image()], [person(None), person(None)])
    assert len(record.keypoints) == 2


def test_what_only_looks_odd_is_read_as_it_is(load):
    odd = [
        person(1, keypoints=[-5, -3, 2, 300, 400, 1, 0, 0, 0]),  # outside the image
        person(2, bbox=[500, 500, 10, 10]),
        person(3, bbox=[5, 5, 0, 0]),  # no area
        person(4, keypoints=[0] * 9, num_keypoints=2),
        person(5, iscrowd=True, num_keypoints=0, segmentation=[]),
    ]
    empty, (full) = load([image(1), image(2)], [dict(p, image_id=2) for p in odd])
    assert len(empty.keypoints) == 0
    np.testing.assert_array_equal(full.keypoints[0, :2], [[-5, -3, 2], [300, 400, 1]])
    np.testing.assert_array_equal(full.boxes[1:3], [[500, 500, 10, 10], [5, 5, 0, 0]])
    assert len(full.keypoints) == 4


def test_five_hundred_people_are_read(load):
    (record,) = load([image()], [person(number) for number in range(500)])
    assert record.keypoints.shape == (500, 3, 3)


def test_errors_advise_skipping_only_where_it_helps(load):
    with pytest.raises(DatasetError, match=r"bbox: expected 4 numbers, got 1 \(DATASET\.ON_INVALID skip would"):
        load([image()], [person(bbox=[1])])
    with pytest.raises(DatasetError, match=r"\(annotations that are scored must be valid; tools/check_dataset\.py"):
        load([image()], [person(bbox=[1])], DataErrorPolicy(scored=True))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"images": 3}', "\xff", '{"images": [], "annotations": {}}'])
def test_a_file_that_is_none_is_an_error_even_if_invalid_data_is_skipped(load, tmp_path, text):
    load([image()], [])
    (tmp_path / "all.json").write_text(text, encoding="latin-1")
    schema = schema_from_dict(
        {
            "name": "x",
            "joints": ["a"],
            "flip_pairs": [],
            "skeleton": [],
            "sigmas": [0.1],
            "root": str(tmp_path),
            "splits": {"all": {"annotations": "all.json", "images": "."}},
        },
        "x.yaml",
    )
    with pytest.raises(DatasetError, match=r"all\.json: "):
        load_records(schema, "all", policy=DataErrorPolicy(skip=True))
