"""Checkpoints: self-describing, written beside and renamed, read without executing anything."""

import os
import re
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from yacs.config import CfgNode

from coupled_embedding.config import config_from_dict, config_to_dict, default_config, flat
from coupled_embedding.data.schema import KeypointSchema, schema_from_dict
from coupled_embedding.networks.fit import fitting_config
from coupled_embedding.networks.pose_network import PoseNetwork, sketch_network
from coupled_embedding.networks.weights import load_strictly, network_weights, read_weight_file
from coupled_embedding.utils.errors import CheckpointError, UserError, shown

FORMAT = "coupled_embedding/1"
_NAME = re.compile(r"checkpoint_(\d+)\.pth$")


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint's network with everything needed to use it."""

    network: PoseNetwork
    cfg: CfgNode
    schema: KeypointSchema
    metrics: dict[str, float]


def describe(
    cfg: CfgNode, schema: KeypointSchema, weights: dict[str, Tensor], metrics: dict[str, float], step: int
) -> dict[str, Any]:
    """Return a checkpoint's content: tensors and plain values only.

    Args:
        weights: the network's state dict, averaged if the run averages weights.
        metrics: scores by name.
        step: optimizer steps done.
    """
    return {
        "format": FORMAT,
        "model": weights,
        "config": config_to_dict(cfg),
        "schema": schema.to_dict(),
        "metrics": metrics,
        "step": step,
    }


def save(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint: beside, flushed to disk, then renamed, so a crash leaves the old file.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    beside = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        _flush_folder(path.parent)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot write the checkpoint ({error}); earlier checkpoints are untouched") from error


def _flush_folder(folder: Path) -> None:
    """Make a rename outlive a power cut, where the file system knows how for a folder."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def load_model(path: str | Path) -> LoadedModel:
    """Rebuild a network from one of our checkpoints alone.

    Its config is the training's but for OUTPUT_DIR, which is the default: a file from elsewhere
    does not say where this machine writes.

    Raises:
        CheckpointError: the file is missing, damaged, or not of this package.
    """
    content = _read(path)
    cfg = _config(content, path)
    schema = schema_from_dict(content.get("schema"), f"{path}, its schema")
    network = sketch_network(cfg, schema.num_joints)
    load_strictly(network, network_weights(content, path), path)
    metrics = content.get("metrics", {})
    if not isinstance(metrics, dict) or not all(isinstance(value, int | float) for value in metrics.values()):
        raise CheckpointError(f"{path}: metrics: expected scores by name, got {shown(metrics)}")
    return LoadedModel(network.eval(), cfg, schema, {str(name): float(value) for name, value in metrics.items()})


def config_of(path: str | Path) -> CfgNode:
    """Return the config inside a checkpoint, as `load_model` does; CheckpointError if it has none."""
    return _config(_read(path), path)


def _read(path: str | Path) -> dict[str, Any]:
    content = read_weight_file(path)
    if content.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: not a checkpoint of this package (format {shown(content.get('format'))}, expected '{FORMAT}'); "
            f"a file of weights alone needs a config: give --cfg{_which_fits(content, path)} where a command takes it, "
            f"or make a checkpoint of the file: python tools/convert.py {path} --out models/NAME.pth"
        )
    return content


def _which_fits(content: dict[str, Any], path: str | Path) -> str:
    """Return the published config that a file's weights fit, behind a space; empty: none is known."""
    try:
        config = fitting_config(network_weights(content, path), path)
    except CheckpointError:  # there are no weights in it
        return ""
    return f" {config}" if config else ""


def _config(content: dict[str, Any], path: str | Path) -> CfgNode:
    """Return a checkpoint's config; where its maker wrote to is no business of who uses it."""
    config = content.get("config")
    if isinstance(config, dict):
        config = {**config, "OUTPUT_DIR": default_config().OUTPUT_DIR}
    return config_from_dict(config, f"{path}, its config")


def list_checkpoints(folder: Path) -> list[Path]:
    """Return a run's numbered checkpoints, oldest first."""
    numbered = [(int(match[1]), path) for path in folder.glob("checkpoint_*.pth") if (match := _NAME.search(path.name))]
    return [path for _, path in sorted(numbered)]


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return the name of the checkpoint after so many optimizer steps."""
    return folder / f"checkpoint_{step:08d}.pth"


def keep_latest(folder: Path, count: int) -> None:
    """Delete all but the latest numbered checkpoints."""
    for path in list_checkpoints(folder)[:-count]:
        path.unlink(missing_ok=True)


def read_resumable(path: Path) -> dict[str, Any]:
    """Read a numbered checkpoint; CheckpointError if it is damaged or cannot continue a training."""
    content = read_weight_file(path)
    if content.get("format") != FORMAT or "training" not in content:
        raise CheckpointError(
            f"{path}: not a checkpoint that training can continue from; give a checkpoint_*.pth, or start another run "
            "from its weights: MODEL.INIT_FROM"
        )
    _check_sums(path)
    return content


def _check_sums(path: Path) -> None:
    """Raise CheckpointError if a part of a file is not what was written: torch does not look at its check sums."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path}: not a readable weight file ({error})") from error
    if damaged:
        raise CheckpointError(f"{path}: not a readable weight file (the check sum of its part {damaged} is wrong)")


