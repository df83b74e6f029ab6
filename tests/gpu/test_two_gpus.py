"""The commands with two ranks, which NCCL connects, train as one with all images, go on, and test."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.gpu(ranks=2), pytest.mark.distributed]
Losses = Callable[[Path], list[float]]


@pytest.fixture
def run(checkout: Path, tiny_file: Path, tiny_crowd: Path, tmp_path: Path) -> Callable[..., str]:
    """run(tool, name, ranks, ...): what a command printed that worked on the run of that name."""

    def call(tool: str, name: str, ranks: int, *arguments: str) -> str:
        fixed = ["NAME", name, "OUTPUT_DIR", str(tmp_path / "out"), "DATASET.ROOT", str(tiny_crowd)]
        command = [sys.executable, f"tools/{tool}", "--cfg", str(tiny_file), "--gpus", str(ranks), "--device", "cuda"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        done = subprocess.run([*command, *arguments, *fixed], cwd=checkout, env=environment, timeout=400, **pipes)
        assert done.returncode == 0, done.stdout
        return done.stdout

    return call


@pytest.mark.parametrize(
    ("precision", "options"),
    [
        ("fp32", ()),
        ("bf16", ("TRAIN.EMA", "0.9")),
        ("fp16", ("TRAIN.ACCUMULATE", "2", "TRAIN.DROP_LAST", "True")),
    ],
    ids=str,
)
def test_two_ranks_train_as_one_does(
    run: Callable[..., str], losses: Losses, tmp_path: Path, precision: str, options: tuple[str, ...]
) -> None:
    options = ("TRAIN.LOG_EVERY", "1", "TRAIN.PRECISION", precision, *options)
    one = run("train.py", "one", 1, *options, "TRAIN.IMAGES_PER_GPU", "4")
    two = run("train.py", "two", 2, *options, "TRAIN.IMAGES_PER_GPU", "2")
    assert "(1 x cuda:0)" in one
    assert "(2 x cuda:0)" in two
    found, expected = (losses(tmp_path / "out" / name) for name in ("two", "one"))
    assert found == pytest.approx(expected, rel=0.05)


def test_two_ranks_stop_and_go_on(run: Callable[..., str], losses: Losses, tmp_path: Path) -> None:
    sizes = ("TRAIN.LOG_EVERY", "1", "TRAIN.IMAGES_PER_GPU", "2")
    run("train.py", "short", 2, *sizes, "TRAIN.EPOCHS", "1")
    assert "continuing from " in run("train.py", "short", 2, "--resume", "auto", *sizes)
    run("train.py", "whole", 2, *sizes)
    found, expected = (losses(tmp_path / "out" / name) for name in ("short", "whole"))
    assert found == pytest.approx(expected, rel=0.05)


def test_two_ranks_test_all_images(run: Callable[..., str], tmp_path: Path) -> None:
    run("train.py", "tested", 1)
    printed = run("test.py", "tested", 2, "--out", str(tmp_path), "TEST.HEATMAP_THRESHOLD", "0.0")
    assert "images on cuda:0 (of rank 0)" in printed
    (results,) = tmp_path.glob("keypoints_*_results.json")
    assert len({entry["image_id"] for entry in json.loads(results.read_text())}) == 5
