"""Hostile training states and safetensors files: what is passed over besides weights opens no door."""

import _codecs
import argparse
import collections
import io
import json
import os
import struct
import tempfile
import tracemalloc
import warnings
import zipfile
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from fuzz_mutations import change_bytes
from fuzz_weights import Called, Owned, hostile_weights, own_content, released_content, tiny_network

from coupled_embedding.builders import build_model
from coupled_embedding.networks.building import build_on_meta
from coupled_embedding.networks.torch_files import read_weight_file
from coupled_embedding.networks.weights import load_network
from coupled_embedding.utils.errors import CheckpointError

pytestmark = pytest.mark.bad_input


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hostile.pth"


def state() -> dict[str, Any]:
    """Return the content of a training state of another program."""
    return {
        **released_content(),
        "lr_scheduler": {"milestones": Counter([200, 260])},
        "perf": np.float64(0.66),
        "args": argparse.Namespace(lr=0.1),
    }


def safetensors() -> bytes:
    table, data = {}, b""
    for name, tensor in tiny_network()[0].state_dict().items():
        content = tensor.numpy().tobytes()
        kind = "F32" if tensor.is_floating_point() else "I64"
        places = [len(data), len(data) + len(content)]
        table[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": places}
        data += content
    head = json.dumps(table).encode()
    return struct.pack("<Q", len(head)) + head + data


def accepts(path: Path) -> bool:
    """Load a file into the tiny network; whether it was taken, or refused by its name."""
    _, cfg, schema = tiny_network()
    try:
        load_network(build_on_meta(lambda: build_model(cfg, schema.num_joints)), path)
    except CheckpointError as error:
        text = str(error)
    else:
        return True
    assert path.name in text
    assert len(text) < 5000
    return False


def test_changed_training_states_are_read_or_refused_by_name(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    taken = []
    for seed in range(60):
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = Path(folder, "hostile.pth")
            path.write_bytes(hostile_weights(Random(seed), state(), Path(folder)))
            taken.append(accepts(path))
            assert os.listdir(folder) == ["hostile.pth"]
        assert not Path("owned").exists()
    assert any(taken)
    assert not all(taken)


def test_changed_safetensors_are_read_or_refused_by_name(path: Path) -> None:
    content, taken = safetensors(), []
    path.write_bytes(content)
    assert accepts(path)
    for seed in range(60):
        random = Random(seed)
        # most changes fall into the table, which is small compared with the tensors
        table = change_bytes(random, content[:20_000])
        path.write_bytes(table + content[20_000:] if seed % 3 else change_bytes(random, content))
        taken.append(accepts(path))
    assert not all(taken)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("place", ["state", "counter", "namespace"])
def test_code_beside_harmless_objects_is_refused_and_not_run(path: Path, tmp_path: Path, legacy: bool, place) -> None:
    gun = Owned(str(tmp_path / "owned"))
    content = {
        "state": {**state(), "x": gun},
        "counter": {**state(), "x": collections.defaultdict(list, {"a": gun})},
        "namespace": {**state(), "x": argparse.Namespace(a=gun)},
    }[place]
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"hostile\.pth: not a readable weight file .*mkdir"):
        read_weight_file(path)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "value",
    [
        Called(bytearray, 2**33),
        Called(getattr, "x", "y"),
        Called(eval, "1"),
        torch.ones(3).to_sparse(),
        torch.ones(3, dtype=torch.complex64),
        Called(np.load, "x"),
        Called(np.zeros, 2**33),
    ],
)
def test_objects_beyond_the_known_ones_are_refused(path: Path, value: Any) -> None:
    torch.save({**state(), "x": value}, path)
    with pytest.raises(CheckpointError, match=r"hostile\.pth: not a readable weight file"):
        read_weight_file(path)


@pytest.mark.parametrize("codec", ["hex_codec", "HEX", "base64", "quopri"])
def test_nested_codecs_are_refused_before_they_take_memory(path: Path, codec: str) -> None:
    text: Any = "ab"
    for _ in range(60):  # each doubles what it is given: 2^61 bytes, if it were done
        text = Called(_codecs.encode, text, codec)
    torch.save({**released_content(), "counts": Counter("a"), "x": text}, path)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=r"hostile\.pth: not a readable weight file .*_codecs\.encode"):
        read_weight_file(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


@pytest.mark.parametrize(
    "content", [{"model": {}, "x": Counter("a")}, {"x": np.float64(1)}, {**own_content(), "x": Counter("a")}]
)
def test_objects_without_weights_and_in_our_own_files_are_refused(path: Path, content: dict[str, Any]) -> None:
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"hostile\.pth: not a readable weight file .*(Counter|scalar)"):
        read_weight_file(path)


def test_containers_inside_each_other_without_end_are_refused(path: Path) -> None:
    shared: Any = Counter("a")
    for _ in range(40):
        shared = [shared] * 3
    torch.save({**state(), "x": shared}, path)
    with pytest.raises(CheckpointError, match="containers inside each other without end"):
        read_weight_file(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"K\x03\x85q", b"K\x09\x85q"),  # a shape beyond the memory
        (b"K\x03tq", b"K\x07tq"),  # memory of more elements than there are
    ],
)
def test_tensors_beyond_their_memory_are_refused(path: Path, old: bytes, new: bytes) -> None:
    torch.save({"model": {"w": torch.ones(3)}, "x": Counter("a")}, path)
    content = path.read_bytes()
    assert old in content
    path.write_bytes(changed_pickle(content, old, new))
    with pytest.raises(CheckpointError, match=r"hostile\.pth: not a readable weight file"):
        read_weight_file(path)


def changed_pickle(content: bytes, old: bytes, new: bytes) -> bytes:
    """Return an archive with other bytes in its pickle, and with the sums that belong to them."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(written, "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            target.writestr(entry.filename, data.replace(old, new) if entry.filename.endswith("data.pkl") else data)
    return written.getvalue()


def test_an_archive_behind_a_pickle_is_not_looked_for(path: Path) -> None:
    legacy, bomb = io.BytesIO(), io.BytesIO()
    torch.save({"model": {"w": torch.ones(3)}, "x": Counter("a")}, legacy, _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(10**7))
    path.write_bytes(legacy.getvalue() + bomb.getvalue())
    assert torch.equal(read_weight_file(path)["model"]["w"], torch.ones(3))
