"""Signals and steps that are not finite, where one rank of several meets them."""

import io
import itertools
import json
import os
import signal
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch
from torch import nn

from coupled_embedding.builders import build_train_run, run_folder, start_train_run
from coupled_embedding.config import load_config
from coupled_embedding.engine.checkpointer import list_checkpoints
from coupled_embedding.engine.train import bare_steps, train
from coupled_embedding.utils.distributed import process_group
from coupled_embedding.utils.errors import StoppedBySignal

pytestmark = pytest.mark.distributed

OPTIONS = ("TRAIN.IMAGES_PER_GPU", "2", "TRAIN.EPOCHS", "4", "TRAIN.VISUALIZE_EVERY", "0", "DATASET.VAL", "''")


Losses = dict[str, torch.Tensor]


class Stumbling(nn.Module):
    """A criterion that does something before one step's losses."""

    def __init__(self, criterion: nn.Module, step: int, stumble) -> None:
        super().__init__()
        self.criterion, self.step, self.stumble = criterion, step, stumble

    def forward(self, output, targets, step: int) -> Losses:
        losses = self.criterion(output, targets, step)
        return self.stumble(losses) if step == self.step else losses


def train_here(file: str, resume: str | None = None) -> None:
    with process_group("cpu") as env:
        train(start_train_run(load_config(file), env, resume))


def signalled_in_its_fifth_step(file: str, rank: int) -> tuple[int, str]:
    def interrupt(losses: Losses) -> Losses:
        os.kill(os.getpid(), signal.SIGTERM)
        return losses

    with process_group("cpu") as env:
        run = build_train_run(load_config(file), env)
        run.folder.mkdir(parents=True, exist_ok=True)
        if env.rank == rank:
            run.criterion = Stumbling(run.criterion, 4, interrupt)
        with pytest.raises(StoppedBySignal) as stopped:
            train(run)
    return run.state.step, str(stopped.value)


@pytest.mark.parametrize("rank", [0, 1])
def test_all_stop_after_the_same_step_when_one_is_told_to(together, tiny, as_file, rank: int) -> None:
    stopped, whole = as_file(tiny("stopped", *OPTIONS)), as_file(tiny("whole", *OPTIONS))
    steps, texts = zip(*together(2, signalled_in_its_fifth_step, stopped, rank), strict=True)
    # the others learn of it one step later, and all do that one
    assert set(steps) == {6}
    assert all("stopped by SIGTERM: after step 6 of 12" in text for text in texts)
    folder = run_folder(load_config(stopped))
    assert list_checkpoints(folder)[-1].name == "checkpoint_00000006.pth"
    together(2, train_here, stopped, "auto")
    together(2, train_here, whole)
    assert_same_weights(folder, run_folder(load_config(whole)))


def assert_same_weights(a: Path, b: Path) -> None:
    weights = [torch.load(folder / "final.pth", weights_only=True)["model"] for folder in (a, b)]
    for name in weights[0]:
        assert torch.equal(weights[0][name], weights[1][name]), name


def one_bad_loss(file: str) -> list[list[float]]:
    def spoil(losses: Losses) -> Losses:
        return losses | {name: losses[name] + torch.inf for name in ("total", "push")}

    weights = []
    with process_group("cpu") as env:
        run = build_train_run(load_config(file), env)
        run.folder.mkdir(parents=True, exist_ok=True)
        if env.rank == 1:
            run.criterion = Stumbling(run.criterion, 2, spoil)
        for _ in bare_steps(run, 4):
            weights.append(next(run.state.model.parameters()).flatten().tolist())
    return weights


def test_a_loss_of_one_process_that_is_not_finite_skips_the_step_of_all(together, tiny, as_file) -> None:
    first, second = together(2, one_bad_loss, as_file(tiny("bad", *OPTIONS)))
    assert first == second
    assert [a != b for a, b in itertools.pairwise(first)] == [True, False, True]


def log_of_a_bad_loss(file: str) -> str:
    def spoil(losses: Losses) -> Losses:
        return losses | {name: losses[name] + torch.nan for name in ("total", "pull")}

    with process_group("cpu") as env:
        run = build_train_run(load_config(file), env)
        run.folder.mkdir(parents=True, exist_ok=True)
        if env.rank == 1:
            run.criterion = Stumbling(run.criterion, 2, spoil)
        with redirect_stdout(io.StringIO()) as printed:
            train(run)
    return printed.getvalue()


def test_what_was_bad_on_one_rank_is_logged_by_rank_0(together, tiny, as_file) -> None:
    file = as_file(tiny("logged", *OPTIONS, "TRAIN.LOG_EVERY", "1"))
    printed, other = together(2, log_of_a_bad_loss, file)
    lines = (run_folder(load_config(file)) / "metrics.jsonl").read_text().splitlines()
    bad = {line["step"]: line["train/nonfinite_steps"] for line in map(json.loads, lines)}
    assert bad[2] == 0
    assert bad[3] == 1
    # an epoch is 3 steps, the last one of which has the 2 images that are left, one on each process
    assert printed == (
        "step 3: loss/total, loss/pull, the gradient not finite, step skipped (images 1075000007, 1075000004)\n"
    )
    assert other == ""
