"""Exponential moving average of a network's weights and batch statistics."""

import copy

import torch
from torch import nn


class MovingAverage:
    """Keeps averages of a network's parameters and buffers.

    The decay rises from 0.1 as (1 + n)/(10 + n), so that early weights are forgotten soon.

    Args:
        network: whose weights to average.
        decay: of the average, in [0, 1).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the averages towards the network's present weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        mine, theirs = self.network.state_dict(), network.state_dict()
        averaged = [name for name, tensor in mine.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([mine[n] for n in averaged], [theirs[n] for n in averaged], 1 - decay)
        for name in mine.keys() - set(averaged):
            mine[name].copy_(theirs[name])
