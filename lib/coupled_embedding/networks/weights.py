"""Weight files: ImageNet backbones, released checkpoints and our own, every key accounted for."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from coupled_embedding.data.schema import KeypointSchema, load_schema, schema_from_dict
from coupled_embedding.networks.mismatch import (
    CLASSIFICATION,
    JOINTS,
    cause_of_mismatch,
    different_options,
    first_lines,
    fitting_config,
    nonfinite_tensors,
    shape_problems,
)
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.networks.state_dict import is_own_checkpoint, network_weights
from coupled_embedding.networks.torch_files import read_weight_file
from coupled_embedding.utils.errors import CheckpointError, short_repr
from coupled_embedding.utils.paths import resolve

FORMAT = "coupled_embedding/1"  # of checkpoints
# layers whose channels belong to joints
_BY_JOINT = ("head.hms_pred_layers", "head.tms_pred_layers", "head.scale_pred_layers")
_DECONV = "head.deconv_layers.0.weight"
_MOST_NAMES = 20


def load_strictly(
    module: nn.Module, weights: Mapping[str, Tensor], path: str | Path, hint: str = "", other_joints: bool = False
) -> None:
    """Load tensors into a module; one without memory (``build_on_meta``) gets some first.

    Args:
        path: names the file in the error.
        hint: ends the error's first line: what to do.
        other_joints: whether another number of joints is no reason that the file does not fit.

    Raises:
        CheckpointError: its first line names the options that differ, then come the first of the
            missing, extra and misshapen keys.
    """
    own = module.state_dict()
    misfits, broken = shape_problems(own, weights), nonfinite_tensors(weights)
    if misfits:
        cause = cause_of_mismatch(own, weights, path, getattr(module, "num_joints", 0), other_joints)
        reason = f"{cause or 'is it of another config?'}{hint and f'; {hint}'}"
    else:
        reason = "it holds numbers that are not finite"
    if keys := misfits + broken:
        lines = [f"{path}: does not fit this network ({len(keys)} keys): {reason}", *first_lines(keys)]
        raise CheckpointError("\n  ".join(lines))
    if any(parameter.is_meta for parameter in module.parameters()):
        module.to_empty(device="cpu")
    module.load_state_dict(dict(weights))


def load_network(
    network: PoseNetwork, path: str | Path, schema: KeypointSchema | None = None, notes: list[str] | None = None
) -> tuple[str, ...]:
    """Load a checkpoint of ours or a released one.

    Args:
        schema: the joints that the network is for; None: they are not compared with the file's.
        notes: as for `network_weights`.

    Returns:
        The joints that it was trained for; empty for a released file, which does not say.

    Raises:
        CheckpointError: it is of other joints, or lists what does not fit.
    """
    content = read_weight_file(path)
    own = _own_schema(content, path)
    if own and schema and own.joints != schema.joints:
        raise CheckpointError(
            f"{path}: was trained for the joints {_listed(own.joints)}, but data set '{schema.name}' has "
            f"{_listed(schema.joints)}; test it on a data set with its own joints, or train a network for these joints "
            "from it (MODEL.INIT_FROM)"
        )
    hint = "without --cfg the file's own config applies" if own else ""
    load_strictly(network, network_weights(content, path, notes), path, hint)
    return own.joints if own else ()


def _own_schema(content: Mapping[str, Any], path: str | Path) -> KeypointSchema | None:
    """Return the schema in a checkpoint of this package; None: the file is another program's."""
    return schema_from_dict(content.get("schema"), f"{path}, its schema") if is_own_checkpoint(content) else None


def _listed(joints: Sequence[str]) -> str:
    more = f", ... ({len(joints)} in all)" if len(joints) > _MOST_NAMES else f" ({len(joints)})"
    return ", ".join(joints[:_MOST_NAMES]) + more


def load_backbone(network: PoseNetwork, path: str | Path, notes: list[str] | None = None) -> list[str]:
    """Load an ImageNet-trained HRNet into the backbone.

    Returns:
        The file's keys that are not used: classification layers and the last fusion's lower branches.

    Raises:
        CheckpointError: the file is missing or any other key does not fit.
    """
    weights = network_weights(read_weight_file(path), path, notes)
    if all(any(name.startswith(part) for name in weights) for part in ("backbone.", "head.")):
        raise CheckpointError(f"{path}: is a whole network, not a backbone; MODEL.INIT_FROM starts from such a file")
    last = len(network.backbone.get_submodule("stage4")) - 1  # type: ignore[arg-type]
    lower_branches = re.compile(rf"stage4\.{last}\.fuse_layers\.[123]\.")
    unused = [name for name in weights if CLASSIFICATION.match(name) or lower_branches.match(name)]
    load_strictly(network.backbone, {name: w for name, w in weights.items() if name not in set(unused)}, path)
    return unused


