"""Why a weight file does not fit a network: the joints or the option that differ, from the tensors' shapes."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from coupled_embedding.networks.convert import config_of_released, joints_of_released
from coupled_embedding.utils.errors import CheckpointError, short_repr

# what ImageNet files of HRNet carry beyond the backbone used here
CLASSIFICATION = re.compile(r"(incre_modules|downsamp_modules|final_layer|classifier)\.")
JOINTS, MAPS = "joints", "joints × (MODEL.TAG_DIM + 3)"  # what tensors show beside options
_MOST_LINES = 10
_BRANCH = "backbone.stage2.0.branches.0."
_HOURGLASS_MAPS = "backbone.outs.0.conv.weight"
_BACKBONES = (("hrnet", "backbone.stage2."), ("hourglass", "backbone.outs."))
_OTHER_NAMES = ("final_layers.0.weight", "outs.0.conv.weight")


def shape_problems(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    """Return every missing, extra and misshapen key of a file's tensors, a line each; ``own`` are the network's."""
    problems = [f"missing: {name} {list(own[name].shape)}" for name in own if name not in weights]
    problems += [f"not in this network: {name:.200}" for name in weights if name not in own]
    return problems + [
        f"shape: {name} is {short_repr(list(weights[name].shape))} in the file, {list(own[name].shape)} in this network"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]


def nonfinite_tensors(weights: Mapping[str, Tensor]) -> list[str]:
    """Return the tensors with NaN or infinity, a line each."""
    return [
        f"not finite: {name:.200}, as after a training that diverged"
        for name, tensor in weights.items()
        if tensor.is_floating_point() and not tensor.isfinite().all()
    ]


def first_lines(problems: list[str]) -> list[str]:
    """Return the first lines of many, and how many more there are."""
    more = len(problems) - _MOST_LINES
    return problems if more <= 0 else [*problems[:_MOST_LINES], f"... and {more} more"]


# ---- why


def cause_of_mismatch(
    own: Mapping[str, Tensor], weights: Mapping[str, Tensor], path: str | Path, joints: int, other_joints: bool
) -> str:
    """Return in words why tensors do not fit a network for so many joints, and what to do; empty: it is not known."""
    whole = any(name.startswith("backbone.") for name in own)
    if whole and any(name in weights for name in _OTHER_NAMES):
        return (
            f"weights for {joints_of_released(weights)} joints by the names of HigherHRNet's or the stacked "
            f"hourglass's program; make a checkpoint of them: python tools/convert.py {path} --out models/NAME.pth"
        )
    if whole and any(map(CLASSIFICATION.match, weights)):
        return "it is a backbone that was trained on ImageNet, without a head; MODEL.PRETRAINED takes it"
    if not whole:
        own, weights = ({f"backbone.{name}": w for name, w in named.items()} for named in (own, weights))
    differing = different_options(own, weights)
    if "MODEL.BACKBONE" in differing:
        differing = {"MODEL.BACKBONE": differing["MODEL.BACKBONE"]}
    if MAPS in differing and joints:
        differing = {**_from_maps(*differing.pop(MAPS), joints), **differing}
    if other_joints:
        differing.pop(JOINTS, None)
    reasons = [
        f"weights for {theirs} joints, the data set has {ours}"
        if name == JOINTS
        else f"{name} is {theirs} in the file, {ours} in this network"
        for name, (theirs, ours) in differing.items()
    ]
    if differing and (config := fitting_config(weights, path)):
        reasons.append(f"{config} has the network that fits them")
    if JOINTS in differing and any(name.startswith("head.") for name in weights):
        reasons.append("to train one for other joints from them: MODEL.INIT_FROM")
    return "; ".join(reasons)


def _from_maps(theirs: int, ours: int, joints: int) -> dict[str, tuple[Any, Any]]:
    """Return what the number of maps of an hourglass implies: other joints with the same tags, or vice versa."""
    per_joint = ours // joints
    if theirs % per_joint == 0:
        return {JOINTS: (theirs // per_joint, joints)}
    if theirs % joints == 0:
        return {"MODEL.TAG_DIM": (theirs // joints - 3, per_joint - 3)}
    return {MAPS: (theirs, ours)}


def fitting_config(weights: Mapping[str, Tensor], path: str | Path) -> str:
    """Return the config file of a published experiment with a network of these shapes; empty: none is known."""
    sizes = {"MODEL.STEM_BLOCKS": 4, "MODEL.STAGE_BLOCKS": 4, "MODEL.STAGE_MODULES": [1, 4, 3]}
    found = _options(weights)
    if any(found[name] != size for name, size in sizes.items()) or found["MODEL.WIDTH"] not in (32, 48):
        return ""
    try:
        return config_of_released(weights, path)
    except CheckpointError:
        return ""


def different_options(own: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, tuple[Any, Any]]:
    """Return the options in which a file's network differs from ``own``: name -> (its value, this network's)."""
    ours, theirs = _options(own), _options(other)
    known = [name for name in ours if ours[name] is not None and theirs[name] is not None]
    return {name: (theirs[name], ours[name]) for name in known if theirs[name] != ours[name]}


def _options(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return a network's joints and options by its tensors; None: they do not show it."""
    joints = _size(weights, 0, "head.hms_pred_layers.0.weight", "head.hms_pred_layers.weight")
    tags = _size(weights, 0, "head.tms_pred_layers.weight")
    fed, width = (_size(weights, place, "head.deconv_layers.0.weight") for place in (0, 1))
    higher = "head.hms_pred_layers.0.weight" in weights
    modules = [_numbers(weights, f"backbone.stage{stage}.") for stage in (2, 3, 4)]
    return {
        JOINTS: joints,
        "MODEL.BACKBONE": next((kind for kind, mark in _BACKBONES if _numbers(weights, mark)), None),
        "MODEL.HEAD": None if joints is None else "higher" if higher else "plain",
        "MODEL.TAG_DIM": tags // joints if joints and tags and not tags % joints else None,
        MAPS: _size(weights, 0, _HOURGLASS_MAPS),
        "MODEL.WIDTH": _size(weights, 0, f"{_BRANCH}0.conv1.weight") or _size(weights, 1, _HOURGLASS_MAPS),
        "MODEL.FEED_TAGS": fed > width + joints if fed and width and joints else None,
        "MODEL.SCALE_MAPS": bool(_numbers(weights, "head.scale_pred_layers.")) if joints else None,
        "MODEL.STEM_WIDTH": _size(weights, 0, "backbone.conv1.weight", "backbone.pre.0.conv.weight"),
        "MODEL.STEM_BLOCKS": _numbers(weights, "backbone.layer1."),
        "MODEL.STAGE_MODULES": modules if all(modules) else None,
        "MODEL.STAGE_BLOCKS": _numbers(weights, _BRANCH),
        "MODEL.HEAD_BLOCKS": _numbers(weights, "head.blocks."),
        "MODEL.STACKS": _numbers(weights, "backbone.outs."),
    }


def _size(weights: Mapping[str, Tensor], place: int, *names: str) -> int | None:
    """Return the length of a dimension of the first of these tensors that there is; None: of none."""
    tensor = next((weights[name] for name in names if name in weights), None)
    return tensor.shape[place] if tensor is not None and tensor.ndim > place else None


def _numbers(weights: Mapping[str, Tensor], prefix: str) -> int | None:
    """Return how many parts are numbered right behind a prefix; None: none."""
    found = {name.removeprefix(prefix).split(".", 1)[0] for name in weights if name.startswith(prefix)}
    return len(found) or None
