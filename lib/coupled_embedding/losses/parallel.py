"""Loss of a spatial transformer's parallel branch (RMPE, Fang et al., ICCV 2017): the person is to be in the middle."""

import torch
from torch import Tensor

from coupled_embedding.data.gaussians import SIGMA, gaussian_heatmaps
from coupled_embedding.data.targets import Targets


def centered_heatmaps(targets: Targets, sigma: float = SIGMA) -> tuple[Tensor, Tensor]:
    """Draw each image's first person moved to the middle: the center of its visible joints' box is that of the map.

    Args:
        targets: of B images with the lowest resolution's cells of the joints.
        sigma: of the targets' Gaussians, cells.

    Returns:
        (B, K, h, w) heatmaps, and (B,) bool: whether the image has a person with a visible joint.
    """
    height, width = targets.heatmaps[0].shape[-2:]
    cells, visible = targets.cells[:, :1], targets.visible[:, :1]  # (B, 1, K, 2), (B, 1, K)
    far = max(height, width)
    seen = visible[..., None]
    low = torch.where(seen, cells, far).amin(2, keepdim=True)
    high = torch.where(seen, cells, -far).amax(2, keepdim=True)
    middle = torch.tensor((width, height), device=cells.device) - 1
    moved = cells + (middle - low - high).div(2, rounding_mode="floor")
    size = torch.tensor((width, height), device=cells.device)
    inside = visible & ((moved >= 0) & (moved < size)).all(-1)
    return gaussian_heatmaps(moved * inside[..., None], inside, height, width, sigma), visible.any(-1)[:, 0]


def parallel_loss(heatmaps: Tensor | None, targets: Targets, sigma: float = SIGMA) -> Tensor:
    """Return the mean squared error over (B, K, h, w) of a parallel branch's heatmaps, images without a person aside.

    Args:
        heatmaps: (B, K, h, w) of the lowest resolution; None: the stage has none, and the loss is 0.
        targets: of the same batch.
        sigma: of the targets' Gaussians, cells.
    """
    if heatmaps is None:
        return targets.heatmaps[0].new_zeros(())
    wanted, present = centered_heatmaps(targets, sigma)
    return ((heatmaps.float() - wanted) ** 2 * present[:, None, None, None]).mean()
