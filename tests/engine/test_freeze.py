"""Parameters that stay as they are while the others train."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import train_config
from yacs.config import CfgNode

from coupled_embedding.builders import build_model
from coupled_embedding.config import load_config
from coupled_embedding.networks.building import freeze
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.utils.errors import ConfigError

Tiny = Callable[..., CfgNode]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


@pytest.fixture
def network(tiny_file: Path) -> PoseNetwork:
    return build_model(load_config(tiny_file), 14)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_frozen_parameters_do_not_change_in_a_training_and_others_do(
    tiny: Tiny, capsys: pytest.CaptureFixture[str], optimizer: str
) -> None:
    start = train_config(tiny("start", "TRAIN.EPOCHS", "1")) / "final.pth"
    capsys.readouterr()
    prefixes = ("backbone.stage2", "backbone.conv1", "head.tms")
    options = ["MODEL.INIT_FROM", str(start), "TRAIN.FREEZE", str(list(prefixes)), "TRAIN.OPTIMIZER", optimizer]
    folder = train_config(tiny("frozen", *options, "TRAIN.EPOCHS", "1", "TRAIN.WEIGHT_DECAY", "0.1"))
    assert "frozen: " in capsys.readouterr().out
    before, after = weights(start), weights(folder / "final.pth")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    parameters = {name for name, _ in build_model(tiny("names"), 14).named_parameters()}
    frozen = {name for name in parameters if name.startswith(prefixes)}
    assert frozen
    assert not changed & frozen
    assert changed >= parameters - frozen
    # statistics of batch norms go on
    assert any(name.startswith("backbone.stage2") and name.endswith("running_mean") for name in changed)


def test_freezing_says_how_many_parameters_it_leaves(network: PoseNetwork) -> None:
    frozen = ["backbone.stage3", "head"]
    (line,) = freeze(network, frozen)
    counts = [0, 0]
    for name, parameter in network.named_parameters():
        is_frozen = name.startswith(("backbone.stage3", "head"))
        assert parameter.requires_grad == (not is_frozen), name
        counts[0] += is_frozen * parameter.numel()
        counts[1] += parameter.numel()
    assert line == f"frozen: {counts[0]:,} of {counts[1]:,} parameters"


def test_no_prefix_freezes_nothing(network: PoseNetwork) -> None:
    assert freeze(network, []) == []
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_prefix_of_nothing_is_an_error_that_lists_what_there_is(network: PoseNetwork) -> None:
    with pytest.raises(ConfigError, match=r"TRAIN\.FREEZE: no parameter begins with 'trunk'; .*backbone\.stage2.*head"):
        freeze(network, ["head", "trunk"])
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("prefixes", [["backbone", "head"], ["b", "h"]])
def test_to_freeze_everything_is_an_error(network: PoseNetwork, prefixes: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"TRAIN\.FREEZE: \[.*\] leaves nothing to train"):
        freeze(network, prefixes)


def test_the_error_reaches_who_starts_a_training(tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match=r"TRAIN\.FREEZE: no parameter begins with 'backbone\.trunk'"):
        train_config(tiny("wrong", "TRAIN.FREEZE", "[backbone.trunk]"))
