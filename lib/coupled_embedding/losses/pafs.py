"""Loss of part affinity fields (docs/method.md 9.1)."""

import torch
from torch import Tensor

from coupled_embedding.data.pafs import Limbs
from coupled_embedding.losses.heatmap import at_least_float32


def paf_loss(pafs: Tensor, target: Tensor, mask: Tensor, limbs: Limbs) -> Tensor:
    """Return the masked squared error of fields: its sum over limbs, x and y, averaged over images and cells.

    That is divided by the number of joints which limbs connect, as the heatmap loss is a mean over joints: weights of 1
    then count both alike, as in the paper.

    Args:
        pafs, target: (B, L, 2, h, w).
        mask: (B, h, w), or (B, K, h, w): a limb counts by both of its joints.
        limbs: L pairs of joints.
    """
    squared = (at_least_float32(pafs) - target) ** 2
    if mask.ndim == 3:
        weight = mask[:, None, None].to(squared.dtype)
    else:
        planes = mask.to(squared.dtype).unbind(1)
        weight = torch.stack([planes[a] * planes[b] for a, b in limbs], 1)[:, :, None]
    cells = squared.numel() / (squared.shape[1] * 2)
    joints = len({joint for limb in limbs for joint in limb})
    return (squared * weight).sum() / (cells * joints)
