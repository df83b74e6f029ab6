"""Hostile weight files: changed content, pickles written by hand, archives that lie about their sizes."""

import io
import os
import pickle
import struct
import warnings
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path, PurePosixPath
from random import Random
from typing import Any

import numpy as np
import torch
import yaml
from fuzz_mutations import VALUES, change_bytes, change_tree

from coupled_embedding.builders import build_model
from coupled_embedding.config import config_from_dict, config_to_dict
from coupled_embedding.data.schema import KeypointSchema, load_schema
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.networks.weights import FORMAT

TINY = """
DATASET: {SCHEMA: datasets/synthetic.yaml, TRAIN: train, VAL: val, TEST: test, INPUT_SIZE: 64}
MODEL: {WIDTH: 4, STEM_WIDTH: 8, STEM_BLOCKS: 1, STAGE_MODULES: [1, 1, 1], STAGE_BLOCKS: 1, HEAD_BLOCKS: 1, TAG_DIM: 4}
"""


class Gun:
    """What must not go off when a file that holds it is made."""

    def __deepcopy__(self, memo: Any) -> "Gun":
        return self


class Owned(Gun):
    """Makes a folder when it is unpickled the careless way."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.folder,)


class Called(Gun):
    """Is replaced by what a function returns when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


def tiny_network() -> tuple[PoseNetwork, Any, KeypointSchema]:
    """Return a network of a few thousand weights, its config and schema."""
    cfg = config_from_dict({**yaml.safe_load(TINY), "NAME": "tiny"}, "tiny")
    schema = load_schema("datasets/synthetic.yaml")
    torch.manual_seed(0)
    return build_model(cfg, schema.num_joints).eval(), cfg, schema


def own_content() -> dict[str, Any]:
    """Return the content of a checkpoint of this package that training could continue from."""
    network, cfg, schema = tiny_network()
    weights = dict(network.state_dict())
    about = {"format": FORMAT, "config": config_to_dict(cfg), "schema": schema.to_dict()}
    training = {"model": weights, "best": 0.5, "steps_per_epoch": 2}
    return {**about, "model": weights, "metrics": {"AP": 0.5}, "step": 3, "training": training}


def backbone_content() -> dict[str, Any]:
    """Return an ImageNet file's content: the backbone, a classifier and the last fusion's lower branches."""
    weights = dict(tiny_network()[0].backbone.state_dict())
    extra = ["classifier.weight", "incre_modules.0.0.conv1.weight", "stage4.0.fuse_layers.1.0.0.0.weight"]
    return {**weights, **dict.fromkeys(extra, torch.ones(2, 3))}


def released_content() -> dict[str, Any]:
    """Return a released checkpoint's content."""
    return {"model": {f"module.{k}": v for k, v in tiny_network()[0].state_dict().items()}, "epoch": 300}


def _hostile_values(folder: Path) -> list[Any]:
    looping: list[Any] = []
    looping.append(looping)
    shared: list[Any] = ["lol"]
    for _ in range(40):
        shared = [shared] * 3
    deep: Any = 1
    for _ in range(200):
        deep = {"a": deep}
    with_method = Called(OrderedDict, [["a", 1]], state={"items": "x", "get": 3, "values": None})
    quantized = Called(
        torch._utils._rebuild_qtensor,
        *(torch.ByteStorage(4), 0, (4,), (1,), (torch.per_tensor_affine, 0.1, 0), False, OrderedDict()),
    )
    tensors = [
        torch.ones(1).expand(10**6, 10**6),
        torch.ones(3).to_sparse(),
        torch.ones(3, dtype=torch.complex64),
        torch.ones(3, 3, device="meta"),
        torch.tensor(1.0),
        torch.zeros(0, 2**40),
        torch.full((4,), float("nan")),
        torch.full((4, 3), 1e38),
        torch.ones(3, dtype=torch.bool),
        torch.ones(3, dtype=torch.float8_e4m3fn),
        torch.ones(2, 3, 4).transpose(0, 2),
        torch.nn.Parameter(torch.ones(3)),
    ]
    return [
        *(
            Owned(str(folder / "owned")),
            Called(bytearray, 2**33),
            Called(Counter, "aab"),
            Called(complex, 1, 2),
            {1, 2},
        ),
        *(
            Called(torch.device, "cuda:7"),
            Called(torch.Size, [2, 3]),
            Called(torch.Tensor, 10**5, 10**5),
            torch.float32,
        ),
        *(
            Called(getattr, "x", "y"),
            Called(eval, "1"),
            Called(OrderedDict, [[1, 2]]),
            with_method,
            looping,
            shared,
            deep,
        ),
        *(
            Called(torch._utils._rebuild_tensor_v2, 3, 4),
            np.float64(1),
            np.ones(3),
            PurePosixPath("/x"),
            b"bytes",
            quantized,
        ),
        *({(1, 2): 3}, {1.5: 2}, {b"x": 1}, {None: 1}, 2**200, {i * (2**61 - 1): 0 for i in range(3000)}, *tensors),
    ]


