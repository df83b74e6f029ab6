"""Losses of center maps (docs/method.md 9.6)."""

import torch
from torch import Tensor

from coupled_embedding.data.centers import CenterTargets
from coupled_embedding.losses.logistic import logistic_loss

CENTER_TERMS = ("center_heatmap", "displacement")


def center_losses(centers: Tensor, targets: CenterTargets) -> dict[str, Tensor]:
    """Return the terms ``center_heatmap`` and ``displacement``, scalars without weights.

    ``center_heatmap`` is the `logistic_loss`; ``displacement`` the distance |Δx| + |Δy| of the predicted joints, in
    person scales, read at its center's cell: the weighted mean over the batch's joints.

    Args:
        centers: (B, 1 + 2·K, h, w) center maps.
        targets: of the same images.
    """
    heatmap = logistic_loss(centers[:, :1], targets.heatmap, targets.mask)
    batch = torch.arange(len(centers), device=centers.device)[:, None]
    predicted = centers[batch, 1:, targets.cells[..., 1], targets.cells[..., 0]]  # (B, M, 2·K)
    error = (predicted.unflatten(-1, (-1, 2)) - targets.displacements).abs().sum(-1)
    error = error / targets.sizes.clamp_min(1)[..., None]
    weights = targets.weights.to(error.dtype)
    # of a person without a center the cell is any one
    error = torch.where(weights > 0, error, 0.0)
    displacement = (error * weights).sum() / weights.sum().clamp_min(1)
    return dict(zip(CENTER_TERMS, (heatmap, displacement), strict=True))
