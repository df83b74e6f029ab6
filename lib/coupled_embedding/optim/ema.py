"""Exponential moving average of a network's weights and batch statistics."""

import copy

import torch
from torch import Tensor

from coupled_embedding.networks.pose_network import PoseNetwork


class MovingAverage:
    """Keeps averages of a network's parameters and buffers.

    The decay rises from 0.1 as (1 + n)/(10 + n), so that early weights are soon forgotten.

    Args:
        model: whose weights to average; it must keep its tensors, as a network that trains does.
        decay: of the average, in [0, 1).
    """

    def __init__(self, model: PoseNetwork, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0
        # listed once: walking through the modules takes longer than the update
        self._averages, self._counts = _tensors(self.model)
        self._weights, self._model_counts = _tensors(model)

    @torch.no_grad()
    def update(self) -> None:
        """Move the averages towards the present weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        torch._foreach_lerp_(self._averages, self._weights, 1 - decay)
        if self._counts:
            torch._foreach_copy_(self._counts, self._model_counts)


def _tensors(model: PoseNetwork) -> tuple[list[Tensor], list[Tensor]]:
    """Return parameters and statistics, which are averaged, and the counts of batches, which are copied."""
    tensors = [*model.parameters(), *model.buffers()]
    averaged = [tensor for tensor in tensors if tensor.is_floating_point()]
    return averaged, [tensor for tensor in tensors if not tensor.is_floating_point()]
