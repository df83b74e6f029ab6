"""A model as one safetensors file: tensors, and all else that a checkpoint of this package says in its metadata.

Such a file is what is shipped: small (half precision), read without a pickle, complete without a config.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from coupled_embedding.networks.hub import fetch, hub_name
from coupled_embedding.utils.atomic import atomic_write
from coupled_embedding.utils.errors import CheckpointError, UserError, short_repr
from coupled_embedding.utils.paths import CHECKOUT

DEFAULT_MODEL = "ce_mobilenet_fpn_coco17"
FOLDER = CHECKOUT / "models"  # of the shipped models
_JSON = ("config", "schema", "metrics")  # fields of a checkpoint that the metadata hold as JSON
_TEXTS = ("format", "license")
_HASH = "weights_sha256"


def write_model_file(path: Path, content: Mapping[str, Any], half: bool) -> None:
    """Write a checkpoint's content as safetensors.

    Args:
        path: of the file, which must not exist.
        content: ``format``, ``model`` (tensors by name), ``config``, ``schema``, ``metrics`` and ``license``, a text.
        half: store floating-point tensors as float16, a rounding of 2^-11 at most.

    Raises:
        UserError: the file exists or cannot be written, or a weight is too large for float16.
    """
    if path.exists():
        raise UserError(f"{path} exists; delete it first, or choose another name")
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in content["model"].items()}
    if half:
        weights = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
        if bad := [name for name, tensor in weights.items() if not tensor.isfinite().all()]:
            raise UserError(f"{path}: {bad[0]} has values beyond float16's 65504; write it without half precision")
    metadata = {name: json.dumps(content[name]) for name in _JSON} | {name: content[name] for name in _TEXTS}
    data = safetensors.torch.save(weights, metadata | {_HASH: hash_of_weights(weights)})
    atomic_write(path, data, "this model")


def read_safetensors(path: Path) -> dict[str, Any]:
    """Return the tensors of a safetensors file by name; for one of `write_model_file` a checkpoint's content.

    Half-precision tensors of such a file come as float32.

    Raises:
        CheckpointError: the tensors are not those that the file was written with, or a field is no JSON.
        safetensors.SafetensorError: the file is damaged.
    """
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    weights = safetensors.torch.load_file(path)
    if not metadata.get("format", "").startswith("coupled_embedding/"):
        return weights
    if metadata.get(_HASH) != hash_of_weights(weights):
        raise CheckpointError(
            f"{path}: its tensors do not match its {_HASH}: it is damaged or was changed; fetch it again"
        )
    content: dict[str, Any] = {name: metadata[name] for name in _TEXTS if name in metadata}
    for name in _JSON:
        try:
            content[name] = json.loads(metadata.get(name, "null"))
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{path}: its {name} is no JSON: {short_repr(metadata[name])}") from error
    floats = {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in weights.items()}
    return content | {"model": floats}


def hash_of_weights(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and values, regardless of their order in a file."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def find_model(source: str | Path) -> Path:
    """Return the weight file, or the folder, that a user means.

    Args:
        source: the name of a shipped model (a file in ``models/`` without its ending), a file, the folder of a run,
            of which best.pth is taken, else final.pth, another folder, which is returned as it is, or a text that
            names a model on the Hugging Face Hub as `hub_name` says, which is downloaded.

    Raises:
        CheckpointError: there is no such model; the text lists those that there are.
        UserError: huggingface_hub is needed and not installed.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        # without either, reading the folder raises an error that lists what it has
        return next((path / name for name in ("best.pth", "final.pth") if (path / name).is_file()), path)
    if on_hub := hub_name(source):
        return fetch(*on_hub)
    shipped = {file.stem: file for file in sorted(FOLDER.glob("*.safetensors"))}
    if path.is_file() or path.suffix or len(path.parts) > 1:
        return path
    if str(source) not in shipped:
        there_are = f"there are {', '.join(shipped)}" if shipped else f"{FOLDER} has none"
        raise CheckpointError(
            f"{source}: no such file or folder, nor the name of a shipped model ({there_are}); give a checkpoint, such "
            "as outputs/NAME/best.pth, or the folder of a run"
        )
    return shipped[str(source)]
