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


def mean_tags(joint_tags: Tensor, visible: Tensor) -> Tensor:
    """Return each person's mean tag (B, M, D); zeros for a person without a joint."""
    weight = visible.to(joint_tags.dtype)[..., None]
    return (joint_tags * weight).sum(2) / weight.sum(2).clamp_min(1)


class EmbeddingLoss(nn.Module):
    """Pull each person's tags together, push people apart, couple mean tags to scales."""

    def forward(self, tags: Tensor, cells: Tensor, visible: Tensor, scales: Tensor) -> dict[str, Tensor]:
        """Return the terms ``pull``, ``push`` and ``coupling``: scalars without weights, means over the batch's images.

        Args:
            tags: (B, K, h, w, D).
            cells: (B, M, K, 2) int64 (x, y) of each person's joints, any cell where invisible.
            visible: (B, M, K) bool; a person without a visible joint does not count.
            scales: (B, M) person scales in units of the input's side.
        """
        joint_tags = at_least_float32(tags_at_joints(tags, cells))  # (B, M, K, D)
        present = visible.any(-1)
        means = mean_tags(joint_tags, visible)  # (B, M, D)
        return {
            "pull": _over_people(_pull(joint_tags, means, visible), present).mean(),
            "push": _push(means, present).mean(),
            "coupling": _over_people(_coupling(means, scales.to(means.dtype), present), present).mean(),
        }


def _over_people(values: Tensor, present: Tensor) -> Tensor:
    """Mean over an image's people of (B, M) values; 0 for an image without people."""
    return (values * present).sum(1) / present.sum(1).clamp_min(1)


def _pull(joint_tags: Tensor, means: Tensor, visible: Tensor) -> Tensor:
    distances = ((joint_tags - means[:, :, None]) ** 2).sum(-1) * visible  # (B, M, K)
    return distances.sum(-1) / visible.sum(-1).clamp_min(1)


def _push(means: Tensor, present: Tensor) -> Tensor:
    distances = ((means[:, :, None] - means[:, None]) ** 2).sum(-1)  # (B, M, M)
    pairs = present[:, :, None] & present[:, None]
    pairs = pairs & ~torch.eye(means.shape[1], dtype=torch.bool, device=means.device)
    return 0.5 * (torch.exp(-distances) * pairs).sum((1, 2)) / pairs.sum((1, 2)).clamp_min(1)


def _coupling(means: Tensor, scales: Tensor, present: Tensor) -> Tensor:
    wanted = 1 / ((scales[..., None] - bin_centers(means.shape[-1], means)).abs() + COUPLING_EPSILON)
    # absent people have zero means, where the cosine's gradient is undefined
    magnitude = torch.where(present[..., None], means, torch.ones_like(means)).abs()
    return 1 - nn.functional.cosine_similarity(magnitude, wanted, dim=-1)
