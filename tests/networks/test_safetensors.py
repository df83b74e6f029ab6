"""Safetensors files are read without a package, and refused where their table does not tell the truth."""

import json
import struct

import numpy as np
import pytest
import torch

from coupled_embedding.networks.torch_files import read_weight_file
from coupled_embedding.networks.weights import load_network
from coupled_embedding.utils.errors import CheckpointError

KINDS = {torch.float32: "F32", torch.int64: "I64", torch.float16: "F16", torch.bool: "BOOL", torch.uint8: "U8"}


def safetensors(weights):
    """Return a file's bytes, as the format's description has them."""
    table, data = {"__metadata__": {"format": "pt"}}, b""
    for name, tensor in weights.items():
        content = tensor.contiguous().numpy().tobytes()
        places = [len(data), len(data) + len(content)]
        table[name] = {"dtype": KINDS[tensor.dtype], "shape": list(tensor.shape), "data_offsets": places}
        data += content
    return with_table(table, data)


def with_table(table, data):
    head = json.dumps(table).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + data


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.safetensors"


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth", "pytorch_model.bin"])
@pytest.mark.parametrize("prefix", ["", "model.", "module._orig_mod."])
def test_a_network_loads_into_every_tensor(tiny_network, tmp_path, name, prefix):
    source, network = tiny_network(seed=1), tiny_network(seed=2)
    own = source.state_dict()
    (tmp_path / name).write_bytes(safetensors({prefix + key: tensor for key, tensor in own.items()}))
    load_network(network, tmp_path / name)
    assert all(torch.equal(tensor, own[key]) for key, tensor in network.state_dict().items())


def test_types_shapes_and_order_are_kept(path):
    weights = {
        "b": torch.arange(6.0).reshape(2, 3).half(),
        "a": torch.tensor(7),
        "none": torch.zeros(0, 3),
        "flags": torch.tensor([True, False]),
        "bytes": torch.from_numpy(np.array([1, 255], np.uint8)),
    }
    path.write_bytes(safetensors(weights))
    found = read_weight_file(path)
    assert list(found) == list(weights)
    assert all(torch.equal(found[name], weights[name]) and found[name].dtype == weights[name].dtype for name in found)


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.999])
def test_a_cut_off_file_is_told(path, tiny_network, kept):
    content = safetensors(tiny_network().state_dict())
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: .*cut off safetensors file.*fetch it"):
        read_weight_file(path)


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "table",
    [
        {"a": {**ENTRY, "dtype": ["F32"]}},
        {"a": {**ENTRY, "shape": [3]}},
        {"a": {**ENTRY, "shape": [-2]}},
        {"a": {**ENTRY, "shape": [2**62, 4]}},
        {"a": {**ENTRY, "data_offsets": [0]}},
        {"a": {**ENTRY, "data_offsets": [8, 0]}},
        {"a": {**ENTRY, "shape": [2**40], "data_offsets": [0, 2**42]}},
        {"a": ENTRY, "b": ENTRY},
        {"a": {**ENTRY, "data_offsets": [4, 12]}},
        {"a": 3},
        [1],
    ],
)
def test_a_table_that_is_wrong_is_refused(path, table):
    path.write_bytes(with_table(table, bytes(16)))
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: not a readable weight file.*safetensors file"):
        read_weight_file(path)


def test_a_table_nested_without_end_is_refused(path):
    head = b'{"a":' * 100_000
    path.write_bytes(struct.pack("<Q", len(head)) + head)
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: not a readable weight file"):
        read_weight_file(path)
