"""A profile on a GPU: stages and operators by the device's time, and its kernels in the trace."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import eval_job, untrained_checkpoint
from yacs.config import CfgNode

from coupled_embedding.analysis.profiling import STEPS, profile_test, profile_training
from coupled_embedding.builders import build_train_run
from coupled_embedding.utils.distributed import process_group

pytestmark = pytest.mark.gpu
Tiny = Callable[..., CfgNode]


def check(report: str, trace: Path, unit: str, stages: set[str]) -> None:
    assert f"{STEPS} times a {unit} of " in report
    assert " on cuda:0: " in report
    assert stages <= {line.split(" | ")[0].strip("| ") for line in report.split("\n\n")[1].splitlines()}
    assert "| aten::" in report.split("\n\n")[2]
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    assert any(event.get("cat") == "kernel" for event in events)


def test_a_training_is_profiled(tiny: Tiny) -> None:
    with process_group("cuda") as env:
        run = build_train_run(tiny("profiled"), env)
        report = profile_training(run)
    stages = {"data", "network", "losses", "backward", "optimizer"}
    check(report, run.folder / "profile_train.json.gz", "step", stages)


def test_a_test_is_profiled(tiny: Tiny, tmp_path: Path) -> None:
    weights = untrained_checkpoint(tiny("untrained"), tmp_path / "weights.pth")
    with process_group("cuda") as env:
        report = profile_test(eval_job(weights, env=env), tmp_path, env)
    check(report, tmp_path / "profile_test.json.gz", "batch", {"load", "network", "decode"})
