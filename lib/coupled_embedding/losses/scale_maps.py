"""Heatmap loss with learned scale maps: scale- and weight-adaptive heatmap regression, a baseline.

Luo et al., "Rethinking the Heatmap Regression for Bottom-up Human Pose Estimation", CVPR 2021,
by the paper's formulas; not compared with its program.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from coupled_embedding.losses.heatmap import at_least_float32, by_joint, focal_weight

WEIGHT_POWER = 0.01  # γ


def growth(target: Tensor, scale_map: Tensor) -> Tensor:
    """Return H^(1/s) / H as a polynomial: ½·(1 + (1 + ln H·(1/s − 1))²), and 1 where H is 0.

    These are the terms up to the second order of exp(ln H·(1/s − 1)). They are positive, and a
    gradient through them stays of moderate size.

    Args:
        target: (B, K, h, w), H in [0, 1].
        scale_map: (B, K, h, w), 1/s − 1.
    """
    exponent = torch.where(target > 0, target, 1).log() * scale_map
    return 0.5 * (1 + (1 + exponent) ** 2)


class ScaleMapLoss(nn.Module):
    """Sum over resolutions of the regression's mean over (B, K, h, w) and the scale maps' penalty.

    - Targets: H' = H · `growth`, with gradient to the scale maps.
    - Regression: the mean of mask·W·(P − H')², W = H'^γ·|1 − P| + (1 − H'^γ)·|P|, γ = 0.01.
    - Penalty: the mean over the same cells of (1/s − 1)² where H > 0 and of 0 elsewhere, masked or not.

    Args:
        weighted: whether errors are weighted by W; False: W = 1.
        penalty_weight: λ.
    """

    def __init__(self, weighted: bool = True, penalty_weight: float = 1.0) -> None:
        super().__init__()
        self.weighted, self.penalty_weight = weighted, penalty_weight

    def forward(
        self,
        heatmaps: Sequence[Tensor],
        targets: Sequence[Tensor],
        masks: Sequence[Tensor],
        scale_maps: Sequence[Tensor],
    ) -> Tensor:
        """Return the loss, a scalar.

        Args:
            heatmaps, targets: (B, K, h, w) a resolution.
            masks: (B, h, w) or (B, K, h, w) a resolution, 1 where the image is labelled.
            scale_maps: (B, K, h, w) a resolution, 1/s − 1.

        Raises:
            ValueError: a resolution has no scale map.
        """
        total = heatmaps[0].new_zeros((), dtype=at_least_float32(heatmaps[0]).dtype)
        for heatmap, target, mask, scale_map in zip(heatmaps, targets, masks, scale_maps, strict=True):
            # one layout for all, as in `HeatmapLoss`
            heatmap, scale_map = (at_least_float32(maps).contiguous() for maps in (heatmap, scale_map))
            target, mask = target.to(heatmap.dtype).contiguous(), by_joint(mask).to(heatmap.dtype)
            penalty = ((target > 0) * scale_map**2).mean()
            total = total + (mask * self._error(heatmap, target, scale_map)).mean() + self.penalty_weight * penalty
        return total

    def _error(self, heatmap: Tensor, target: Tensor, scale_map: Tensor) -> Tensor:
        growing = growth(target, scale_map)
        error = (heatmap - target * growing) ** 2
        if not self.weighted:
            return error
        # the power of each factor: that of a product near 0 has a slope too steep for float32
        return focal_weight(heatmap, target**WEIGHT_POWER * growing**WEIGHT_POWER) * error
