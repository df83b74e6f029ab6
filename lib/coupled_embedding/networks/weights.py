"""Weight files: ImageNet backbones, released checkpoints and our own, every key accounted for."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from coupled_embedding.errors import CheckpointError, shown
from coupled_embedding.keypoints import schema_from_dict
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.networks.weight_file import read_weight_file

# what ImageNet files of HRNet carry beyond the backbone used here
_CLASSIFICATION = re.compile(r"(incre_modules|downsamp_modules|final_layer|classifier)\.")
# layers whose channels belong to joints
_BY_JOINT = ("head.hms_pred_layers", "head.tms_pred_layers", "head.scale_pred_layers")


def network_weights(content: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    """Return the tensors under ``model`` (or the file itself), without ``module.`` prefixes."""
    weights = content.get("model", content)
    if not isinstance(weights, Mapping) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise CheckpointError(f"{path}: expected the network's tensors under the key 'model'")
    named = {str(name).removeprefix("module."): tensor for name, tensor in weights.items()}
    if len(named) != len(weights):
        raise CheckpointError(f"{path}: holds tensors under the same name with and without 'module.'")
    return named


def load_strictly(module: nn.Module, weights: Mapping[str, Tensor], path: str | Path) -> None:
    """Load tensors into a module; one without memory (``sketch_network``) gets some first.

    Raises:
        CheckpointError: lists every missing, extra and misshapen key.
    """
    own = module.state_dict()
    problems = [f"missing: {name} {list(own[name].shape)}" for name in own if name not in weights]
    problems += [f"not in this network: {name:.200}" for name in weights if name not in own]
    problems += [
        f"shape: {name} is {shown(list(weights[name].shape))} in the file, {list(own[name].shape)} in this network"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    problems += [
        f"not finite: {name:.200}, as after a training that diverged"
        for name, tensor in weights.items()
        if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if problems:
        raise CheckpointError(
            f"{path}: does not fit this network ({len(problems)} keys); is it of another config?\n  "
            + "\n  ".join(problems)
        )
    if any(parameter.is_meta for parameter in module.parameters()):
        module.to_empty(device="cpu")
    module.load_state_dict(dict(weights))


def load_network(network: PoseNetwork, path: str | Path) -> tuple[str, ...]:
    """Load a checkpoint of ours or a released one; CheckpointError lists what does not fit.

    Returns:
        The joints that it was trained for; empty for a released file, which does not say.
    """
    content = read_weight_file(path)
    load_strictly(network, network_weights(content, path), path)
    return schema_from_dict(content["schema"], f"{path}, its schema").joints if "schema" in content else ()


def load_backbone(network: PoseNetwork, path: str | Path) -> list[str]:
    """Load an ImageNet-trained HRNet into the backbone.

    Returns:
        The file's keys that are not used: classification layers and the last fusion's lower
        branches.

    Raises:
        CheckpointError: the file is missing or any other key does not fit.
    """
    weights = network_weights(read_weight_file(path), path)
    last = len(network.backbone.get_submodule("stage4")) - 1  # type: ignore[arg-type]
    lower_branches = re.compile(rf"stage4\.{last}\.fuse_layers\.[123]\.")
    unused = [name for name in weights if _CLASSIFICATION.match(name) or lower_branches.match(name)]
    used = {name: tensor for name, tensor in weights.items() if name not in set(unused)}
    load_strictly(network.backbone, used, path)
    return unused


def carry_over(
    network: PoseNetwork, weights: Mapping[str, Tensor], source: Sequence[str], target: Sequence[str], path: str | Path
) -> list[str]:
    """Start a network from one with other joints: shared joints keep their head channels by name.

    Args:
        weights: the other network's tensors.
        source, target: joint names of the other network and of this one.

    Returns:
        Joints of this network that the other has not; their channels stay fresh.
    """
    own = network.state_dict()
    _check_head(own, weights, len(source), len(target), path)
    shared = [(target.index(name), source.index(name)) for name in target if name in source]
    adapted = dict(weights)
    for name in own:
        if name in weights and name.startswith("head."):
            adapted[name] = _adapt_channels(name, own[name], weights[name], shared, len(source), len(target))
    load_strictly(network, adapted, path)
    return [name for name in target if name not in source]


def _check_head(own: Mapping[str, Tensor], other: Mapping[str, Tensor], sources: int, targets: int, path: Any) -> None:
    """Raise CheckpointError unless the file's head has the named joints and this network's D."""
    for name, tensor in own.items():
        if name in other and name.startswith(_BY_JOINT):
            per_joint = len(tensor) // targets
            channels = other[name].shape[0] if other[name].ndim else 0
            if channels != sources * per_joint:
                raise CheckpointError(
                    f"{path}: {name} has {channels} channels, not {sources} joints with {per_joint} each: "
                    "another MODEL.TAG_DIM, or MODEL.INIT_SCHEMA is not the file's"
                )


def _adapt_channels(
    name: str, own: Tensor, other: Tensor, shared: Sequence[tuple[int, int]], sources: int, targets: int
) -> Tensor:
    if name.startswith(_BY_JOINT):
        own_joints, other_joints = own.clone().unflatten(0, (targets, -1)), other.unflatten(0, (sources, -1))
    elif name == "head.deconv_layers.0.weight":
        # (W + K, W, 4, 4), or W + K + K·D where tags are fed: the joints' channels follow the feature's
        width = own.shape[1]
        per_joint = (len(own) - width) // targets
        if other.ndim == 0 or len(other) - width != sources * per_joint or own.shape[1:] != other.shape[1:]:
            return other
        merged = own.clone()
        merged[:width] = other[:width]
        own_heatmaps, own_tags = merged[width:].split([targets, targets * (per_joint - 1)])
        heatmaps, tags = other[width:].split([sources, sources * (per_joint - 1)])
        own_tags, tags = own_tags.unflatten(0, (targets, -1)), tags.unflatten(0, (sources, -1))
        for mine, theirs in shared:
            own_heatmaps[mine], own_tags[mine] = heatmaps[theirs], tags[theirs]
        return merged
    else:
        return other
    if own_joints.shape[1:] != other_joints.shape[1:]:
        return other
    for mine, theirs in shared:
        own_joints[mine] = other_joints[theirs]
    return own_joints.flatten(0, 1)
