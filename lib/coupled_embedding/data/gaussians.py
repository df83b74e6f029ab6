"""Joints in cells of a map, and Gaussians there, on the device (docs/method.md 2)."""

import numpy as np
import torch
from torch import Tensor

SIGMA = 2.0  # cells, at every resolution, unless another is given


def joint_cells(joints: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Truncate joints towards zero (−0.7 counts as 0) to cells of a map.

    Args:
        joints: (..., 3): x, y in cells of the map, label (above 0: labelled).

    Returns:
        (..., 2) int64 cells, 0 where invisible, and (...) bool: labelled and inside.
    """
    # far-off coordinates would overflow int64; any number outside the map serves
    limit = float(max(height, width)) + 1
    cells = joints[..., :2].clamp(-limit, limit).trunc().long()
    x, y = cells.unbind(-1)
    visible = (joints[..., 2] > 0) & (x >= 0) & (y >= 0) & (x < width) & (y < height)
    return cells * visible[..., None], visible


def gaussian_heatmaps(
    cells: Tensor,
    visible: Tensor,
    height: int,
    width: int,
    sigma: float = SIGMA,
    peaks: Tensor | None = None,
    widths: Tensor | None = None,
) -> Tensor:
    """Draw a Gaussian at each visible joint's cell; where people overlap the larger value stays.

    Args:
        cells: (B, M, K, 2) int64 (x, y).
        visible: (B, M, K) bool.
        sigma: cells; the Gaussian is cut at a (6σ + 3)² window.
        peaks: (B, M, K) heights; None: all 1.
        widths: (B, M) factors of σ for each person's Gaussians, in the same window; None: all 1.

    Returns:
        (B, K, height, width) float32.
    """
    batch, _, joints, _ = cells.shape
    radius = int(3 * sigma + 1)
    offsets = np.arange(-radius, radius + 1)
    # the table in float64 on the host: all devices draw the same values
    table = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * sigma**2)).astype(np.float32)
    patch = torch.from_numpy(table).to(cells.device, non_blocking=True)  # else it waits for the network
    steps = torch.arange(-radius, radius + 1, device=cells.device)
    x, y = cells[..., 0, None] + steps, cells[..., 1, None] + steps  # (B, M, K, 2r+1)
    # what lies beyond the map brings a 0 to the nearest cell, where it changes nothing
    column, row = x.clamp(0, width - 1), y.clamp(0, height - 1)
    inside = ((y == row) & visible[..., None])[..., None] & (x == column)[..., None, :]
    if widths is not None:
        patch = patch ** widths.float()[:, :, None, None, None] ** -2  # (B, M, 1, 2r+1, 2r+1)
    values = patch * inside  # (B, M, K, 2r+1, 2r+1)
    if peaks is not None:
        values = values * peaks[..., None, None].float()
    plane = torch.arange(batch, device=cells.device)[:, None, None] * joints + torch.arange(joints, device=cells.device)
    places = ((plane[..., None] * height + row) * width)[..., None] + column[..., None, :]
    canvas = torch.zeros(batch * joints * height * width, device=cells.device)
    canvas.scatter_reduce_(0, places.flatten(), values.flatten(), "amax")
    return canvas.view(batch, joints, height, width)
