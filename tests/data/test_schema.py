"""Schemas: the benchmarks' facts, the way to a dict and back, and the errors of invalid files."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from pycocotools.cocoeval import Params

from coupled_embedding.data.schema import load_schema, schema_from_dict
from coupled_embedding.utils.errors import DatasetError

DATASETS = Path(__file__).resolve().parents[2] / "datasets"
FILES = sorted(DATASETS.glob("*.yaml"))
CROWDPOSE_SIGMAS = np.array([0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89, 0.79, 0.79]) / 10

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def content(**changes):
    """Return a small correct schema with fields changed; None removes a field."""
    fields = {
        "name": "animals",
        "joints": ["nose", "left_paw", "right_paw", "tail"],
        "flip_pairs": [["left_paw", "right_paw"]],
        "skeleton": [["nose", "tail"]],
        "sigmas": [0.05, 0.1, 0.1, 0.2],
        "grouping_order": ["tail", "nose", "left_paw", "right_paw"],
    } | changes
    return {key: value for key, value in fields.items() if value is not None}


def flipped_name(name):
    left, right = name.replace("left", "right"), name.replace("right", "left")
    return left if left != name else right


@each_file
def test_every_mirrored_joint_is_the_other_side_of_its_name(path):
    schema = load_schema(path)
    assert [schema.joints[i] for i in schema.flip_index] == [flipped_name(name) for name in schema.joints]
    assert all(schema.joints[left].startswith("left") for left, _ in schema.flip_pairs)


@each_file
def test_every_skeleton_reaches_all_joints(path):
    schema = load_schema(path)
    assert {joint for bone in schema.skeleton for joint in bone} == set(range(schema.num_joints))
    assert all(a != b for a, b in schema.skeleton)


@each_file
def test_every_schema_survives_the_way_through_a_dict_and_yaml(path):
    schema = load_schema(path)
    assert schema_from_dict(schema.to_dict(), "a dict") == schema
    assert schema_from_dict(yaml.safe_load(yaml.safe_dump(schema.to_dict())), "yaml") == schema


@pytest.mark.parametrize("name", ["coco", "ochuman"])
def test_coco_joints(name):
    schema = load_schema(DATASETS / f"{name}.yaml")
    assert schema.num_joints == 17
    assert (schema.joints[0], schema.joints[9], schema.joints[16]) == ("nose", "left_wrist", "right_ankle")
    assert schema.flip_index == (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
    assert schema.grouping_order == tuple(range(17))
    np.testing.assert_allclose(schema.sigmas, Params("keypoints").kpt_oks_sigmas, rtol=1e-12)
    assert schema.evaluator == "coco"


@pytest.mark.parametrize("name", ["crowdpose", "synthetic"])
def test_crowdpose_joints(name):
    schema = load_schema(DATASETS / f"{name}.yaml")
    assert schema.num_joints == 14
    assert (schema.joints[0], schema.joints[12], schema.joints[13]) == ("left_shoulder", "head", "neck")
    assert schema.flip_index == (1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 12, 13)
    assert schema.grouping_order == (13, 12, *range(12))
    np.testing.assert_allclose(schema.sigmas, CROWDPOSE_SIGMAS, rtol=1e-12)
    assert schema.evaluator == "crowdpose"
    assert schema.synthetic == (name == "synthetic")


def test_files_of_a_split_are_the_benchmarks_own():
    split = load_schema("datasets/coco.yaml").split("val2017")
    assert (split.annotations, split.images) == ("annotations/person_keypoints_val2017.json", "val2017")
    assert load_schema("datasets/crowdpose.yaml").split("test").annotations == "json/crowdpose_test.json"


def test_an_unknown_split_is_told_what_there_is():
    with pytest.raises(DatasetError, match=r"'coco' has no split 'val'; its schema lists train2017, val2017, test-dev"):
        load_schema("datasets/coco.yaml").split("val")
    with pytest.raises(DatasetError, match="'animals' has no split 'val'; its schema lists none"):
        schema_from_dict(content(), "x").split("val")


def test_names_become_numbers():
    schema = schema_from_dict(content(splits={"all": {"annotations": "a.json", "images": "i"}}, root="here"), "x")
    assert schema.flip_pairs == ((1, 2),)
    assert schema.flip_index == (0, 2, 1, 3)
    assert schema.skeleton == ((0, 3),)
    assert schema.grouping_order == (3, 0, 1, 2)
    assert schema.sigmas == (0.05, 0.1, 0.1, 0.2)
    assert (schema.root, schema.split("all").images) == ("here", "i")


def test_defaults_of_optional_fields():
    schema = schema_from_dict(content(grouping_order=None), "x")
    assert schema.grouping_order == (0, 1, 2, 3)
    assert (schema.evaluator, schema.root, schema.splits, schema.synthetic) == ("coco", "", {}, False)
    assert len(set(schema.colors)) == 4
    assert all(0 <= value <= 255 for color in schema.colors for value in color)


def test_colors_are_kept():
    colors = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [1, 2, 3]]
    assert schema_from_dict(content(colors=colors), "x").colors == tuple(tuple(color) for color in colors)


def test_midpoints_are_kept_by_name():
    schema = schema_from_dict(content(midpoints={"back": ["tail", "nose"]}), "x")
    assert schema.midpoints == {"back": ("tail", "nose")}
    assert schema.to_dict()["midpoints"] == {"back": ["tail", "nose"]}
    assert schema_from_dict(schema.to_dict(), "a dict") == schema
    assert schema_from_dict(yaml.safe_load(yaml.safe_dump(schema.to_dict())), "yaml") == schema
    assert schema_from_dict(content(), "x").midpoints == {}
    assert load_schema("datasets/coco.yaml").midpoints == {"neck": ("left_shoulder", "right_shoulder")}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"midpoints": ["nose", "tail"]}, r"midpoints: expected a dict, got \['nose', 'tail'\]"),
        ({"midpoints": {"back": ["nose", "ear"]}}, "midpoints: 'ear' is not one of the joints"),
        ({"midpoints": {"back": ["nose"]}}, r"midpoints: expected pairs of joint names, got \['nose'\]"),
        ({"midpoints": {"back": "nose"}}, "midpoints: expected pairs of joint names, got 'nose'"),
        ({"midpoints": {"tail": ["nose", "left_paw"]}}, "midpoints: 'tail' is one of the joints itself"),
        ({"midpoints": {3: ["nose", "tail"]}}, "midpoints: expected names, got 3"),
        ({"joints": None}, "field 'joints' is missing"),
        ({"sigmas": None}, "field 'sigmas' is missing"),
        ({"flips": []}, "unknown field flips; allowed: name, joints"),
        ({"name": 3}, "name: expected a str, got 3"),
        ({"joints": "nose"}, "joints: expected a list, got 'nose'"),
        ({"joints": []}, "joints: expected a list of different names"),
        ({"joints": ["nose", "nose", "left_paw", "right_paw"]}, "joints: expected a list of different names"),
        ({"joints": ["nose", 2, "left_paw", "right_paw"]}, "joints: expected names, got 2"),
        ({"flip_pairs": [["left_paw", "rihgt_paw"]]}, "flip_pairs: 'rihgt_paw' is not one of the joints"),
        ({"flip_pairs": [["left_paw"]]}, "flip_pairs: expected pairs of joint names"),
        ({"flip_pairs": [["left_paw", "right_paw"], ["left_paw", "nose"]]}, "flip_pairs: a joint may be in one"),
        ({"flip_pairs": [["nose", "nose"]]}, "flip_pairs: a joint may be in one"),
        ({"skeleton": [["nose", "ear"]]}, "skeleton: 'ear' is not one of the joints"),
        ({"skeleton": ["nose"]}, "skeleton: expected pairs of joint names, got 'nose'"),
        ({"sigmas": [0.1]}, "sigmas: expected 4 numbers above 0"),
        ({"sigmas": [0.1, 0.1, 0.1, 0]}, "sigmas: expected 4 numbers above 0"),
        ({"sigmas": [0.1, 0.1, 0.1, True]}, "sigmas: expected 4 numbers above 0"),
        ({"sigmas": [0.1, 0.1, 0.1, float("nan")]}, "sigmas: expected 4 numbers above 0"),
        ({"grouping_order": ["tail", "nose"]}, "grouping_order: must name each of the 4 joints once"),
        ({"grouping_order": ["tail"] * 4}, "grouping_order: must name each of the 4 joints once"),
        ({"grouping_order": ["tail", "nose", "left_paw", "ear"]}, "grouping_order: 'ear' is not one of the joints"),
        ({"colors": [[0, 0, 0]]}, "colors: expected 4 colors"),
        ({"colors": [[0, 0, 256]] * 4}, r"colors: expected \[red, green, blue\] of 0..255"),
        ({"colors": [[0, 0]] * 4}, r"colors: expected \[red, green, blue\] of 0..255"),
        ({"evaluator": "posetrack"}, "evaluator: 'posetrack' is not one of coco, crowdpose"),
        ({"synthetic": "yes"}, "synthetic: expected a bool"),
        ({"splits": {"all": {"annotations": "a.json"}}}, r"splits\.all: expected the two paths"),
        ({"splits": {"all": {"annotations": "a.json", "images": 3}}}, r"splits\.all: expected the two paths"),
        ({"splits": {"all": "a.json"}}, r"splits\.all: expected the two paths"),
    ],
)
def test_a_wrong_field_is_named_with_the_file(changes, text):
    with pytest.raises(DatasetError, match=rf"^mine\.yaml: {text}"):
        schema_from_dict(content(**changes), "mine.yaml")


@pytest.mark.parametrize("wrong", [None, 3, ["nose"], "nose"])
def test_what_is_no_mapping_is_told_the_fields(wrong):
    with pytest.raises(DatasetError, match=r"mine\.yaml: expected a mapping with the fields name, joints"):
        schema_from_dict(wrong, "mine.yaml")


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(DatasetError, match=r"gone\.yaml: cannot read"):
        load_schema(tmp_path / "gone.yaml")
    with pytest.raises(DatasetError, match="cannot read"):
        load_schema(tmp_path)
    (tmp_path / "bad.yaml").write_text("joints: [")
    with pytest.raises(DatasetError, match=r"bad\.yaml: not a YAML file"):
        load_schema(tmp_path / "bad.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x81")
    with pytest.raises(DatasetError, match=r"binary\.yaml"):
        load_schema(tmp_path / "binary.yaml")
