"""TRAIN.RECOMPUTE: the same numbers in less memory."""

import copy

import pytest
import torch

from coupled_embedding.networks.folding import fold_batch_norm
from coupled_embedding.networks.recompute import recompute_blocks


def images():
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def passed(network):
    """Two training passes: outputs, and then gradients and batch statistics by name."""
    outputs = [network(factor * images()) for factor in (1, 2)]
    sum((h.square().sum() for output in outputs for h in output.heatmaps), outputs[0].tags.square().sum()).backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    return outputs[0].tags, {**gradients, **dict(network.named_buffers())}


@pytest.mark.parametrize("head", ["plain", "higher"])
def test_outputs_gradients_and_statistics_stay_to_the_bit(tiny_network, fill_by_name, head):
    network = fill_by_name(tiny_network(head=head)).train()
    other = copy.deepcopy(network)
    recompute_blocks(other)
    (tags, tensors), (other_tags, others) = passed(network), passed(other)
    assert torch.equal(tags, other_tags)
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, others[name]), name


def test_less_is_kept_for_the_backward_pass(tiny_network):
    def kept_bytes(network):
        kept = {}

        def keep(tensor):
            kept[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            network(images())
        return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())

    network = tiny_network().train()
    before = kept_bytes(network)
    recompute_blocks(network)
    assert kept_bytes(network) < 0.7 * before


def test_what_copies_a_network_works_on_it(tiny_network, fill_by_name):
    network = fill_by_name(tiny_network())
    expected, names = network(images()).tags, network.state_dict().keys()
    recompute_blocks(network)
    for same in (network, copy.deepcopy(network), fold_batch_norm(network)):
        assert torch.allclose(same.eval()(images()).tags, expected, atol=1e-5)
    assert network.state_dict().keys() == names
    assert {type(module).__name__ for module in network.modules()} >= {"RecomputedBasicBlock", "RecomputedBottleneck"}