def latest_sound(folder: Path) -> tuple[Path | None, list[str]]:
    """Return a run's latest checkpoint that can be read, and what is wrong with later ones.

    Raises:
        CheckpointError: there are checkpoints, but none can be read.
    """
    problems: list[str] = []
    for path in reversed(list_checkpoints(folder)):
        try:
            read_resumable(path)
            return path, problems
        except CheckpointError as error:
            problems.append(str(error))
    if problems:
        raise CheckpointError(
            f"{folder}: none of its checkpoints can be read; start anew in another folder (NAME or OUTPUT_DIR), "
            "from its best.pth with MODEL.INIT_FROM:\n  " + "\n  ".join(problems)
        )
    return None, []


def remove_unfinished(folder: Path) -> None:
    """Delete what a process that was killed while it wrote a checkpoint left beside."""
    for path in folder.glob("*.pth.part"):
        path.unlink(missing_ok=True)


# what may differ between a stopped training and its continuation
_HARMLESS = {
    "OUTPUT_DIR",
    *(f"DATASET.{key}" for key in ("BAD_INPUT", "ROOT", "TEST")),
    *(f"MODEL.{key}" for key in ("PRETRAINED", "INIT_FROM", "INIT_SCHEMA")),  # a continued network has its weights
    *(f"TRAIN.{key}" for key in ("WORKERS", "THREADS", "LOG_EVERY", "PICTURES_EVERY")),
    *(f"TRAIN.{key}" for key in ("SAVE_EVERY", "SAVE_STEPS", "KEEP", "MAX_BAD_STEPS")),
}


def check_same_training(saved: dict[str, Any], cfg: CfgNode, path: Path, longer: bool = False) -> None:
    """Raise UserError if a checkpoint's config differs from this one in an option that changes the training.

    Args:
        saved: the checkpoint's config.
        cfg: this one.
        path: of the checkpoint.
        longer: whether TRAIN.EPOCHS may have been raised, if no learning rate so far depends on it.
    """
    # options that are younger than the checkpoint had what is their default now
    before, now = flat(config_from_dict(saved, f"{path}, its config")), flat(cfg)
    differing = {
        key: f"{key}: {before[key]!r} before, {now[key]!r} now"
        for key in sorted(now)
        if before[key] != now[key] and key not in _HARMLESS and not key.startswith("TEST.")
    }
    if longer and "TRAIN.EPOCHS" in differing:
        reason = _why_not_longer(before, now)
        differing["TRAIN.EPOCHS"] += f" ({reason})"
        if not reason:
            del differing["TRAIN.EPOCHS"]
    if differing:
        raise UserError(
            f"{path}: was made with other options; continue with the same:\n  "
            + "\n  ".join(differing.values())
            + f"\nor start another run from its weights: NAME some_name MODEL.INIT_FROM {_weights_beside(path)}"
        )


def _why_not_longer(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Say why a run cannot go on to this TRAIN.EPOCHS; empty: it can, as if that had been its end all along."""
    if now["TRAIN.EPOCHS"] < before["TRAIN.EPOCHS"]:
        return "a run can be made longer, not shorter"
    if now["TRAIN.SCHEDULE"] != "step":
        return f"the learning rates of TRAIN.SCHEDULE {now['TRAIN.SCHEDULE']} depend on it, those so far too"
    return ""


def _weights_beside(path: Path) -> Path:
    """Return the best weights of a checkpoint's run, or its last, or the checkpoint itself."""
    return next((file for name in ("best.pth", "final.pth") if (file := path.with_name(name)).is_file()), path)
