"""People's centers, and the displacements of joints from there, as training targets (docs/method.md 9.6)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from coupled_embedding.data.gaussians import gaussian_heatmaps, joint_cells


@dataclass(frozen=True)
class CenterTargets:
    """What center maps of B images, at the lowest resolution, are compared with.

    A person's center counts fully, however unsure its joints.

    Attributes:
        heatmap: (B, 1, h, w) in [0, 1].
        mask: (B, 1, h, w); 0 where errors are ignored.
        cells: (B, M, 2) int64 (x, y) of each person's center, 0 where there is none.
        displacements: (B, M, K, 2) from the middle of that cell to the joints, cells.
        weights: (B, M, K) in [0, 1]; 0 where a joint is not labelled, or the center is not in the map.
        sizes: (B, M) person scales in cells.
    """

    heatmap: Tensor
    mask: Tensor
    cells: Tensor
    displacements: Tensor
    weights: Tensor
    sizes: Tensor


def people_centers(joints: Tensor) -> tuple[Tensor, Tensor]:
    """Return the middle (B, M, 2) of the extent of each person's labelled joints, and whether it has one (B, M).

    Args:
        joints: (B, M, K, 3): x, y, label.
    """
    labelled = joints[..., 2:] > 0
    points = joints[..., :2]
    low = torch.where(labelled, points, torch.inf).amin(2)
    high = torch.where(labelled, points, -torch.inf).amax(2)
    present = labelled.any(2)[..., 0]
    return torch.where(present[..., None], (low + high) / 2, 0.0), present


def center_targets(
    joints: Tensor,
    mask: Tensor,
    scales: Tensor,
    sigma: float,
    widths: Tensor | None,
    confidence: Tensor | None,
    annotated: Tensor | None,
) -> CenterTargets:
    """Return the targets of center maps; arguments as of `targets.build_targets`, at the lowest resolution."""
    height, width = mask.shape[-2:]
    middles, present = people_centers(joints)
    cells, inside = joint_cells(torch.cat((middles, present[..., None].to(middles.dtype)), -1), height, width)
    mask = mask[:, None].float()
    if annotated is not None:
        # where a data set labels other joints, the middle of those it labels is another point
        whole = annotated.all(1)
        mask, inside = mask * whole[:, None, None, None], inside & whole[:, None]
    heatmap = gaussian_heatmaps(cells[:, :, None], inside[:, :, None], height, width, sigma, widths=widths)
    weights = (joints[..., 2] > 0) * inside[..., None] * (1.0 if confidence is None else confidence)
    sizes = scales * max(height, width)
    displacements = joints[..., :2] - (cells[:, :, None] + 0.5)
    return CenterTargets(heatmap, mask, cells, displacements, weights, sizes)
