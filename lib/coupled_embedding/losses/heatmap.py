"""Heatmap loss with scale-adapted targets and the soft focal weight (METHOD.md §3)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALLEST_TAG_SUM = 1e-12
FOCAL_POWER = -0.01


def at_least_float32(x: Tensor) -> Tensor:
    """Return ``x`` in float32 if it is of lower precision: losses never run in half precision."""
    return x if x.dtype == torch.float64 else x.float()


def bin_centers(tag_dim: int, like: Tensor) -> Tensor:
    """Return the D person scales (d + ½)/D that the tag dimensions stand for."""
    return (torch.arange(tag_dim, device=like.device, dtype=like.dtype) + 0.5) / tag_dim


@torch.no_grad()
def predicted_scales(tags: Tensor) -> Tensor:
    """Return the person scale that each cell's tag tells: Σ c_d |t_d| / Σ |t_d|, without gradient.

    Args:
        tags: (B, K, h, w, D).

    Returns:
        (B, K, h, w) in (0, 1), in units of the input's side; 0 where all of a tag is 0.
    """
    magnitude = tags.abs()
    weighted = magnitude @ bin_centers(tags.shape[-1], magnitude)
    return weighted / magnitude.sum(-1).clamp_min(SMALLEST_TAG_SUM)


@torch.no_grad()
def scale_adapted_target(target: Tensor, scales: Tensor, beta: float) -> Tensor:
    """Return T^((β/s)²): the target's Gaussians with their width times s/β.

    Args:
        target: (B, K, H, W) in [0, 1].
        scales: (B, K, h, w), enlarged bilinearly if the target is larger.
        beta: the person scale that keeps its width.
    """
    if scales.shape != target.shape:
        scales = F.interpolate(scales, size=target.shape[-2:], mode="bilinear", align_corners=False)
    return target ** (beta / scales) ** 2


def focal_weight(prediction: Tensor, target: Tensor) -> Tensor:
    """Return q·|1 − P| + (1 − q)·|P| with q = (1 − ln T)^(−0.01), 0 where T is 0."""
    confidence = (1 - target.log()) ** FOCAL_POWER
    return confidence * (1 - prediction).abs() + (1 - confidence) * prediction.abs()


class HeatmapLoss(nn.Module):
    """Sum over resolutions of the masked, weighted squared error, mean over (B, K, h, w).

    Args:
        beta: see `scale_adapted_target`.
        scale_adapted: whether targets take the width that the tags tell.
        focal: whether errors are weighted by `focal_weight`.
    """

    def __init__(self, beta: float = 0.4, scale_adapted: bool = True, focal: bool = True) -> None:
        super().__init__()
        self.beta, self.scale_adapted, self.focal = beta, scale_adapted, focal

    def forward(
        self, heatmaps: Sequence[Tensor], targets: Sequence[Tensor], masks: Sequence[Tensor], tags: Tensor
    ) -> Tensor:
        """Return the loss, a scalar.

        Args:
            heatmaps, targets: (B, K, h, w) a resolution.
            masks: (B, h, w) a resolution, 1 where the photo is labelled.
            tags: (B, K, h, w, D) of the lowest resolution.
        """
        scales = predicted_scales(at_least_float32(tags)) if self.scale_adapted else None
        total = heatmaps[0].new_zeros((), dtype=at_least_float32(heatmaps[0]).dtype)
        for heatmap, target, mask in zip(heatmaps, targets, masks, strict=True):
            total = total + self._one_resolution(at_least_float32(heatmap), target, mask, scales)
        return total

    def _one_resolution(self, heatmap: Tensor, target: Tensor, mask: Tensor, scales: Tensor | None) -> Tensor:
        target = target.to(heatmap.dtype)
        if scales is not None:
            target = scale_adapted_target(target, scales, self.beta)
        error = (heatmap - target) ** 2
        if self.focal:
            error = error * focal_weight(heatmap, target)
        return (error * mask.to(error.dtype)[:, None]).mean()
