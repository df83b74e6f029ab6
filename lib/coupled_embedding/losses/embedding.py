"""Pull, push and coupling losses over a batch of people, without loops (docs/method.md 3)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from coupled_embedding.losses.heatmap import at_least_float32, bin_centers
from coupled_embedding.losses.optional import OPTIONAL_TERMS, TaggedPeople, divisor, over_people

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
    return (joint_tags * weight).sum(2) / divisor(weight.sum(2))


class EmbeddingLoss(nn.Module):
    """Pull each person's tags together, push people apart, couple mean tags to scales.

    Args:
        spatial_dims: a tag's last dimensions that hold places and are not coupled.
        optional: keys of `OPTIONAL_TERMS` to compute besides. With ``"center"`` places are neither pulled nor
            pushed.
        units: of places, per cell.
    """

    def __init__(self, spatial_dims: int = 0, optional: Sequence[str] = (), units: float = 1.0) -> None:
        super().__init__()
        self.spatial_dims, self.optional, self.units = spatial_dims, tuple(optional), units

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
        scales = scales.to(joint_tags.dtype)
        own = without_places(joint_tags, self.spatial_dims)
        # with centers given, places have a loss of their own, and the other dimensions learn as without places
        grouped = own if "center" in self.optional else joint_tags
        means = mean_tags(grouped, weight)  # (B, M, D)
        coupled = means if grouped is own else without_places(means, self.spatial_dims)
        terms = {
            "pull": over_people(_pull(grouped, means, weight), people).mean(),
            "push": _push(means, people).mean(),
            "coupling": over_people(_coupling(coupled, scales, people > 0), people).mean(),
        }
        if self.optional:
            places = joint_tags[..., -self.spatial_dims :] / self.units if self.spatial_dims else None
            tagged = TaggedPeople(own, coupled, places, cells, weight, people, scales * max(tags.shape[2:4]))
            terms |= {name: OPTIONAL_TERMS[name](tagged) for name in self.optional}
        return terms


def _pull(joint_tags: Tensor, means: Tensor, weight: Tensor) -> Tensor:
    distances = ((joint_tags - means[:, :, None]) ** 2).sum(-1) * weight  # (B, M, K)
    return distances.sum(-1) / divisor(weight.sum(-1))


def _push(means: Tensor, people: Tensor) -> Tensor:
    distances = ((means[:, :, None] - means[:, None]) ** 2).sum(-1)  # (B, M, M)
    pairs = people[:, :, None] * people[:, None]
    pairs = pairs * ~torch.eye(means.shape[1], dtype=torch.bool, device=means.device)
    return 0.5 * (torch.exp(-distances) * pairs).sum((1, 2)) / divisor(pairs.sum((1, 2)))


def _coupling(means: Tensor, scales: Tensor, present: Tensor) -> Tensor:
    wanted = 1 / ((scales[..., None] - bin_centers(means.shape[-1], means)).abs() + COUPLING_EPSILON)
    # absent people have zero means, where the cosine's gradient is undefined
    magnitude = torch.where(present[..., None], means, torch.ones_like(means)).abs()
    return 1 - nn.functional.cosine_similarity(magnitude, wanted, dim=-1)
