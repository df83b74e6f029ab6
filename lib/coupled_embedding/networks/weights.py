"""Weight files: ImageNet backbones, released checkpoints and our own, every key accounted for."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from coupled_embedding.data.schema import KeypointSchema, load_schema, schema_from_dict
from coupled_embedding.networks.centers import movenet_centers
from coupled_embedding.networks.file_kinds import listed
from coupled_embedding.networks.mismatch import (
    FLOATS,
    HEAD,
    JOINTS,
    backbone_alone,
    cause_of_mismatch,
    different_options,
    fitting_config,
    misfits,
)
from coupled_embedding.networks.mobilenet_fpn import MobileNetFPN, movenet_heatmaps
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.networks.separable_head import SeparableHead
from coupled_embedding.networks.state_dict import is_own_checkpoint, network_weights
from coupled_embedding.networks.torch_files import read_weight_file
from coupled_embedding.utils.errors import CheckpointError, short_repr
from coupled_embedding.utils.paths import resolve

FORMAT = "coupled_embedding/1"  # of checkpoints
# layers whose channels belong to joints
_BY_JOINT = ("head.hms_pred_layers", "head.tms_pred_layers", "head.scale_pred_layers", "center_head.displacement_layer")
_DECONV = "head.deconv_layers.0.weight"
_ADDED = ("localisation", "center_head")
_MOST_LINES = 10
_MISSING = {
    "MODEL.PRETRAINED": "; tools/weights.py says where it comes from (and see pretrained/README.md), or train from "
    "scratch with MODEL.PRETRAINED ''",
    "MODEL.INIT_FROM": ", whose weights this network starts from. Train that one and name its best.pth here "
    "(tools/train.py --model NAME finds it by itself); tools/weights.py says more",
}


def load_strictly(
    module: nn.Module, weights: Mapping[str, Tensor], path: str | Path, hint: str = "", other_joints: bool = False
) -> None:
    """Load tensors into a module; one without memory (``build_on_meta``) gets some first.

    Args:
        path: names the file in the error.
        hint: ends the error's first line: what to do.
        other_joints: whether another number of joints is allowed.

    Raises:
        CheckpointError: its first line names the options that differ, then come the first of the
            missing, extra, misshapen, mistyped and non-finite tensors.
    """
    own = module.state_dict()
    if problems := misfits(own, weights):
        kinds = {line.partition(": ")[0]: line.partition(": ")[2] for line in reversed(problems)}
        if "type" in kinds:
            reason = f"{kinds['type']}; give the floating-point weights that the file was made from, not quantized ones"
        elif list(kinds) == ["not finite"]:
            reason = "it holds numbers that are not finite"
        else:
            cause = cause_of_mismatch(own, weights, path, getattr(module, "num_joints", 0), other_joints)
            reason = f"{cause or 'is it of another config?'}{hint and f'; {hint}'}"
        lines = [f"{path}: does not fit this network ({len(problems)} keys): {reason}", *problems[:_MOST_LINES]]
        lines += [f"... and {len(problems) - _MOST_LINES} more"] if len(problems) > _MOST_LINES else []
        raise CheckpointError("\n  ".join(lines))
    if any(parameter.is_meta for parameter in module.parameters()):
        module.to_empty(device="cpu")
    module.load_state_dict(dict(weights))


def load_network(
    network: PoseNetwork, path: str | Path, schema: KeypointSchema | None = None, notes: list[str] | None = None
) -> None:
    """Load a checkpoint of ours or a released one.

    Args:
        schema: the joints that the network is for; None: they are not compared with the file's.
        notes: as for `network_weights`.

    Raises:
        CheckpointError: it is of other joints, or lists what does not fit.
    """
    content = read_weight_file(path)
    own = _own_schema(content, path)
    if own and schema and own.joints != schema.joints:
        theirs, ours = (f"{listed(joints, 20)} ({len(joints)})" for joints in (own.joints, schema.joints))
        raise CheckpointError(
            f"{path}: was trained for the joints {theirs}, but data set '{schema.name}' has {ours}; test it on a data "
            "set with its own joints, or train a network for these joints from it (MODEL.INIT_FROM)"
        )
    hint = "without --cfg the file's own config applies" if own else ""
    load_strictly(network, network_weights(content, path, notes), path, hint)


def _own_schema(content: Mapping[str, Any], path: str | Path) -> KeypointSchema | None:
    """Return the schema in a checkpoint of this package; None: the file is another program's."""
    return schema_from_dict(content.get("schema"), f"{path}, its schema") if is_own_checkpoint(content) else None


def load_backbone(
    network: PoseNetwork, path: str | Path, notes: list[str] | None = None, coco_joints: bool = False
) -> list[str]:
    """Load pretrained weights into the backbone; their names may begin with ``backbone.``.

    Args:
        notes: as for `network_weights`.
        coco_joints: whether the network's joints are COCO's: a separable head then takes MoveNet MultiPose's heatmap
            branch too, and center maps their branches.

    Returns:
        The file's keys that are not used: of an ImageNet-trained HRNet classification layers and the last fusion's
        lower branches, of MoveNet MultiPose those of its heads that the network does not have.

    Raises:
        CheckpointError: the file is missing or any other key does not fit.
    """
    weights, own = network_weights(read_weight_file(path), path, notes), network.backbone.state_dict()
    if any(map(HEAD.match, weights)):
        raise CheckpointError(f"{path}: is a whole network, not a backbone; MODEL.INIT_FROM starts from such a file")
    if not weights.keys() & own.keys():
        weights = {name.removeprefix("backbone."): tensor for name, tensor in weights.items()}
    if isinstance(network.backbone, MobileNetFPN):
        adapted, left = network.backbone.adapt_pretrained(weights)
        load_strictly(network.backbone, adapted, path)
        if adapted.keys() != weights.keys():  # converted
            network.backbone.balance()
        return _load_movenet_heads(network, weights, left, path) if coco_joints else left
    last = len(network.backbone.get_submodule("stage4")) - 1  # type: ignore[arg-type]
    classification = r"(incre_modules|downsamp_modules|final_layer|classifier)\."
    unused = re.compile(rf"{classification}|stage4\.{last}\.fuse_layers\.[123]\.")
    load_strictly(network.backbone, {name: w for name, w in weights.items() if not unused.match(name)}, path)
    return [name for name in weights if unused.match(name)]


