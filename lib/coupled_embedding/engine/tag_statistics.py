"""Statistics of the tags of a batch, on the device."""

import torch
from torch import Tensor

from coupled_embedding.data.outputs import PoseOutput
from coupled_embedding.data.targets import Targets
from coupled_embedding.losses.embedding import mean_tags, tags_at_joints
from coupled_embedding.losses.heatmap import predicted_scales

NAMES = ("within_person", "between_people", "effective_dimension", "sparsity", "scale_predicted", "scale_true")


@torch.no_grad()
def tag_statistics(output: PoseOutput, targets: Targets) -> Tensor:
    """Return a vector of the figures in `NAMES`, over the labelled people of a batch.

    - within_person: root mean squared distance of a joint's tag from its person's mean.
    - between_people: mean over people of the distance to the nearest other person of the image.
    - effective_dimension: participation ratio (Σλ)²/Σλ² of the mean tags' covariance, 1 to D.
    - sparsity: mean of 1 − (Σ|t|/‖t‖ − 1)/(√D − 1), Hoyer-like; 1: one dimension is used.
    - scale_predicted, scale_true: means over people, in units of the input's side.
    """
    tags = output.tags.float()
    joint_tags = tags_at_joints(tags, targets.cells)  # (B, M, K, D)
    present = targets.visible.any(-1)  # (B, M)
    means = mean_tags(joint_tags, targets.visible)
    people = present.sum().clamp_min(1)
    squared = ((joint_tags - means[:, :, None]) ** 2).sum(-1)
    within = ((squared * targets.visible).sum() / targets.visible.sum().clamp_min(1)).sqrt()
    predicted = predicted_scales(means[..., None, None, :])[..., 0, 0]
    return torch.stack(
        [
            within,
            _nearest_other(means, present),
            _participation(means, present),
            (_sparsity(means) * present).sum() / people,
            (predicted * present).sum() / people,
            (targets.scales.float() * present).sum() / people,
        ]
    )


def _nearest_other(means: Tensor, present: Tensor) -> Tensor:
    distances = torch.cdist(means, means)
    pairs = present[:, :, None] & present[:, None]
    pairs = pairs & ~torch.eye(means.shape[1], dtype=torch.bool, device=means.device)
    nearest = distances.masked_fill(~pairs, float("inf")).amin(-1)  # (B, M)
    has_other = pairs.any(-1)
    return torch.where(has_other, nearest, 0).sum() / has_other.sum().clamp_min(1)


def _participation(means: Tensor, present: Tensor) -> Tensor:
    weight = present[..., None]
    center = (means * weight).sum((0, 1)) / weight.sum().clamp_min(1)
    centered = ((means - center) * weight).flatten(0, 1)
    covariance = centered.T @ centered
    return covariance.trace() ** 2 / (covariance**2).sum().clamp_min(1e-12)


def _sparsity(means: Tensor) -> Tensor:
    dims = means.shape[-1]
    if dims == 1:
        return torch.ones_like(means[..., 0])
    ratio = means.abs().sum(-1) / means.norm(dim=-1).clamp_min(1e-12)
    return 1 - (ratio - 1) / (dims**0.5 - 1)
