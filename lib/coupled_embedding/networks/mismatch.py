"""Why a weight file does not fit a network: the joints or the option that differ, from the tensors' shapes."""

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from coupled_embedding.networks.convert import config_of_released, joints_of_released
from coupled_embedding.utils.errors import CheckpointError, short_repr

JOINTS, MAPS = "joints", "joints × (MODEL.TAG_DIM + 3)"  # what tensors show besides options
_BRANCH = "backbone.stage2.0.branches.0."
_HOURGLASS_MAPS = "backbone.outs.0.conv.weight"
_RESIDUAL = "backbone.pre.0.weight"  # the first conv of a hourglass of residuals
_OTHER_NAMES = ("final_layers.0.weight", "keypoint_head.final_layers.0.weight", "outs.0.conv.weight")
HEAD = re.compile(r"(head\.(hms|tms|scale)_pred_layers|keypoint_head|final_layers|deconv_layers)\.")
_STAGE = re.compile(r"(backbone\.)?stage2\.")
# what a network's floating-point weights can be of; 8 bits need a scale
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def misfits(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    """Return a line for each tensor of a file that a network's ``own`` have not, or of which kind it must not be."""
    problems = [f"missing: {name} {list(tensor.shape)}" for name, tensor in own.items() if name not in weights]
    for name, tensor in weights.items():
        if name not in own:
            problems.append(f"not in this network: {name:.200}")
        elif own[name].is_floating_point() and tensor.dtype not in FLOATS:
            problems.append(f"type: {name} is {tensor.dtype} in the file, {own[name].dtype} in this network")
        elif tensor.shape != own[name].shape:
            shapes = f"{short_repr(list(tensor.shape))} in the file, {list(own[name].shape)} in this network"
            problems.append(f"shape: {name} is {shapes}")
        elif not tensor.float().isfinite().all():
            problems.append(f"not finite: {name}, as after a training that diverged")
    return problems


# ---- why


def cause_of_mismatch(
    own: Mapping[str, Tensor], weights: Mapping[str, Tensor], path: str | Path, joints: int, other_joints: bool
) -> str:
    """Return in words why tensors do not fit a network for ``joints`` joints, and what to do; empty: it is unknown."""
    whole = any(name.startswith("backbone.") for name in own)
    if whole and any(name in weights for name in _OTHER_NAMES):
        return (
            f"weights for {joints_of_released(weights)} joints by the names of HigherHRNet's or the stacked "
            f"hourglass's program; make a checkpoint of them: python tools/convert.py {path} --out models/NAME.pth"
        )
    if whole and (cause := backbone_alone(weights)):
        return cause
    if not whole:
        own, weights = ({f"backbone.{name}": w for name, w in named.items()} for named in (own, weights))
    differing = different_options(own, weights)
    if "MODEL.BACKBONE" in differing:
        differing = {"MODEL.BACKBONE": differing["MODEL.BACKBONE"]}
    if MAPS in differing and joints:
        spare = 0 if _RESIDUAL in own else 2
        differing = {**_from_maps(*differing.pop(MAPS), joints, 1 + spare), **differing}
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


def _from_maps(theirs: int, ours: int, joints: int, without_tags: int) -> dict[str, tuple[Any, Any]]:
    """Return what the number of maps of an hourglass implies: other joints with the same tags, or vice versa.

    ``without_tags``: a joint's maps besides its tags.
    """
    per_joint = ours // joints
    if theirs % per_joint == 0:
        return {JOINTS: (theirs // per_joint, joints)}
    if theirs % joints == 0:
        return {"MODEL.TAG_DIM": (theirs // joints - without_tags, per_joint - without_tags)}
    return {MAPS: (theirs, ours)}


def fitting_config(weights: Mapping[str, Tensor], path: str | Path) -> str:
    """Return the config file of a published experiment with a network of these shapes; empty: none is known."""
    sizes = {"MODEL.STEM_BLOCKS": 4, "MODEL.STAGE_BLOCKS": 4, "MODEL.STAGE_MODULES": [1, 4, 3]}
    found = _options(weights)
    if any(found[name] != size for name, size in sizes.items()) or found["MODEL.WIDTH"] not in (32, 48):
        return ""
    with suppress(CheckpointError):
        return config_of_released(weights, path)
    return ""


def backbone_alone(weights: Mapping[str, Tensor]) -> str:
    """Return what to do with an HRNet's tensors without a head, as ImageNet training leaves; empty: they are others."""
    alone = not any(map(HEAD.match, weights)) and any(_STAGE.match(name) for name in weights)
    return "it holds a backbone without a head; MODEL.PRETRAINED takes it" if alone else ""


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
    parts = ("outs", "trunk", "first", "refiners")
    stacks, trunk, pose_machine, refiners = (_numbers(weights, f"backbone.{part}.") for part in parts)
    kinds = {"hrnet": modules[0], "hourglass": stacks, "mobilenet_fpn": trunk, "cpm": pose_machine}
    return {
        JOINTS: joints,
        "MODEL.BACKBONE": next((kind for kind, found in kinds.items() if found), None),
        "MODEL.HOURGLASS_BLOCK": ("residual" if _RESIDUAL in weights else "conv") if stacks else None,
        "MODEL.HEAD": None if joints is None else "higher" if higher else "plain",
        "MODEL.TAG_DIM": tags // joints if joints and tags and not tags % joints else None,
        MAPS: _size(weights, 0, _HOURGLASS_MAPS),
        "MODEL.WIDTH": _size(weights, 0, f"{_BRANCH}0.conv1.weight") or _size(weights, 1, _HOURGLASS_MAPS),
        "MODEL.FEED_TAGS": fed > width + joints if fed and width and joints else None,
        "MODEL.SCALE_MAPS": bool(_numbers(weights, "head.scale_pred_layers.")) if joints else None,
        "MODEL.CENTERS": bool(_numbers(weights, "center_head.")) if joints else None,
        "MODEL.STEM_WIDTH": _size(weights, 0, "backbone.conv1.weight", "backbone.pre.0.conv.weight"),
        "MODEL.STEM_BLOCKS": _numbers(weights, "backbone.layer1."),
        "MODEL.STAGE_MODULES": modules if all(modules) else None,
        "MODEL.STAGE_BLOCKS": _numbers(weights, _BRANCH),
        "MODEL.HEAD_BLOCKS": _numbers(weights, "head.blocks."),
        "MODEL.STACKS": 1 + (refiners or 0) if pose_machine else stacks,
    }


def _size(weights: Mapping[str, Tensor], place: int, *names: str) -> int | None:
    """Return the length of a dimension of the first of these tensors that there is; None: of none."""
    tensor = next((weights[name] for name in names if name in weights), None)
    return tensor.shape[place] if tensor is not None and tensor.ndim > place else None


def _numbers(weights: Mapping[str, Tensor], prefix: str) -> int | None:
    """Return how many parts are numbered directly after a prefix; None: none."""
    found = {name.removeprefix(prefix).split(".", 1)[0] for name in weights if name.startswith(prefix)}
    return len(found) or None
