"""Who is a person: categories, ids, boxes and areas that say nothing, in the reader and in the scorer alike."""

import json
import math

import numpy as np
import pytest

from coupled_embedding.analysis.upper_bound import annotated_poses
from coupled_embedding.data.coco import load_records
from coupled_embedding.data.io.data_errors import DataErrorPolicy
from coupled_embedding.data.people import usable_areas, usable_boxes, whole_number
from coupled_embedding.data.schema import schema_from_dict
from coupled_embedding.evaluation import evaluate_keypoints, load_ground_truth, poses_to_results
from coupled_embedding.utils.errors import DatasetError

JOINTS = ["nose", "left_paw", "right_paw"]


def schema_of(root, **fields):
    content = {
        "name": "animals",
        "joints": JOINTS,
        "flip_pairs": [["left_paw", "right_paw"]],
        "skeleton": [],
        "sigmas": [0.1, 0.1, 0.1],
        "root": str(root),
        "splits": {"all": {"annotations": "all.json", "images": "."}},
    }
    return schema_from_dict(content | fields, "animals.yaml")


def animal(number, category, **changes):
    x = 10.0 * number
    joints = [x, 20, 2, x + 3, 40, 2, x + 6, 60, 1]
    return {"id": number, "image_id": 1, "category_id": category, "keypoints": joints, "bbox": [x, 10, 9, 60]} | changes


def dog(number, **changes):
    return animal(number, 1, **changes)


@pytest.fixture
def write(tmp_path):
    def write_file(annotations, categories=None):
        content = {"images": [{"id": 1, "file_name": "1.jpg", "width": 300, "height": 200}], "annotations": annotations}
        content |= {} if categories is None else {"categories": categories}
        (tmp_path / "all.json").write_text(json.dumps(content))
        return tmp_path

    return write_file


def score_against_itself(root, schema):
    records = load_records(schema, "all")
    truth = load_ground_truth(root / "all.json", schema)
    found = poses_to_results({r.image_id: annotated_poses(r) for r in records}, truth.categories.result)
    return len(records[0].keypoints), evaluate_keypoints(root / "all.json", found, schema).values["AP"]


def category(number, name, joints=None):
    return {"id": number, "name": name} | ({"keypoints": joints} if joints else {})


DOG, CAT = category(1, "dog", JOINTS), category(2, "cat", JOINTS)
CAR = category(3, "car")


@pytest.mark.parametrize(
    ("categories", "annotations", "people"),
    [
        (None, [dog(1), animal(2, 77)], 2),  # no categories are listed: everybody counts
        ([DOG, CAT], [animal(1, 2), animal(2, 2)], 2),  # the first category is nobody's
        ([DOG, CAT, CAR], [dog(1), animal(2, 2), animal(3, 3, keypoints=None)], 2),
        ([DOG, category(4, "hand", ["thumb"])], [dog(1), animal(2, 4, keypoints=[1, 1, 2])], 1),
        ([category(1, "dog"), CAR], [dog(1), animal(2, 3, keypoints=None, segmentation=[[0, 0, 9, 0, 9, 9]])], 1),
        ([category(1, "person"), CAR], [dog(1, keypoints=None), animal(2, 3, keypoints=None)], 1),
        ([DOG], [{k: v for k, v in dog(1).items() if k != "category_id"}], 1),
        ([{**DOG, "id": 1.0}], [dog(1.0, image_id=1.0, category_id=1.0)], 1),
    ],
)
def test_reader_and_scorer_count_the_same_people(write, categories, annotations, people):
    root = write(annotations, categories)
    found, ap = score_against_itself(root, schema_of(root))
    assert found == people
    labelled = any(a.get("keypoints") for a in annotations)
    assert ap == pytest.approx(1) if labelled else math.isnan(ap)


def test_other_things_are_no_regions_to_ignore_and_no_errors(write):
    car = animal(2, 3, keypoints=None, segmentation=[[0, 0, 99, 0, 99, 99]], bbox="broken")
    root = write([dog(1), car], [DOG, CAR])
    (record,) = load_records(schema_of(root), "all")
    assert (len(record.keypoints), record.ignored, record.annotations) == (1, (), 1)


@pytest.mark.parametrize(("chosen", "people"), [(["cat"], 2), (["2"], 2), ([1], 1), (["dog", "cat"], 3), ([], 3)])
def test_categories_can_be_chosen_by_name_or_id(write, chosen, people):
    root = write([dog(1), animal(2, 2), animal(3, 2)], [DOG, CAT])
    assert score_against_itself(root, schema_of(root, categories=chosen)) == (people, pytest.approx(1))


@pytest.mark.parametrize("chosen", ["horse", "car"])
def test_a_category_that_is_not_there_is_named_with_those_that_are(write, chosen):
    root = write([dog(1)], [DOG, CAT, CAR])
    for read in (load_records, lambda schema, _: load_ground_truth(root / "all.json", schema)):
        with pytest.raises(DatasetError, match=rf"CATEGORIES: no category '{chosen}'.*dog \(1\), cat \(2\)"):
            read(schema_of(root, categories=[chosen]), "all")


