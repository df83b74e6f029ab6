"""What a config refuses: unknown keys, wrong types, invalid values, each with a full text."""

import json

import pytest
import yaml

from coupled_embedding.config import config_from_dict, config_to_dict, config_to_yaml, load_config
from coupled_embedding.utils.errors import ConfigError, short_repr


@pytest.fixture
def refusal(tmp_path):
    """Load a config that sets one key; return its path and the error's text."""

    def load(key, value):
        path = tmp_path / "mine.yaml"
        text = f"{value}"
        for part in reversed(key.split(".")):
            text = f"{{{part}: {text}}}"
        path.write_text(text)
        with pytest.raises(ConfigError) as error:
            load_config(path)
        return str(path), str(error.value)

    return load


@pytest.mark.parametrize(
    ("key", "allowed"),
    [
        ("TRIAN", ("TRAIN", "MODEL", "SEED", "OUTPUT_DIR")),
        ("train", ("TRAIN",)),
        ("TRAIN.LEARNING_RATE", ("TRAIN.LR", "TRAIN.EPOCHS")),
        ("TRAIN.lr", ("TRAIN.LR",)),
        ("TEST.SCALE", ("TEST.SCALES",)),
    ],
)
def test_an_unknown_key_is_named_with_the_file_and_what_is_allowed(refusal, key, allowed):
    path, text = refusal(key, 1)
    assert text.startswith(f"{path}: unknown key '{key}'; allowed here: ")
    for name in allowed:
        assert name in text.split("allowed here: ")[1].split(", ")


@pytest.mark.parametrize(
    ("key", "value", "shown", "kind"),
    [
        ("TRAIN.EPOCHS", "3.0", "3.0", "whole number"),
        ("TRAIN.EPOCHS", "'3'", "'3'", "whole number"),
        ("TRAIN.EPOCHS", "True", "True", "whole number"),
        ("TRAIN.LR", "fast", "'fast'", "number"),
        ("TRAIN.LR", "True", "True", "number"),
        ("TRAIN.LR", ".nan", "nan", "number"),
        ("TRAIN.LR", ".inf", "inf", "number"),
        ("TRAIN.LR", "null", "None", "number"),
        ("TEST.FLIP", "1", "1", "boolean"),
        ("TEST.FLIP", "'False'", "'False'", "boolean"),
        ("MODEL.HEAD", "True", "True", "text"),
        ("MODEL.HEAD", "[plain]", "['plain']", "text"),
        ("TEST.SCALES", "1.0", "1.0", "list of numbers"),
        ("TEST.SCALES", "[1, big]", "'big'", "number"),
        ("TRAIN.MILESTONES", "[200.5]", "200.5", "whole number"),
        ("DATASET.IMAGE_IDS", "5", "5", "list"),
        ("TRAIN", "5", "5", "group of keys"),
    ],
)
def test_a_wrong_type_names_key_value_file_and_kind(refusal, key, value, shown, kind):
    path, text = refusal(key, value)
    assert text.startswith(f"{path}: {key}: expected a {kind}")
    assert f"got {shown}" in text


