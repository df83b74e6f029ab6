"""Records: what ran, on which splits, and that they can be read again."""

import json
import math
import subprocess
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from coupled_embedding.builders import describe
from coupled_embedding.utils.distributed import DistEnv
from coupled_embedding.utils.errors import UserError
from coupled_embedding.zoo.provenance import code_version, device_name, package_versions, sha256_of
from coupled_embedding.zoo.records import (
    Protocol,
    keep_record,
    load_records,
    read_record,
    record_of_test,
    record_of_training,
    records_table,
    write_record,
)
from coupled_embedding.zoo.run_specs import RunSpec

HERE = DistEnv(0, 1, torch.device("cpu"))


@pytest.mark.parametrize(
    ("splits", "kind", "text"),
    [
        (("train", "val", "test"), "validated", "train → best on val → test"),
        (("trainval", "", "test"), "last weights", "trainval → last weights → test"),
        (("train", "val", "val"), "selected on the tested split", "train → best on val → val"),
        (("train", "", "train"), "trained on the tested split", "train → last weights → train"),
        (("train", None, "test"), "not known", "train → unknown choice → test"),
        ((None, None, "test"), "not known", "unknown training → unknown choice → test"),
    ],
)
def test_a_protocol_says_what_its_score_is_worth(splits, kind, text):
    assert (Protocol(*splits).kind, str(Protocol(*splits))) == (kind, text)


@pytest.fixture
def tested(tiny, save_weights, tmp_path):
    """The record of a test whose config differs from the training's."""
    weights = save_weights(
        tiny("made", "TRAIN.LR", "7e-4", "SEED", "5", "DATASET.IMAGE_IDS", "[3]"), tmp_path / "best.pth", "val"
    )
    cfg = tiny("tested", "TRAIN.LR", "1e-4", "TEST.FLIP", "False")
    return record_of_test(
        RunSpec("x.yaml", ("A", "b"), None, "card"),
        describe(cfg),
        HERE,
        weights,
        "test",
        5,
        {"AP": 0.5, "AP_hard": math.nan},
        2.04,
    )


def test_a_tests_record_says_how_its_weights_were_made(tested, tmp_path, tiny_crowd):
    assert tested.protocol == Protocol("train", "val", "test")
    assert (tested.seed, tested.settings["TRAIN.LR"], tested.settings["TEST.FLIP"]) == (5, 7e-4, False)
    assert "TRAIN.WEIGHT_DECAY" not in tested.settings
    assert tested.settings["DATASET.IMAGE_IDS"] == [3]
    assert tested.weights == {"best.pth": sha256((tmp_path / "best.pth").read_bytes()).hexdigest()}
    annotations = tiny_crowd / "json/synthetic_test.json"
    assert tested.data == {"test": {"file": annotations.name, "sha256": sha256(annotations.read_bytes()).hexdigest()}}
    assert (tested.run, tested.model, tested.overrides, tested.ranks) == ("tested", "card", ["A", "b"], 1)
    assert tested.metrics == {"AP": 0.5, "AP_hard": None}


@pytest.mark.parametrize("kept", [["model"], ["model", "config", "schema"]])
def test_weights_that_do_not_say_what_chose_them_have_no_known_protocol(kept, tiny, save_weights, tmp_path):
    weights = save_weights(tiny("made"), tmp_path / "best.pth")
    content = torch.load(weights, weights_only=True)
    torch.save({key: content[key] for key in kept}, weights)
    record = record_of_test(RunSpec("x.yaml"), describe(tiny("tested")), HERE, weights, "test", 5, {}, 1)
    assert record.protocol == Protocol(None, None, "test")
    assert record.seed is None
    assert not [key for key in record.settings if key.startswith(("TRAIN.", "MODEL."))]
    assert "| unknown training → unknown choice → test |" in records_table([record])


def test_a_trainings_record_has_its_start_weights_and_its_results(tiny, save_weights, tmp_path):
    cfg = tiny("run")
    folder = describe(cfg).folder
    start = save_weights(cfg, tmp_path / "start.pth")
    save_weights(cfg, folder / "best.pth")
    cfg = tiny("run", "MODEL.INIT_FROM", str(start))
    record = record_of_training(RunSpec("x.yaml"), describe(cfg), HERE, {"AP": 0.25}, 3600, True, "trained longer")
    assert list(record.weights) == ["start.pth", "best.pth"]
    assert list(record.data) == ["train", "val"]
    assert (record.protocol.selected_on, record.resumed, record.notes) == ("val", True, "trained longer")


def test_records_say_that_the_split_of_the_results_chose_the_checkpoint(tiny, save_weights, tmp_path):
    cfg = tiny("chosen", "DATASET.VAL", "test", "TRAIN.SELECT_ON_TEST", "True")
    spec, info = RunSpec("x.yaml"), describe(cfg)
    best, last = save_weights(cfg, tmp_path / "best.pth", "test"), save_weights(cfg, tmp_path / "final.pth")
    records = [record_of_test(spec, info, HERE, weights, "test", 5, {}, 1) for weights in (best, last)]
    trained = record_of_training(spec, info, HERE, {}, 1, False)
    assert [record.notes for record in (*records, trained)] == ["selected on test", "", "selected on test"]
    assert "| train → best on test → test (selected on test) |" in records_table(records[:1])
    assert records[0].protocol.kind == "selected on the tested split"


