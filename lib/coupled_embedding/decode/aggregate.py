"""Merge a network's outputs over resolutions, the flipped image and scale factors (docs/method.md 5.2).

Everything stays small: heatmaps at the network's finest resolution, tags at stride 4 in the network's own layout.
`decode` interpolates what it needs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from coupled_embedding.data.outputs import PoseOutput
from coupled_embedding.data.pafs import Limbs
from coupled_embedding.decode.fast.flip import mean_with_flipped
from coupled_embedding.decode.fast.upsample import Map
from coupled_embedding.decode.fast.views import TagView
from coupled_embedding.decode.flipped_maps import flip_centers, merge_flipped_pafs


@dataclass(frozen=True)
class ImageMaps:
    """What decode needs of one image, in host memory.

    Attributes:
        heatmaps: (K, H', W') float32, contiguous.
        tags: one or two views; a pixel's tag is its views' values, concatenated.
        pafs: (L, 2, h, w) float32, contiguous, merged over flip and scales; None: there are none.
        centers: (1 + 2·K, h, w) float32, contiguous, merged over flip; None: there are none.
        others: the maps of the other scales, whose people are merged instead: those with center maps.
    """

    heatmaps: Map
    tags: tuple[TagView, ...]
    pafs: Map | None = None
    centers: Map | None = None
    others: tuple["ImageMaps", ...] = ()


@dataclass(frozen=True)
class MergedMaps:
    """Maps of B images of equal input size.

    Attributes:
        heatmaps: (B, K, H', W') float32; H' and W' are the finest resolution's, or the base
            size itself when several scales were merged.
        tags: (B, K, h, w, D) in the network's own precision; at the base size, concatenated, in float32 where those
            of several scales were kept.
        flipped_tags: the same of the flipped images as the network outputs them, or None.
        flip_index: for each joint, its partner in a flipped image.
        pafs: (B, L, 2, h, w) float32 part affinity fields, or None.
        centers: (B, 1 + 2·K, h, w) float32 center maps, see `PoseOutput`, or None.
        others: see `ImageMaps`.
    """

    heatmaps: Tensor
    tags: Tensor
    flipped_tags: Tensor | None = None
    flip_index: tuple[int, ...] = ()
    pafs: Tensor | None = None
    centers: Tensor | None = None
    others: tuple["MergedMaps", ...] = ()

    def cpu(self) -> "MergedMaps":
        """Return the maps in the host's memory."""
        maps, wait = self.start_transfer()
        wait()
        return maps

    def start_transfer(self) -> tuple["MergedMaps", Callable[[], object]]:
        """Start copying the maps to the host's memory; return them and a function that waits until they are there.

        Torch keeps the page-locked memory that this takes, and uses it again.
        """
        if self.heatmaps.device.type == "cpu":
            return self, lambda: None
        heatmaps, tags = (maps.to("cpu", non_blocking=True) for maps in (self.heatmaps, self.tags))
        flipped, pafs, centers = (
            None if maps is None else maps.to("cpu", non_blocking=True)
            for maps in (self.flipped_tags, self.pafs, self.centers)
        )
        others = tuple(maps.start_transfer()[0] for maps in self.others)
        arrived = torch.cuda.Event(blocking=True)  # or decode threads would keep a core each busy with waiting
        arrived.record(torch.cuda.current_stream(self.heatmaps.device))
        return MergedMaps(heatmaps, tags, flipped, self.flip_index, pafs, centers, others), arrived.synchronize

    def image(self, number: int) -> ImageMaps:
        """Return one image's maps; they must be in the host's memory."""
        views = [TagView(_pixels_first(self.tags[number]))]
        if self.flipped_tags is not None:
            views.append(TagView(_pixels_first(self.flipped_tags[number]), self.flip_index))
        pafs, centers = (
            None if maps is None else maps[number].contiguous().numpy() for maps in (self.pafs, self.centers)
        )
        others = tuple(maps.image(number) for maps in self.others)
        return ImageMaps(self.heatmaps[number].contiguous().numpy(), tuple(views), pafs, centers, others)