IMPOSSIBLE = [
    ("SEED", "-1", "a number from 0 to 4294967295"),
    ("SEED", "4294967296", "a number from 0 to 4294967295"),
    ("DATASET.INPUT_SIZE", "500", "a multiple of 32 from 64 to 4096"),
    ("DATASET.INPUT_SIZE", "32", "a multiple of 32 from 64 to 4096"),
    ("DATASET.MAX_PEOPLE", "0", "a number from 1 to 1000"),
    ("DATASET.IMAGE_IDS", "[1, x]", "a list of whole numbers"),
    ("DATASET.IMAGE_IDS", "[True]", "a list of whole numbers"),
    ("SYNTHETIC.CROWD_INDEX", "1.1", "at most 1"),
    *((f"SYNTHETIC.{split}_SCENES", "1000001", "a number from 1 to 1000000") for split in ("TRAIN", "VAL", "TEST")),
    ("AUGMENT.SCALE", "[1.5, 0.75]", "two numbers, least and greatest"),
    ("AUGMENT.SCALE", "[1.0]", "two numbers, least and greatest"),
    ("AUGMENT.SCALE", "[0, 1]", "two numbers, least and greatest"),
    ("AUGMENT.FLIP", "1.01", "a number from 0 to 1"),
    ("AUGMENT.TRANSLATE", "-0.1", "a number from 0 to 1"),
    ("AUGMENT.ROTATION", "181", "a number from 0 to 180"),
    ("MODEL.HEAD", "higer", "one of 'plain', 'higher'"),
    ("MODEL.TAG_DIM", "0", "a number from 1 to 256"),
    ("MODEL.STAGE_MODULES", "[1, 4]", "3 values, each a number from 1 to 32"),
    ("MODEL.STAGE_MODULES", "[1, 4, 0]", "3 values, each a number from 1 to 32"),
    ("LOSS.BETA", "0", "above 0"),
    ("LOSS.PULL_WEIGHT", "-0.001", "at least 0"),
    ("LOSS.PULL_RAMP_FACTOR", "2", "a number from 0 to 1"),
    ("TRAIN.IMAGES_PER_GPU", "0", "a number from 1 to"),
    ("TRAIN.LR", "0", "above 0"),
    ("TRAIN.SCHEDULE", "linear", "one of 'step', 'cosine'"),
    ("TRAIN.MILESTONES", "[260, 200]", "rising"),
    ("TRAIN.MILESTONES", "[200, 200]", "rising"),
    ("TRAIN.MILESTONES", "[0, 200]", "above 0"),
    ("TRAIN.EMA", "1.0", "at least 0 and below 1"),
    ("TRAIN.PRECISION", "fp64", "one of 'fp32', 'bf16', 'fp16'"),
    ("TRAIN.KEEP", "0", "at least 1"),
    ("TEST.SCALES", "[]", "one value or more"),
    ("TEST.SCALES", "[1.0, 9.0]", "a multiple of 0.5 from 0.5 to 8"),
    ("TEST.SCALES", "[2.0, 0.5]", "must hold 1.0"),
    ("TEST.NMS_KERNEL", "4", "an odd number"),
    ("TEST.NMS_KERNEL", "-1", "an odd number"),
    ("TEST.MAX_CANDIDATES", "0", "a number from 1 to 1000"),
    ("TEST.TAG_THRESHOLD", "0", "above 0"),
    ("TEST.ASSIGNMENT", "hungarian", "one of 'munkres', 'scipy'"),
    ("TEST.WORKERS", "-1", "a number from 0 to 256"),
    ("MODEL.BACKBONE", "resnet", "one of 'hrnet', 'hourglass'"),
    ("MODEL.PIXELS", "bgr", "one of 'imagenet', 'unit'"),
    ("TEST.GROUPING_COST", "far", "one of 'ce', 'ae'"),
    ("TEST.GROUPING_ORDER", "[1]", "a list of joint names"),
    ("TEST.MULTISCALE_TAGS", "first", "one of 'single', 'concat'"),
    ("TEST.MAX_JOINED", "-1", "at least 0"),
    ("DATASET.MIN_SCORE", "-0.1", "a number from 0 to 1"),
    ("DATASET.FULL_SCORE", "1.5", "a number from 0 to 1"),
    ("AUGMENT.PASTE_PROBABILITY", "1.5", "a number from 0 to 1"),
    ("AUGMENT.PASTE_PEOPLE", "0", "a number from 1 to 30"),
    ("AUGMENT.PASTE_SIZE", "[0.5]", "2 values, each a number from 0.02 to 4"),
    ("AUGMENT.PASTE_SIZE", "[0.01, 0.5]", "2 values, each a number from 0.02 to 4"),
    ("AUGMENT.PASTE_ROTATION", "181", "a number from 0 to 180"),
    ("MODEL.MOBILENET_TAG_WIDTH", "-1", "a number from 0 to 1024"),
    ("MODEL.SPATIAL_TAGS", "-0.5", "a number from 0 to 10"),
    ("TRAIN.FREEZE", "[1]", "a list of beginnings of names"),
    ("TRAIN.FREEZE", "['']", "a list of beginnings of names"),
]


