"""Small networks, and weights made from each key's name as in the recordings."""

import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch

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


def weight_from_name(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Follow reference/README.md's recipe for ``forward_*.npz``."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("running_var"):
        values = random.uniform(0.5, 1.5, shape)
    elif len(shape) == 4:
        values = random.standard_normal(shape) * np.sqrt(1 / (shape[1] * shape[2] * shape[3]))
    elif name.endswith("weight"):
        values = random.uniform(0.2, 0.6, shape)
    else:
        values = random.standard_normal(shape) * 0.1
    return torch.from_numpy(values.astype(np.float32))


@pytest.fixture(scope="session")
def weights_by_name() -> Callable[[dict[str, list[int]]], dict[str, torch.Tensor]]:
    """Make a state dict of names and shapes."""

    def make(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
        return {
            name: torch.zeros((), dtype=torch.long)
            if name.endswith("num_batches_tracked")
            else weight_from_name(name, tuple(shape))
            for name, shape in shapes.items()
        }

    return make


@pytest.fixture(scope="session")
def fill_by_name(weights_by_name) -> Callable[[PoseNetwork], PoseNetwork]:
    def fill(network: PoseNetwork) -> PoseNetwork:
        shapes = {name: list(value.shape) for name, value in network.state_dict().items()}
        network.load_state_dict(weights_by_name(shapes), assign=True)
        return network.eval()

    return fill