def _pixels_first(tags: Tensor) -> Map:
    """Return tags (K, h, w, D) as float32 (h, w, K, D); no copy of a channels-last network's float32."""
    return tags.permute(1, 2, 0, 3).float().contiguous().numpy()


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (B, K, h, w) bilinearly to (height, width)."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


def merge_resolutions(output: PoseOutput) -> Tensor:
    """Return the mean (B, K, H', W') of the heatmaps, each upsampled to the finest."""
    size = output.heatmaps[-1].shape[-2:]
    upsampled = [resize(heatmap.float(), (size[0], size[1])) for heatmap in output.heatmaps]
    return torch.stack(upsampled).mean(0) if len(upsampled) > 1 else upsampled[0]


def merge_flip(maps: MergedMaps, flipped: MergedMaps, flip_index: Sequence[int], limbs: Limbs = ()) -> MergedMaps:
    """Average heatmaps, fields and center maps with those of the flipped image; keep its tags as a second view."""
    index = tuple(flip_index)
    if maps.heatmaps.device.type == "cpu":
        joints = np.array(index, np.int64)
        heatmaps = torch.from_numpy(mean_with_flipped(maps.heatmaps.numpy(), flipped.heatmaps.numpy(), joints))
    else:
        # a list as an index would be copied to the device, which waits for the network
        planes = flipped.heatmaps.flip(-1).unbind(1)
        heatmaps = (maps.heatmaps + torch.stack([planes[joint] for joint in index], 1)) / 2
    pafs = maps.pafs
    if pafs is not None and flipped.pafs is not None:
        pafs = merge_flipped_pafs(pafs, flipped.pafs, limbs, index)
    centers = maps.centers
    if centers is not None and flipped.centers is not None:
        centers = (centers + flip_centers(flipped.centers, index)) / 2
    return MergedMaps(heatmaps, maps.tags, flipped.tags, index, pafs, centers)


def merge_scales(scales: Sequence[MergedMaps], tags_from: int | None, base_size: tuple[int, int]) -> MergedMaps:
    """Average heatmaps and fields resized to the base (height, width).

    Args:
        scales: of the same images, all with flip or none.
        tags_from: the scale whose tags are kept; None: all scales' tags are resized to the base
            size, which takes D values per pixel, joint and scale, and concatenated.
    """
    if len(scales) == 1:
        return scales[0]
    heatmaps = torch.stack([resize(maps.heatmaps, base_size) for maps in scales]).mean(0)
    pafs = _mean_pafs([maps.pafs for maps in scales if maps.pafs is not None], base_size)
    if tags_from is None:
        flipped = [maps.flipped_tags for maps in scales if maps.flipped_tags is not None]
        tags = concat_tags([maps.tags for maps in scales], base_size)
        flipped_tags = concat_tags(flipped, base_size) if flipped else None
        return MergedMaps(heatmaps, tags, flipped_tags, scales[0].flip_index, pafs)
    chosen = scales[tags_from]
    return MergedMaps(heatmaps, chosen.tags, chosen.flipped_tags, chosen.flip_index, pafs)


def _mean_pafs(scales: Sequence[Tensor], size: tuple[int, int]) -> Tensor | None:
    resized = [resize(pafs.flatten(1, 2), size).unflatten(1, (pafs.shape[1], 2)) for pafs in scales]
    return torch.stack(resized).mean(0) if resized else None


def concat_tags(tags: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Resize tags (B, K, h, w, D) to (height, width) and concatenate their dimensions."""
    resized = [
        resize(part.float().movedim(-1, 2).flatten(1, 2), size).unflatten(1, (part.shape[1], part.shape[-1]))
        for part in tags
    ]  # (B, K, D, H, W)
    return torch.cat(resized, 2).movedim(2, -1)
