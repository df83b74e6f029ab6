"""Penalty-reduced focal loss of heatmaps that are probabilities (Law and Deng, CornerNet, ECCV 2018)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from coupled_embedding.losses.heatmap import at_least_float32, by_joint

CONFIDENT_POWER = 2  # α: what is already sure counts less
NEAR_POWER = 4  # β: cells near a joint count less
SMALLEST = 1e-4  # probabilities are this far from 0 and 1 at least


def logistic_loss(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Return the masked sum over cells, divided by the masked number of joints (at least 1).

    −(1 − P)² ln P at a joint's cell, where T is 1, and −(1 − T)⁴ P² ln(1 − P) elsewhere.

    Args:
        prediction: (B, K, h, w) in [0, 1].
        target: (B, K, h, w) in [0, 1].
        mask: (B, h, w) or (B, K, h, w), weights of the cells.
    """
    p = at_least_float32(prediction).clamp(SMALLEST, 1 - SMALLEST)
    mask = by_joint(mask).to(p.dtype)
    at_joint = target == 1
    elsewhere = (1 - target) ** NEAR_POWER * p**CONFIDENT_POWER * (1 - p).log()
    terms = torch.where(at_joint, (1 - p) ** CONFIDENT_POWER * p.log(), elsewhere)
    return -(mask * terms).sum() / (mask * at_joint).sum().clamp_min(1)


class LogisticHeatmapLoss(nn.Module):
    """Sum over resolutions of `logistic_loss`, for a network whose heatmaps are probabilities."""

    def forward(
        self, heatmaps: Sequence[Tensor], targets: Sequence[Tensor], masks: Sequence[Tensor], tags: Tensor
    ) -> Tensor:
        """Return the loss, a scalar; arguments as of `HeatmapLoss`, tags are not used."""
        total = heatmaps[0].new_zeros((), dtype=at_least_float32(heatmaps[0]).dtype)
        for heatmap, target, mask in zip(heatmaps, targets, masks, strict=True):
            total = total + logistic_loss(heatmap, target, mask)
        return total
