"""Weight files: ImageNet backbones, released checkpoints and our own, every key accounted for."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from coupled_embedding.data.schema import KeypointSchema, schema_from_dict
from coupled_embedding.networks.fit import CLASSIFICATION, JOINTS, different_options, load_strictly
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.networks.state_dict import is_own_checkpoint, network_weights
from coupled_embedding.networks.torch_files import read_weight_file
from coupled_embedding.utils.errors import CheckpointError

__all__ = ["carry_over", "load_backbone", "load_network", "load_strictly", "network_weights", "read_weight_file"]

# layers whose channels belong to joints
_BY_JOINT = ("head.hms_pred_layers", "head.tms_pred_layers", "head.scale_pred_layers")
_MOST_NAMES = 20


def load_network(
    network: PoseNetwork, path: str | Path, schema: KeypointSchema | None = None, notes: list[str] | None = None
) -> tuple[str, ...]:
    """Load a checkpoint of ours or a released one.

    Args:
        network: gets the weights.
        path: of the file.
        schema: the joints that the network is for; None: they are not compared with the file's.
        notes: as for `network_weights`.

    Returns:
        The joints that it was trained for; empty for a released file, which does not say.

    Raises:
        CheckpointError: it is of other joints, or lists what does not fit.
    """
    content = read_weight_file(path)
    weights = network_weights(content, path, notes)
    own = is_own_checkpoint(content)
    joints = schema_from_dict(content.get("schema"), f"{path}, its schema").joints if own else ()
    if schema and joints and joints != schema.joints:
        raise CheckpointError(
            f"{path}: was trained for the joints {_listed(joints)}, but data set '{schema.name}' has "
            f"{_listed(schema.joints)}; test it on a data set with its own joints, or train a network for these joints "
            "from it (MODEL.INIT_FROM)"
        )
    load_strictly(network, weights, path, "without --cfg the file's own config applies" if own else "")
    return joints


def _listed(joints: Sequence[str]) -> str:
    more = f", ... ({len(joints)} in all)" if len(joints) > _MOST_NAMES else f" ({len(joints)})"
    return ", ".join(joints[:_MOST_NAMES]) + more


def load_backbone(network: PoseNetwork, path: str | Path, notes: list[str] | None = None) -> list[str]:
    """Load an ImageNet-trained HRNet into the backbone.

    Returns:
        The file's keys that are not used: classification layers and the last fusion's lower
        branches.

    Raises:
        CheckpointError: the file is missing or any other key does not fit.
    """
    weights = network_weights(read_weight_file(path), path, notes)
    if all(any(name.startswith(part) for name in weights) for part in ("backbone.", "head.")):
        raise CheckpointError(f"{path}: is a whole network, not a backbone; MODEL.INIT_FROM starts from such a file")
    last = len(network.backbone.get_submodule("stage4")) - 1  # type: ignore[arg-type]
    lower_branches = re.compile(rf"stage4\.{last}\.fuse_layers\.[123]\.")
    unused = [name for name in weights if CLASSIFICATION.match(name) or lower_branches.match(name)]
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
    load_strictly(network, adapted, path, other_joints=True)
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
                    + _why_other_channels(own, other, sources)
                )


def _why_other_channels(own: Mapping[str, Tensor], other: Mapping[str, Tensor], sources: int) -> str:
    differing = different_options(own, other)
    joints = differing.get(JOINTS, (sources, sources))[0]
    if joints != sources:
        return f"weights for {joints} joints, and MODEL.INIT_SCHEMA, or the schema in the file, has {sources}"
    if "MODEL.TAG_DIM" in differing:
        theirs, ours = differing["MODEL.TAG_DIM"]
        return f"MODEL.TAG_DIM is {theirs} in the file, {ours} in this network"
    return "another MODEL.TAG_DIM, or MODEL.INIT_SCHEMA is not the file's"


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
