"""Merge a network's outputs over resolutions, the mirrored photo and scale factors (METHOD.md 5.2).

Everything stays as small as it can: heatmaps at the network's finest resolution, tags at
stride 4. `decode` enlarges what it needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from coupled_embedding.data.maps import PoseMaps


@dataclass(frozen=True)
class MergedMaps:
    """What decode needs of B like-shaped photos.

    Attributes:
        heatmaps: (B, K, H', W') float32; H' and W' are the finest resolution's, or the base
            size itself when several scales were merged.
        tags: (B, K, h, w, T) float32; T is D, or 2·D with the mirrored photo's tags behind.
    """

    heatmaps: Tensor
    tags: Tensor

    def cpu(self) -> "MergedMaps":
        """Return the maps in the host's memory."""
        return MergedMaps(self.heatmaps.cpu(), self.tags.cpu())


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (B, K, h, w) bilinearly to (height, width)."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


def merge_resolutions(maps: PoseMaps) -> Tensor:
    """Return the mean (B, K, H', W') of the heatmaps, each enlarged to the finest."""
    size = maps.heatmaps[-1].shape[-2:]
    enlarged = [resize(heatmap.float(), (size[0], size[1])) for heatmap in maps.heatmaps]
    return torch.stack(enlarged).mean(0) if len(enlarged) > 1 else enlarged[0]


def merge_flip(maps: MergedMaps, mirrored: MergedMaps, flip_index: Sequence[int]) -> MergedMaps:
    """Average the heatmaps with those of the mirrored photo; put its tags behind the tags."""
    index = list(flip_index)
    heatmaps = mirrored.heatmaps.flip(-1)[:, index]
    tags = mirrored.tags.flip(-2)[:, index]
    return MergedMaps((maps.heatmaps + heatmaps) / 2, torch.cat((maps.tags, tags), -1))


def merge_scales(scales: Sequence[MergedMaps], tags_from: int, base_size: tuple[int, int]) -> MergedMaps:
    """Average heatmaps resized to the base (height, width); tags from one of the scales."""
    if len(scales) == 1:
        return scales[0]
    heatmaps = torch.stack([resize(maps.heatmaps, base_size) for maps in scales]).mean(0)
    return MergedMaps(heatmaps, scales[tags_from].tags)
