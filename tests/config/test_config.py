"""Reading configs: files, bases, overrides, freezing and the way back to YAML."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from coupled_embedding.config import (
    config_from_dict,
    config_to_dict,
    config_to_yaml,
    default_config,
    flat,
    load_config,
    override,
)
from coupled_embedding.utils.errors import ConfigError


@pytest.fixture
def write(tmp_path):
    """Write files of a folder by name; return the path of the last."""

    def write_files(**files):
        for name, text in files.items():
            path = tmp_path / f"{name}.yaml"
            path.write_text(text, encoding="utf-8")
        return path

    return write_files


def test_no_file_gives_the_defaults():
    assert config_to_dict(load_config()) == config_to_dict(default_config())


def test_flat_names_every_option_wholly():
    cfg = load_config(None, ["TRAIN.LR", "0.5", "TEST.SCALES", "[2, 1]"])
    options = flat(cfg)
    assert (options["TRAIN.LR"], options["TEST.SCALES"], options["SEED"]) == (0.5, [2.0, 1.0], cfg.SEED)
    assert {key for key, value in flat(default_config()).items() if value != options[key]} == {
        "TRAIN.LR",
        "TEST.SCALES",
    }
    tree = {}
    for key, value in options.items():
        *group, name = key.split(".")
        (tree.setdefault(group[0], {}) if group else tree)[name] = value
    assert tree == config_to_dict(cfg)


def test_default_trees_are_independent():
    first, second = default_config(), default_config()
    first.TRAIN.LR = 5.0
    first.TRAIN.MILESTONES.append(999)
    assert (second.TRAIN.LR, second.TRAIN.MILESTONES) == (1.5e-3, [200, 260])


def test_a_file_changes_only_what_it_names(write):
    cfg = load_config(write(mine="TRAIN:\n  EPOCHS: 7\nMODEL: {HEAD: plain}\n"))
    expected = config_to_dict(default_config())
    expected["TRAIN"]["EPOCHS"] = 7
    expected["MODEL"]["HEAD"] = "plain"
    expected["NAME"] = cfg.NAME
    assert config_to_dict(cfg) == expected


def test_the_name_comes_from_folder_and_file_unless_given(write, tmp_path):
    path = write(mine="")
    names = [load_config(path).NAME, load_config(path, ["NAME", "given"]).NAME, load_config(write(x="NAME: own")).NAME]
    assert names == [f"{tmp_path.name}_mine", "given", "own"]


def test_a_loaded_config_is_frozen_at_every_depth(write):
    for cfg in (load_config(write(mine="")), override(load_config(), []), config_from_dict({}, "x")):
        with pytest.raises(AttributeError):
            cfg.SEED = 2
        with pytest.raises(AttributeError):
            cfg.TRAIN.LR = 1.0
        assert (cfg.SEED, cfg.TRAIN.LR) == (1, 1.5e-3)


def test_a_file_goes_over_its_base_and_overrides_over_both(write):
    path = write(
        base="TRAIN: {EPOCHS: 5, LOG_EVERY: 5, KEEP: 5}", mine="_BASE_: base.yaml\nTRAIN: {LOG_EVERY: 6, KEEP: 6}"
    )
    train = load_config(path, ["TRAIN.KEEP", "7"]).TRAIN
    assert (train.EPOCHS, train.LOG_EVERY, train.KEEP) == (5, 6, 7)


def test_several_bases_apply_in_their_order_and_may_share_a_base(write):
    path = write(
        root="TRAIN: {EPOCHS: 1, LOG_EVERY: 1, KEEP: 1}",
        left="_BASE_: root.yaml\nTRAIN: {EPOCHS: 2, KEEP: 2}",
        right="_BASE_: root.yaml\nTRAIN: {KEEP: 3}",
        mine="_BASE_: [left.yaml, right.yaml]",
    )
    train = load_config(path).TRAIN
    # right brings its own base again, so it wins wherever either speaks
    assert (train.EPOCHS, train.LOG_EVERY, train.KEEP) == (1, 1, 3)


def test_a_base_is_found_relative_to_its_file(tmp_path):
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    (tmp_path / "base.yaml").write_text("SEED: 9")
    (folder / "mine.yaml").write_text("_BASE_: ../../base.yaml")
    assert load_config(folder / "mine.yaml").SEED == 9


@pytest.mark.parametrize(
    "files",
    [
        {"mine": "_BASE_: mine.yaml"},
        {"other": "_BASE_: mine.yaml", "mine": "_BASE_: other.yaml"},
        {"a": "_BASE_: ./../{folder}/b.yaml", "b": "_BASE_: [mine.yaml]", "mine": "_BASE_: a.yaml"},
    ],
)
def test_bases_that_lead_in_a_circle_are_an_error(write, tmp_path, files):
    path = write(**{name: text.format(folder=tmp_path.name) for name, text in files.items()})
    with pytest.raises(ConfigError, match=r"mine\.yaml: _BASE_ leads back"):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("_BASE_: gone.yaml", r"gone\.yaml: no such config file"),
        ("_BASE_: 3", r"mine\.yaml: _BASE_: expected a path or a list of paths, got 3"),
        ("_BASE_: [3]", r"mine\.yaml: _BASE_: expected a path"),
        ("TRAIN: {LR: [}", r"mine\.yaml: not a YAML file"),
        ("- SEED", r"mine\.yaml: expected KEY: value lines, got \['SEED'\]"),
        ("just words", r"mine\.yaml: expected KEY: value lines, got 'just words'"),
    ],
)
def test_a_file_that_is_no_config_is_named(write, text, named):
    with pytest.raises(ConfigError, match=named):
        load_config(write(mine=text))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.yaml: no such config file"):
        load_config(tmp_path / "gone.yaml")
    with pytest.raises(ConfigError, match="cannot read this config file"):
        load_config(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ConfigError, match=r"binary\.yaml: "):
        load_config(tmp_path / "binary.yaml")


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("TRAIN.LR", "1e-3", 0.001),
        ("TRAIN.LR", "1", 1.0),
        ("TEST.SCALES", "[2, 1, 0.5]", [2.0, 1.0, 0.5]),
        ("TEST.FLIP", "False", False),
        ("TEST.FLIP", "no", False),
        ("DATASET.IMAGE_IDS", "[139, 785]", [139, 785]),
        ("DATASET.VAL", "", ""),
        ("NAME", "2024", "2024"),
        ("SEED", "4294967295", 2**32 - 1),
    ],
)
def test_overrides_are_read_in_the_type_of_their_key(key, text, value):
    group, _, name = key.rpartition(".")
    cfg = load_config(None, [key, text])
    found = (cfg[group] if group else cfg)[name]
    assert found == value
    assert type(found) is type(value)
    if isinstance(value, list):
        assert [type(item) for item in found] == [type(item) for item in value]


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["TRAIN.LR"], "the command line: expected KEY VALUE pairs, got an odd count: TRAIN.LR"),
        (["TRAIN.LR", "[1"], r"the command line: TRAIN\.LR: cannot read the value '\[1'"),
        (["TRAIN", "3"], "the command line: TRAIN: expected a group of keys, got 3"),
        (["TRAIN.LR.X", "3"], r"the command line: TRAIN\.LR: expected a number, got \{'X': 3\}"),
        (["", "3"], "the command line: unknown key ''"),
    ],
)
def test_malformed_overrides_are_explained(overrides, named):
    with pytest.raises(ConfigError, match=named):
        load_config(None, overrides)


def test_override_leaves_the_first_config_alone():
    first = load_config(None, ["TRAIN.KEEP", "3"])
    second = override(first, ["TRAIN.EPOCHS", "5"])
    assert (first.TRAIN.EPOCHS, second.TRAIN.EPOCHS, second.TRAIN.KEEP) == (300, 5, 3)
    with pytest.raises(ConfigError, match=r"TRAIN\.EPOCHS: 0 is invalid"):
        override(first, ["TRAIN.EPOCHS", "0"])


def test_plain_dicts_hold_no_config_nodes_and_lead_back():
    cfg = load_config(None, ["TEST.SCALES", "[1, 2]", "NAME", "x"])
    content = config_to_dict(cfg)
    assert {type(value) for value in [content, *content.values()]} == {dict, str, int}
    assert config_from_dict(content, "a checkpoint") == cfg


def test_a_dict_that_does_not_fit_names_its_source():
    with pytest.raises(ConfigError, match=r"last\.pth: unknown key 'TRAIN\.OLD'"):
        config_from_dict({"TRAIN": {"OLD": 1}}, "last.pth")
    with pytest.raises(ConfigError, match=r"last\.pth: TRAIN\.LR: -1.0 is invalid"):
        config_from_dict({"TRAIN": {"LR": -1.0}}, "last.pth")


def test_the_resolved_yaml_loads_to_the_same_config(write):
    cfg = load_config(write(base="SEED: 3", mine="_BASE_: base.yaml\nAUGMENT: {SCALE: [0.5, 2]}"), ["TRAIN.EMA", "0.9"])
    assert load_config(write(resolved=config_to_yaml(cfg))) == cfg


@given(
    text=st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=60)
    | st.sampled_from(["no", "1e3", "null", "~", "2024-01-01", "a: b", "[", "007"]),
    rate=st.floats(1e-30, 1e30),
    ids=st.lists(st.integers(0, 2**40)),
)
def test_any_value_survives_the_way_through_yaml(text, rate, ids):
    cfg = config_from_dict({"OUTPUT_DIR": text, "TRAIN": {"LR": rate}, "DATASET": {"IMAGE_IDS": ids}}, "x")
    back = config_from_dict(yaml.safe_load(config_to_yaml(cfg)), "x")
    found = (back.OUTPUT_DIR, back.TRAIN.LR, back.DATASET.IMAGE_IDS)
    assert found == (text, rate, ids)
