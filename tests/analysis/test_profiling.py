"""A few steps of training and testing, measured; nothing of a run is left."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import CPU, eval_job, untrained_checkpoint
from yacs.config import CfgNode

from coupled_embedding.analysis.profiling import STEPS, profile_test, profile_training
from coupled_embedding.builders import build_train_run, run_folder, start_train_run
from coupled_embedding.decode.stage_times import StageTimes
from coupled_embedding.engine.evaluate import EvalJob
from coupled_embedding.engine.train import train
from coupled_embedding.utils.distributed import DistEnv
from coupled_embedding.utils.errors import UserError

Tiny = Callable[..., CfgNode]


def stages(report: str) -> dict[str, float]:
    """Return the stages' shares of a report."""
    rows = [line.strip("| ").split(" | ") for line in report.split("\n\n")[1].splitlines()[2:]]
    return {name: float(share.rstrip("%")) for name, _, share in rows}


def traced_names(path: Path) -> list[str]:
    """Return the names of a Chrome trace's events."""
    return [event["name"] for event in json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]]


def test_training_is_profiled_and_leaves_the_trace_alone(tiny: Tiny) -> None:
    cfg = tiny("profiled")
    report = profile_training(build_train_run(cfg, CPU))
    assert f"{STEPS} times a step of " in report
    assert stages(report).keys() == {"data", "network", "losses", "backward", "optimizer", "other"}
    assert sum(stages(report).values()) == pytest.approx(100, abs=1)
    assert "aten::convolution_backward" in report
    trace = run_folder(cfg) / "profile_train.json.gz"
    assert [path.name for path in run_folder(cfg).iterdir()] == [trace.name]
    assert traced_names(trace).count("losses") == STEPS
    # a training may still use the folder
    assert train(start_train_run(tiny("profiled", "TRAIN.EPOCHS", "1"), CPU))


@pytest.fixture
def job(tiny: Tiny, tmp_path: Path) -> EvalJob:
    """The test of an untrained network."""
    return eval_job(untrained_checkpoint(tiny("untrained"), tmp_path / "weights.pth"))


def test_a_test_is_profiled_over_more_batches_than_there_are_images(job: EvalJob, tmp_path: Path) -> None:
    report = profile_test(job, tmp_path / "out", CPU)
    assert f"{STEPS} times a batch of " in report
    assert stages(report).keys() == {"load", "network", "decode"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["profile_test.json.gz"]
    assert traced_names(tmp_path / "out" / "profile_test.json.gz").count("network") == STEPS


def test_a_split_without_images_is_an_error(job: EvalJob, tmp_path: Path) -> None:
    job.records.clear()
    with pytest.raises(UserError, match="test: there are no images to profile a test with"):
        profile_test(job, tmp_path, CPU)


def test_other_ranks_report_nothing(job: EvalJob, tmp_path: Path) -> None:
    assert profile_test(job, tmp_path / "out", DistEnv(1, 2, torch.device("cpu"))) == ""
    assert not (tmp_path / "out").exists()


def test_stage_times_add_up_and_are_traced() -> None:
    times = StageTimes()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for _ in range(2):
            with times.measure("a"):
                pass
    assert times.seconds.keys() == {"a"}
    assert times.seconds["a"] > 0
    assert [event.count for event in profiler.key_averages() if event.key == "a"] == [2]
