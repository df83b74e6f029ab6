"""Losses and gradients that are not finite: skipped, logged, counted; the run stops when they are too many."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn
from yacs.config import CfgNode

from coupled_embedding.builders import build_train_run
from coupled_embedding.engine import train as loop
from coupled_embedding.engine.checkpointer import read_resumable
from coupled_embedding.engine.nonfinite import NonFiniteGuard, NonFiniteStep, nan_if_nonfinite
from coupled_embedding.engine.train import TrainRun, bare_steps, train
from coupled_embedding.optim.optimizer import Muon, step_if_finite
from coupled_embedding.utils.distributed import DistEnv, process_group
from coupled_embedding.utils.errors import UserError

Tiny = Callable[..., CfgNode]
ALONE = DistEnv(0, 1, torch.device("cpu"))


class Broken(nn.Module):
    """A criterion of which some steps' pull loss is infinite, though its slope is not."""

    def __init__(self, criterion: nn.Module, steps: set[int]) -> None:
        super().__init__()
        self.criterion, self.steps = criterion, steps

    def forward(self, output, targets, step: int) -> dict[str, torch.Tensor]:
        losses = self.criterion(output, targets, step)
        if step in self.steps:
            losses |= {name: losses[name] + torch.inf for name in ("total", "pull")}
        return losses


def broken_run(cfg: CfgNode, env: DistEnv, steps: set[int]) -> TrainRun:
    run = build_train_run(cfg, env)
    run.criterion = Broken(run.criterion, steps)
    run.folder.mkdir(parents=True, exist_ok=True)
    return run