def transfer_weights(
    network: PoseNetwork, weights: Mapping[str, Tensor], source: Sequence[str], target: Sequence[str], path: str | Path
) -> list[str]:
    """Start a network from one with other joints: shared joints keep their head channels by name.

    Args:
        weights: the other network's tensors.
        source, target: joint names of the other network and of this one.

    Returns:
        Joints of this network that the other has not; their channels keep their initial values.
    """
    own = network.state_dict()
    _check_head(own, weights, len(source), len(target), path)
    shared = [(target.index(name), source.index(name)) for name in target if name in source]
    adapted = dict(weights)
    for name in own:
        if name in weights and (name == _DECONV or name.startswith(_BY_JOINT)):
            adapted[name] = _adapt_channels(name, own[name], weights[name], shared, len(source), len(target))
    load_strictly(network, adapted, path, other_joints=True)
    return [name for name in target if name not in source]


def _check_head(own: Mapping[str, Tensor], other: Mapping[str, Tensor], sources: int, targets: int, path: Any) -> None:
    """Raise CheckpointError unless the file's head has the named joints and this network's D."""
    for name in (name for name in own if name in other and name.startswith(_BY_JOINT)):
        per_joint = len(own[name]) // targets
        channels = other[name].shape[0] if other[name].ndim else 0
        if channels != sources * per_joint:
            raise CheckpointError(
                f"{path}: {name} has {channels} channels, not {sources} joints with {per_joint} each: "
                + _why_other_channels(different_options(own, other), sources)
            )


def _why_other_channels(differing: Mapping[str, tuple[Any, Any]], sources: int) -> str:
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
    """Return a tensor with the other's channels of shared joints; the other itself if its shape does not fit."""
    # the transposed conv (W + K, W, 4, 4), or (W + K + K·D, ...) where it sees the tags: the feature's channels first
    width = own.shape[1] if name == _DECONV else 0
    per_joint = (len(own) - width) // targets
    if other.ndim == 0 or len(other) - width != sources * per_joint or own.shape[1:] != other.shape[1:]:
        return other
    merged = own.clone()
    merged[:width] = other[:width]
    sizes = (1, per_joint - 1) if width else (per_joint,)
    own_parts = merged[width:].split([targets * size for size in sizes])
    other_parts = other[width:].split([sources * size for size in sizes])
    for size, own_part, other_part in zip(sizes, own_parts, other_parts, strict=True):
        for mine, theirs in shared:
            own_part.unflatten(0, (targets, size))[mine] = other_part.unflatten(0, (sources, size))[theirs]
    return merged


def initialise(
    network: PoseNetwork, schema: KeypointSchema, pretrained: str = "", init_from: str = "", init_schema: str = ""
) -> list[str]:
    """Load the weights that a training starts from; return what was done, a line each.

    Args:
        schema: the joints of ``network``.
        pretrained: ImageNet backbone file (MODEL.PRETRAINED); empty: none.
        init_from: checkpoint of another training (MODEL.INIT_FROM); empty: none.
        init_schema: schema file with the joints of ``init_from``, where the file does not say.

    Raises:
        CheckpointError: a file is missing or does not fit.
    """
    messages: list[str] = []
    if pretrained:
        path, notes = resolve(pretrained), list[str]()
        if not path.is_file():
            raise CheckpointError(
                f"MODEL.PRETRAINED: {path} is missing; tools/weights.py says where it comes from (and see "
                "pretrained/README.md), or train from scratch with MODEL.PRETRAINED ''"
            )
        unused = load_backbone(network, path, notes)
        messages.append(f"backbone from {path} ({len(unused)} classification and lower-branch tensors not used)")
        messages += [f"{path}: {note}" for note in notes]
    if init_from:
        path, notes = resolve(init_from), list[str]()
        if not path.is_file():
            raise CheckpointError(
                f"MODEL.INIT_FROM: {path} is missing, whose weights this network starts from. Train that one and name "
                "its best.pth here (tools/train.py --model NAME finds it by itself); tools/weights.py says more"
            )
        reinitialised = load_other_joints(network, schema, path, init_schema, notes)
        messages.append(f"weights from {path}; reinitialised head channels: {', '.join(reinitialised) or 'none'}")
        messages += [f"{path}: {note}" for note in notes]
    return messages


def load_other_joints(
    network: PoseNetwork, schema: KeypointSchema, path: Path, file_schema: str, notes: list[str] | None = None
) -> list[str]:
    """Load weights of a network that may have other joints; return the joints that it has not.

    Args:
        schema: the joints of ``network``.
        file_schema: schema file with the joints of the weights, where their file does not say.
        notes: gets a line for each choice among the file's weights.

    Raises:
        CheckpointError: the file is damaged or does not fit.
    """
    content = read_weight_file(path)
    source = _own_schema(content, path) or load_schema(file_schema)
    return transfer_weights(network, network_weights(content, path, notes), source.joints, schema.joints, path)


def read_own_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of this package; CheckpointError says which config fits another file's weights."""
    content = read_weight_file(path)
    if content.get("format") != FORMAT:
        try:
            config = fitting_config(network_weights(content, path), path)
        except CheckpointError:  # there are no weights in it
            config = ""
        raise CheckpointError(
            f"{path}: not a checkpoint of this package (format {short_repr(content.get('format'))}, expected "
            f"'{FORMAT}'); a file of weights alone needs a config: give --cfg{config and f' {config}'} where a "
            f"command takes it, or make a checkpoint of the file: python tools/convert.py {path} --out models/NAME.pth"
        )
    return content
