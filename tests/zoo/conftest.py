"""A model zoo of the tiny network: a model, its multi-scale row, and one that starts from it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from yacs.config import CfgNode

from coupled_embedding.builders import build_model, build_schema
from coupled_embedding.config import config_to_dict
from coupled_embedding.engine.checkpointer import write_checkpoint
from coupled_embedding.networks.weights import FORMAT

CARD = """
title: a tiny network
config: {config}
input: 64
starts_from: {start}
test: {test}
weights: {{file: tiny.pth}}
paper: {{source: no publication, trained_on: train, metrics: {{test: {{AP: 50.0}}}}}}
"""


@pytest.fixture
def zoo(tmp_path: Path, tiny_text: str, tiny_crowd: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with models/tiny.yaml, tiny_ms.yaml and tiny_plus.yaml; its configs need no options."""
    folder = tmp_path / "zoo"
    (folder / "models").mkdir(parents=True)
    checkout = Path(__file__).resolve().parents[2]
    text = tiny_text.replace("datasets/synthetic.yaml", f"{checkout}/datasets/synthetic.yaml, ROOT: '{tiny_crowd}'")
    (folder / "tiny.yaml").write_text("NAME: tiny\n" + text)
    (folder / "plus.yaml").write_text("_BASE_: tiny.yaml\nNAME: tiny_plus\nMODEL: {INIT_FROM: models/tiny.pth}\n")
    for name, config, start, test in (
        ("tiny", "tiny.yaml", "scratch", "{}"),
        ("tiny_ms", "tiny.yaml", "scratch", "{TEST.SCALES: [2, 1]}"),
        ("tiny_plus", "plus.yaml", "tiny", "{}"),
    ):
        (folder / f"models/{name}.yaml").write_text(CARD.format(config=folder / config, start=start, test=test))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def save_weights() -> Callable[..., Path]:
    """save_weights(cfg, path, selected_on): a checkpoint of the untrained network."""

    def save(cfg: CfgNode, path: Path, selected_on: str = "") -> Path:
        schema = build_schema(cfg)
        torch.manual_seed(cfg.SEED)
        model = build_model(cfg, schema.num_joints).state_dict()
        about = {"config": config_to_dict(cfg), "schema": schema.to_dict(), "selected_on": selected_on}
        write_checkpoint({"format": FORMAT, "model": model, "metrics": {}, "step": 0, **about}, path)
        return path

    return save
