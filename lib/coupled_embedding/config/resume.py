"""Whether a stopped training may continue with a config: only options that do not change it may differ."""

from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from coupled_embedding.config.defaults import all_options, flat
from coupled_embedding.config.load import config_from_dict
from coupled_embedding.utils.errors import UserError

RESUME_SAFE = {name for name, option in all_options().items() if option.resume or name.startswith("TEST.")}


def check_resume_config(saved: dict[str, Any], cfg: CfgNode, path: Path) -> int:
    """Raise UserError if a checkpoint's config differs from this one in an option that changes the training.

    TRAIN.EPOCHS may have been raised, if no learning rate so far depends on it. ``path`` is the checkpoint's.

    Returns:
        The checkpoint's TRAIN.EPOCHS.
    """
    # options that are younger than the checkpoint had what is their default now
    before, now = flat(config_from_dict(saved, f"{path}, its config")), flat(cfg)
    differing = {
        key: f"{key}: {before[key]!r} before, {now[key]!r} now"
        for key in sorted(now)
        if before[key] != now[key] and key not in RESUME_SAFE
    }
    if "TRAIN.EPOCHS" in differing:
        if reason := _why_not_longer(before, now):
            differing["TRAIN.EPOCHS"] += f" ({reason})"
        else:
            del differing["TRAIN.EPOCHS"]
    if differing:
        raise UserError(
            f"{path}: was made with other options; continue with the same:\n  "
            + "\n  ".join(differing.values())
            + f"\nor start another run from its weights: NAME some_name MODEL.INIT_FROM {_weights_beside(path)}"
        )
    return int(before["TRAIN.EPOCHS"])


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