def _load_movenet_heads(
    network: PoseNetwork, weights: Mapping[str, Tensor], left: Sequence[str], path: str | Path
) -> list[str]:
    """Load MoveNet MultiPose's heads into those that are the same; return the names that are still left."""
    branch = movenet_heatmaps(weights) if isinstance(network.head, SeparableHead) else {}
    if not network.logistic:
        # without the last layer, which outputs logits
        branch = {name: other for name, other in branch.items() if not name.startswith("hms_pred_layers.")}
    if branch:
        network.head.load_state_dict({name: weights[other] for name, other in branch.items()}, strict=False)
    used = list(branch.values())
    if network.center_head is not None:
        tensors, names = movenet_centers(weights)
        if names:
            load_strictly(network.center_head, tensors, path)
            used += names
    return [name for name in left if name not in used]


def transfer_weights(
    network: PoseNetwork, weights: Mapping[str, Tensor], source: Sequence[str], target: Sequence[str], path: str | Path
) -> list[str]:
    """Start a network from one with other joints: shared joints keep their head channels by name.

    Args:
        weights: the other network's tensors.
        source, target: joint names of the other network and of this one.

    Returns:
        What keeps its initial values: joints of this network that the other has not, and whole parts.
    """
    own = network.state_dict()
    shared = [(target.index(name), source.index(name)) for name in target if name in source]
    # what the other may lack: a spatial transformer, which starts as the identity, and center maps
    added = [part for part in _ADDED if not any(name.startswith(f"{part}.") for name in weights)]
    new = {name: own[name] for name in own if name.startswith(tuple(f"{part}." for part in added))}
    adapted = {**new, **weights}
    for name in (name for name in own if name in weights and name.startswith((*_BY_JOINT, _DECONV))):
        channels, per_joint = next(iter(weights[name].shape), 0), len(own[name]) // len(target)
        if name != _DECONV and channels != len(source) * per_joint:
            raise CheckpointError(
                f"{path}: {name} has {channels} channels, not {len(source)} joints with {per_joint} each: "
                + _why_other_channels(different_options(own, weights), len(source))
            )
        adapted[name] = _adapt_channels(name, own[name], weights[name], shared, len(source), len(target))
    load_strictly(network, adapted, path, other_joints=True)
    parts = dict.fromkeys(name.partition(".")[0] for name in new)
    return [*(name for name in target if name not in source), *parts]


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
    """Return a tensor with the other's channels of shared joints; the other itself if its kind does not fit."""
    # the transposed conv (W + K, W, 4, 4), or (W + K + K·D, ...) where it sees the tags: the feature's channels first
    width = own.shape[1] if name == _DECONV else 0
    per_joint = (len(own) - width) // targets
    if (width + sources * per_joint, *own.shape[1:]) != other.shape or other.dtype not in FLOATS:
        return other
    merged = own.clone()
    merged[:width] = other[:width]
    mine = theirs = width  # where the channels of the first joint begin
    for size in (1, per_joint - 1) if width else (per_joint,):
        for a, b in shared:
            merged[mine + a * size :][:size] = other[theirs + b * size :][:size]
        mine, theirs = mine + targets * size, theirs + sources * size
    return merged


def initialize(
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
    for option, given in (("MODEL.PRETRAINED", pretrained), ("MODEL.INIT_FROM", init_from)):
        if not given:
            continue
        path, notes = resolve(given), list[str]()
        if not path.exists():
            raise CheckpointError(f"{option}: {path} is missing{_MISSING[option]}")
        if option == "MODEL.PRETRAINED":
            coco_joints = schema.joints == load_schema("datasets/coco.yaml").joints
            unused = load_backbone(network, path, notes, coco_joints)
            done = f"backbone from {path} ({len(unused)} tensors not used: classification, lower branches or heads)"
        else:
            reinitialized = load_other_joints(network, schema, path, init_schema, notes)
            done = f"weights from {path}; reinitialized head channels: {', '.join(reinitialized) or 'none'}"
        messages += [done, *(f"{path}: {note}" for note in notes)]
    return messages


def load_other_joints(
    network: PoseNetwork, schema: KeypointSchema, path: Path, file_schema: str, notes: list[str] | None = None
) -> list[str]:
    """Load weights of a network that may have other joints; return the joints that it has not.

    Args:
        file_schema: schema file with the joints of the weights, where their file does not say.
        notes: as for `network_weights`.

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
        weights = network_weights(content, path)
        config = fitting_config(weights, path)
        advice = backbone_alone(weights) or (
            f"a file of weights alone needs a config: give --cfg{config and f' {config}'} where a command takes it, "
            f"or make a checkpoint of the file: python tools/convert.py {path} --out models/NAME.pth"
        )
        raise CheckpointError(
            f"{path}: not a checkpoint of this package (format {short_repr(content.get('format'))}, expected "
            f"'{FORMAT}'); {advice}"
        )
    return content
