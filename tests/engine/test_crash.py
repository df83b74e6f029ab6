"""Training that is killed, stopped or runs out of disk, in processes that really are."""

import json
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from coupled_embedding.engine.checkpointer import list_checkpoints

pytestmark = pytest.mark.crash

KILLS = 20
# 10 images by 4: 3 steps per epoch, 48 in all
OPTIONS = "TRAIN.EPOCHS 16 TRAIN.EMA 0.9 TRAIN.SAVE_STEPS 2 TRAIN.LOG_EVERY 1 TRAIN.EVAL_EVERY 2 TRAIN.KEEP 3"
OPTIONS += " TRAIN.VISUALIZE_EVERY 0 TRAIN.THREADS 1 TRAIN.WARMUP_STEPS 5"


@pytest.fixture
def arguments(tiny_file: Path, tiny_crowd: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """arguments(name, option, ...): of tools/train.py for the run's folder tmp_path/name."""

    def build(name: str, *options: str) -> list[str]:
        fixed = ["NAME", name, "OUTPUT_DIR", str(tmp_path), "DATASET.ROOT", str(tiny_crowd)]
        return ["tools/train.py", "--cfg", str(tiny_file), *fixed, *OPTIONS.split(), *options]

    return build


def assert_equal(a, b, where: str = "") -> None:
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for index, pair in enumerate(zip(a, b, strict=True)):
            assert_equal(*pair, f"{where}/{index}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def assert_same_run(a: Path, b: Path) -> None:
    """Weights, averages, moments, schedule, random state, best score and log of two runs are the same bits."""
    for name in ("final.pth", "best.pth", list_checkpoints(a)[-1].name):
        contents = [torch.load(folder / name, weights_only=True) for folder in (a, b)]
        for content in contents:
            del content["config"]  # holds the run's name
        assert_equal(*contents, name)
    timeless = [
        [
            {
                k: v
                for k, v in json.loads(line).items()
                if k not in ("time",) and "images_per" not in k and "wait" not in k
            }
            for line in (folder / "metrics.jsonl").read_text().splitlines()
        ]
        for folder in (a, b)
    ]
    assert_equal(*timeless, "metrics.jsonl")
    curves = []
    for folder in (a, b):
        events = EventAccumulator(str(folder / "tensorboard"))
        events.Reload()
        curves.append({event.step: event.value for event in events.Scalars("loss/total")})
    assert curves[0] == curves[1]


@pytest.mark.slow
def test_killed_twenty_times_a_run_ends_as_if_nothing_had_been(start, arguments, steps_logged, tmp_path) -> None:
    whole = start(*arguments("whole"))
    assert whole.end() == 0, whole.output
    rng, folder = random.Random(7), tmp_path / "killed"
    killed_in_writing = 0
    for kill in range(KILLS):
        command = start(*arguments("killed", "TRAIN.WORKERS", str(kill % 3)), "--resume")
        done = steps_logged(folder)
        if kill % 4 == 3:
            # the moment while a checkpoint is written; what an earlier one left is deleted first
            command.wait_until(lambda: not any(folder.glob("*.pth.part")))
            alive = command.wait_until(lambda: any(folder.glob("*.pth.part")), pause=0)
        else:
            target = done + rng.randrange(4)
            alive = command.wait_until(lambda target=target: steps_logged(folder) > target)
            command.process.join(rng.random() * 0.1)
        command.kill()
        assert alive, command.output
        killed_in_writing += any(folder.glob("*.pth.part"))
    last = start(*arguments("killed"), "--resume")
    assert last.end() == 0, last.output
    assert killed_in_writing > 0
    assert_same_run(tmp_path / "whole", folder)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_this_step_and_says_how_to_go_on(start, arguments, steps_logged, tmp_path, number, code) -> None:
    folder = tmp_path / "stopped"
    options = ("TRAIN.WORKERS", "1", "TRAIN.SAVE_STEPS", "0")
    command = start(*arguments("stopped", *options))
    assert command.wait_until(lambda: steps_logged(folder) >= 4), command.output
    command.signal(number, whole_group=True)  # the loader's process gets it too
    assert command.end() == code, command.output
    name = signal.Signals(number).name
    assert f"{name}: saving after this step" in command.output
    step = int(list_checkpoints(folder)[-1].stem[-8:])
    assert step >= 4
    assert f"stopped by {name}: after step {step} of 48; {folder} is saved: continue with --resume" in command.output
    assert "Traceback" not in command.output
    again = start(*arguments("stopped", *options), "--resume")
    assert again.end() == 0, again.output
    assert f"continuing from {folder / f'checkpoint_{step:08d}.pth'} (step {step} of 48)" in again.output
    whole = start(*arguments("whole", *options))
    assert whole.end() == 0
    assert_same_run(tmp_path / "whole", folder)


def test_a_full_disk_is_told_and_the_last_checkpoint_stays(start, arguments, steps_logged, tmp_path) -> None:
    folder = tmp_path / "full"
    command = start(*arguments("full", "TRAIN.EPOCHS", "3"))
    assert command.wait_until(lambda: steps_logged(folder) >= 1), command.output
    (folder / "final.pth.part").symlink_to("/dev/full")
    assert command.end() == 2
    assert f"error: {folder / 'final.pth'}: cannot write the checkpoint ([Errno 28] No space left" in command.output
    assert "Traceback" not in command.output
    assert torch.load(list_checkpoints(folder)[-1], weights_only=True)["step"] == 9
    again = start(*arguments("full", "TRAIN.EPOCHS", "3"), "--resume")
    assert again.end() == 0, again.output
    assert torch.load(folder / "final.pth", weights_only=True)["metrics"]["AP"] >= 0


def test_a_log_that_cannot_be_written_is_told(start, arguments, tmp_path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "metrics.jsonl").symlink_to("/dev/full")
    command = start(*arguments("log"))
    assert command.end() == 2
    assert f"error: {tmp_path / 'log'}: cannot write the run's log (No space left" in command.output
    assert "Traceback" not in command.output


def test_a_folder_that_cannot_be_written_is_told(start, arguments, tmp_path) -> None:
    command = start(*arguments("x", "OUTPUT_DIR", "/sys/coupled"))
    assert command.end() == 2
    assert "error: /sys/coupled/x: cannot write the run's folder (" in command.output
    assert "Traceback" not in command.output


def test_a_target_that_cannot_be_replaced_is_told(start, arguments, steps_logged, tmp_path) -> None:
    folder = tmp_path / "taken"
    command = start(*arguments("taken"))
    assert command.wait_until(lambda: steps_logged(folder) >= 1), command.output
    (folder / "best.pth").mkdir()  # the first validation is after step 6
    assert command.end() == 2
    assert f"error: {folder / 'best.pth'}: cannot write the checkpoint" in command.output
    assert list_checkpoints(folder)[-1].name == "checkpoint_00000006.pth"
