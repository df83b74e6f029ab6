"""Pull, push and coupling losses over a batch of people, without loops (docs/method.md 3)."""

import torch
from torch import Tensor, nn

from coupled_embedding.losses.heatmap import at_least_float32, bin_centers

COUPLING_EPSILON = 1e-12


def tags_at_joints(tags: Tensor, cells: Tensor) -> Tensor:
    """Return the tag of each person's joint.

    Args:
        tags: (B, K, h, w, D).
        cells: (B, M, K, 2) int64 (x, y) cells inside the map.

    Returns:
        (B, M, K, D).
    """
    batch = torch.arange(tags.shape[0], device=tags.device)[:, None, None]
    joint = torch.arange(tags.shape[1], device=tags.device)
    return tags[batch, joint, cells[..., 1], cells[..., 0]]


def without_places(tags: Tensor, spatial_dims: int) -> Tensor:
    """Return tags (..., D) without their last dimensions, which hold places."""
    # no slice of all of them: gradients would be added up in another order
    return tags[..., :-spatial_dims] if spatial_dims else tags


def mean_tags(joint_tags: Tensor, weight: Tensor) -> Tensor:
    """Return each person's mean tag (B, M, D), weighted by joint (B, M, K); zeros for a person without a joint."""
    weight = weight.to(joint_tags.dtype)[..., None]
    return (joint_tags * weight).sum(2) / _divisor(weight.sum(2))


class EmbeddingLoss(nn.Module):
    """Pull each person's tags together, push people apart, couple mean tags to scales.

    Args:
        spatial_dims: a tag's last dimensions that hold places and are not coupled.
    """

    def __init__(self, spatial_dims: int = 0) -> None:
        super().__init__()
        self.spatial_dims = spatial_dims

    def forward(
        self, tags: Tensor, cells: Tensor, visible: Tensor, scales: Tensor, confidence: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the terms ``pull``, ``push`` and ``coupling``: scalars without weights, means over the batch's images.

        Args:
            tags: (B, K, h, w, D).
            cells: (B, M, K, 2) int64 (x, y) of each person's joints, any cell where invisible.
            visible: (B, M, K) bool; a person without a visible joint does not count.
            scales: (B, M) person scales in units of the input's side.
            confidence: (B, M, K) in [0, 1], weights of the joints; a person's weight is that of the surest one. None:
                all count alike.
        """
        joint_tags = at_least_float32(tags_at_joints(tags, cells))  # (B, M, K, D)
        weight = visible.to(joint_tags.dtype)
        if confidence is not None:
            weight = weight * confidence.to(weight.dtype)
        people = weight.amax(-1)  # (B, M)
        means = mean_tags(joint_tags, weight)  # (B, M, D)
        coupled, scales = without_places(means, self.spatial_dims), scales.to(means.dtype)
        return {
            "pull": _over_people(_pull(joint_tags, means, weight), people).mean(),
            "push": _push(means, people).mean(),
            "coupling": _over_people(_coupling(coupled, scales, people > 0), people).mean(),
        }


def _divisor(weights: Tensor) -> Tensor:
    """Return sums of weights, and 1 instead of 0."""
    return torch.where(weights > 0, weights, 1)


def _over_people(values: Tensor, people: Tensor) -> Tensor:
    """Mean of (B, M) values over an image's people, by their weights (B, M); 0 for an image without people."""
    return (values * people).sum(1) / _divisor(people.sum(1))


def _pull(joint_tags: Tensor, means: Tensor, weight: Tensor) -> Tensor:
    distances = ((joint_tags - means[:, :, None]) ** 2).sum(-1) * weight  # (B, M, K)
    return distances.sum(-1) / _divisor(weight.sum(-1))


def _push(means: Tensor, people: Tensor) -> Tensor:
    distances = ((means[:, :, None] - means[:, None]) ** 2).sum(-1)  # (B, M, M)
    pairs = people[:, :, None] * people[:, None]
    pairs = pairs * ~torch.eye(means.shape[1], dtype=torch.bool, device=means.device)
    return 0.5 * (torch.exp(-distances) * pairs).sum((1, 2)) / _divisor(pairs.sum((1, 2)))


def _coupling(means: Tensor, scales: Tensor, present: Tensor) -> Tensor:
    wanted = 1 / ((scales[..., None] - bin_centers(means.shape[-1], means)).abs() + COUPLING_EPSILON)
    # absent people have zero means, where the cosine's gradient is undefined
    magnitude = torch.where(present[..., None], means, torch.ones_like(means)).abs()
    return 1 - nn.functional.cosine_similarity(magnitude, wanted, dim=-1)
