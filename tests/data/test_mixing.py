"""Records of one data set in the joints of another: by name, by midpoints, or not labelled."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coupled_embedding.data.mixing import map_records
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import load_schema, schema_from_dict
from coupled_embedding.utils.errors import DatasetError


def schema_of(name, joints, **fields):
    content = {"name": name, "joints": joints, "flip_pairs": [], "skeleton": [], "sigmas": [0.1] * len(joints)}
    return schema_from_dict(content | fields, f"{name}.yaml")


SOURCE = schema_of("source", ["nose", "left", "right", "tail"], midpoints={"neck": ["left", "right"]})
TARGET = schema_of("target", ["tail", "ear", "neck", "nose"])


def record_of(keypoints, **fields):
    people = np.array(keypoints, np.float32) if len(keypoints) else np.zeros((0, 4, 3), np.float32)
    boxes = np.arange(4 * len(people), dtype=np.float32).reshape(-1, 4)
    return ImageRecord(3, Path("image.png"), 40, 30, people, boxes, **fields)


PERSON = [(1, 2, 2), (10, 4, 1), (20, 8, 2), (5, 6, 0)]
OTHER = [(3, 3, 1), (7, 7, 2), (9, 9, 0), (8, 9, 2)]


def test_joints_go_by_their_names_and_midpoints_whatever_their_order():
    (mapped,) = map_records([record_of([PERSON, OTHER])], SOURCE, TARGET)
    assert (mapped.keypoints.shape, mapped.keypoints.dtype) == ((2, 4, 3), np.float32)
    # tail, ear (nowhere), neck between left and right, nose
    assert mapped.keypoints[0].tolist() == [[5, 6, 0], [0, 0, 0], [15, 6, 1], [1, 2, 2]]
    assert mapped.keypoints[1, [0, 3]].tolist() == [[8, 9, 2], [3, 3, 1]]
    assert mapped.keypoints[1, 2, 2] == 0  # one of the two is not labelled
    assert mapped.annotated.tolist() == [True, False, True, True]
    assert mapped.confidence is None


def test_everything_else_of_a_record_stays():
    record = record_of(
        [PERSON], ignored=([[0, 0, 5, 0, 5, 5]],), annotations=2, ids=(7,), crowds=(False,), areas=(3.0,)
    )
    (mapped,) = map_records([record], SOURCE, TARGET)
    unchanged = replace(mapped, keypoints=record.keypoints, annotated=None)
    assert unchanged == record


def test_a_middle_counts_as_its_less_sure_part():
    confidence = np.array([[0.9, 0.2, 0.6, 0.4], [0.1, 1.0, 0.3, 0.5]], np.float32)
    (mapped,) = map_records([record_of([PERSON, OTHER], confidence=confidence)], SOURCE, TARGET)
    assert mapped.confidence.dtype == np.float32
    assert mapped.confidence[:, [0, 2, 3]] == pytest.approx(np.array([[0.4, 0.2, 0.9], [0.5, 0.3, 0.1]]))


@pytest.mark.parametrize(
    ("labelled", "expected"),
    [
        ([True, True, True, True], [True, False, True, True]),
        ([True, False, True, True], [True, False, False, True]),
        ([False, True, True, False], [False, False, True, False]),
    ],
)
def test_what_the_source_does_not_label_stays_so(labelled, expected):
    (mapped,) = map_records([record_of([PERSON], annotated=np.array(labelled))], SOURCE, TARGET)
    assert mapped.annotated.tolist() == expected


def test_a_data_set_that_was_mapped_is_mapped_on():
    back = schema_of("back", ["right", "neck", "tail"])
    (once,) = map_records([record_of([PERSON])], SOURCE, TARGET)
    (twice,) = map_records([once], TARGET, back)
    assert twice.keypoints[0].tolist() == [[0, 0, 0], [15, 6, 1], [5, 6, 0]]
    assert twice.annotated.tolist() == [False, True, True]


def test_an_image_without_people_says_what_its_data_set_labels():
    (mapped,) = map_records([record_of([])], schema_of("bare", ["nose", "a", "b", "c"]), TARGET)
    assert mapped.keypoints.shape == (0, 4, 3)
    assert mapped.annotated.tolist() == [False, False, False, True]


def test_the_same_joints_in_the_same_order_change_nothing():
    records = [record_of([PERSON]), record_of([])]
    assert map_records(records, SOURCE, schema_of("twin", list(SOURCE.joints))) is records


@given(order=st.permutations(range(4)), seed=st.integers(0, 2**32 - 1))
def test_another_order_of_the_joints_is_a_permutation(order, seed):
    rng = np.random.default_rng(seed)
    people = rng.uniform(0, 30, (2, 4, 3)).astype(np.float32)
    people[..., 2] = rng.integers(0, 3, (2, 4))
    record = record_of(people, confidence=rng.uniform(0, 1, (2, 4)).astype(np.float32))
    target = schema_of("permuted", [SOURCE.joints[i] for i in order])
    (mapped,) = map_records([record], SOURCE, target)
    np.testing.assert_array_equal(mapped.keypoints, record.keypoints[:, order])
    np.testing.assert_array_equal(mapped.confidence, record.confidence[:, order])
    assert mapped.annotated is None or mapped.annotated.all()


def test_coco_has_crowdposes_joints_but_the_head():
    coco, crowdpose = load_schema("datasets/coco.yaml"), load_schema("datasets/crowdpose.yaml")
    people = np.random.default_rng(0).uniform(1, 39, (1, 17, 3)).astype(np.float32)
    people[..., 2] = 2
    (mapped,) = map_records([record_of(people)], coco, crowdpose)
    assert [name for name, there in zip(crowdpose.joints, mapped.annotated, strict=True) if not there] == ["head"]
    shoulders = people[0, [coco.joints.index(f"{side}_shoulder") for side in ("left", "right")], :2]
    np.testing.assert_allclose(mapped.keypoints[0, crowdpose.joints.index("neck"), :2], shoulders.mean(0), rtol=1e-6)
    # the way back: no face in CrowdPose, and a neck that COCO has no use for
    (back,) = map_records([mapped], crowdpose, coco)
    assert back.annotated.tolist() == [False] * 5 + [True] * 12
    np.testing.assert_array_equal(back.keypoints[0, 5:], people[0, 5:])


def test_schemas_without_a_joint_in_common_are_named():
    other = schema_of("animals", ["hoof", "horn"], midpoints={"chest": ["hoof", "horn"]})
    message = r"'animals' and 'target' cannot be mixed: no joint .* \(hoof, horn \.\.\.; tail, ear, neck, nose \.\.\.\)"
    with pytest.raises(DatasetError, match=message):
        map_records([record_of([[(1, 1, 2), (2, 2, 2)]])], other, TARGET)
