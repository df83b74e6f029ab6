"""A network's tensors are found wherever other programs put them, or the file is refused by key and prefix."""

from collections import OrderedDict

import pytest
import torch

from coupled_embedding.networks.state_dict import network_weights
from coupled_embedding.networks.weights import load_backbone, load_network
from coupled_embedding.utils.errors import CheckpointError


@pytest.fixture
def source(tiny_network):
    return tiny_network(seed=1)


@pytest.fixture
def weights(source):
    return dict(source.state_dict())


def prefixed(prefix, weights):
    return {prefix + name: tensor for name, tensor in weights.items()}


def changed(weights):
    return {name: tensor + 1 for name, tensor in weights.items()}


def assert_found(content, weights, *expected):
    notes = []
    found = network_weights(content, "f.pth", notes)
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    assert len(notes) == len(expected)
    assert all(text in note for text, note in zip(expected, notes, strict=True))


# ---- prefixes


@pytest.mark.parametrize(
    "prefix",
    [
        *("", "_orig_mod.", "module.", "model.", "network.", "net."),
        *("module._orig_mod.", "_orig_mod.module.", "module.module.", "model.module.", "module.model._orig_mod."),
        *("model.net.", "pose_net.", "lit.detector.", "_fsdp_wrapped_module.", "_forward_module.model."),
    ],
)
@pytest.mark.parametrize("key", [None, "model", "state_dict"])
def test_prefixes_of_wrappers_are_taken_off(weights, prefix, key):
    content = prefixed(prefix, weights)
    assert_found({key: content, "epoch": 3} if key else content, weights)


def test_wrapped_parts_of_a_network_are_found(weights):
    content = {
        name.replace("backbone.", "backbone._orig_mod.").replace("head.blocks.", "head.blocks.module."): tensor
        for name, tensor in weights.items()
    }
    assert len(content.keys() - weights.keys()) > 100
    assert_found(content, weights)


def test_a_file_of_torch_compile_loads_into_every_tensor(source, weights, tiny_network, tmp_path):
    torch.save(prefixed("_orig_mod.", weights), tmp_path / "compiled.pth")
    network = tiny_network(seed=2)
    load_network(network, tmp_path / "compiled.pth")
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "model.module."])
def test_a_wrapped_backbone_is_found(source, tiny_network, tmp_path, prefix):
    backbone = dict(source.backbone.state_dict())
    torch.save({"state_dict": prefixed(prefix, {**backbone, "classifier.weight": torch.ones(2)})}, tmp_path / "b.pth")
    network = tiny_network(seed=2)
    assert load_backbone(network, tmp_path / "b.pth") == ["classifier.weight"]
    assert torch.equal(network.backbone.conv1.weight, backbone["conv1.weight"])


def test_the_counter_of_averaged_weights_is_no_weight(weights):
    assert_found({**prefixed("module.", weights), "n_averaged": torch.tensor(7)}, weights)


def test_tensors_beside_the_network_are_told(weights):
    content = {**prefixed("model.", weights), "criterion.sigmas": torch.ones(3)}
    assert_found({"state_dict": content, "hyper_parameters": {"lr": 1e-3}}, weights, "criterion.sigmas")


def test_averaged_weights_behind_a_prefix_are_taken_and_told(weights):
    content = {**prefixed("model.", changed(weights)), **prefixed("ema_model.", weights)}
    assert_found(content, weights, "the averaged weights (the prefix 'ema_model') are taken, not those of 'model'")


@pytest.mark.parametrize("wrapper", ["module", "_orig_mod"])
def test_the_same_name_with_and_without_a_wrapper_is_refused(weights, wrapper):
    content = {**weights, **prefixed(f"{wrapper}.", weights)}
    with pytest.raises(CheckpointError, match=f"f.pth: holds tensors under the same name with and without '{wrapper}"):
        network_weights(content, "f.pth")


