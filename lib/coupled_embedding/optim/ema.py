"""Exponential moving average of a network's weights and batch statistics."""

import copy

import torch

from coupled_embedding.networks.pose_network import PoseNetwork


class MovingAverage:
    """Keeps averages of a network's parameters and buffers.

    The decay rises from 0.1 as (1 + n)/(10 + n), so that early weights are soon forgotten.

    Args:
        model: whose weights to average.
        decay: of the average, in [0, 1).
    """

    def __init__(self, model: PoseNetwork, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: PoseNetwork) -> None:
        """Move the averages towards the present weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        mine, theirs = self.model.state_dict(), model.state_dict()
        averaged = [name for name, tensor in mine.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([mine[n] for n in averaged], [theirs[n] for n in averaged], 1 - decay)
        for name in mine.keys() - set(averaged):
            mine[name].copy_(theirs[name])
