"""Training targets on the device, from joints in heatmap cells (docs/method.md 2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from coupled_embedding.data.centers import CenterTargets, people_centers
from coupled_embedding.data.pafs import PafTargets, draw_pafs

SIGMA = 2.0  # cells, at every resolution, unless another is given
WIDTHS = (0.3, 1.5)  # factors of it that a person's scale may mean: less misses cells, more leaves the window


@dataclass(frozen=True)
class Targets:
    """What the losses compare the output for a batch of B images with.

    Attributes:
        heatmaps: (B, K, h, w) in [0, 1], one entry a resolution, lowest first.
        masks: (B, h, w) a resolution; 0 where errors are ignored. Where joints have weights: (B, K, h, w) in [0, 1].
        cells: (B, M, K, 2) int64 (x, y) joint cells of the lowest resolution, 0 where invisible.
        visible: (B, M, K) bool: labelled and inside the lowest resolution's map.
        scales: (B, M) person scales in units of the input's side.
        confidence: (B, M, K) in [0, 1], weights of the joints; None: all 1.
        pafs: (B, L, 2, h, w) part affinity fields at the lowest resolution; None: not wanted.
        centers: of center maps; None: not wanted.
    """

    heatmaps: tuple[Tensor, ...]
    masks: tuple[Tensor, ...]
    cells: Tensor
    visible: Tensor
    scales: Tensor
    confidence: Tensor | None = None
    pafs: Tensor | None = None
    centers: CenterTargets | None = None


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


def build_targets(
    joints: Sequence[Tensor],
    masks: Sequence[Tensor],
    scales: Tensor,
    sigma: float = SIGMA,
    confidence: Tensor | None = None,
    annotated: Tensor | None = None,
    beta: float = 0.0,
    paf: PafTargets | None = None,
    with_centers: bool = False,
) -> Targets:
    """Build a batch's targets.

    Args:
        joints: (B, M, K, 3) a resolution, lowest first: x, y in that map's cells, label.
        masks: (B, h, w) a resolution.
        scales: (B, M).
        sigma: cells, at every resolution.
        confidence: (B, M, K), weights of the joints.
        annotated: (B, K) bool: whether an image's data set labels a joint, whose heatmap is ignored otherwise.
        beta: above 0: a Gaussian is as wide as its person's scale is of this one, within `WIDTHS`.
        paf: how part affinity fields are drawn; None: they are not.
        with_centers: whether there are targets of center maps.
    """
    heatmaps, weights = [], []
    widths = (scales / beta).clamp(*WIDTHS) if beta else None
    encoded = [joint_cells(j, mask.shape[-2], mask.shape[-1]) for j, mask in zip(joints, masks, strict=True)]
    for (cells, visible), mask in zip(encoded, masks, strict=True):
        draw = partial(gaussian_heatmaps, cells, visible, mask.shape[-2], mask.shape[-1], sigma, widths=widths)
        heatmaps.append(draw())
        weight = mask if confidence is None and annotated is None else mask[:, None].float()
        if confidence is not None:
            # of a cell: that of the joint whose Gaussian reaches it; of several: largest weighted Gaussian by largest
            weight = weight * torch.where(heatmaps[-1] > 0, draw(peaks=confidence) / heatmaps[-1], 1)
        if annotated is not None:
            weight = weight * annotated[:, :, None, None]
        weights.append(weight)
    size = (masks[0].shape[-2], masks[0].shape[-1])
    pafs = None if paf is None else draw_pafs(joints[0], encoded[0][1], size, paf)
    centers = (
        _center_targets(joints[0], masks[0], scales, sigma, widths, confidence, annotated) if with_centers else None
    )
    return Targets(tuple(heatmaps), tuple(weights), *encoded[0], scales, confidence, pafs, centers)


def _center_targets(
    joints: Tensor,
    mask: Tensor,
    scales: Tensor,
    sigma: float,
    widths: Tensor | None,
    confidence: Tensor | None,
    annotated: Tensor | None,
) -> CenterTargets:
    """Return the targets of center maps; arguments as of `build_targets`, at the lowest resolution."""
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
