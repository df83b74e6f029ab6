"""Losses and gradients that are not finite: skipped, told, counted; the run stops when they are too many."""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import nn
from yacs.config import CfgNode

from coupled_embedding.engine.checkpoint_files import read_resumable
from coupled_embedding.engine.nonfinite import BadStep, StepGuard, spoil_if_not_finite
from coupled_embedding.engine.run import build_trainer
from coupled_embedding.engine.train import Trainer
from coupled_embedding.losses.criterion import LossTerms
from coupled_embedding.optim.optimizer import Muon, step_unless
from coupled_embedding.utils.distributed import World, process_group
from coupled_embedding.utils.errors import UserError

Tiny = Callable[..., CfgNode]
ALONE = World(0, 1, torch.device("cpu"))


class Broken(nn.Module):
    """A criterion of which some steps' pull loss is infinite, though its slope is not."""

    def __init__(self, criterion: nn.Module, steps: set[int]) -> None:
        super().__init__()
        self.criterion, self.steps = criterion, steps

    def forward(self, maps, targets, step: int) -> LossTerms:
        terms = self.criterion(maps, targets, step)
        return (
            replace(terms, total=terms.total + torch.inf, pull=terms.pull + torch.inf) if step in self.steps else terms
        )


def broken_trainer(cfg: CfgNode, world: World, steps: set[int]) -> Trainer:
    trainer, _ = build_trainer(cfg, world)
    trainer.criterion = Broken(trainer.criterion, steps)
    trainer.files.folder.mkdir(parents=True, exist_ok=True)
    return trainer


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_bad_step_changes_no_weight_and_is_told(tiny: Tiny, capfd, optimizer: str, precision: str) -> None:
    cfg = tiny(
        "bad", "TRAIN.OPTIMIZER", optimizer, "TRAIN.EMA", "0.9", "DATASET.VAL", "''", "TRAIN.PRECISION", precision
    )
    with process_group("cpu") as world:
        trainer = broken_trainer(cfg, world, {3})
        states = []
        update = trainer._update

        def watch(rate: float) -> torch.Tensor:
            before = copy.deepcopy(dict(trainer.state.network.named_parameters()))
            norm = update(rate)
            after = trainer.state.network.named_parameters()
            states.append(any(not torch.equal(before[name], weight) for name, weight in after))
            return norm

        trainer._update = watch
        trainer.train()
    assert states == [True, True, True, False, True, True]
    said = capfd.readouterr().out
    assert "step 4: loss/total, loss/pull, the gradient not finite, step skipped (photos 107" in said
    weights = torch.load(trainer.files.final, weights_only=True)["model"]
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


def test_a_skipped_step_leaves_the_same_weights_as_a_run_without_its_photos(tiny: Tiny) -> None:
    # with Adam a skipped step must not even decay the moments
    cfg = tiny("skip", "DATASET.VAL", "''", "TRAIN.WARMUP_STEPS", "0")
    with process_group("cpu") as world:
        trainer = broken_trainer(cfg, world, {0, 1, 2})
        start = copy.deepcopy(trainer.state.network.state_dict())
        assert len(list(trainer.bare_steps(3, nullcontext))) == 3
        assert all(not state for state in trainer.state.optimizer.state.values())
        for name, parameter in trainer.state.network.named_parameters():
            assert torch.equal(parameter, start[name]), name


def test_too_many_bad_steps_end_the_run_with_a_state_that_repeats_the_last(tiny: Tiny) -> None:
    cfg = tiny("over", "DATASET.VAL", "''", "TRAIN.MAX_BAD_STEPS", "1")
    with process_group("cpu") as world:
        trainer = broken_trainer(cfg, world, {1, 2})
        with pytest.raises(
            UserError, match=r"step 3: loss/total, loss/pull.*2 such steps.*MAX_BAD_STEPS is 1.*--resume"
        ):
            trainer.train()
        path = trainer.files.folder / "failure_00000003.pth"
        content = read_resumable(path)
        assert content["failure"]["terms"] == ["total", "pull"]
        photos = content["failure"]["image_ids"]
        again = broken_trainer(cfg, world, {2})
        again.resume(content, path)
        assert again.state.step == 2
        # the same photos, and the weights from before: only step 1 had changed them
        with pytest.raises(UserError, match=rf"step 3: loss/total.*photos {', '.join(map(str, photos))}\)"):
            replace_limit(again, 0).train()


def replace_limit(trainer: Trainer, limit: int) -> Trainer:
    trainer.cfg = trainer.cfg.clone()
    trainer.cfg.defrost()
    trainer.cfg.TRAIN.MAX_BAD_STEPS = limit
    return trainer


def test_an_epoch_with_as_many_bad_steps_as_allowed_goes_on(tiny: Tiny) -> None:
    cfg = tiny("some", "DATASET.VAL", "''", "TRAIN.MAX_BAD_STEPS", "1")
    with process_group("cpu") as world:
        trainer = broken_trainer(cfg, world, {1, 4})  # one an epoch
        trainer.train()
    assert trainer.files.final.is_file()


