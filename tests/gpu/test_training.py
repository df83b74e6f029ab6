"""Training on a GPU: the CPU's losses in each precision, fp16's scaler, and a training that goes on."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from yacs.config import CfgNode

from coupled_embedding.builders import build_train_run, load_model, start_train_run
from coupled_embedding.engine.checkpointer import list_checkpoints
from coupled_embedding.engine.train import bare_steps
from coupled_embedding.utils.distributed import process_group

pytestmark = pytest.mark.gpu
Tiny = Callable[..., CfgNode]
TrainOn = Callable[..., Path]
Losses = Callable[[Path], list[float]]
STEPWISE = ("TRAIN.LOG_EVERY", "1", "TRAIN.PRECISION")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_losses_are_those_of_the_cpu(tiny: Tiny, train_on: TrainOn, losses: Losses, precision: str) -> None:
    expected = losses(train_on("cpu", tiny("cpu", *STEPWISE, "fp32")))
    folder = train_on("cuda", tiny("gpu", *STEPWISE, precision))
    assert losses(folder) == pytest.approx(expected, rel=0.05)  # bf16 on the CPU differs by 2 %
    model = load_model(folder / "final.pth")
    assert "AP" in model.metrics
    assert all(tensor.isfinite().all() for tensor in model.network.state_dict().values())


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns(tiny: Tiny, train_on: TrainOn, losses: Losses, precision: str) -> None:
    options = ("TRAIN.EPOCHS", "20", "DATASET.VAL", "''", "AUGMENT.FLIP", "0", "TRAIN.EMA", "0.9")
    found = losses(train_on("cuda", tiny("learn", *STEPWISE, precision, *options)))
    assert found[-1] < 0.5 * found[0]


def test_the_scaler_skips_a_step_that_overflows(tiny: Tiny) -> None:
    with process_group("cuda") as env:
        run = build_train_run(tiny("overflow", "TRAIN.PRECISION", "fp16"), env)
        parameters, scaler, steps = list(run.state.model.parameters()), run.state.scaler, bare_steps(run, 3)

        def changed_by_a_step(scale: float) -> bool:
            scaler.update(scale)
            before = [parameter.detach().clone() for parameter in parameters]
            next(steps)
            return any(not torch.equal(*pair) for pair in zip(before, parameters, strict=True))

        next(steps)  # which sets the scaler up
        assert not changed_by_a_step(2.0**120)
        assert scaler.get_scale() == 2.0**119
        assert changed_by_a_step(2.0**10)
        assert scaler.get_scale() == 2.0**10
        steps.close()


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_training_goes_on_with_the_state_it_had(tiny: Tiny, train_on: TrainOn, losses: Losses, device: str) -> None:
    cfg = tiny("parts", *STEPWISE, "fp16", "TRAIN.EMA", "0.9", "TRAIN.KEEP", "5", "DATASET.VAL", "''")
    folder = train_on("cuda", cfg)
    whole = losses(folder)
    (folder / "final.pth").unlink()
    list_checkpoints(folder)[-1].unlink()
    saved = torch.load(list_checkpoints(folder)[-1], map_location="cpu", weights_only=True)
    with process_group(device) as env:
        state = start_train_run(cfg, env, "auto").state
        restored = state.to_dict() | ({"random_cuda": saved["training"]["random_cuda"]} if device == "cpu" else {})
        assert all(parameter.device == env.device for parameter in state.eval_model.parameters())
    expected = {name: saved["training"][name] for name in restored}
    torch.testing.assert_close(restored, expected, rtol=0, atol=0, check_device=False)
    torch.testing.assert_close(state.eval_model.state_dict(), saved["model"], rtol=0, atol=0, check_device=False)
    resumed = losses(train_on(device, cfg, "auto"))
    assert len(resumed) == len(whole) == 6
    # a GPU adds up in another order each time
    assert resumed == pytest.approx(whole, rel=0.05)
