import itertools
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coupled_embedding.builders import build_schedule
from coupled_embedding.config import load_config
from coupled_embedding.optim.schedule import Schedule


@pytest.mark.reference
def test_rates_equal_the_recording(reference_dir: Path) -> None:
    recording = json.loads((reference_dir / "parity/learning_rate.json").read_text())
    schedule = Schedule(
        recording["base_lr"],
        recording["warmup_iters"],
        recording["warmup_ratio"],
        recording["milestones_in_iterations"],
        recording["gamma"],
    )
    assert recording["learning_rate"]
    for iteration, rate in recording["learning_rate"].items():
        assert schedule(int(iteration)) == pytest.approx(rate, rel=1e-12)


def test_full_size_configs_step_at_epochs_200_and_260(checkout: Path) -> None:
    cfg = load_config(checkout / "config/coco/ce_hrhrnet_w32_512.yaml")
    schedule = build_schedule(cfg, steps_per_epoch=10)
    assert schedule(1999) == pytest.approx(1.5e-3)
    assert schedule(2000) == pytest.approx(1.5e-4)
    assert schedule(2600) == pytest.approx(1.5e-5)


def test_cosine_is_flat_then_falls_to_zero() -> None:
    cfg = load_config(None, ["TRAIN.SCHEDULE", "cosine", "TRAIN.EPOCHS", "10", "TRAIN.WARMUP_STEPS", "0"])
    schedule = build_schedule(cfg, steps_per_epoch=10)
    assert [schedule(i) for i in range(61)] == [1.5e-3] * 61
    assert schedule(80) == pytest.approx(0.75e-3)
    assert schedule(100) == pytest.approx(0.0, abs=1e-15)


@given(st.integers(2, 1000), st.floats(0, 1))
def test_warmup_is_linear_from_the_ratio_to_the_base(warmup: int, ratio: float) -> None:
    schedule = Schedule(2.0, warmup, ratio)
    rates = [schedule(i) for i in range(warmup)]
    assert rates[0] == pytest.approx(2.0 * ratio)
    assert rates[-1] == pytest.approx(2.0)
    steps = [b - a for a, b in itertools.pairwise(rates)]
    assert all(math.isclose(step, steps[0], rel_tol=1e-6, abs_tol=1e-9) for step in steps)
