"""The annotation reader on small files: who is kept, what is ignored, which errors are raised."""

import json

import numpy as np
import pytest

from coupled_embedding.data.coco import annotation_file, dataset_root, join_annotations, load_records
from coupled_embedding.data.schema import schema_from_dict
from coupled_embedding.utils.errors import DatasetError

JOINTS = ["nose", "left_paw", "right_paw"]
SQUARE = [[0, 0, 4, 0, 4, 4, 0, 4]]


def image(number=1, **changes):
    return {"id": number, "file_name": f"{number}.jpg", "width": 20, "height": 10} | changes


def person(number=1, image_id=1, **changes):
    """Return an annotation; None removes a field."""
    fields = {
        "id": number,
        "image_id": image_id,
        "iscrowd": 0,
        "num_keypoints": 2,
        "keypoints": [1, 2, 2, 3.5, 4, 1, 0, 0, 0],
        "bbox": [1, 2, 3, 4.5],
        "segmentation": SQUARE,
    } | changes
    return {key: value for key, value in fields.items() if value is not None}


@pytest.fixture
def schema(tmp_path):
    return schema_from_dict(
        {
            "name": "animals",
            "joints": JOINTS,
            "flip_pairs": [["left_paw", "right_paw"]],
            "skeleton": [],
            "sigmas": [0.1, 0.1, 0.1],
            "root": str(tmp_path),
            "splits": {"all": {"annotations": "labels/all.json", "images": "images"}},
        },
        "animals.yaml",
    )


@pytest.fixture
def load(schema, tmp_path):
    """Write an annotation file and read its records."""

    def write_and_load(images=(), annotations=(), image_ids=(), **fields):
        path = tmp_path / "labels" / "all.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"images": list(images), "annotations": list(annotations)} | fields))
        return load_records(schema, "all", image_ids=image_ids)

    return write_and_load


def test_an_image_with_its_people(load, tmp_path):
    annotations = [person(), person(2, 1, bbox=[5, 5, 2, 2], keypoints=[9, 9, 2, 8, 8, 2, 7, 7, 2], num_keypoints=3)]
    (record,) = load([image(crowdIndex=0.25)], annotations)
    assert (record.image_id, record.width, record.height) == (1, 20, 10)
    assert record.path == tmp_path / "images" / "1.jpg"
    assert (record.keypoints.dtype, record.boxes.dtype) == (np.float32, np.float32)
    expected = [[[1, 2, 2], [3.5, 4, 1], [0, 0, 0]], [[9, 9, 2], [8, 8, 2], [7, 7, 2]]]
    np.testing.assert_array_equal(record.keypoints, expected)
    np.testing.assert_array_equal(record.boxes, [[1, 2, 3, 4.5], [5, 5, 2, 2]])
    assert (record.ignored, record.crowd_index) == ((), 0.25)


def test_images_come_in_the_files_order_each_with_its_own_people(load):
    annotations = [person(1, 7, bbox=[7, 0, 1, 1]), person(2, 3, bbox=[3, 0, 1, 1]), person(3, 7, bbox=[8, 0, 1, 1])]
    records = load([image(7), image(3), image(5)], annotations)
    assert [record.image_id for record in records] == [7, 3, 5]
    assert [record.boxes[:, 0].tolist() for record in records] == [[7, 8], [3], []]
    assert records[2].keypoints.shape == (0, 3, 3)
    assert records[2].crowd_index is None


def test_chosen_ids_give_those_images_in_that_order(load):
    records = load([image(1), image(2), image(3)], image_ids=[3, 1])
    assert [record.image_id for record in records] == [3, 1]


