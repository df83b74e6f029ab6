"""Heatmap loss with scale-adapted targets and the soft focal weight (docs/method.md 3)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

SMALLEST_TAG_SUM = 1e-12
FOCAL_POWER = -0.01  # of the confidence in section 3


def at_least_float32(x: Tensor) -> Tensor:
    """Return ``x`` in float32 if it is of lower precision: losses never run in half precision."""
    return x if x.dtype == torch.float64 else x.float()


def by_joint(mask: Tensor) -> Tensor:
    """Return a mask as (B, 1, h, w) or (B, K, h, w): one of (B, h, w) is for all joints."""
    return mask[:, None] if mask.ndim == 3 else mask


def bin_centers(tag_dim: int, like: Tensor) -> Tensor:
    """Return the D person scales (d + ½)/D that the tag dimensions represent."""
    return (torch.arange(tag_dim, device=like.device, dtype=like.dtype) + 0.5) / tag_dim


@torch.no_grad()
def predicted_scales(tags: Tensor) -> Tensor:
    """Return the person scale that each cell's tag represents: Σ c_d |t_d| / Σ |t_d|, without gradient.

    Args:
        tags: (B, K, h, w, D).

    Returns:
        (B, K, h, w) in [0, 1), in units of the input's side; 0 where all of a tag is 0, where the target keeps only its
        peak.
    """
    # a channels-last network's own order, so that nothing is moved; the absolute value while it is small
    magnitude = at_least_float32(tags.permute(0, 2, 3, 1, 4).abs())
    centers = bin_centers(tags.shape[-1], magnitude)
    weighted, total = (magnitude @ torch.stack((centers, torch.ones_like(centers)), 1)).unbind(-1)
    return (weighted / total.clamp_min(SMALLEST_TAG_SUM)).permute(0, 3, 1, 2)


@torch.no_grad()
def width_exponent(scales: Tensor, size: tuple[int, int], beta: float) -> Tensor:
    """Return the exponent e = (β/s)²: T^e is a target T whose Gaussians are s/β times as wide.

    Args:
        scales: (B, K, h, w), upsampled bilinearly if the wanted size is larger.
        size: (height, width) of the target.
        beta: the person scale that keeps its width.
    """
    if tuple(scales.shape[-2:]) != size:
        scales = F.interpolate(scales, size=size, mode="bilinear", align_corners=False)
    return (beta / scales) ** 2


def focal_confidence(target: Tensor) -> Tensor:
    """Return q = (1 − ln T)^(−0.01) of a target in [0, 1]: 1 where T is 1, 0 where T is 0."""
    return (1 - target.log()) ** FOCAL_POWER


def focal_weight(prediction: Tensor, confidence: Tensor) -> Tensor:
    """Return q·|1 − P| + (1 − q)·|P|, the weight of a cell's squared error."""
    return confidence * (1 - prediction).abs() + (1 - confidence) * prediction.abs()


def _error_and_slope(prediction: Tensor, target: Tensor, focal: bool) -> tuple[Tensor, Tensor]:
    """Return each cell's error and its derivative by the prediction."""
    difference = prediction - target
    if not focal:
        return difference * difference, 2 * difference
    confidence = focal_confidence(target)
    weight_slope = (1 - confidence) * prediction.sign() - confidence * (1 - prediction).sign()
    product = focal_weight(prediction, confidence) * difference
    return product * difference, 2 * product + difference * difference * weight_slope


def _background(prediction: Tensor, focal: bool) -> tuple[Tensor, Tensor]:
    """`_error_and_slope` where the target is 0, and so q is 0: most of a map, at few operations."""
    if not focal:
        return prediction * prediction, 2 * prediction
    product = prediction * prediction.abs()
    return product * prediction, 3 * product


class _MaskedMean(torch.autograd.Function):
    """Mean over (B, K, h, w) of the masked error, with its gradient from the same pass."""

    @staticmethod
    def forward(
        ctx: Any, prediction: Tensor, target: Tensor, mask: Tensor, exponent: Tensor | None, focal: bool
    ) -> Tensor:
        """Return the mean; the gradient is ready when this returns."""
        if prediction.is_cuda:
            # finding the cells with a target would make the device wait
            adapted = target if exponent is None else target**exponent
            error, slope = _error_and_slope(prediction, adapted, focal)
        else:
            error, slope = _background(prediction, focal)
            places = target.flatten().nonzero()[:, 0]
            chosen = target.flatten()[places]
            if exponent is not None:
                chosen = chosen ** exponent.flatten()[places]
            error_there, slope_there = _error_and_slope(prediction.flatten()[places], chosen, focal)
            error.view(-1)[places] = error_there
            slope.view(-1)[places] = slope_there
        mask = by_joint(mask).to(prediction.dtype)
        ctx.save_for_backward(slope.mul_(mask).div_(slope.numel()))
        return error.mul_(mask).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return slope * gradient, None, None, None, None


class HeatmapLoss(nn.Module):
    """Sum over resolutions of the masked, weighted squared error, mean over (B, K, h, w).

    Args:
        beta: the person scale that keeps its targets' width, see `width_exponent`.
        scale_adapted: whether the tags decide the targets' widths.
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
            masks: (B, h, w) or (B, K, h, w) a resolution, 1 where the image is labelled.
            tags: (B, K, h, w, D) of the lowest resolution.
        """
        scales = predicted_scales(tags).contiguous() if self.scale_adapted else None
        total = heatmaps[0].new_zeros((), dtype=at_least_float32(heatmaps[0]).dtype)
        for heatmap, target, mask in zip(heatmaps, targets, masks, strict=True):
            # one layout for all: a channels-last network's maps are not in the targets' order
            heatmap = at_least_float32(heatmap).contiguous()
            exponent = None if scales is None else self._exponent(scales, heatmap)
            target = target.to(heatmap.dtype).contiguous()
            total = total + _MaskedMean.apply(heatmap, target, mask, exponent, self.focal)
        return total

    def _exponent(self, scales: Tensor, heatmap: Tensor) -> Tensor:
        return width_exponent(scales, (heatmap.shape[-2], heatmap.shape[-1]), self.beta)
