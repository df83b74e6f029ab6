import copy

import pytest
import torch
from torch import nn

from coupled_embedding.builders import build_model, build_optimizer
from coupled_embedding.config import load_config
from coupled_embedding.optim.optimizer import (
    Muon,
    orthogonalised,
    parameter_groups,
    set_learning_rate,
    step_if_finite,
    torch_optimizer,
)
from coupled_embedding.utils.errors import ConfigError

TINY = ["MODEL.WIDTH", "4", "MODEL.STEM_WIDTH", "4", "MODEL.STAGE_MODULES", "[1, 1, 1]", "MODEL.STAGE_BLOCKS", "1"]
TINY += ["MODEL.STEM_BLOCKS", "1", "MODEL.HEAD_BLOCKS", "1"]


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(8, 8), (4, 36), (36, 4), (1, 9), (16, 144)])
def test_orthogonalised_keeps_the_singular_vectors_and_evens_out_the_values(shape):
    # with known singular values, all of them well away from 0
    left, _, right = torch.linalg.svd(random(3, *shape), full_matrices=False)
    values = torch.linspace(1, 0.2, min(shape))
    result = orthogonalised(left * values @ right * 1e-3)
    there = left.mT @ result @ right.mT
    diagonal = there.diagonal(dim1=-2, dim2=-1)
    assert diagonal.min() > 0.6
    assert diagonal.max() < 1.3
    torch.testing.assert_close(there, torch.diag_embed(diagonal), rtol=0, atol=2e-4)


def test_orthogonalised_equals_the_iteration_on_the_whole_matrix():
    matrix = random(5, 20)
    x = matrix / matrix.norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    torch.testing.assert_close(orthogonalised(matrix[None])[0], x, rtol=1e-4, atol=1e-5)


def test_matrices_move_by_the_orthogonalised_nesterov_momentum():
    weight, learning_rate, momentum = nn.Parameter(random(4, 3, 2, 2)), 0.1, 0.9
    expected, average = weight.detach().clone(), torch.zeros(4, 12)
    optimizer = Muon([weight], [], learning_rate, momentum, weight_decay=0.5)
    for step in range(3):
        gradient = random(4, 3, 2, 2, seed=step + 1)
        weight.grad = gradient.clone()
        optimizer.step()
        flat = gradient.reshape(4, 12)
        average = momentum * average + (1 - momentum) * flat
        update = orthogonalised((momentum * average + (1 - momentum) * flat)[None])[0]
        expected = expected * (1 - learning_rate * 0.5) - learning_rate * 0.2 * 12**0.5 * update.reshape(4, 3, 2, 2)
        torch.testing.assert_close(weight.detach(), expected, rtol=1e-4, atol=1e-5)


def test_others_move_as_with_adam():
    mine, theirs = nn.Parameter(random(7)), nn.Parameter(random(7))
    ours, adam = Muon([], [mine], 0.01, weight_decay=0.1), torch.optim.Adam([theirs], 0.01, weight_decay=0.1)
    for step in range(4):
        mine.grad = random(7, seed=step)
        theirs.grad = random(7, seed=step)
        ours.step()
        adam.step()
    torch.testing.assert_close(mine, theirs)


def test_like_shaped_layers_are_updated_as_if_alone():
    together, alone = ([nn.Parameter(random(4, 4, 3, 3, seed=i)) for i in range(3)] for _ in range(2))
    for parameters in (together, alone):
        for i, parameter in enumerate(parameters):
            parameter.grad = random(4, 4, 3, 3, seed=10 + i)
    together[1].grad = None  # takes no part
    Muon(together, [], 0.1).step()
    for parameter in (alone[0], alone[2]):
        Muon([parameter], [], 0.1).step()
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b)


def test_a_reloaded_state_goes_on_bit_for_bit():
    weights = [nn.Parameter(random(4, 4, 3, 3)), nn.Parameter(random(5))]
    optimizer = Muon(weights[:1], weights[1:], 0.1)

    def advance(optimizer, parameters, seeds):
        for seed in seeds:
            for parameter in parameters:
                parameter.grad = random(*parameter.shape, seed=seed)
            optimizer.step()

    advance(optimizer, weights, range(2))
    copies = [nn.Parameter(w.detach().clone()) for w in weights]
    resumed = Muon(copies[:1], copies[1:], 0.1)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    advance(optimizer, weights, range(2, 5))
    advance(resumed, copies, range(2, 5))
    assert all(torch.equal(a, b) for a, b in zip(weights, copies, strict=True))


def test_a_closure_is_called_with_gradients():
    weight = nn.Parameter(random(3, 3))
    optimizer = Muon([weight], [], 0.1)

    def closure():
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) > optimizer.step(closure)