@pytest.mark.parametrize(
    ("changes", "people", "ignored"),
    [
        ({}, 1, 0),
        ({"iscrowd": None}, 1, 0),
        # docs/method.md 2: the field decides, whatever the joints say
        ({"num_keypoints": 0}, 1, 1),
        ({"num_keypoints": 0, "keypoints": [0] * 9}, 1, 1),
        ({"num_keypoints": 0, "keypoints": None}, 1, 1),
        ({"num_keypoints": 1, "keypoints": [0] * 9}, 1, 0),
        ({"iscrowd": 1, "num_keypoints": 0}, 0, 1),
        ({"iscrowd": 1, "num_keypoints": 2}, 1, 1),
        ({"iscrowd": 1, "num_keypoints": 0, "segmentation": None}, 0, 0),
        ({"iscrowd": 1, "num_keypoints": 0, "segmentation": []}, 0, 0),
        # without the field the joints tell
        ({"num_keypoints": None}, 1, 0),
        ({"num_keypoints": None, "keypoints": [0] * 9}, 1, 1),
        ({"num_keypoints": None, "keypoints": [5, 5, 0] * 3, "iscrowd": 1}, 0, 1),
        ({"num_keypoints": None, "iscrowd": 1}, 1, 1),
    ],
)
def test_who_is_a_person_and_what_is_ignored(load, changes, people, ignored):
    (record,) = load([image()], [person(**changes)])
    assert (len(record.keypoints), len(record.ignored)) == (people, ignored)
    assert (record.valid_mask() == 0).sum() == 16 * ignored


def test_a_run_length_crowd_is_ignored_where_it_says(load):
    # column by column: 3 columns of ten valid pixels, then 2 ignored columns
    runs = {"size": [10, 20], "counts": [30, 20, 150]}
    (record,) = load([image()], [person(iscrowd=1, num_keypoints=0, segmentation=runs)])
    expected = np.full((10, 20), 255)
    expected[:, 3:5] = 0
    np.testing.assert_array_equal(record.valid_mask(), expected)


def test_people_without_joints_have_joints_of_zero(load):
    (record,) = load([image()], [person(keypoints=None, num_keypoints=0)])
    np.testing.assert_array_equal(record.keypoints, np.zeros((1, 3, 3)))
    np.testing.assert_array_equal(record.boxes, [[1, 2, 3, 4.5]])


def test_an_image_list_without_annotations_is_read(load, tmp_path, schema):
    load([image(1), image(2)])
    path = tmp_path / "labels" / "all.json"
    path.write_text(json.dumps({"images": [image(1), image(2)]}))
    assert [len(record.keypoints) for record in load_records(schema, "all")] == [0, 0]


def test_another_root_takes_the_place_of_the_schemas(schema, tmp_path):
    other = tmp_path / "other"
    (other / "labels").mkdir(parents=True)
    (other / "labels" / "all.json").write_text(json.dumps({"images": [image()]}))
    assert dataset_root(schema) == tmp_path
    assert annotation_file(schema, "all", str(other)) == other / "labels" / "all.json"
    assert load_records(schema, "all", str(other))[0].path == other / "images" / "1.jpg"


def test_categories_with_the_schemas_joints_or_none_pass(load):
    categories = [{"id": 1, "name": "animal", "keypoints": JOINTS}, {"id": 2, "name": "ball"}]
    assert len(load([image()], [person()], categories=categories)) == 1


@pytest.mark.parametrize("names", [JOINTS[::-1], JOINTS[:2], [*JOINTS, "tail"]])
def test_other_joints_than_the_schemas_are_an_error(load, names):
    with pytest.raises(DatasetError, match=r"all\.json: the joints of category 'animal'.*'animals' expects .*nose"):
        load([image()], [person()], categories=[{"id": 1, "name": "animal", "keypoints": names}])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"keypoints": [1, 2, 2]}, "annotation 7 of image 1: keypoints: expected 9 numbers, got 3"),
        ({"keypoints": [1, 2, 2] * 5}, "annotation 7 of image 1: keypoints: expected 9 numbers, got 15"),
        ({"keypoints": "many"}, "annotation 7 of image 1: keypoints: expected 9 numbers, got none"),
        ({"keypoints": [1, 2, 2, "x", 0, 0, 0, 0, 0]}, "annotation 7 of image 1: keypoints: expected 9 numbers"),
        ({"keypoints": [float("nan")] * 9}, "annotation 7 of image 1: keypoints: numbers must be finite"),
        ({"keypoints": [[1, 2], *[0] * 8]}, "annotation 7 of image 1: keypoints: expected 9 numbers"),
        ({"bbox": [1, 2, 3]}, "annotation 7 of image 1: bbox: expected 4 numbers, got 3"),
        ({"bbox": [1, 2, 3, float("inf")]}, "annotation 7 of image 1: bbox: numbers must be finite"),
        ({"keypoints": [1e300, 2, 2] * 3}, "annotation 7 of image 1: keypoints: numbers must be finite"),
        ({"num_keypoints": "many"}, "annotation .*'num_keypoints' must be a whole number, got 'many'"),
        ({"bbox": None}, "annotation .* has no 'bbox'"),
        ({"image_id": None}, "annotation .* has no 'image_id'"),
    ],
)
def test_a_wrong_annotation_is_named_with_the_file(load, changes, text):
    with pytest.raises(DatasetError, match=rf"labels/all\.json: {text}"):
        load([image()], [person(7, **changes)])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"width": None}, "'width' must be a whole number, got None"),
        ({"height": 0}, "'height' must be a whole number, got 0"),
        ({"id": [1]}, r"'id' must be a whole number, got \[1\]"),
        ({"crowdIndex": "high"}, "crowdIndex must be a number, got 'high'"),
    ],
)
def test_a_wrong_image_is_named_with_the_file(load, changes, text):
    with pytest.raises(DatasetError, match=rf"labels/all\.json: image .*{text}"):
        load([{**image(), **changes}])


