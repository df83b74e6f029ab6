"""Finding a network's tensors in what a weight file holds: under which key, after which prefixes.

Programs nest them under ``model``, ``state_dict`` and the like, perhaps next to averaged ones, and wrap the network:
``torch.compile`` puts ``_orig_mod.`` in front of every name, distributed training ``module.``, a class of the
program's own ``model.`` or another word. Content that can mean one network only is read; all else is refused with the
keys or prefixes in question.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from coupled_embedding.networks.file_kinds import listed
from coupled_embedding.utils.errors import CheckpointError, short_repr

Weights = dict[str, Tensor]
# words that the keys of a network's tensors are made of
_AVERAGES = r"ema|averaged?|avg|swa|shadow"
_NETWORK = re.compile(
    r"((model|module|net|network|state|dict|weights?|params|parameters|raw|best|final|last|checkpoint|ckpt|pose"
    rf"|{_AVERAGES})([._-]|$))+"
)
_AVERAGED = re.compile(rf"(.*[._-])?({_AVERAGES})([._-].*)?")
# what PyTorch's wrappers put into names, anywhere
_WRAPPERS = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
# what the names of the networks that are read here begin with: ours, HRNet's and HigherHRNet's, the hourglass's
_BEGINNINGS = re.compile(
    r"backbone|(keypoint_)?head|(conv|bn)[12]|layer1|transition[123]|stage[234]|(final|deconv)_layers|final_layer"
    r"|(incre|downsamp)_modules|classifier|pre|features|outs|merge_(features|preds)"
)
# those of them that no part of another network is likely to have
_MARKS = frozenset({"backbone", "layer1", "stage2", "stage3", "stage4", "final_layers", "outs", "merge_features"})
_MOST_PREFIXES = 8
_DEEPEST = 3  # mappings inside each other
_TAKING_OUT = {
    "key": ("keys", "c['KEY']"),
    "prefix": ("prefixes", "{k.removeprefix('PREFIX'): v for k, v in c.items() if k.startswith('PREFIX')}"),
}


def network_weights(content: Mapping[str, Any], path: str | Path, notes: list[str] | None = None) -> Weights:
    """Return the network's tensors in a file's content, by their names without a wrapper's prefixes.

    Args:
        content: what `read_weight_file` returned.
        path: names the file in errors.
        notes: gets a line for each choice, such as averaged weights rather than raw ones.

    Raises:
        CheckpointError: there are none, or several that differ; the text names keys or prefixes.
    """
    notes = [] if notes is None else notes
    weights = _unwrapped(_under_a_key(content, path, notes), path)
    for _ in range(_MOST_PREFIXES):
        if not (prefix := _prefix_to_remove(weights, path, notes)):
            break
        weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    return weights


def is_own_checkpoint(content: Mapping[str, Any]) -> bool:
    """Whether a file's content is a checkpoint of this package, with config and schema."""
    kind = content.get("format")
    return isinstance(kind, str) and kind.startswith("coupled_embedding/")


# ---- keys


def _under_a_key(content: Mapping[str, Any], path: Any, notes: list[str]) -> Weights:
    if is_own_checkpoint(content):
        return _checked(content, path)
    found = dict(_candidates(content))
    named = {key: weights for key, weights in found.items() if _NETWORK.fullmatch(key.lower())}
    bare = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not named and bare and (len(bare) == len(content) or any("." in name for name in bare)):
        return bare
    if not found:
        return _checked(content, path)
    key = _choose(named or found, "key", path, notes)
    if not named:
        notes.append(f"the weights under the key '{key:.60}' are taken")
    return found[key]


def _candidates(content: Mapping[Any, Any], depth: int = 0) -> Iterator[tuple[str, Weights]]:
    """Yield keys, with dots where they are nested, and the tensors under them."""
    for key, value in content.items():
        if not isinstance(value, dict) or not value or not isinstance(key, str) or key.startswith("optim"):
            continue
        if all(isinstance(tensor, Tensor) for tensor in value.values()):
            yield key, {str(name): tensor for name, tensor in value.items()}
        elif depth < _DEEPEST and _NETWORK.fullmatch(key.lower()):
            yield from ((f"{key}.{inner}", weights) for inner, weights in _candidates(value, depth + 1))


