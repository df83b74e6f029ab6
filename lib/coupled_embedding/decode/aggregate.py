"""Merge a network's outputs over resolutions, the mirrored photo and scale factors (METHOD.md 5.2).

Everything stays as small as it can: heatmaps at the network's finest resolution, tags at
stride 4 and as the network put them out. `decode` looks up what it needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.nn import functional as F

from coupled_embedding.data.pose_output import PoseMaps
from coupled_embedding.decode.fast.upsample import Map
from coupled_embedding.decode.fast.views import TagLayer

_PIXELS_FIRST, _JOINTS_FIRST = (0, 2, 3, 1, 4), (0, 3, 1, 2, 4)  # (B, K, h, w, D) <-> (B, h, w, K, D)


@dataclass(frozen=True)
class PhotoMaps:
    """What decode needs of one photo, in host memory.

    Attributes:
        heatmaps: (K, H', W') float32, contiguous.
        tags: one or two layers; a pixel's tag is its layers' values one after the other.
    """

    heatmaps: Map
    tags: tuple[TagLayer, ...]


@dataclass(frozen=True)
class MergedMaps:
    """Maps of B like-shaped photos.

    Attributes:
        heatmaps: (B, K, H', W') float32; H' and W' are the finest resolution's, or the base
            size itself when several scales were merged.
        tags: (B, K, h, w, D) float32; at the base size, side by side, where several scales' were
            kept.
        mirrored_tags: the same of the mirrored photos as the network put them out, or None.
        flip_index: for each joint, the joint that it becomes in a mirror.
    """

    heatmaps: Tensor
    tags: Tensor
    mirrored_tags: Tensor | None = None
    flip_index: tuple[int, ...] = ()

    def cpu(self) -> "MergedMaps":
        """Return the maps in the host's memory, by one transfer whatever they hold."""
        if self.heatmaps.device.type == "cpu":
            return self
        return self.unpacked(self.packed().cpu())

    def packed(self) -> Tensor:
        """Return all values in one vector, tags in a channels-last network's order."""
        tags = [t.permute(_PIXELS_FIRST) for t in (self.tags, self.mirrored_tags) if t is not None]
        return torch.cat([part.reshape(-1) for part in (self.heatmaps, *tags)])

    def unpacked(self, vector: Tensor) -> "MergedMaps":
        """Return maps of the same shapes that are views of a `packed` vector."""
        batch, joints, *cells, dims = self.tags.shape
        sizes = [self.heatmaps.numel()] + [self.tags.numel()] * (1 if self.mirrored_tags is None else 2)
        heatmaps, *layers = vector.split(sizes)
        tags = [layer.view(batch, *cells, joints, dims).permute(_JOINTS_FIRST) for layer in layers]
        return MergedMaps(heatmaps.view(self.heatmaps.shape), tags[0], tags[1] if layers[1:] else None, self.flip_index)

    def photo(self, number: int) -> PhotoMaps:
        """Return one photo's maps; they must be in the host's memory."""
        layers = [TagLayer(_pixels_first(self.tags[number]))]
        if self.mirrored_tags is not None:
            layers.append(TagLayer(_pixels_first(self.mirrored_tags[number]), self.flip_index))
        return PhotoMaps(self.heatmaps[number].contiguous().numpy(), tuple(layers))


def _pixels_first(tags: Tensor) -> Map:
    """Return tags (K, h, w, D) as contiguous (h, w, K, D); no copy if a channels-last network put them out."""
    return tags.permute(1, 2, 0, 3).contiguous().numpy()


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
    """Average the heatmaps with those of the mirrored photo; keep its tags as a second layer."""
    index = tuple(flip_index)
    if maps.heatmaps.device.type == "cpu":
        joints = np.array(index, np.int64)
        heatmaps = torch.from_numpy(_mean_with_mirror(maps.heatmaps.numpy(), mirrored.heatmaps.numpy(), joints))
    else:
        # a list as an index would be copied to the device, which waits for the network
        planes = mirrored.heatmaps.flip(-1).unbind(1)
        heatmaps = (maps.heatmaps + torch.stack([planes[joint] for joint in index], 1)) / 2
    return MergedMaps(heatmaps, maps.tags, mirrored.tags, index)


@njit(cache=True, nogil=True)
def _mean_with_mirror(maps, mirrored, flip_index):
    # one pass over memory where flip, index, add and divide take four; a row is turned round on
    # its own, because a loop that reads one array forwards and one backwards takes one number at a time
    out = np.empty(maps.shape, np.float32)
    width = maps.shape[3]
    turned = np.empty(width, np.float32)
    for b in range(maps.shape[0]):
        for k in range(maps.shape[1]):
            source, mirror = maps[b, k], mirrored[b, flip_index[k]]
            for y in range(maps.shape[2]):
                for x in range(width):
                    turned[width - 1 - x] = mirror[y, x]
                for x in range(width):
                    out[b, k, y, x] = (source[y, x] + turned[x]) / np.float32(2)
    return out


def merge_scales(scales: Sequence[MergedMaps], tags_from: int | None, base_size: tuple[int, int]) -> MergedMaps:
    """Average heatmaps resized to the base (height, width).

    Args:
        scales: of the same photos, all mirrored or none.
        tags_from: the scale whose tags are kept; None: all scales' tags are resized to the base
            size, which takes D values a pixel, joint and scale, and put side by side.
    """
    if len(scales) == 1:
        return scales[0]
    heatmaps = torch.stack([resize(maps.heatmaps, base_size) for maps in scales]).mean(0)
    if tags_from is None:
        mirrored = [maps.mirrored_tags for maps in scales if maps.mirrored_tags is not None]
        tags = side_by_side([maps.tags for maps in scales], base_size)
        return MergedMaps(heatmaps, tags, side_by_side(mirrored, base_size) if mirrored else None, scales[0].flip_index)
    chosen = scales[tags_from]
    return MergedMaps(heatmaps, chosen.tags, chosen.mirrored_tags, chosen.flip_index)


def side_by_side(tags: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Resize tags (B, K, h, w, D) to (height, width) and concatenate their dimensions."""
    resized = [
        resize(layer.movedim(-1, 2).flatten(1, 2), size).unflatten(1, (layer.shape[1], layer.shape[-1]))
        for layer in tags
    ]  # (B, K, D, H, W)
    return torch.cat(resized, 2).movedim(2, -1)
