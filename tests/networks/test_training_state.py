"""Training states of other programs: their weights are read, and nothing else in them is made."""

import argparse
import collections
import datetime
import pathlib
import sys
import types
from fractions import Fraction

import numpy as np
import pytest
import torch
from yacs.config import CfgNode

from coupled_embedding.networks.torch_files import read_weight_file
from coupled_embedding.networks.weights import load_network
from coupled_embedding.utils.errors import CheckpointError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.pth"


@pytest.fixture
def weights(tiny_network):
    return tiny_network(seed=1).state_dict()


def by_key():
    made = collections.defaultdict(list)
    made["loss"].append(0.5)
    return made


HARMLESS = {
    "counter": collections.Counter([200, 260]),
    "defaultdict": by_key(),
    "deque": collections.deque([1, 2]),
    "numpy scalar": np.float64(0.66),
    "numpy integer": np.int32(3),
    "numpy flag": np.bool_(True),
    "numpy array": np.ones((2, 3)),
    "random state": np.random.RandomState(0).get_state(),
    "device": torch.device("cuda:3"),
    "dtype": torch.float16,
    "namespace": argparse.Namespace(lr=0.1, gpus=[0, 1]),
    "config": CfgNode({"TRAIN": {"LR": 0.1}}),
    "path": pathlib.PurePosixPath("/data/coco"),
    "set": {1, 2},
    "date": datetime.datetime(2022, 10, 24),
}


def state_of(weights, **more):
    """Return a training state as programs write it: a wrapped network, an optimizer, a scheduler's counter."""
    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [200, 260])
    model = {f"module.{name}": tensor for name, tensor in weights.items()}
    return {
        "epoch": 30,
        "model": model,
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": scheduler.state_dict(),
        **more,
    }


@pytest.mark.parametrize("legacy", [False, True])
def test_the_weights_of_a_training_state_load(path, tiny_network, weights, legacy):
    state = state_of(weights, **HARMLESS)
    assert isinstance(state["lr_scheduler"]["milestones"], collections.Counter)
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    network = tiny_network(seed=2)
    load_network(network, path)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", HARMLESS)
def test_each_object_beside_weights_is_passed_over(path, kind, legacy):
    content = {"state_dict": {"a.weight": torch.arange(6.0).reshape(2, 3).t()}, "epoch": 3, "it": HARMLESS[kind]}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    found = read_weight_file(path)
    assert torch.equal(found["state_dict"]["a.weight"], content["state_dict"]["a.weight"])
    assert found["epoch"] == 3
    assert type(found["it"]) in (type(None), dict, tuple)


@pytest.mark.parametrize("kind", ["counter", "numpy scalar"])
def test_tensors_of_all_types_keep_their_values_and_views(path, kind):
    base = torch.arange(12.0)
    tensors = {
        "half": base.half(),
        "bfloat16": base.bfloat16(),
        "double": base.double(),
        "long": base.long(),
        "flags": base > 3,
        "bytes": base.byte(),
        "view": base[2:8:2],
        "matrix": base.reshape(3, 4).t(),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "parameter": torch.nn.Parameter(base.clone()),
    }
    torch.save({"model": tensors, "it": HARMLESS[kind]}, path)
    found = read_weight_file(path)["model"]
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) and found[name].dtype == tensors[name].dtype for name in found)


def test_parameters_with_attributes_are_read(path):
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.no_decay = True
    torch.save({"model": {"a.weight": parameter}, "milestones": collections.Counter([1])}, path)
    assert torch.equal(read_weight_file(path)["model"]["a.weight"], torch.ones(3))


def test_hyperparameters_of_a_framework_that_is_not_installed_are_passed_over(path, weights, monkeypatch):
    module = types.ModuleType("pytorch_lightning")
    module.AttributeDict = type("AttributeDict", (dict,), {"__module__": module.__name__})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    content = {f"model.{name}": tensor for name, tensor in weights.items()}
    torch.save({"state_dict": content, "hyper_parameters": module.AttributeDict(lr=0.1)}, path)
    monkeypatch.undo()
    assert read_weight_file(path)["state_dict"].keys() == content.keys()


@pytest.mark.parametrize("legacy", [False, True])
def test_an_object_of_a_program_is_named_with_the_file_to_use_instead(path, weights, legacy):
    torch.save(state_of(weights, best=Fraction(1, 2)), path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError) as caught:
        read_weight_file(path)
    text = str(caught.value)
    assert "checkpoint.pth: not a readable weight file (it asks for 'fractions.Fraction', an object" in text
    assert "give the weights-only file of the same training (such as best, model_best or final_state .pth)" in text
    assert 'python -c "import torch' in text
    assert len(text.splitlines()) == 1


def test_the_command_takes_the_weights_out(path, weights, tmp_path, monkeypatch):
    torch.save(state_of(weights, best=Fraction(1, 2)), path)
    with pytest.raises(CheckpointError) as caught:
        read_weight_file(path)
    monkeypatch.chdir(tmp_path)
    exec(str(caught.value).split('python -c "')[1].removesuffix('"'))
    assert read_weight_file("weights.pth").keys() == {f"module.{name}" for name in weights}


def test_a_cut_off_state_is_named(path, weights):
    for legacy in (False, True):
        torch.save(state_of(weights), path, _use_new_zipfile_serialization=not legacy)
        content = path.read_bytes()
        for share in (0.1, 0.9, 0.999):
            path.write_bytes(content[: int(share * len(content))])
            with pytest.raises(CheckpointError, match=r"checkpoint\.pth: not a readable weight file .*cut off"):
                read_weight_file(path)
