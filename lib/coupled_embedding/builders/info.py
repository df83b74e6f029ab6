"""What records and tables know of an experiment, as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from coupled_embedding.builders.inference import saved_config
from coupled_embedding.builders.parts import annotations_of, build_schema, run_folder
from coupled_embedding.config import default_config, flat, load_config
from coupled_embedding.config.resume import check_resume_config
from coupled_embedding.networks.weights import read_own_checkpoint


@dataclass(frozen=True)
class RunInfo:
    """What records and tables need to know of an experiment, as plain values."""

    name: str
    folder: Path  # of the run
    dataset: str  # the schema's name
    held_out: tuple[str, ...]  # the data set's splits that results are reported on
    annotations: dict[str, Path]  # file of each split
    train: str
    val: str  # split that chooses the checkpoint; empty: none does
    test: str
    precision: str  # of the training
    seed: int
    pretrained: str  # file that the training starts from; empty: none
    init_from: str  # likewise
    options: dict[str, Any]  # all of them, full name -> value
    changed: dict[str, Any]  # those that are not at their default


def describe(cfg: CfgNode) -> RunInfo:
    """Return what records and tables need to know of an experiment; DatasetError if its schema is wrong."""
    schema, options = build_schema(cfg), flat(cfg)
    return RunInfo(
        cfg.NAME,
        run_folder(cfg),
        schema.name,
        schema.held_out,
        {split: annotations_of(cfg, schema, split) for split in schema.splits},
        train=cfg.DATASET.TRAIN,
        val=cfg.DATASET.VAL,
        test=cfg.DATASET.TEST,
        precision=cfg.TRAIN.PRECISION,
        seed=cfg.SEED,
        pretrained=cfg.MODEL.PRETRAINED,
        init_from=cfg.MODEL.INIT_FROM,
        options=options,
        changed=changed_options(options),
    )


def load_info(config: str | Path | None, overrides: Sequence[str] = ()) -> RunInfo:
    """Return `describe` of a config file with ``[key, value, ...]`` changed; errors as `load_config`."""
    return describe(load_config(config, overrides))


def changed_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of some options, full name -> value, that are not at their default."""
    defaults = flat(default_config())
    return {key: value for key, value in options.items() if value != defaults[key]}


def trained_options(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return all options that a checkpoint's content was trained with; empty: unknown.

    Released weights that were converted to a checkpoint carry a config, but were not trained by it.
    """
    return flat(saved_config(content, path)) if {"config", "selected_on"} <= content.keys() else {}


def check_same_training(checkpoint: Path, config: str | None, overrides: Sequence[str]) -> None:
    """Raise UserError if a training had other options than a config's that change what is learned."""
    check_resume_config(read_own_checkpoint(checkpoint)["config"], load_config(config, overrides), checkpoint)