@pytest.mark.parametrize("optimizer", ["adam", "muon", "rmsprop", "sgd"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_bad_step_changes_no_weight_and_is_logged(
    tiny: Tiny, capfd, monkeypatch, optimizer: str, precision: str
) -> None:
    cfg = tiny(
        "bad", "TRAIN.OPTIMIZER", optimizer, "TRAIN.EMA", "0.9", "DATASET.VAL", "''", "TRAIN.PRECISION", precision
    )
    with process_group("cpu") as env:
        run = broken_run(cfg, env, {3})
        states = []
        update = loop.optimizer_step

        def watch(state, *arguments) -> torch.Tensor:
            before = copy.deepcopy(dict(state.model.named_parameters()))
            norm = update(state, *arguments)
            after = state.model.named_parameters()
            states.append(any(not torch.equal(before[name], weight) for name, weight in after))
            return norm

        monkeypatch.setattr(loop, "optimizer_step", watch)
        train(run)
    assert states == [True, True, True, False, True, True]
    said = capfd.readouterr().out
    assert "step 4: loss/total, loss/pull, the gradient not finite, step skipped (images 107" in said
    weights = torch.load(run.checkpointer.final, weights_only=True)["model"]
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


def test_a_skipped_step_leaves_the_same_weights_as_a_run_without_its_images(tiny: Tiny) -> None:
    # with Adam a skipped step must not even decay the moments
    cfg = tiny("skip", "DATASET.VAL", "''", "TRAIN.WARMUP_STEPS", "0")
    with process_group("cpu") as env:
        run = broken_run(cfg, env, {0, 1, 2})
        start = copy.deepcopy(run.state.model.state_dict())
        assert len(list(bare_steps(run, 3))) == 3
        assert all(not state for state in run.state.optimizer.state.values())
        for name, parameter in run.state.model.named_parameters():
            assert torch.equal(parameter, start[name]), name


def test_too_many_bad_steps_end_the_run_with_a_state_that_repeats_the_last(tiny: Tiny) -> None:
    cfg = tiny("over", "DATASET.VAL", "''", "TRAIN.MAX_NONFINITE_STEPS", "1")
    with process_group("cpu") as env:
        run = broken_run(cfg, env, {1, 2})
        with pytest.raises(
            UserError, match=r"step 3: loss/total, loss/pull.*2 such steps.*MAX_NONFINITE_STEPS is 1.*--resume"
        ):
            train(run)
        path = run.folder / "failure_00000003.pth"
        content = read_resumable(path)
        assert content["failure"]["terms"] == ["total", "pull"]
        images = content["failure"]["image_ids"]
        again = broken_run(cfg, env, {2})
        again.checkpointer.restore(content, path)
        again.options = replace(again.options, max_nonfinite_steps=0)
        assert again.state.step == 2
        # the same images, and the weights from before: only step 1 had changed them
        with pytest.raises(UserError, match=rf"step 3: loss/total.*images {', '.join(map(str, images))}\)"):
            train(again)


def test_an_epoch_with_as_many_bad_steps_as_allowed_goes_on(tiny: Tiny) -> None:
    cfg = tiny("some", "DATASET.VAL", "''", "TRAIN.MAX_NONFINITE_STEPS", "1")
    with process_group("cpu") as env:
        run = broken_run(cfg, env, {1, 4})  # one per epoch
        train(run)
    assert run.checkpointer.final.is_file()


def test_epochs_without_any_good_step_count_together(tiny: Tiny) -> None:
    cfg = tiny("dead", "DATASET.VAL", "''", "TRAIN.MAX_NONFINITE_STEPS", "4")
    with process_group("cpu") as env:
        run = broken_run(cfg, env, set(range(6)))  # 3 per epoch
        with pytest.raises(UserError, match=r"step 5: .*; 5 such steps"):
            train(run)


def losses_of(**changes: float) -> dict[str, torch.Tensor]:
    return {n: torch.tensor(changes.get(n, 1.0)) for n in ("total", "heatmap", "pull", "push", "coupling")}


def test_running_statistics_that_a_bad_forward_spoiled_are_put_back() -> None:
    layer = nn.BatchNorm2d(2)
    layer(torch.ones(1, 2, 3, 3))
    valid = layer.running_mean.clone()
    guard = NonFiniteGuard(ALONE, 5, [layer])
    layer(torch.full((1, 2, 3, 3), torch.inf))
    assert not layer.running_mean.isfinite().any()
    guard.record(7, losses_of(pull=torch.nan), torch.tensor(torch.nan), [4, 5])
    (bad,) = guard.check()
    assert (bad.step, bad.terms, bad.image_ids) == (7, ("pull",), (4, 5))
    assert torch.equal(layer.running_mean, valid)
    assert layer.running_var.isfinite().all()
    layer(torch.full((1, 2, 3, 3), 1e17))  # finite, and far too large to be forgotten soon
    guard.record(8, losses_of(), torch.tensor(torch.inf), [6])
    assert len(guard.check()) == 1
    assert torch.equal(layer.running_mean, valid)


def test_the_state_after_good_steps_is_not_called_the_bad_one(tiny: Tiny) -> None:
    with process_group("cpu") as env:
        run = broken_run(tiny("later", "DATASET.VAL", "''"), env, set())
        run.state.step = 9
        path, repeats = run.checkpointer.save_failure(NonFiniteStep(7, ("pull",), (1, 2)))
    content = read_resumable(path)
    assert not repeats
    assert (content["step"], content["failure"]["step"]) == (9, 7)


@pytest.mark.parametrize(("limit", "check_every_step"), [(0, True), (1, False)])
def test_without_any_tolerance_a_gpu_is_asked_at_every_step(limit: int, check_every_step: bool) -> None:
    assert NonFiniteGuard(DistEnv(0, 1, torch.device("cuda")), limit, []).check_every_step is check_every_step


def test_overflow_alone_makes_no_gpu_wait() -> None:
    guard = NonFiniteGuard(DistEnv(0, 1, torch.device("cuda")), 3, [])
    guard.record(1, losses_of(), torch.tensor(torch.inf), [1])
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(torch.ones(()))
    assert guard.check(scaler) == []
    assert not guard.check_every_step


def test_overflow_alone_is_fp16s_everyday_business_until_the_scale_is_small() -> None:
    guard = NonFiniteGuard(ALONE, 0, [])
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(torch.ones(()))
    finite, overflow = losses_of(), torch.tensor(torch.inf)
    guard.record(1, finite, overflow, [1])
    assert guard.check(scaler) == []
    assert guard.overflows == 1
    guard.record(2, losses_of(total=torch.nan), overflow, [2])
    assert [bad.step for bad in guard.check(scaler)] == [2]
    assert guard.is_over_limit
    guard.start_epoch()
    scaler.update(0.5)
    guard.record(3, finite, overflow, [3])
    assert [bad.step for bad in guard.check(scaler)] == [3]


@pytest.mark.parametrize(("loss", "slope"), [(2.0, 3.0), (torch.inf, torch.nan), (torch.nan, torch.nan)])
def test_the_slope_shows_a_loss_that_is_not_finite(loss: float, slope: float) -> None:
    x = torch.zeros((), requires_grad=True)
    nan_if_nonfinite(3 * x + loss).backward()
    torch.testing.assert_close(x.grad, torch.tensor(slope), equal_nan=True)


def test_muon_honors_found_inf_without_looking_at_it() -> None:
    def optimizer(seed: int) -> tuple[Muon, list[nn.Parameter]]:
        torch.manual_seed(seed)
        parameters = [nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(5))]
        muon = Muon(parameters[:1], parameters[1:], lr=0.1, weight_decay=0.1)
        return muon, parameters

    (plain, expected), (guarded, found) = optimizer(3), optimizer(3)
    torch.manual_seed(0)
    for bad in (0.0, 1.0, 0.0):
        for a, b in zip(expected, found, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone() if not bad else torch.full_like(b, torch.nan)
        before = [p.detach().clone() for p in found]
        guarded.found_inf = torch.tensor(bad)
        guarded.step()
        if bad:
            assert all(torch.equal(p, q) for p, q in zip(found, before, strict=True))
        else:
            plain.step()
        for a, b in zip(expected, found, strict=True):
            torch.testing.assert_close(a, b)


def test_step_if_finite_skips_on_the_host_where_that_is_free() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight], 0.1, fused=True)
    weight.grad = torch.full((3,), torch.nan)
    step_if_finite(optimizer, torch.tensor(False))
    assert torch.equal(weight, torch.ones(3))
    weight.grad = torch.ones(3)
    step_if_finite(optimizer, torch.tensor(True))
    torch.testing.assert_close(weight.detach(), torch.full((3,), 0.9))


@pytest.mark.gpu
def test_step_if_finite_skips_on_a_gpu() -> None:
    weight = nn.Parameter(torch.ones(3, device="cuda"))
    optimizer = torch.optim.Adam([weight], 0.1, fused=True)
    weight.grad = torch.full((3,), torch.nan, device="cuda")
    step_if_finite(optimizer, torch.tensor(False, device="cuda"))
    assert torch.equal(weight, torch.ones(3, device="cuda"))


@pytest.mark.parametrize(
    ("validation", "message"),
    [("''", r"step 6: loss/total, loss/heatmap.* not finite"), ("val", "validation after step 3")],
)
def test_a_diverging_run_says_what_to_do(tiny: Tiny, validation: str, message: str) -> None:
    cfg = tiny(
        "nan",
        "TRAIN.LR",
        "1e30",
        "TRAIN.WARMUP_STEPS",
        "0",
        "DATASET.VAL",
        validation,
        "TRAIN.MAX_NONFINITE_STEPS",
        "2",
    )
    with process_group("cpu") as env:
        run = build_train_run(cfg, env)
        run.folder.mkdir(parents=True)
        with pytest.raises(UserError, match=message + r".*Lower TRAIN\.LR"):
            train(run)