def _checked(content: Mapping[Any, Any], path: Any) -> Weights:
    """Return the tensors under the key 'model'; CheckpointError says what is there instead."""
    weights = content.get("model", content.get("state_dict") or None)
    if isinstance(weights, dict):
        strange = next((name for name, value in weights.items() if not isinstance(value, Tensor)), None)
        if strange is None:
            return {str(name): tensor for name, tensor in weights.items()}
        value = weights[strange]
        # what was no plain value is None when it is read
        kind = "not a tensor (a NumPy array, perhaps)" if value is None else f"a {type(value).__name__}"
        reason = f"there {short_repr(strange)} is {kind}"
    elif weights is None and any(str(key).startswith(("optim", "param_groups")) for key in content):
        reason = "but it holds an optimizer's state and no weights; give the file of the same training that has them"
    else:
        reason = f"got {'nothing' if weights is None else type(weights).__name__} there"
    expected = "the network's tensors under the key 'model' (or 'state_dict', or alone)"
    raise CheckpointError(f"{path}: expected {expected}, {reason}")


# ---- one of several


def _choose(found: Mapping[str, Weights], what: str, path: Any, notes: list[str]) -> str:
    """Return the name of the network to take of several: an averaged one's, or any if they are equal."""
    averaged = [name for name in found if _AVERAGED.fullmatch(name.lower())]
    raw = [name for name in found if name not in averaged]
    names = averaged or raw
    first, *others = ({_bare(name): tensor for name, tensor in found[name].items()} for name in names)
    if not all(o.keys() == first.keys() and all(torch.equal(o[name], first[name]) for name in first) for o in others):
        plural, taking_out = _TAKING_OUT[what]
        shown = listed([f"'{name:.58}'" for name in names])
        raise CheckpointError(
            f"{path}: holds several networks, under the {plural} {shown}, and does not say which one counts; write it "
            f'into a file of its own, with names for FILE and {what.upper()}: python -c "import torch; '
            f"c = torch.load('FILE', 'cpu'); torch.save({taking_out}, 'weights.pth')\""
        )
    if averaged and raw:
        passed_over = " and ".join(f"'{name:.60}'" for name in raw[:3])
        notes.append(f"the averaged weights (the {what} '{names[0]:.60}') are taken, not those of {passed_over}")
    return names[0]


# ---- prefixes


def _bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS) or name


def _unwrapped(weights: Weights, path: Any) -> Weights:
    """Return tensors without what PyTorch's wrappers put into names, and without an average's counter."""
    bare: dict[str, str] = {}
    for name in weights:
        other = bare.setdefault(_bare(name), name)
        if other != name:
            prefix = next(part for part in _WRAPPERS if part in f"{other}.{name}".split("."))
            raise CheckpointError(f"{path}: holds tensors under the same name with and without '{prefix}.'")
    if any(name != short for short, name in bare.items()):
        bare.pop("n_averaged", None)  # of torch.optim.swa_utils.AveragedModel, which wraps too
    return {short: weights[name] for short, name in bare.items()}


def _prefix_to_remove(weights: Weights, path: Any, notes: list[str]) -> str:
    """Return what to take off the front of the names, with its dot; empty if they are as they should be."""
    groups: dict[str, Weights] = {}  # by the first part of a name; within a group by the rest
    for name, tensor in weights.items():
        first, _, rest = name.partition(".")
        groups.setdefault(first, {})[rest] = tensor
    networks = {
        prefix: group
        for prefix, group in groups.items()
        if not _BEGINNINGS.fullmatch(prefix)
        and any(not _MARKS.isdisjoint(name.split(".", _MOST_PREFIXES)) for name in group)
    }
    if not networks:
        only = next(iter(groups), "")
        return f"{only}." if len(groups) == 1 and only in ("model", "network", "net") and "" not in groups[only] else ""
    if any(map(_BEGINNINGS.fullmatch, groups)):
        prefix, group = next(iter(networks.items()))
        raise CheckpointError(
            f"{path}: holds networks with and without the prefix '{prefix:.60}.' ({len(group)} of {len(weights)} "
            "tensors have it), and does not say which one counts; write that one into a file of its own"
        )
    prefix = _choose(networks, "prefix", path, notes)
    others = [f"{name}.{rest}" for name, group in groups.items() if name not in networks for rest in group]
    if others:
        notes.append(
            f"the {len(groups[prefix])} tensors with the prefix '{prefix:.60}.' are taken; the file's {len(others)} "
            f"others ({others[0]:.60}, ...) are not of the network"
        )
    return f"{prefix}."