@pytest.mark.parametrize(("key", "value", "allowed"), IMPOSSIBLE)
def test_an_invalid_value_names_key_value_file_and_what_is_allowed(refusal, key, value, allowed):
    path, text = refusal(key, value)
    assert text.startswith(f"{path}: {key}: ")
    assert allowed in text
    shown = value.strip("[]").split(",")[0]
    assert shown in text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("DATASET.INPUT_SIZE", "64"), ("DATASET.INPUT_SIZE", "4096"), ("AUGMENT.SCALE", "[1, 1]"),
        ("AUGMENT.FLIP", "0"), ("AUGMENT.FLIP", "1"), ("LOSS.COUPLING_WEIGHT", "0"), ("MODEL.HEAD_BLOCKS", "0"),
        ("MODEL.TAG_DIM", "1"), ("TRAIN.MILESTONES", "[]"), ("TRAIN.WORKERS", "0"), ("TRAIN.EMA", "0"),
        ("DATASET.FULL_SCORE", "1"), ("MODEL.SPATIAL_TAGS", "10"), ("TRAIN.FREEZE", "['backbone.trunk']"),
        ("TEST.NMS_KERNEL", "1"), ("TEST.SCALES", "[2, 1, 0.5]"), ("SYNTHETIC.CROWD_INDEX", "-1"),
    ],
)  # fmt: skip
def test_values_at_the_limits_are_accepted(key, value):
    group, name = key.split(".")
    assert str(load_config(None, [key, value])[group][name]).replace(".0", "") == value


def test_people_of_a_synthetic_scene_must_be_a_range():
    with pytest.raises(ConfigError, match=r"SYNTHETIC\.MIN_PEOPLE: .*SYNTHETIC\.MAX_PEOPLE"):
        load_config(None, ["SYNTHETIC.MIN_PEOPLE", "6", "SYNTHETIC.MAX_PEOPLE", "5"])
    assert load_config(None, ["SYNTHETIC.MIN_PEOPLE", "5", "SYNTHETIC.MAX_PEOPLE", "5"]).SYNTHETIC.MIN_PEOPLE == 5


MIXED = "{schema: a.yaml, split: train}"


@pytest.mark.parametrize(
    "entry",
    [
        "a.yaml",
        "[a.yaml, train]",
        "{schema: a.yaml}",
        "{split: train}",
        "{schema: a.yaml, split: train, wieght: 2}",
        "{schema: 3, split: train}",
        "{schema: a.yaml, split: train, root: 3}",
        "{schema: a.yaml, split: train, root: null}",
        "{schema: a.yaml, split: train, weight: '2'}",
        "{schema: a.yaml, split: train, weight: True}",
        "{schema: a.yaml, split: train, weight: 0}",
        "{schema: a.yaml, split: train, weight: -1}",
        "{schema: a.yaml, split: train, weight: .nan}",
        "{schema: a.yaml, split: train, weight: 1001}",
        "{schema: a.yaml, split: train, weight: [2]}",
    ],
)
@pytest.mark.parametrize("before", ["", f"{MIXED}, "])
def test_a_wrong_data_set_to_mix_in_is_shown_with_what_is_allowed(refusal, before, entry):
    path, text = refusal("DATASET.MIX", f"[{before}{entry}]")
    assert text.startswith(f"{path}: DATASET.MIX: ")
    assert "a list of {schema: a schema file, split: its split, weight: a number above 0 up to 1000, root" in text
    assert f"{short_repr(yaml.safe_load(f'[{before}{entry}]'))} is invalid" in text


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [{"schema": "a.yaml", "split": "train"}],
        [{"schema": "a.yaml", "split": "train", "weight": 1000}, {"schema": "b", "split": "c", "root": "d"}],
        [{"schema": "a.yaml", "split": "train", "weight": 0.001, "root": ""}] * 2,
    ],
)
def test_data_sets_to_mix_in_survive_the_way_through_yaml(tmp_path, entries):
    cfg = load_config(None, ["DATASET.MIX", json.dumps(entries)])
    assert entries == cfg.DATASET.MIX
    (tmp_path / "mine.yaml").write_text(config_to_yaml(cfg))
    assert entries == load_config(tmp_path / "mine.yaml").DATASET.MIX
    assert entries == config_from_dict(config_to_dict(cfg), "x").DATASET.MIX