def test_epochs_without_any_good_step_count_together(tiny: Tiny) -> None:
    cfg = tiny("dead", "DATASET.VAL", "''", "TRAIN.MAX_BAD_STEPS", "4")
    with process_group("cpu") as world:
        trainer = broken_trainer(cfg, world, set(range(6)))  # 3 an epoch
        with pytest.raises(UserError, match=r"step 5: .*; 5 such steps"):
            trainer.train()


def test_running_statistics_that_a_bad_forward_spoiled_are_put_back() -> None:
    layer = nn.BatchNorm2d(2)
    layer(torch.ones(1, 2, 3, 3))
    sound = layer.running_mean.clone()
    guard = StepGuard(ALONE, 5, [layer])
    layer(torch.full((1, 2, 3, 3), torch.inf))
    assert not layer.running_mean.isfinite().any()
    guard.watch(7, torch.tensor([1.0, 1.0, torch.nan, 1.0, 1.0]), torch.tensor(torch.nan), [4, 5])
    (bad,) = guard.settle()
    assert (bad.step, bad.terms, bad.image_ids) == (7, ("pull",), (4, 5))
    assert torch.equal(layer.running_mean, sound)
    assert layer.running_var.isfinite().all()
    layer(torch.full((1, 2, 3, 3), 1e17))  # finite, and far too large to be forgotten soon
    guard.watch(8, torch.ones(5), torch.tensor(torch.inf), [6])
    assert len(guard.settle()) == 1
    assert torch.equal(layer.running_mean, sound)


def test_the_state_after_good_steps_is_not_called_the_bad_one(tiny: Tiny) -> None:
    with process_group("cpu") as world:
        trainer = broken_trainer(tiny("later", "DATASET.VAL", "''"), world, set())
        trainer.state.step = 9
        path, repeats = trainer.files.save_failure(BadStep(7, ("pull",), (1, 2)))
    content = read_resumable(path)
    assert not repeats
    assert (content["step"], content["failure"]["step"]) == (9, 7)


@pytest.mark.parametrize(("limit", "watchful"), [(0, True), (1, False)])
def test_without_any_tolerance_a_gpu_is_asked_at_every_step(limit: int, watchful: bool) -> None:
    assert StepGuard(World(0, 1, torch.device("cuda")), limit, []).watchful is watchful


def test_overflow_alone_makes_no_gpu_wait() -> None:
    guard = StepGuard(World(0, 1, torch.device("cuda")), 3, [])
    guard.watch(1, torch.ones(5), torch.tensor(torch.inf), [1])
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(torch.ones(()))
    assert guard.settle(scaler) == []
    assert not guard.watchful


def test_overflow_alone_is_fp16s_everyday_business_until_the_scale_is_small() -> None:
    guard = StepGuard(ALONE, 0, [])
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(torch.ones(()))
    finite, overflow = torch.ones(5), torch.tensor(torch.inf)
    guard.watch(1, finite, overflow, [1])
    assert guard.settle(scaler) == []
    assert guard.overflows == 1
    guard.watch(2, torch.full((5,), torch.nan), overflow, [2])
    assert [bad.step for bad in guard.settle(scaler)] == [2]
    assert guard.is_over_limit
    guard.restart()
    scaler.update(0.5)
    guard.watch(3, finite, overflow, [3])
    assert [bad.step for bad in guard.settle(scaler)] == [3]


@pytest.mark.parametrize(("loss", "slope"), [(2.0, 3.0), (torch.inf, torch.nan), (torch.nan, torch.nan)])
def test_the_slope_tells_of_a_loss_that_is_not_finite(loss: float, slope: float) -> None:
    x = torch.zeros((), requires_grad=True)
    spoil_if_not_finite(3 * x + loss).backward()
    torch.testing.assert_close(x.grad, torch.tensor(slope), equal_nan=True)


def test_muon_honours_found_inf_without_looking_at_it() -> None:
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


def test_step_unless_skips_on_the_host_where_that_is_free() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight], 0.1, fused=True)
    weight.grad = torch.full((3,), torch.nan)
    step_unless(optimizer, torch.tensor(True))
    assert torch.equal(weight, torch.ones(3))
    weight.grad = torch.ones(3)
    step_unless(optimizer, torch.tensor(False))
    torch.testing.assert_close(weight.detach(), torch.full((3,), 0.9))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_step_unless_skips_on_a_gpu() -> None:
    weight = nn.Parameter(torch.ones(3, device="cuda"))
    optimizer = torch.optim.Adam([weight], 0.1, fused=True)
    weight.grad = torch.full((3,), torch.nan, device="cuda")
    step_unless(optimizer, torch.tensor(True, device="cuda"))
    assert torch.equal(weight, torch.ones(3, device="cuda"))


@pytest.mark.parametrize(
    ("validation", "message"),
    [("''", r"step 6: loss/total, loss/heatmap.* not finite"), ("val", "validation after step 3")],
)
def test_a_diverging_run_says_what_to_do(tiny: Tiny, validation: str, message: str) -> None:
    cfg = tiny(
        "nan", "TRAIN.LR", "1e30", "TRAIN.WARMUP_STEPS", "0", "DATASET.VAL", validation, "TRAIN.MAX_BAD_STEPS", "2"
    )
    with process_group("cpu") as world:
        trainer, _ = build_trainer(cfg, world)
        with pytest.raises(UserError, match=message + r".*Lower TRAIN\.LR"):
            trainer.train()
