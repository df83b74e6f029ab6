"""The validation of a data set finds what was put there, and nothing in a valid one."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from invalid_images import encoded, smooth_image

from coupled_embedding.analysis.dataset_validation import (
    as_json,
    as_text,
    check_images,
    plot_statistics,
    validate_split,
)
from coupled_embedding.data.schema import load_schema, schema_from_dict
from coupled_embedding.utils.errors import DatasetError

pytestmark = pytest.mark.bad_input


def schema_of(root: Path):
    return schema_from_dict(
        {
            "name": "animals",
            "joints": ["nose", "left_paw", "right_paw"],
            "flip_pairs": [["left_paw", "right_paw"]],
            "skeleton": [],
            "sigmas": [0.1, 0.1, 0.1],
            "root": str(root),
            "splits": {"all": {"annotations": "all.json", "images": "images"}},
        },
        "animals.yaml",
    )


def person(number, image_id=1, **changes):
    place = 3 + number % 20
    joints = [place, 4, 2, place + 1, 9, 1, 0, 0, 0]
    return {
        "id": number,
        "image_id": image_id,
        "iscrowd": 0,
        "num_keypoints": 2,
        "keypoints": joints,
        "bbox": [2, 2, 30, 20],
    } | changes


@pytest.fixture
def validate(tmp_path):
    """Write three images and annotations, and validate them."""

    def write_and_validate(annotations, changes=None, **options):
        (tmp_path / "images").mkdir(exist_ok=True)
        for number in (1, 2, 3):
            path = tmp_path / "images" / f"{number}.jpg"
            if not path.exists():
                path.write_bytes(encoded(".jpg", smooth_image() + np.uint8(number)))
        images = [{"id": n, "file_name": f"{n}.jpg", "width": 40, "height": 32} for n in (1, 2, 3)]
        images[0] |= changes or {}
        (tmp_path / "all.json").write_text(json.dumps({"images": images, "annotations": annotations}))
        return validate_split(schema_of(tmp_path), "all", **options)

    return write_and_validate


def found(validation):
    return {kind: [(p.image_id, p.annotation_id) for p in problems] for kind, problems in validation.warnings.items()}


def test_a_valid_split_is_clean_and_counted(validate):
    crowd = person(9, 2, iscrowd=1, num_keypoints=0, segmentation=[[0, 0, 5, 0, 5, 5]])
    result = validate([person(1), person(2), person(3, 2), crowd])
    assert found(result) == {}
    counted = result.statistics
    assert (counted.images, result.images_read, counted.people, counted.labelled_people, counted.crowds) == (
        3,
        3,
        3,
        3,
        1,
    )
    assert counted.joints.tolist() == [[0, 3], [3, 0], [0, 0]]
    assert counted.people_per_image == [2, 1, 0]
    np.testing.assert_allclose(counted.scales, [600**0.5 / 32] * 3)
    # each of two people has the other's two joints in the box, and two of its own
    assert (counted.crowd_indices, counted.computed_crowd_indices) == ([1.0, 0.0], 2)
    assert counted.joints_per_person == [2, 2, 2]
    assert "clean: nothing found" in as_text(result)


def test_the_files_crowd_index_goes_before_the_formula(validate):
    counted = validate([person(1)], {"crowdIndex": 0.25}).statistics
    assert (counted.crowd_indices, counted.computed_crowd_indices) == ([0.25], 0)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("joints outside the image", {"keypoints": [41, 4, 2, 4, 9, 1, 0, 0, 0], "bbox": [2, 2, 42, 20]}),
        ("joints outside the box", {"bbox": [20, 20, 5, 5]}),
        ("boxes without area", {"bbox": [2, 2, 0, 20]}),
        ("num_keypoints and labels differ", {"num_keypoints": 3}),
        ("people without any label", {"keypoints": [0] * 9, "num_keypoints": 0}),
        ("invalid entries: bbox", {"bbox": [1, 2, 3]}),
        ("invalid entries: keypoints", {"keypoints": [1, 2, 7, *[0] * 6]}),
        ("invalid entries: image_id", {"image_id": 50}),
    ],
)
def test_what_looks_wrong_is_listed_by_image_and_annotation(validate, kind, changes):
    result = validate([person(1), person(2, **changes)], images=False)
    assert found(result) == {kind: [(changes.get("image_id", 1), 2)]}
    assert result.images_read == 0
    assert f"{kind}: 1\n" in as_text(result)


def test_people_who_are_elsewhere_or_there_twice_are_listed(validate):
    far = person(2, keypoints=[99, 4, 2, 98, 9, 1, 0, 0, 0], bbox=[90, 2, 20, 20])
    twice = person(3, keypoints=person(1)["keypoints"])
    result = validate([person(1), far, twice], images=False)
    assert found(result) == {
        "joints outside the image": [(1, 2)],
        "people without a joint inside the image": [(1, 2)],
        "people outside the image": [(1, 2)],
        "people annotated twice": [(1, 3)],
    }


def test_a_box_may_be_a_little_small(validate):
    joints = [3, 4, 2, 34, 9, 1, 0, 0, 0]  # two pixels beyond a box of 30
    assert found(validate([person(1, keypoints=joints)], images=False)) == {}


@pytest.mark.parametrize("workers", [0, 2])
def test_images_that_are_invalid_patched_up_or_duplicates_are_listed(validate, tmp_path, workers, capfd):
    validate([], images=False)
    first, second, third = (tmp_path / "images" / f"{n}.jpg" for n in (1, 2, 3))
    content = bytearray(encoded(".jpg", np.random.default_rng(0).integers(0, 256, (32, 40, 3), np.uint8)))
    content[700:900] = bytes(200)  # a hole in the middle, as of a disk's lost block
    first.write_bytes(content)
    second.write_bytes(content)
    third.write_bytes(b"")
    result = validate([person(1)], workers=workers)
    assert found(result) == {
        "images that cannot be read": [(3, None)],
        "damaged images": [(1, None), (2, None)],
        "duplicate images": [(2, None)],
    }
    assert "Corrupt JPEG data" in result.warnings["damaged images"][0].text
    assert "Corrupt" not in capfd.readouterr().err
    assert result.images_read == 3


def test_an_image_that_kills_the_reader_is_named(validate, monkeypatch):
    real = check_images.read_image_for_warp

    def deadly(record, shrink):
        if record.image_id == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(record, shrink)

    monkeypatch.setattr(check_images, "read_image_for_warp", deadly)
    with pytest.raises(DatasetError, match=r"while reading \S*/2\.jpg"):
        validate([], workers=1)


def test_an_image_too_long_to_test_is_listed(validate):
    result = validate([person(1)], {"width": 4000}, images=False)
    assert found(result) == {"images too long to test": [(1, None)]}


@pytest.mark.parametrize(
    ("annotations", "kind"),
    [
        ([], "no person to learn from"),
        ([person(1, keypoints=[0] * 9, num_keypoints=0, segmentation=[[0, 0, 5, 0, 5, 5]])], "no person to learn from"),
        ([person(1, num_keypoints=0)], "no person who counts in scores"),
        ([person(1, iscrowd=1)], "no person who counts in scores"),
    ],
)
def test_a_split_without_anyone_is_never_clean(validate, annotations, kind):
    result = validate(annotations, images=False)
    assert found(result)[kind] == [(None, None)]
    assert str(result.file) in str(result.warnings[kind][0])


def test_everything_is_in_the_json(validate):
    content = json.loads(json.dumps(as_json(validate([person(1), person(2, bbox=[1])]))))
    assert content["joints"]["nose"] == {"hidden": 0, "seen": 1}
    assert content["quartiles"]["people_per_image"] == [0, 0, 0, 0.5, 1]
    (problem,) = content["warnings"]["invalid entries: bbox"]
    assert (problem["annotation_id"], problem["image_id"], problem["field"]) == (2, 1, "bbox")


@pytest.mark.parametrize("annotations", [[], [person(n, 1 + n % 3) for n in range(120)]])
def test_the_plots_show_what_was_counted(validate, annotations):
    result = validate(annotations, images=False)
    axes = {a.get_title(): a for a in plot_statistics(result).axes}
    assert set(axes) >= {"People per image", "Person scale", "Crowd index", "Joints", "Labelled joints per person"}
    for title, values in (
        ("People per image", result.statistics.people_per_image),
        ("Person scale", result.statistics.scales),
        ("Labelled joints per person", result.statistics.joints_per_person),
    ):
        assert sum(bar.get_height() for bar in axes[title].patches) == len(values)
    # each person has the nose seen, the left paw hidden
    widths = [bar.get_width() for bar in axes["Joints"].patches]
    assert widths == pytest.approx([100, 0, 0, 0, 100, 0] if annotations else [0] * 6)


@pytest.mark.photos
def test_real_images_are_read_and_their_odd_boxes_found(images_dir):
    result = validate_split(load_schema("datasets/coco.yaml"), "val2017", str(images_dir / "coco"), workers=2)
    assert (result.statistics.images, result.images_read) == (103, 103)
    assert (result.statistics.people, result.statistics.labelled_people, result.statistics.crowds) == (457, 247, 10)
    assert set(result.warnings) == {"joints outside the box"}


def test_the_text_shows_the_first_of_many(validate):
    text = as_text(validate([person(n, bbox=[1]) for n in range(9)], images=False))
    assert "invalid entries: bbox: 9\n" in text
    assert text.count("expected 4 numbers") == 5
    assert "  and 4 more\n" in text
