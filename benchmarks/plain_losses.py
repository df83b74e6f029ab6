"""The losses written plainly, as the released program has them: image by image, person by person, joint by joint.

Baseline of `losses.py` and oracle of tests/losses. Formulas: docs/method.md, section 3. Any floating type.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def losses(
    heatmaps: Sequence[Tensor],
    tags: Tensor,
    targets: Sequence[Tensor],
    masks: Sequence[Tensor],
    cells: Tensor,
    visible: Tensor,
    scales: Tensor,
    beta: float,
) -> dict[str, Tensor]:
    """Return the terms ``heatmap``, ``pull``, ``push``, ``coupling`` without weights.

    Args:
        heatmaps, targets: (B, K, h, w) a resolution.
        tags: (B, K, h, w, D).
        masks: (B, h, w) a resolution.
        cells: (B, M, K, 2) int64 x, y.
        visible: (B, M, K) bool.
        scales: (B, M).
        beta: the person scale that keeps its targets' width.
    """
    return {
        "heatmap": heatmap_loss(heatmaps, targets, masks, tags, beta),
        **embedding_losses(tags, cells, visible, scales),
    }


def heatmap_loss(
    heatmaps: Sequence[Tensor],
    targets: Sequence[Tensor],
    masks: Sequence[Tensor],
    tags: Tensor,
    beta: float | None,
    focal: bool = True,
) -> Tensor:
    """Return the sum over resolutions of the mean error; ``beta`` None: targets keep their width."""
    total = torch.zeros(())
    tag_scale = predicted_scale(tags)
    for prediction, target, mask in zip(heatmaps, targets, masks, strict=True):
        adapted = target if beta is None else adapted_target(target, tag_scale, beta)
        weight = focal_weight(prediction, adapted) if focal else torch.ones_like(prediction)
        error = weight * (prediction - adapted) ** 2 * mask[:, None].expand_as(prediction)
        total = total + error.mean(3).mean(2).mean(1).mean(0)
    return total


def bin_centers(tags: Tensor) -> Tensor:
    """Return the person scales (d + ½)/D of the tag dimensions."""
    return (torch.arange(tags.shape[-1], dtype=tags.dtype) + 0.5) / tags.shape[-1]


def predicted_scale(tags: Tensor) -> Tensor:
    """Return the scales (B, K, h, w) that tags (B, K, h, w, D) represent."""
    magnitude = tags.detach().abs()
    return (magnitude * bin_centers(tags)).sum(-1) / magnitude.sum(-1).clamp(min=1e-12)


def adapted_target(target: Tensor, scale: Tensor, beta: float) -> Tensor:
    """Return the target with Gaussians as wide as the predicted scale says."""
    if scale.shape != target.shape:
        scale = F.interpolate(scale, size=target.shape[2:], mode="bilinear", align_corners=False)
    return torch.pow(target, (beta / scale) ** 2)


def focal_weight(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the weight of each cell's squared error."""
    confidence = (1 - torch.log(target)) ** -0.01
    return confidence * torch.abs(1 - prediction) + (1 - confidence) * torch.abs(prediction)


def embedding_losses(tags: Tensor, cells: Tensor, visible: Tensor, scales: Tensor) -> dict[str, Tensor]:
    """Return the means over images of ``pull``, ``push``, ``coupling``; arguments as of `losses`."""
    images = [image_losses(*image) for image in zip(tags, cells, visible, scales, strict=True)]
    means = [torch.stack(values).mean() for values in zip(*images, strict=True)]
    return dict(zip(("pull", "push", "coupling"), means, strict=True))


def image_losses(tags: Tensor, cells: Tensor, visible: Tensor, scales: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return pull, push and coupling of one image: (K, h, w, D), (M, K, 2), (M, K), (M,)."""
    num_joints, height, width, dims = tags.shape
    zero = tags.sum() * 0
    pixels, centers = tags.reshape(-1, dims), bin_centers(tags)
    places = (torch.arange(num_joints) * height + cells[..., 1]) * width + cells[..., 0]
    means, pull, push, coupling = [], zero, zero, zero
    for person, seen, scale in zip(places, visible, scales, strict=True):
        found = [pixels[place] for place, there in zip(person, seen, strict=True) if there]
        if not found:
            continue
        own = torch.stack(found)
        mean = own.mean(0)
        means.append(mean)
        pull = pull + ((own - mean.expand_as(own)) ** 2).sum(1).mean()
        wanted = 1 / ((scale - centers).abs() + 1e-12)
        coupling = coupling + 1 - F.cosine_similarity(mean.abs(), wanted, dim=0)
    people = len(means)
    if people > 1:
        stacked = torch.stack(means)
        size = (people, people, dims)
        difference = stacked[:, None].expand(*size) - stacked[None].expand(*size)
        push = 0.5 * (torch.exp(-(difference**2).sum(2)).sum() - people) / (people * (people - 1))
    return pull / max(people, 1), push, coupling / max(people, 1)