def hostile_weights(random: Random, content: dict[str, Any], folder: Path) -> bytes:
    """Write a torch file, hostile in one way or another."""
    legacy = random.random() < 0.35
    match random.randint(0, 9):
        case 0 | 1:
            return change_bytes(random, _saved(content, legacy))
        case 2 | 3:
            return _hostile_archive(random, _saved(content, False))
        case 4:
            return random.choice([b"", b"PK", b"PK\x03\x04", b"\x80\x02.", random.randbytes(500), b"ustar" * 200])
        case 5 | 6:
            changed = _change_plain(random, content)
        case _:
            changed = change_tree(random, content, [*VALUES[:15], *_hostile_values(folder)])
    return _saved(changed, legacy)


def _change_plain(random: Random, content: dict[str, Any]) -> Any:
    """Change config, schema or the other plain values; the tensors of a whole file are many more."""
    changed = dict(content)
    key = random.choice([key for key in ("config", "schema", "metrics", "format", "step") if key in content] or [None])
    if key is None:
        return change_tree(random, content, VALUES)
    changed[key] = change_tree(random, {"it": content[key]}, VALUES) or {}
    changed[key] = changed[key].get("it") if isinstance(changed[key], dict) else changed[key]
    return changed


def _saved(content: Any, legacy: bool) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.save(content, file, _use_new_zipfile_serialization=not legacy)
        except Exception:  # not everything can be saved in both layouts: then as a plain pickle
            return pickle.dumps({"model": repr(content)[:1000]}, protocol=2)
    return file.getvalue()


def _hostile_archive(random: Random, content: bytes) -> bytes:
    """Rewrite the archive of a file with other entries, sizes or packing."""
    kind = random.choice(["pickle", "numel", "drop", "twice", "case", "packed", "bomb", "order", "sizes", "cut"])
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(written, "w") as target:
        entries = source.infolist()
        dropped = random.choice(entries).filename if kind == "drop" else None
        for entry in entries:
            data = source.read(entry)
            if entry.filename == dropped:
                continue
            if entry.filename.endswith("data.pkl"):
                if kind == "pickle":
                    data = _change_pickle(random, data)
                elif kind == "numel":
                    data = data.replace(b"K\x08", b"J" + struct.pack("<i", random.choice([2**31 - 1, -1, 10**7])), 3)
                elif kind == "case":
                    target.writestr(entry.filename.upper(), pickle.dumps(Owned("owned"), protocol=2))
            if kind == "order" and entry.filename.endswith("byteorder"):
                data = b"big"
            if kind == "cut" and "/data/" in entry.filename:
                data = data[: random.randint(0, len(data))]
            target.writestr(entry.filename, data, zipfile.ZIP_DEFLATED if kind == "packed" else zipfile.ZIP_STORED)
            if kind == "twice" and random.random() < 0.2:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    target.writestr(entry.filename, random.randbytes(50))
        if kind == "bomb":
            target.writestr(f"{entries[0].filename.split('/')[0]}/data/bomb", bytes(30_000_000), zipfile.ZIP_DEFLATED)
    data = written.getvalue()
    if kind == "sizes":
        # sizes as the central directory declares them
        start = data.rindex(b"PK\x01\x02")
        return (
            data[: start + 20] + struct.pack("<II", *random.choices([0, 1, 2**31, 2**32 - 2], k=2)) + data[start + 28 :]
        )
    return data


def _change_pickle(random: Random, data: bytes) -> bytes:
    """Change a pickle, or write one by hand."""
    big_dict = b"".join(b"\x8a\x0a" + (n * (2**61 - 1)).to_bytes(10, "little") + b"K\x00" for n in range(2000))
    return random.choice(
        [
            change_bytes(random, data),
            b"\x80\x02}(" + big_dict + b"u.",
            b"\x80\x02c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
            b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
            b"\x80\x02cos\nsystem\nX\x0b\x00\x00\x00touch owned\x85R.",
            b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0btouch owned\x85R.",
            b"\x80\x02(X\x0b\x00\x00\x00touch ownedios\nsystem\n.",
            b"\x80\x02X\xff\xff\xff\xffabc.",
            b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".",
            b"\x80\x02}" + b"(" * 5000 + b".",
            b"\x80\x02]q\x00h\x00a.",
            b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ\xff\xff\xff\x7ftQ.",
            b"\x80\x02ccollections\nOrderedDict\n)R}X\x03\x00\x00\x00getK\x01sb.",
        ]
    )


def hostile_numbers(random: Random) -> dict[str, Any]:
    """Return a checkpoint that fits in all but its numbers: not finite, huge, tiny, or random."""
    content = own_content()
    names = [name for name, tensor in content["model"].items() if tensor.is_floating_point()]
    for name in random.sample(names, random.choice([1, 3, len(names)])):
        tensor = content["model"][name].clone()
        flat = tensor.view(-1)
        place = random.randint(0, len(flat) - 1)
        value = random.choice([float("nan"), float("inf"), -float("inf"), 1e38, -1e30, 1e-40, 0.0, 50.0, -50.0])
        if random.random() < 0.5:
            flat[place] = value
        else:
            flat[:] = value
        content["model"][name] = tensor
    return content