def test_records_are_read_as_they_were_written(tested, tmp_path):
    path = write_record(tested, tmp_path / "new")
    assert path.name == "record_test.json"
    assert read_record(path) == tested
    heading, rule, row = path.with_suffix(".md").read_text().splitlines()
    assert heading.startswith("| model | trained on → checkpoint → tested on | scores | images | seed |")
    assert row.startswith("| `card` | train → best on val → test | AP 50.0, AP_hard n/a | 5 | 5 |")
    assert heading.count("|") == rule.count("|") == row.count("|")


def test_older_records_get_the_names_of_now(tested, tmp_path):
    path = write_record(tested, tmp_path)
    content = json.loads(path.read_text())
    for old, new in (("photos", "images"), ("processes", "ranks"), ("data_set", "dataset"), ("figures", "metrics")):
        content[old] = content.pop(new)
    path.write_text(json.dumps(content | {"settings": {"TEST.TAG_SCALES": "all", "TEST.FLIP": False}}))
    expected = {"TEST.MULTISCALE_TAGS": "concat", "TEST.FLIP": False}
    assert read_record(path) == replace(tested, settings=expected)


def test_records_of_an_older_version_are_read(tmp_path, checkout):
    with zipfile.ZipFile(checkout / "tests/files/run_2026-11-26.zip") as archive:
        archive.extractall(tmp_path, ["record_train.json", "test_test/record_test.json"])
    trained, record = read_record(tmp_path / "record_train.json"), read_record(tmp_path / "test_test/record_test.json")
    assert (trained.kind, trained.images, record.kind, record.images, record.ranks) == ("train", 0, "test", 5, 1)
    assert (record.dataset, record.metrics["AP"]) == ("synthetic", 0.0)
    settings = ("TEST.MULTISCALE_TAGS", "TEST.GROUPING_COST", "TRAIN.VISUALIZE_EVERY", "DATASET.ON_INVALID")
    assert [record.settings[name] for name in settings] == ["concat", "ae", 3, "skip"]


def test_a_kept_record_is_not_overwritten(tested, tmp_path):
    folder = tmp_path / "records"
    path = keep_record(tested, folder)
    assert load_records(folder) == [tested]
    with pytest.raises(UserError, match="exists; delete it"):
        keep_record(replace(tested, metrics={"AP": 0.9}), folder)
    assert read_record(path) == tested


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not a record of this package"),
        ({"seed": ...}, "field 'seed' is missing"),
        ({"extra": 1}, "unknown field 'extra'"),
        ({"protocol": {"trained_on": "x"}}, "protocol: field 'selected_on' is missing"),
        ({"settings": []}, "settings: expected a dict, got []"),
        ({"images": "5"}, "images: expected a int, got '5'"),
        ({"ranks": True}, "ranks: expected a int, got True"),
        ({"seed": 1.5}, "seed: expected a int | None, got 1.5"),
    ],
)
def test_a_wrong_record_is_named(tested, tmp_path, change, message):
    path = write_record(tested, tmp_path)
    content = {k: v for k, v in (json.loads(path.read_text()) | change).items() if v is not ...}
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"record_test\.json") as caught:
        read_record(path)
    assert message in str(caught.value)
    path.write_text("{")
    with pytest.raises(UserError, match="cannot read this record"):
        read_record(path)


def test_a_record_that_cannot_be_written_is_an_error(tested, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write the run's record"):
        write_record(tested, tmp_path / "file")


def test_a_record_is_written_completely_or_not_at_all(tested, tmp_path, monkeypatch):
    path = write_record(tested, tmp_path)
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(UserError, match="disk full"):
        write_record(replace(tested, images=1), tmp_path)
    assert read_record(path) == tested
    with pytest.raises(UserError, match="disk full"):
        keep_record(tested, tmp_path / "kept")
    assert not list((tmp_path / "kept").iterdir())


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_code_is_a_commit_and_whether_files_differ_from_it(tmp_path):
    git(tmp_path, "init")
    (tmp_path / "code.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert code_version(tmp_path) == {"commit": commit, "dirty": False}
    (tmp_path / "results.txt").write_text("what a run leaves is not a change of the code")
    assert code_version(tmp_path)["dirty"] is False
    (tmp_path / "code.py").write_text("2")
    assert code_version(tmp_path) == {"commit": commit, "dirty": True}
    # installed inside some other repository, the package is not that repository's code
    (tmp_path / "site").mkdir()
    assert set(code_version(tmp_path / "site")) == {"version"}


def test_versions_and_devices_have_names(tmp_path):
    assert package_versions()["torch"] == torch.__version__.split("+")[0]
    assert device_name(torch.device("cpu")).endswith("(cpu)")
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256_of(tmp_path / "file").startswith("ba7816bf")