@pytest.mark.parametrize(
    ("categories", "text"),
    [
        ([DOG, DOG], "id 1 is listed twice"),
        ([{"name": "dog"}], "'id' that is whole"),
        (["dog"], "'id' that is whole"),
    ],
)
def test_malformed_categories_are_refused_by_both(write, categories, text):
    root = write([dog(1)], categories)
    for read in (load_records, lambda schema, _: load_ground_truth(root / "all.json", schema)):
        with pytest.raises(DatasetError, match=rf"all\.json: categories: .*{text}"):
            read(schema_of(root), "all")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"category_id": 9}, "no category has the id 9"),
        ({"category_id": "1"}, "no category has the id '1'"),
        ({"image_id": "1"}, "image_id' .*whole number"),
        ({"image_id": 1.5}, "image_id' .*whole number"),
        ({"keypoints": [1, 2, 7] * 3}, "labels must be 0, 1 or 2"),
    ],
)
def test_reader_and_scorer_refuse_the_same(write, changes, text):
    root = write([dog(1, **changes)], [DOG])
    for read in (load_records, lambda schema, _: load_ground_truth(root / "all.json", schema)):
        with pytest.raises(DatasetError, match=text):
            read(schema_of(root), "all")


@pytest.mark.parametrize(
    ("value", "number"),
    [(3, 3), (3.0, 3), (-0.0, 0), (3.5, None), (2**63, None), ("3", None), (True, None), (None, None)],
)
def test_whole_numbers(value, number):
    assert whole_number(value) == number


class TestWhatSaysNothing:
    @pytest.mark.parametrize("area", [0, 0.0, 1, -5.0, 1e12, None])
    def test_an_area_of_nothing_is_taken_for_none(self, write, area):
        root = write([dog(1, area=area), dog(2, area=area)], [DOG])
        truth = load_ground_truth(root / "all.json", schema_of(root))
        assert truth.areas.tolist() == pytest.approx([0.53 * 9 * 60] * 2)
        assert score_against_itself(root, schema_of(root))[1] == pytest.approx(1)

    def test_an_area_of_something_stays(self, write):
        root = write([dog(1, area=2.0), dog(2, area=777)], [DOG])
        assert load_ground_truth(root / "all.json", schema_of(root)).areas.tolist() == [2, 777]

    @pytest.mark.parametrize("evaluator", ["coco", "crowdpose"])
    @pytest.mark.parametrize("box", [[0, 0, 0, 0], [5, 5, 0, 30], [5, 5, 30, 0]])
    def test_a_box_without_area_is_that_of_the_joints(self, write, box, evaluator):
        root = write([dog(1, bbox=box), dog(2, bbox=box)], [DOG])
        schema = schema_of(root, evaluator=evaluator)
        assert load_ground_truth(root / "all.json", schema).areas.tolist() == pytest.approx([0.53 * 6 * 40] * 2)
        assert score_against_itself(root, schema)[1] == pytest.approx(1)

    def test_a_person_of_one_joint_and_no_box_can_still_be_found(self, write):
        root = write([dog(1, keypoints=[10.1, 20.3, 2, *[0] * 6], bbox=[0, 0, 0, 0])], [DOG])
        assert score_against_itself(root, schema_of(root)) == (1, pytest.approx(1))

    def test_people_without_labelled_joints_keep_what_the_file_says(self):
        nobody = np.zeros((2, 3, 3))
        assert usable_areas(np.array([0.5, np.nan]), np.array([[0, 0, 10.0, 10]] * 2), nobody).tolist() == [0.5, 53]
        assert usable_boxes(np.array([[4, 4, 0, 9.0]]), nobody[:1]).tolist() == [[0, 0, 0, 0]]

    def test_a_count_without_labels_is_nobody_to_find(self, write):
        root = write([dog(1, keypoints=[0] * 9, num_keypoints=3)], [DOG])
        truth = load_ground_truth(root / "all.json", schema_of(root))
        assert truth.num_keypoints.tolist() == [0]
        assert "1 have no keypoints" in truth.reason_undefined()


def test_a_category_that_is_left_out_with_its_joints_is_named(write):
    child = category(2, "child", ["nose", "right_paw", "left_paw"])
    root, policy = write([dog(1), animal(2, 2)], [DOG, child]), DataErrorPolicy()
    load_records(schema_of(root), "all", policy=policy)
    (line,) = policy.warnings
    assert "1 of the 1 annotations of category 'child' (2) have labelled joints, but are left out" in line


@pytest.mark.parametrize("categories", [None, [DOG, category(3, "car", JOINTS)], [category(1, "dog"), CAR]])
def test_objects_among_the_people_are_named(write, categories):
    car = animal(2, 3, keypoints=[0] * 9, segmentation=[[1, 1, 9, 1, 9, 9]])
    policy = DataErrorPolicy()
    load_records(schema_of(write([dog(1), car], categories)), "all", policy=policy)
    if categories and not categories[0].get("keypoints"):
        assert policy.warnings == []  # nobody's car has keypoints, so it is not a person
        return
    (line,) = policy.warnings
    assert "none of the 1 annotations of category" in line
    assert "has a labelled joint" in line


def test_crowds_and_unlabelled_people_beside_labelled_ones_are_no_objects(write):
    people = [dog(1), dog(2, keypoints=[0] * 9), dog(3, iscrowd=1, keypoints=[0] * 9)]
    policy = DataErrorPolicy()
    load_records(schema_of(write(people, [DOG])), "all", policy=policy)
    assert policy.warnings == []


@pytest.mark.parametrize("changes", [{"keypoints": []}, {"keypoints": None}, {"num_keypoints": None}])
def test_empty_fields_are_missing_ones_for_reader_and_scorer(write, changes):
    root = write([dog(1), dog(2, **changes)], [DOG])
    people, ap = score_against_itself(root, schema_of(root))
    assert people == 2
    assert ap == pytest.approx(1)


def test_the_same_annotation_twice_is_an_error_of_the_scorer_too(write):
    root = write([dog(1), dog(1)], [DOG])
    with pytest.raises(DatasetError, match="annotation 1 is listed twice"):
        load_ground_truth(root / "all.json", schema_of(root))
