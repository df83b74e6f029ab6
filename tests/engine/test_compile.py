"""TRAIN.COMPILE: one graph for the batches of full size, the others run eagerly, the same training."""

import json
import shutil
from collections.abc import Callable
from functools import partial

import pytest
import torch
from runs import train_config as run
from torch._dynamo.utils import counters
from yacs.config import CfgNode

Tiny = Callable[..., CfgNode]
# few layers, as making their kernels takes most of the time
SMALL = (
    "MODEL.BACKBONE", "hourglass", "MODEL.HEAD", "plain", "MODEL.STACKS", "1", "MODEL.HOURGLASS_DEPTH", "1",
    "MODEL.WIDTH", "8", "TRAIN.LOG_EVERY", "1", "DATASET.VAL", "''",
)  # fmt: skip


def losses(folder) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss/total"] for line in lines if "loss/total" in line]


@pytest.fixture
def fresh_dynamo():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def test_an_odd_batch_leads_to_no_second_graph(tiny: Tiny, fresh_dynamo, monkeypatch) -> None:
    # how a graph is made faster does not matter here
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    with torch._dynamo.config.patch(error_on_recompile=True):
        # batches of 4, 4 and 2 images, twice
        compiled = run(tiny("compiled", "TRAIN.COMPILE", "True", *SMALL))
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
    assert losses(compiled) == losses(run(tiny("eager", *SMALL)))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++, with which torch.compile makes its kernels")
def test_a_compiled_training_learns_what_an_eager_one_does(tiny: Tiny, fresh_dynamo) -> None:
    compiled = losses(run(tiny("compiled", "TRAIN.COMPILE", "True", *SMALL)))
    assert compiled == pytest.approx(losses(run(tiny("eager", *SMALL))), rel=1e-4)
