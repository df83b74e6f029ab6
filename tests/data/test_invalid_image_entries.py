"""Invalid image entries of annotation files: raised errors name file, id and field; skipping leaves the image out."""

import pytest
from invalid_annotations import HUGE, both, image, person

from coupled_embedding.data.io.data_errors import DataErrorPolicy
from coupled_embedding.utils.errors import DatasetError

pytestmark = pytest.mark.bad_input

# changes of an image's entry -> field
IMAGES = {
    "no id": ({"id": None}, "id"),
    "an id of text": ({"id": "1"}, "id"),
    "a fractional id": ({"id": 1.5}, "id"),
    "no name": ({"file_name": None}, "file_name"),
    "an empty name": ({"file_name": ""}, "file_name"),
    "a name that is a number": ({"file_name": 12}, "file_name"),
    "a name with a NUL byte": ({"file_name": "a\0.jpg"}, "file_name"),
    "a name outside": ({"file_name": "/etc/passwd"}, "file_name"),
    "a name above": ({"file_name": "../../../etc/passwd"}, "file_name"),
    "a name that sneaks out": ({"file_name": "a/../../../b.jpg"}, "file_name"),
    "no width": ({"width": None}, "width"),
    "a width of 0": ({"width": 0}, "width"),
    "a width below 0": ({"width": -20}, "width"),
    "a fractional height": ({"height": 10.5}, "height"),
    "a height of text": ({"height": "10"}, "height"),
    "a height that is NaN": ({"height": float("nan")}, "height"),
    "a height that is true": ({"height": True}, "height"),
    "a huge width": ({"width": 10**9}, "width"),
    "a long width": ({"width": 200_000}, "width"),
    "a width beyond numbers": ({"width": HUGE}, "width"),
    "a crowd index of text": ({"crowdIndex": "high"}, "crowdIndex"),
    "a crowd index that is NaN": ({"crowdIndex": float("nan")}, "crowdIndex"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_a_broken_image_is_named_or_left_out_with_its_people(load, tmp_path, name):
    changes, field = IMAGES[name]
    broken = {key: value for key, value in image(1, **changes).items() if value is not None}
    people = [person(2, 2)] if field == "id" else [person(1, 1), person(2, 2)]
    issue, (record,), issues = both(load, [broken, image(2)], people)
    assert (issue.file, issue.field) == (str(tmp_path / "all.json"), field)
    assert field == "id" or issue.image_id == 1
    assert (record.image_id, len(record.keypoints), len(issues)) == (2, 1, 1)


@pytest.mark.parametrize("entry", [3, None, [], "text"])
def test_an_image_that_is_no_object_is_left_out(load, entry):
    issue, records, _ = both(load, [entry, image()], [person()])
    assert issue.field == "id"
    assert len(records) == 1


def test_names_within_the_data_sets_folder_are_fine(load, tmp_path):
    names = ["a/b.jpg", "../beside/c.jpg", "a/../d.jpg", str(tmp_path / "e.jpg")]
    records = load([image(n, file_name=name) for n, name in enumerate(names)], [])
    assert [record.path for record in records] == [tmp_path / "images" / name for name in names]


def test_whose_annotations_are_they_if_two_images_share_an_id(load):
    people = [person(1, 1), person(2, 2)]
    issue, records, _ = both(load, [image(1), image(1, file_name="other.jpg"), image(2)], people)
    assert (issue.field, issue.image_id) == ("id", 1)
    assert [record.image_id for record in records] == [2]
    # the same image listed twice is not a question
    _, records, issues = both(load, [image(1), image(1), image(2)], people)
    assert [record.image_id for record in records] == [1, 2]
    assert len(issues) == 1


def test_no_valid_image_is_an_error_even_if_invalid_data_is_skipped(load):
    with pytest.raises(DatasetError, match=r"all\.json: no image of 2 is valid; .*image 1: 'width' must be"):
        load([image(1, width=0), image(2, width=0)], [], DataErrorPolicy(skip=True))
    assert load([], [], DataErrorPolicy(skip=True)) == []


def test_only_chosen_images_must_be_valid(load):
    images = [image(1), image(2, width=0)]
    assert [record.image_id for record in load(images, [], image_ids=[1])] == [1]
    with pytest.raises(DatasetError, match="image 2: 'width'"):
        load(images, [], image_ids=[2, 1])
    policy = DataErrorPolicy(skip=True)
    assert [record.image_id for record in load(images, [], policy, image_ids=[2, 1])] == [1]
    with pytest.raises(DatasetError, match="no image has the id 5"):
        load(images, [], policy, image_ids=[5])
