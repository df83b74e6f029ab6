"""Weights released by other programs under this package's names.

HigherHRNet's, also as mmpose 0.x has them, associative embedding's stacked hourglass, and coupled embedding's own,
whose names are this package's. Renaming only: what does not fit is left for `load_strictly` to list.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from coupled_embedding.networks.state_dict import network_weights
from coupled_embedding.utils.errors import CheckpointError

# how a name of HigherHRNet's begins -> how ours does; those of its backbone are ours without a prefix
_HIGHER_NAMES = (
    (re.compile(r"^(?!final_layers\.|deconv_layers\.)"), "backbone."),
    (re.compile(r"^final_layers\.1\.(?=(weight|bias)$)"), "head.hms_pred_layers.1."),
    (re.compile(r"^deconv_layers\.0\.0\.(?=[01]\.\w+$)"), "head.deconv_layers."),
    (re.compile(r"^deconv_layers\.0\.([1-9]\d*)\.0\."), lambda match: f"head.blocks.{int(match[1]) - 1}."),
)
_MAPS = {  # of the first conv that outputs heatmaps: how many channels per joint
    "head.hms_pred_layers.weight": 1,
    "head.hms_pred_layers.0.weight": 1,
    "final_layers.0.weight": 2,
    "keypoint_head.final_layers.0.weight": 2,
    "outs.0.conv.weight": 4,
    "backbone.outs.0.conv.weight": 4,
}
_HOURGLASS = ("pre.", "features.", "outs.", "merge_features.", "merge_preds.")


def released_weights(content: Mapping[str, Any], path: Any, notes: list[str] | None = None) -> dict[str, Tensor]:
    """Return the tensors of a released file, wherever `network_weights` finds them; ``notes`` as there.

    mmpose's prefixes ``backbone.`` and ``keypoint_head.`` of HigherHRNet are taken off.

    Raises:
        CheckpointError: there are no tensors.
    """
    weights = network_weights(content, path, notes)
    if not any(name.startswith("keypoint_head.") for name in weights):
        return weights
    bare = {name.removeprefix("backbone.").removeprefix("keypoint_head."): value for name, value in weights.items()}
    if len(bare) < len(weights):
        raise CheckpointError(f"{path}: holds tensors with and without the prefixes 'backbone.' and 'keypoint_head.'")
    return bare


def convert_weights(weights: Mapping[str, Tensor], num_joints: int) -> dict[str, Tensor]:
    """Rename `released_weights` of a network for K joints; unknown names are kept."""
    if "final_layers.0.weight" in weights:
        return _from_higherhrnet(weights, num_joints)
    if "outs.0.conv.weight" in weights:
        return {f"backbone.{name}" if name.startswith(_HOURGLASS) else name: w for name, w in weights.items()}
    return dict(weights)


def _from_higherhrnet(weights: Mapping[str, Tensor], num_joints: int) -> dict[str, Tensor]:
    """Rename HigherHRNet's tensors; its first conv outputs heatmaps and tags, which are two convs here."""
    heatmaps = "head.hms_pred_layers" + ".0" * ("final_layers.1.weight" in weights)
    converted = {}
    for name, tensor in weights.items():
        if name in ("final_layers.0.weight", "final_layers.0.bias") and tensor.ndim:
            kind = name.rpartition(".")[2]
            converted[f"{heatmaps}.{kind}"] = tensor[:num_joints].clone()
            converted[f"head.tms_pred_layers.{kind}"] = tensor[num_joints:].clone()
            continue
        for beginning, own in _HIGHER_NAMES:
            name = beginning.sub(own, name)
        converted[name] = tensor
    return converted


def joints_of_released(weights: Mapping[str, Tensor]) -> int:
    """Return for how many joints `released_weights` are, by their shapes; 0: the shapes do not show it."""
    return next((len(weights[name]) // n for name, n in _MAPS.items() if name in weights and weights[name].ndim), 0)


def config_of_released(weights: Mapping[str, Tensor], path: Any) -> str:
    """Return the config file of the published experiment that `released_weights` come from, by their shapes.

    Raises:
        CheckpointError: they are of none.
    """
    joints = joints_of_released(weights)
    folder = {17: "coco", 14: "crowdpose"}.get(joints)
    if folder is None:
        known = f" (these are weights for {joints} joints)" if joints else ""
        raise CheckpointError(f"{path}: cannot tell which network this is of, by its tensors; give --cfg{known}")
    channels = {name: next(iter(tensor.shape), 0) for name, tensor in convert_weights(weights, joints).items()}
    if "backbone.outs.0.conv.weight" in channels:
        return f"config/{folder}/ae_hourglass_512.yaml"
    kind = "ae" if channels.get("head.tms_pred_layers.weight") == joints else "ce"
    head = "hrhrnet" if "head.deconv_layers.0.weight" in channels else "hrnet"
    size = "w48_640" if channels.get("backbone.stage2.0.branches.0.0.conv1.weight") == 48 else "w32_512"
    return f"config/{folder}/{kind}_{head}_{size}.yaml"


def splits_of_released(config: str) -> list[str]:
    """Return the options for the splits that released weights were trained on, where the config has others."""
    return ["DATASET.TRAIN", "trainval", "DATASET.VAL", ""] if "/crowdpose/" in config else []