def test_an_image_listed_twice_is_an_error(load):
    with pytest.raises(DatasetError, match=r"all\.json: the image id 1 is listed twice"):
        load([image(1), image(1)])


@pytest.mark.parametrize("key", ["id", "file_name", "width", "height"])
def test_an_image_without_a_field_is_named(load, key):
    wrong = image()
    del wrong[key]
    with pytest.raises(DatasetError, match=rf"labels/all\.json: image .* has no '{key}'"):
        load([wrong])


def test_ids_that_are_not_there_are_named(load):
    with pytest.raises(DatasetError, match=r"all\.json: no image has the id 8 \(of 2 not found\)"):
        load([image(1)], image_ids=[1, 8, 9])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "cannot read this annotation file"),
        ("[]", "'images' must be a list"),
        ("{}", "'images' must be a list"),
        ('{"images": 3}', "'images' must be a list"),
        ('{"images": [3]}', "image 3 has no 'id'"),
        ('{"images": [], "annotations": null}', "'annotations' must be a list"),
        ('{"images": [], "categories": 5}', "'categories' must be a list"),
        ('{"images": [], "annotations": [3]}', "annotation 3 has no 'image_id'"),
    ],
)
def test_files_that_are_no_annotations_are_named(schema, tmp_path, text, reason):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "all.json").write_text(text)
    with pytest.raises(DatasetError, match=rf"labels/all\.json: {reason}"):
        load_records(schema, "all")


def test_missing_files_and_splits_are_named(schema):
    with pytest.raises(DatasetError, match=r"labels/all\.json: no such annotation file"):
        load_records(schema, "all")
    with pytest.raises(DatasetError, match="no split 'train'"):
        load_records(schema, "train")


def write(path, images, annotations, names=("nose",)):
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "keypoints": list(names)}]}
    path.write_text(json.dumps(content))
    return path


def test_joining_keeps_every_image_and_annotation(tmp_path):
    train = write(tmp_path / "train.json", [{"id": 1}], [{"id": 1, "image_id": 1}])
    val = write(tmp_path / "val.json", [{"id": 2}, {"id": 3}], [{"id": 1, "image_id": 2}, {"id": 2, "image_id": 3}])
    joined = join_annotations([train, val])
    assert [image["id"] for image in joined["images"]] == [1, 2, 3]
    # ids that clash are numbered from 1
    assert joined["annotations"] == [
        {"id": 1, "image_id": 1},
        {"id": 2, "image_id": 2},
        {"id": 3, "image_id": 3},
    ]
    assert joined["categories"] == [{"id": 1, "keypoints": ["nose"]}]


def test_joining_keeps_annotation_ids_that_differ(tmp_path):
    train = write(tmp_path / "train.json", [{"id": 1}], [{"id": 70, "image_id": 1}])
    val = write(tmp_path / "val.json", [{"id": 2}], [{"id": 9, "image_id": 2}])
    assert [a["id"] for a in join_annotations([train, val])["annotations"]] == [70, 9]


def test_joining_refuses_an_image_in_both_and_other_categories(tmp_path):
    train = write(tmp_path / "train.json", [{"id": 1}], [])
    with pytest.raises(DatasetError, match=r"same\.json: image 1 is in .*train\.json too"):
        join_annotations([train, write(tmp_path / "same.json", [{"id": 1}], [])])
    with pytest.raises(DatasetError, match=r"other\.json: its categories are not those of .*train\.json"):
        join_annotations([train, write(tmp_path / "other.json", [{"id": 2}], [], names=("tail",))])
