"""Small networks, and weights made from each key's name as in the recordings."""

from collections.abc import Callable

import pytest
import torch
from named_weights import weight_from_name

from coupled_embedding.networks.hrnet import HRNetSettings
from coupled_embedding.networks.pose_network import PoseNetwork

TINY = HRNetSettings(width=4, stem_width=8, stem_blocks=1, stage_modules=(1, 1, 2), stage_blocks=1)


@pytest.fixture(scope="session")
def tiny() -> HRNetSettings:
    return TINY


@pytest.fixture(scope="session")
def tiny_network() -> Callable[..., PoseNetwork]:
    def build(num_joints: int = 3, tag_dim: int = 2, head: str = "higher", seed: int = 0, **options) -> PoseNetwork:
        torch.manual_seed(seed)
        return PoseNetwork(num_joints, tag_dim, TINY, head, head_blocks=1, **options).eval()

    return build


@pytest.fixture(scope="session")
def weights_by_name() -> Callable[[dict[str, list[int]]], dict[str, torch.Tensor]]:
    """Make a state dict of names and shapes."""

    def make(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
        return {name: weight_from_name(name, tuple(shape)) for name, shape in shapes.items()}

    return make


@pytest.fixture(scope="session")
def fill_by_name(weights_by_name) -> Callable[[PoseNetwork], PoseNetwork]:
    def fill(network: PoseNetwork) -> PoseNetwork:
        shapes = {name: list(value.shape) for name, value in network.state_dict().items()}
        network.load_state_dict(weights_by_name(shapes), assign=True)
        return network.eval()

    return fill
