"""Configs and schemas that once crashed, hung or ate all memory."""

import os
from pathlib import Path

import pytest
import yaml

from coupled_embedding.config import config_from_dict, load_config
from coupled_embedding.data.schema import load_schema
from coupled_embedding.utils.errors import ConfigError, DatasetError, escape_control, short_repr

pytestmark = pytest.mark.bad_input

CHECKOUT = Path(__file__).resolve().parents[2]


def laughs(levels: int, merge: bool = False) -> str:
    """Return lines that expand to 9^levels values."""
    lines = ["a0: &a0 {k: 1}" if merge else "a0: &a0 [lol]"]
    for level in range(1, levels):
        names = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(
            f"a{level}: &a{level} {{<<: [{names}], k{level}: 1}}" if merge else f"a{level}: &a{level} [{names}]"
        )
    return "\n".join(lines) + "\n"


def refusal(path: Path, text: str | bytes) -> str:
    """Return the error of a config; it names the file."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert path.name in str(error.value)
    assert len(str(error.value)) < 3000
    return str(error.value)


@pytest.mark.parametrize("merge", [False, True])
def test_aliases_of_aliases_are_refused_before_they_grow(tmp_path: Path, merge: bool) -> None:
    assert "more than 100000 values; too many aliases?" in refusal(tmp_path / "mine.yaml", laughs(12, merge))


def test_a_value_that_shares_parts_is_shown_in_short(tmp_path: Path) -> None:
    text = laughs(5).replace("a4: ", "SEED: ")  # 6,561 values, so no error of YAML's
    assert "unknown key 'a0'" in refusal(tmp_path / "mine.yaml", text)
    shared: list[object] = ["lol"]
    for _ in range(40):
        shared = [shared] * 9
    assert len(short_repr(shared)) <= 200
    with pytest.raises(ConfigError, match=r"x: SEED: expected a whole number, got \[\[\["):
        config_from_dict({"SEED": shared}, "x")


@pytest.mark.parametrize("value", ["!!int ''", "!!bool x", "!!float ''", "!!timestamp x", "!!binary é", "2024-99-99"])
def test_tags_that_their_value_does_not_fit(tmp_path: Path, value: str) -> None:
    assert "not a YAML file" in refusal(tmp_path / "mine.yaml", f"SEED: {value}")


def test_python_tags_are_not_run(tmp_path: Path) -> None:
    reason = refusal(tmp_path / "mine.yaml", f"SEED: !!python/object/apply:os.mkdir [{tmp_path}/owned]")
    assert "could not determine a constructor" in reason
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("SEED: 1\nSEED: 2\n", r"the key 'SEED' appears twice (line 2)"),
        ("TRAIN: {LR: 1, LR: 2}", "the key 'LR' appears twice"),
        ("SEED: &a [*a]", "an alias leads back to a value that contains it"),
        ("TRAIN: &a {TRAIN: *a}", "an alias leads back to a value that contains it"),
        ("SEED: 0x" + "f" * 6000, "a number of 6002 characters"),
        ("SEED: 1" + ":59" * 4000, "a number of 12001 characters"),
        ("SEED: 0x" + "f" * 500, "is invalid; expected whole numbers of up to 64 bits"),
        ("NAME: 0x" + "f" * 500, "is invalid; expected whole numbers of up to 64 bits"),
        ("TRAIN: {KEEP: 9223372036854775808}", "is invalid; expected whole numbers of up to 64 bits"),
        ("DATASET: {IMAGE_IDS: [9223372036854775808]}", "up to 64 bits"),
        ("SEED: " + "[" * 3000, "not a YAML file"),
        ("? [a]\n: b", "not a YAML file"),
        ('OUTPUT_DIR: "a\\0b"', "it holds control characters"),
        ('OUTPUT_DIR: "\\ud800"', "it holds control characters"),
        ("OUTPUT_DIR: " + "x" * 300, "it is too long"),
        ("NAME: ../../outside", "a single name of a folder"),
        ("NAME: /tmp/outside", "a single name of a folder"),
        ("NAME: ..", "a single name of a folder"),
        (r"NAME: a\b", "a single name of a folder"),
        ("NAME: " + "x" * 101, "a single name of a folder"),
        ("MODEL: {STAGE_MODULES: [32, 32, 32], STAGE_BLOCKS: 64}", "18432 residual blocks; allowed: 1000"),
        ("DATASET: {INPUT_SIZE: 4096}\nTEST: {SCALES: [8, 1]}", "is at most 8192 pixels"),
        ("TEST: {SCALES: [" + "1, " * 20 + "1]}", "up to 16 scales"),
        ("? " + "k" * 5000 + "\n: 1", "unknown key 'kkk"),
        ("#" * (2**20 + 1), "more than 1048576 bytes"),
        (b"SEED: 1\x00", "not a YAML file"),
    ],
)
def test_hostile_configs_are_refused(tmp_path: Path, text: str | bytes, reason: str) -> None:
    assert reason in refusal(tmp_path / "mine.yaml", text)


def test_bases_that_double_are_not_read_a_million_times(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.yaml").write_text(f"_BASE_: [{number + 1}.yaml, {number + 1}.yaml]")
    (tmp_path / "40.yaml").write_text("SEED: 1")
    with pytest.raises(ConfigError, match=r"\.yaml: _BASE_: leads to more than 100 files"):
        load_config(tmp_path / "0.yaml")


@pytest.mark.parametrize(
    ("base", "reason"),
    [
        (r'"a\0b"', "cannot be a path"),
        ("x" * 300, "cannot be a path"),
        ("/dev/zero", "zero: cannot read this config file, which _BASE_ of .*mine.yaml names"),
        ("gone.yaml", "gone.yaml: no such config file, which _BASE_ of .*mine.yaml names"),
        (".", "not a regular file"),
    ],
)
def test_bases_that_are_no_files(tmp_path: Path, base: str, reason: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"_BASE_: {base}")
    with pytest.raises(ConfigError, match=reason) as error:
        load_config(tmp_path / "mine.yaml")
    assert "mine.yaml" in str(error.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mine.yaml")
    with pytest.raises(ConfigError, match="not a regular file"):
        load_config(tmp_path / "mine.yaml")


@pytest.mark.parametrize("text", ["\x00", "!!int ''", laughs(12), "&a [*a]"])
def test_hostile_overrides_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="the command line: SEED: cannot read the value"):
        load_config(None, ["SEED", text])


@pytest.mark.parametrize("content", [None, 3, [1], "x"])
def test_a_config_that_is_no_dict_is_refused(content: object) -> None:
    with pytest.raises(ConfigError, match="x: expected groups of options"):
        config_from_dict(content, "x")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "../x"}, "name: '../x' cannot be part of file names"),
        ({"name": ""}, "name: '' cannot be part of file names: it is empty"),
        ({"splits": {"../../x": {"annotations": "a", "images": "b"}}}, "splits: '../../x' cannot name a split"),
        ({"splits": {1.5: {"annotations": "a", "images": "b"}}}, "splits: 1.5 cannot name a split: it must be a text"),
        ({"splits": {"x": {"annotations": "a\0", "images": "b"}}}, "splits.x: .* it holds control characters"),
        ({"root": "a\0b"}, "root: .* it holds control characters"),
        ({"joints": [f"joint {n}" for n in range(1001)]}, "joints: expected a list of different names, at most 1000"),
        ({"joints": ["\x1b[2J"]}, "joints: .* it holds control characters"),
        ({"skeleton": [[["head"], "neck"]]}, r"skeleton: \['head'\] is not one of the joints"),
        ({"evaluator": "x" * 5000}, "evaluator: .* is not one of"),
        ({"x" * 5000: 1}, "unknown field xxx"),
    ],
)
def test_hostile_schemas_are_refused(tmp_path: Path, changes: dict, reason: str) -> None:
    content = yaml.safe_load((CHECKOUT / "datasets/crowdpose.yaml").read_text()) | changes
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(DatasetError, match=rf"mine\.yaml: {reason}") as error:
        load_schema(tmp_path / "mine.yaml")
    assert len(str(error.value)) < 3000


def test_a_schema_of_aliases_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(laughs(12))
    with pytest.raises(DatasetError, match=r"mine\.yaml: not a YAML file: more than 100000 values"):
        load_schema(tmp_path / "mine.yaml")


def test_aliases_in_moderation_are_fine(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "{name: two, joints: &j [a, b], grouping_order: *j, flip_pairs: [*j], skeleton: [*j], sigmas: [1, 1],"
        " splits: {all: &s {annotations: a, images: b}, more: {<<: *s, images: c}}}"
    )
    schema = load_schema(tmp_path / "mine.yaml")
    assert (schema.grouping_order, schema.splits["more"].images) == ((0, 1), "c")


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert escape_control("a\x1b[2J\nb\u202eé") == "a\\x1b[2J\nb\\u202eé"