def test_networks_with_and_without_a_prefix_are_refused(weights):
    with pytest.raises(CheckpointError, match=r"f\.pth: holds networks with and without the prefix 'model\.'"):
        network_weights({**weights, **prefixed("model.", weights)}, "f.pth")


def test_two_networks_behind_prefixes_are_refused(weights):
    content = {**prefixed("student.", weights), **prefixed("teacher.", changed(weights))}
    with pytest.raises(CheckpointError, match=r"f\.pth: holds several networks, under the prefixes 'student', 'teache"):
        network_weights(content, "f.pth")


# ---- keys


@pytest.mark.parametrize(
    "key",
    [
        *("model", "state_dict", "model_state_dict", "net", "network", "weights", "params", "module"),
        *("ema", "model_ema", "ema_state_dict", "state_dict_ema", "params_ema", "best_state_dict"),
    ],
)
def test_tensors_are_found_under_usual_keys(weights, key):
    optimizer = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
    assert_found({"epoch": 3, key: OrderedDict(weights), "optimizer": optimizer, "loss": torch.ones(1)}, weights)


def test_nested_keys_are_found(weights):
    assert_found({"model": {"state_dict": prefixed("module.", weights), "width": 3}, "epoch": 1}, weights)


def test_the_only_tensors_of_a_file_are_taken_and_told(weights):
    assert_found({"student": weights, "epoch": 1}, weights, "under the key 'student' are taken")


def test_plain_values_beside_bare_tensors_do_no_harm(weights):
    assert_found({**weights, "epoch": 3, "arch": "hrnet"}, weights)


@pytest.mark.parametrize("average", [None, "module"])
def test_averaged_weights_are_taken_and_told(weights, average):
    ema = {"module": prefixed("module.", weights), "updates": 9} if average else weights
    content = {"state_dict": changed(weights), "ema": ema}
    assert_found(content, weights, "the averaged weights (the key 'ema")


def test_equal_copies_are_one_network(weights):
    # as HRNet's programs write; 'model' is the architecture's name there
    content = {"model": "pose_hrnet", "state_dict": prefixed("module.", weights), "best_state_dict": weights}
    assert_found(content, weights)


@pytest.mark.parametrize("keys", [("model", "state_dict"), ("student", "teacher"), ("ema", "swa_model")])
def test_networks_that_differ_are_refused_by_their_keys(weights, keys):
    first, second = keys
    with pytest.raises(CheckpointError, match=rf"f\.pth: holds several networks, under the keys '{first}', '{second}'"):
        network_weights({first: weights, second: changed(weights)}, "f.pth")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"model": 3}, "got int there"),
        ({"epoch": 3}, "got nothing there"),
        ({"model": {"a": 1.0}}, "there 'a' is a float"),
        ({"state_dict": {}, "epoch": 3}, "got nothing there"),
        ({"state_dict": 3}, "got int there"),
        ({"state_dict": {"a": None}, "optimizer": {}}, "there 'a' is not a tensor .a NumPy array, perhaps"),
    ],
)
def test_content_without_tensors_is_refused(content, reason):
    with pytest.raises(CheckpointError, match=rf"file\.pth: expected the network's tensors under the key.*{reason}"):
        network_weights(content, "file.pth")


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
@pytest.mark.parametrize("key", [None, "optimizer", "optimizer_state_dict", "optim"])
def test_an_optimizers_state_alone_is_named(kind, key):
    layer = torch.nn.Linear(2, 2)
    optimizer = kind(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    content = {key: optimizer.state_dict(), "epoch": 3} if key else optimizer.state_dict()
    with pytest.raises(
        CheckpointError, match=r"f\.pth: .* it holds an optimizer's state and no weights; give the file"
    ):
        network_weights(content, "f.pth")


def test_an_optimizers_tensors_are_no_network():
    with pytest.raises(CheckpointError, match="it holds an optimizer's state and no weights"):
        network_weights({"optimizer": {"exp_avg": torch.ones(2)}, "epoch": 3}, "f.pth")
