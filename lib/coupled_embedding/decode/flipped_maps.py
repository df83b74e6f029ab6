"""Part affinity fields and center maps of flipped images."""

from collections.abc import Sequence

import torch
from torch import Tensor

from coupled_embedding.data.pafs import Limbs, flipped_limbs


def flip_centers(centers: Tensor, flip_index: Sequence[int]) -> Tensor:
    """Return the center maps (B, 1 + 2·K, h, w) of flipped images as the images themselves would have them."""
    heatmap, *displacements = centers.flip(-1).unbind(1)
    turned = [plane for joint in flip_index for plane in (-displacements[2 * joint], displacements[2 * joint + 1])]
    return torch.stack([heatmap, *turned], 1)


def merge_flipped_pafs(pafs: Tensor, flipped: Tensor, limbs: Limbs, flip_index: tuple[int, ...]) -> Tensor:
    """Average fields (B, L, 2, h, w) with those of the flipped image, whose x point the other way."""
    mirrored = torch.stack((-flipped[:, :, 0], flipped[:, :, 1]), 2).flip(-1).unbind(1)
    planes = [
        own if partner is None else (own + partner[1] * mirrored[partner[0]]) / 2
        for own, partner in zip(pafs.unbind(1), flipped_limbs(limbs, flip_index), strict=True)
    ]
    return torch.stack(planes, 1)
