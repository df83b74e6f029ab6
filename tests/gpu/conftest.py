"""Trainings on either device."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from yacs.config import CfgNode

from coupled_embedding.builders import run_folder, start_train_run
from coupled_embedding.engine.train import train
from coupled_embedding.utils.distributed import process_group


@pytest.fixture
def train_on() -> Callable[..., Path]:
    """train_on(device, cfg, resume=None): the folder of a training that has ended."""

    def run(device: str, cfg: CfgNode, resume: str | None = None) -> Path:
        with process_group(device) as env:
            train(start_train_run(cfg, env, resume))
        return run_folder(cfg)

    return run


@pytest.fixture
def losses() -> Callable[[Path], list[float]]:
    """losses(folder): the logged totals of a run."""

    def read(folder: Path) -> list[float]:
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return [line["loss/total"] for line in lines if "loss/total" in line]

    return read
