"""Training targets on the device, from joints in heatmap cells (docs/method.md 2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from coupled_embedding.data.centers import CenterTargets, center_targets
from coupled_embedding.data.gaussians import SIGMA, gaussian_heatmaps, joint_cells
from coupled_embedding.data.pafs import PafTargets, draw_pafs

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
        center_targets(joints[0], masks[0], scales, sigma, widths, confidence, annotated) if with_centers else None
    )
    return Targets(tuple(heatmaps), tuple(weights), *encoded[0], scales, confidence, pafs, centers)