def test_a_mapping_alone_is_no_list_of_data_sets(refusal):
    path, text = refusal("DATASET.MIX", MIXED)
    assert text.startswith(f"{path}: DATASET.MIX: expected a list")


SCALE_MAPS = ["MODEL.SCALE_MAPS", "True", "LOSS.SCALE_ADAPTED", "False"]


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["MODEL.BACKBONE", "hourglass"], r"MODEL\.HEAD: 'higher' is invalid with MODEL\.BACKBONE hourglass"),
        (
            ["MODEL.BACKBONE", "hourglass", "MODEL.HEAD", "plain", "MODEL.PRETRAINED", "x.pth"],
            r"MODEL\.PRETRAINED: x\.pth is for HRNet",
        ),
        (["MODEL.TAG_DIM", "0"], r"LOSS\.SCALE_ADAPTED: True needs tags, which MODEL\.TAG_DIM 0 leaves out"),
        (
            ["MODEL.TAG_DIM", "0", "LOSS.SCALE_ADAPTED", "False", "MODEL.SPATIAL_TAGS", "0.25"],
            r"MODEL\.TAG_DIM: 0 is invalid with MODEL\.SPATIAL_TAGS",
        ),
        (["MODEL.SCALE_MAPS", "True"], r"LOSS\.SCALE_ADAPTED: True is invalid with MODEL\.SCALE_MAPS"),
        (
            ["MODEL.BACKBONE", "hourglass", "MODEL.HEAD", "plain", *SCALE_MAPS],
            r"MODEL\.SCALE_MAPS: True is invalid with MODEL\.BACKBONE hourglass",
        ),
        (
            ["MODEL.BACKBONE", "hourglass", "MODEL.HEAD", "separable"],
            r"MODEL\.HEAD: 'separable' is invalid with MODEL\.BACKBONE hourglass",
        ),
        (
            ["MODEL.HEAD", "separable", *SCALE_MAPS],
            r"MODEL\.SCALE_MAPS: True is invalid with MODEL\.HEAD separable; give False",
        ),
        (
            ["LOSS.ANNOTATED_WIDTHS", "True"],
            r"LOSS\.ANNOTATED_WIDTHS: True is invalid with LOSS\.SCALE_ADAPTED or MODEL\.SCALE_MAPS; give False",
        ),
        (
            ["LOSS.ANNOTATED_WIDTHS", "True", *SCALE_MAPS],
            r"LOSS\.ANNOTATED_WIDTHS: True is invalid with LOSS\.SCALE_ADAPTED or MODEL\.SCALE_MAPS; give False",
        ),
        (["MODEL.FEED_TAGS", "True", "MODEL.HEAD", "separable"], r"MODEL\.FEED_TAGS: needs MODEL\.HEAD higher"),
        (["MODEL.FEED_TAGS", "True", "MODEL.HEAD", "plain"], r"MODEL\.FEED_TAGS: needs MODEL\.HEAD higher"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(overrides, reason):
    with pytest.raises(ConfigError, match=reason):
        load_config(None, overrides)


def test_a_huge_value_is_not_printed_whole(refusal):
    _, text = refusal("MODEL.HEAD", "x" * 5000)
    assert len(text) < 1000
