"""The released program's losses, written plainly: photo by photo, person by person, joint by joint."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

WEIGHTS = (1.0, 1e-3, 1e-3, 1e-4)  # heatmap, pull, push, coupling


def losses(
    heatmaps: Sequence[Tensor],
    tags: Tensor,
    targets: Sequence[Tensor],
    masks: Sequence[Tensor],
    joints: Tensor,
    scales: Tensor,
    beta: float,
) -> list[Tensor]:
    """Return the weighted heatmap, pull, push and coupling losses (METHOD.md §3).

    Args:
        heatmaps, targets: (B, K, h, w) a resolution.
        tags: (B, K, h, w, D).
        masks: (B, h, w) float32 a resolution.
        joints: (B, M, K, 2) int64: k·h·w + y·w + x and 1, a person's visible joints first, then zeros.
        scales: (B, M).
    """
    heatmap = torch.zeros(())
    tag_scale = predicted_scale(tags)
    for prediction, target, mask in zip(heatmaps, targets, masks, strict=True):
        adapted = adapted_target(target, tag_scale, beta)
        heatmap = heatmap + focal_error(prediction, adapted, mask)
    dims = tags.shape[-1]
    photos = [
        embedding_losses(photo_tags.reshape(-1, dims), photo_joints, photo_scales)
        for photo_tags, photo_joints, photo_scales in zip(tags, joints, scales, strict=True)
    ]
    means = [torch.stack(values).mean() for values in zip(*photos, strict=True)]
    return [weight * value for weight, value in zip(WEIGHTS, [heatmap, *means], strict=True)]


def bin_centers(dims: int) -> Tensor:
    """Return the person scales (d + ½)/D of the tag dimensions."""
    return (torch.arange(dims) + 0.5) / dims


def predicted_scale(tags: Tensor) -> Tensor:
    """Return (B, K, h, w) scales told by tags (B, K, h, w, D)."""
    magnitude = tags.detach().abs()
    return (magnitude * bin_centers(tags.shape[-1])).sum(-1) / magnitude.sum(-1).clamp(min=1e-12)


def adapted_target(target: Tensor, scale: Tensor, beta: float) -> Tensor:
    """Return the target with Gaussians as wide as the predicted scale says."""
    if scale.shape != target.shape:
        scale = F.interpolate(scale, size=target.shape[2:], mode="bilinear", align_corners=False)
    return torch.pow(target, (beta / scale) ** 2)


def focal_error(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the weighted, masked squared error."""
    confidence = (1 - torch.log(target)) ** -0.01
    weight = confidence * torch.abs(1 - prediction) + (1 - confidence) * torch.abs(prediction)
    error = weight * (prediction - target) ** 2 * mask[:, None].expand_as(prediction)
    return error.mean(3).mean(2).mean(1).mean(0)


def embedding_losses(tags: Tensor, joints: Tensor, scales: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return pull, push and coupling of one photo: tags (K·h·w, D), joints (M, K, 2), scales (M,)."""
    means, pull, coupling = [], torch.zeros(()), torch.zeros(())
    centers = bin_centers(tags.shape[1])
    for person, scale in zip(joints, scales, strict=True):
        found = [tags[joint[0]] for joint in person if joint[1] > 0]
        if not found:
            continue
        own = torch.stack(found)
        mean = own.mean(0)
        means.append(mean)
        pull = pull + ((own - mean.expand_as(own)) ** 2).sum(1).mean()
        wanted = 1 / ((scale - centers).abs() + 1e-12)
        coupling = coupling + 1 - F.cosine_similarity(mean.abs(), wanted, dim=0)
    people = len(means)
    if people == 0:
        zero = tags.sum() * 0
        return zero, zero, zero
    if people == 1:
        return pull, torch.zeros(()), coupling
    stacked = torch.stack(means)
    size = (people, people, stacked.shape[1])
    difference = stacked[:, None].expand(*size) - stacked[None].expand(*size)
    push = torch.exp(-(difference**2).sum(2)).sum() - people
    return pull / people, 0.5 * push / (people * (people - 1)), coupling / people
