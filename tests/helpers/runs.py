"""Runs and tests through the library, as the commands do them."""

from pathlib import Path

import torch
from yacs.config import CfgNode

from coupled_embedding.builders import build_eval_job, build_model, build_schema, config_of, run_folder, start_train_run
from coupled_embedding.config import config_to_dict, override
from coupled_embedding.engine.checkpointer import write_checkpoint
from coupled_embedding.engine.evaluate import EvalJob
from coupled_embedding.engine.train import train
from coupled_embedding.networks.weights import FORMAT
from coupled_embedding.utils.distributed import DistEnv, process_group

CPU = DistEnv(0, 1, torch.device("cpu"))


def train_config(cfg: CfgNode, resume: str | None = None) -> Path:
    """Train on the CPU; return the run's folder."""
    with process_group("cpu") as env:
        train(start_train_run(cfg, env, resume))
    return run_folder(cfg)


def untrained_checkpoint(cfg: CfgNode, path: Path, metrics: dict[str, float] | None = None, step: int = 0) -> Path:
    """Write a checkpoint of a network with initial weights; return its path."""
    schema = build_schema(cfg)
    torch.manual_seed(0)
    weights = build_model(cfg, schema.num_joints).state_dict()
    content = {"format": FORMAT, "model": weights, "config": config_to_dict(cfg), "schema": schema.to_dict()}
    write_checkpoint({**content, "metrics": metrics or {}, "step": step}, path)
    return path


def eval_job(weights: Path, *overrides: str, split: str = "", env: DistEnv = CPU) -> EvalJob:
    """Return the evaluation of a checkpoint with its own config and changed options."""
    return build_eval_job(override(config_of(weights), overrides), weights, split, env)
