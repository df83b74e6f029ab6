"""benchmarks/coupling from end to end, at a toy budget."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks/coupling"
TINY = [
    *("MODEL.WIDTH", "8", "MODEL.STEM_WIDTH", "8", "DATASET.INPUT_SIZE", "64", "SYNTHETIC.VAL_SCENES", "2"),
    *("SYNTHETIC.WIDTH", "64", "SYNTHETIC.HEIGHT", "64", "TRAIN.WORKERS", "0", "TRAIN.VISUALIZE_EVERY", "0"),
]


def load(name):
    spec = importlib.util.spec_from_file_location(f"coupling_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def call(module, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
    module.main()


def test_a_study_runs_continues_and_is_reported(tmp_path, monkeypatch, capfd):
    study, report = load("run"), load("report")
    common = ["--epochs", 1, "--train-scenes", 32, "--test-scenes", 4, "--device", "cpu", "--out", tmp_path, *TINY]
    arms = ["--arms", "coupled", "coupled_distance", "--seeds", 1]
    call(study, monkeypatch, *arms, *common)
    records = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "records").glob("*.json")}
    assert records.keys() == {"coupled_seed1", "coupled_distance_seed1"}
    assert records["coupled_distance_seed1"]["options"]["TEST.REGROUP"] == 1
    assert "TEST.REGROUP" not in records["coupled_seed1"]["options"]
    assert {record["diagnosis"]["all"]["images"] for record in records.values()} == {4}
    # one training for both; done runs are not run again, a changed option is refused
    assert len(list((tmp_path / "runs").glob("*/final.pth"))) == 1
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    call(study, monkeypatch, *arms, *common)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")} == before
    with pytest.raises(SystemExit):
        call(study, monkeypatch, *arms, *common, "LOSS.BETA", "0.5")
    assert "coupled_seed1.json: is of a run with other LOSS.BETA" in capfd.readouterr().err

    # the same weights on other scenes, whose folder has no validation split
    shutil.copytree(tmp_path / "data", tmp_path / "other", ignore=shutil.ignore_patterns("*_val.json"))
    with pytest.raises(SystemExit):
        call(study, monkeypatch, *arms, "--layouts", tmp_path / "othr", *common)
    assert "othr has no test scenes" in capfd.readouterr().err
    trained = next((tmp_path / "runs").glob("*/final.pth")).stat().st_mtime_ns
    call(study, monkeypatch, *arms, "--layouts", tmp_path / "other", *common)
    assert next((tmp_path / "runs").glob("*/final.pth")).stat().st_mtime_ns == trained
    assert {path: path.stat().st_mtime_ns for path in before} == before
    layouts = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "records_layouts").glob("*.json")}
    assert layouts.keys() == records.keys()
    # of the same scenes here: the same numbers
    assert layouts["coupled_seed1"]["diagnosis"]["runs"] == records["coupled_seed1"]["diagnosis"]["runs"]

    edited = tmp_path / "other/json/synthetic_test.json"
    edited.write_text(edited.read_text() + "\n")
    with pytest.raises(SystemExit):
        call(study, monkeypatch, *arms, "--layouts", tmp_path / "other", *common)
    assert "is of other test scenes than" in capfd.readouterr().err

    names = ("scores", "layouts_scores", "trained_scores")
    shutil.copytree(tmp_path / "records", tmp_path / "trained_on_layouts/records")
    (tmp_path / "README.md").write_text("\n".join(f"<!-- table {name} -->\nold\n<!-- end -->\n" for name in names))
    call(report, monkeypatch, "--records", tmp_path / "records", "--out", tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.count("| coupled | 1 |") == 3
    assert "old" not in text
    assert (tmp_path / "crowd_index.png").read_bytes().startswith(b"\x89PNG")


def test_no_run_starts_beyond_the_budget(tmp_path, monkeypatch, capsys):
    study = load("run")
    started = []
    clock = iter(range(0, 10**6, 600))  # ten minutes at every look
    monkeypatch.setattr(study.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(study.Study, "run", lambda self, arm, seed: started.append((arm, seed)))
    call(study, monkeypatch, "--budget", 45, "--out", tmp_path, "--seeds", 1, 2)
    assert started == [("scalar", 1), ("uncoupled", 1)]
    assert "coupled with seed 1 and what follows is left" in capsys.readouterr().out


def test_differences_are_paired_with_an_interval_of_students_t():
    report = load("report")
    # by hand: mean 2, standard deviation 1, t(0.975, 2) = 4.3027, so 2 ± 4.3027 / sqrt(3)
    assert report.interval([1.0, 2.0, 3.0]) == "+2.0 [-0.5, +4.5]"
    assert report.interval([1.5]) == "+1.5"