@pytest.mark.parametrize("head", ["plain", "higher"])
def test_inner_convolutions_are_the_matrices(head):
    cfg = load_config(None, [*TINY, "MODEL.HEAD", head, "TRAIN.OPTIMIZER", "muon"])
    network = build_model(cfg, 3)
    inner, others = (group["params"] for group in build_optimizer(cfg, network).param_groups)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    left = {names[id(p)] for p in others if p.ndim == 4}
    assert len(inner) + len(others) == len(names)
    assert all(p.ndim == 4 for p in inner)
    assert left == {"backbone.conv1.weight"} | {n for n in names.values() if "pred_layers" in n and "weight" in n}


def test_inner_convolutions_of_hourglasses_are_the_matrices():
    hourglass = ["MODEL.BACKBONE", "hourglass", "MODEL.STACKS", "2", "MODEL.HOURGLASS_DEPTH", "1"]
    cfg = load_config(None, [*TINY, *hourglass, "MODEL.HEAD", "plain", "TRAIN.OPTIMIZER", "muon"])
    network = build_model(cfg, 3)
    _, others = (group["params"] for group in build_optimizer(cfg, network).param_groups)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    left = {names[id(p)] for p in others if p.ndim == 4}
    assert left == {"backbone.pre.0.conv.weight", *(f"backbone.outs.{i}.conv.weight" for i in range(2))}


def test_adam_is_the_default_with_the_configs_rate():
    cfg = load_config(None, [*TINY, "TRAIN.LR", "0.002", "TRAIN.WEIGHT_DECAY", "0.1"])
    optimizer = build_optimizer(cfg, build_model(cfg, 3))
    assert type(optimizer) is torch.optim.Adam
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (0.002, 0.1)


@pytest.mark.parametrize("name", ["rmsprop", "sgd"])
def test_rmsprop_and_sgd_move_by_their_formulas(name):
    weight, lr, decay = nn.Parameter(random(5)), 0.1, 0.3
    expected, memory = weight.detach().clone(), torch.zeros(5)
    optimizer = torch_optimizer(name, [{"params": [weight]}], lr, decay)
    for step in range(3):
        weight.grad = random(5, seed=step)
        step_if_finite(optimizer, torch.tensor(True))
        gradient = random(5, seed=step) + decay * expected
        if name == "sgd":
            memory = 0.9 * memory + gradient
            expected = expected - lr * memory
        else:
            memory = 0.99 * memory + 0.01 * gradient**2
            expected = expected - lr * gradient / (memory.sqrt() + 1e-8)
        torch.testing.assert_close(weight.detach(), expected, rtol=1e-5, atol=1e-6)
    step_if_finite(optimizer, torch.tensor(False))
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "kind"), [("rmsprop", torch.optim.RMSprop), ("sgd", torch.optim.SGD)])
def test_the_optimizer_is_an_option(name, kind):
    cfg = load_config(None, [*TINY, "TRAIN.OPTIMIZER", name, "TRAIN.LR", "0.002", "TRAIN.WEIGHT_DECAY", "0.1"])
    optimizer = build_optimizer(cfg, build_model(cfg, 3))
    assert type(optimizer) is kind
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (0.002, 0.1)
    assert optimizer.defaults.get("momentum", 0) == (0.9 if name == "sgd" else 0)


def test_parameters_of_a_prefix_learn_at_another_rate():
    options = ["TRAIN.OPTIMIZER", "sgd", "TRAIN.LR_PREFIXES", "[backbone.conv1, backbone.bn1]", "TRAIN.LR_FACTOR", "5"]
    cfg = load_config(None, [*TINY, *options])
    network = build_model(cfg, 3)
    optimizer = build_optimizer(cfg, network)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    set_learning_rate(optimizer, 0.01)
    optimizer.step()
    assert len(before) == sum(len(group["params"]) for group in optimizer.param_groups)
    for name, parameter in network.named_parameters():
        rate = 0.05 if name.startswith(("backbone.conv1", "backbone.bn1")) else 0.01
        torch.testing.assert_close(parameter.detach(), before[name] - rate)


def test_a_prefix_of_no_parameter_is_named():
    with pytest.raises(ConfigError, match=r"TRAIN.LR_PREFIXES: no parameter begins with 'neck'; there are backbone\."):
        parameter_groups({"backbone.conv1.weight": nn.Parameter(random(2))}, ["neck"], 2.0)
    with pytest.raises(ConfigError, match=r"TRAIN.LR_PREFIXES: invalid with TRAIN.OPTIMIZER muon"):
        load_config(None, ["TRAIN.OPTIMIZER", "muon", "TRAIN.LR_PREFIXES", "[head]"])
