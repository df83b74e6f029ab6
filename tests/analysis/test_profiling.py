"""A few steps of training and testing, measured; nothing of a run is left behind."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from yacs.config import CfgNode

from coupled_embedding.analysis.profiling import STEPS, TracedTimes, profile_test, profile_training
from coupled_embedding.engine import checkpoint_files as checkpoint
from coupled_embedding.engine.evaluate import TestTask, prepare_test
from coupled_embedding.engine.run import run_folder, train
from coupled_embedding.networks.pose_network import build_network
from coupled_embedding.prepare import schema_of
from coupled_embedding.utils.distributed import World
from coupled_embedding.utils.errors import UserError

Tiny = Callable[..., CfgNode]
HERE = World(0, 1, torch.device("cpu"))


def stages(report: str) -> dict[str, float]:
    """Return the stages' shares of a report."""
    rows = [line.strip("| ").split(" | ") for line in report.split("\n\n")[1].splitlines()[2:]]
    return {name: float(share.rstrip("%")) for name, _, share in rows}


def traced_names(path: Path) -> list[str]:
    """Return the names of a Chrome trace's events."""
    return [event["name"] for event in json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]]


def test_training_is_profiled_and_leaves_the_trace_alone(tiny: Tiny) -> None:
    cfg = tiny("profiled")
    report = profile_training(cfg, HERE)
    assert f"{STEPS} times a step of " in report
    assert stages(report).keys() == {"data", "network", "losses", "backward", "optimizer", "other"}
    assert sum(stages(report).values()) == pytest.approx(100, abs=1)
    assert "aten::convolution_backward" in report
    trace = run_folder(cfg) / "profile_train.json.gz"
    assert [path.name for path in run_folder(cfg).iterdir()] == [trace.name]
    assert traced_names(trace).count("losses") == STEPS
    # a training may still use the folder
    assert train(tiny("profiled", "TRAIN.EPOCHS", "1"), HERE)


@pytest.fixture
def task(tiny: Tiny, tmp_path: Path) -> TestTask:
    """An untrained network to test."""
    cfg = tiny("untrained")
    schema = schema_of(cfg)
    weights = build_network(cfg, schema.num_joints).state_dict()
    checkpoint.save(checkpoint.describe(cfg, schema, weights, {}, 0), tmp_path / "weights.pth")
    return prepare_test(None, str(tmp_path / "weights.pth"), [], None, HERE)


def test_a_test_is_profiled_over_more_batches_than_there_are_photos(task: TestTask, tmp_path: Path) -> None:
    report = profile_test(task, tmp_path / "out", HERE)
    assert f"{STEPS} times a batch of " in report
    assert stages(report).keys() == {"load", "network", "decode"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["profile_test.json.gz"]
    assert traced_names(tmp_path / "out" / "profile_test.json.gz").count("network") == STEPS


def test_a_split_without_photos_is_told(task: TestTask, tmp_path: Path) -> None:
    task.records.clear()
    with pytest.raises(UserError, match="test: there are no photos to profile a test with"):
        profile_test(task, tmp_path, HERE)


def test_other_processes_report_nothing(task: TestTask, tmp_path: Path) -> None:
    assert profile_test(task, tmp_path / "out", World(1, 2, torch.device("cpu"))) == ""
    assert not (tmp_path / "out").exists()


def test_traced_times_are_stage_times() -> None:
    times = TracedTimes()
    for _ in range(2):
        with times.measure("a"):
            pass
    assert times.seconds.keys() == {"a"}
    assert times.seconds["a"] > 0
