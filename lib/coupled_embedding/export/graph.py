"""What an exported file computes: from pixels to merged maps and peaks (docs/method.md 5.2 and 5.3).

All of it rounds as `decode` rounds, so that equal maps give equal peaks.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coupled_embedding.data.images import PIXELS
from coupled_embedding.decode.flipped_maps import flip_centers
from coupled_embedding.decode.options import PeakOptions
from coupled_embedding.decode.pipeline import PipelineOptions
from coupled_embedding.networks.folding import fold_batch_norm
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.utils.errors import UserError

# names of the outputs, in the order in which `ExportGraph` returns them
OUTPUTS = ("heatmaps", "tags", "peak_pixels", "peak_scores", "peak_tags")
CENTER_OUTPUTS = ("heatmaps", "tags", "centers")  # where people are found by their centers
DTYPES = {"uint8": torch.uint8, "float": torch.float32}


class PeakFinder(nn.Module):
    """Finds the candidates of merged maps.

    Args:
        stride: input pixels per cell of the heatmaps.
        tag_stride: input pixels per cell of the tags.
        options: which local maxima. The number of peaks is one more than its candidates: the decoder sees whether
            the last one's score is shared, and thresholds the scores.
    """

    def __init__(self, stride: int, tag_stride: int, options: PeakOptions) -> None:
        super().__init__()
        self.stride, self.tag_stride, self.options = stride, tag_stride, options

    def forward(self, heatmaps: Tensor, tags: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map heatmaps (B, K, h', w') and tags (B, K, T, h, w) to the M best peaks of each joint, best first.

        Returns:
            Pixels y·W + x (B, K, M) int64, scores (B, K, M) and tags (B, K, M, T) float32. Of equal scores the first
            pixel comes first; where a map has fewer peaks, scores are 0 or less.
        """
        whole = upsample(heatmaps, self.stride)
        width = whole.shape[-1]
        suppressed = suppress(whole, self.options)
        scores, pixels = suppressed.flatten(2).topk(self.options.max_candidates + 1, dim=2)
        rows = pixels // width
        # not the remainder, which the ONNX exporter cannot take of a size that is not fixed
        return pixels, scores, self._tags_at(tags, rows, pixels - rows * width)

    def _tags_at(self, tags: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Return the upsampled tags (B, K, M, T) at pixels (B, K, M)."""
        height, width = tags.shape[3], tags.shape[4]
        up, down, lower = cells_of(y, height, self.tag_stride)
        left, right, later = cells_of(x, width, self.tag_stride)
        flat = tags.flatten(3)

        def at(rows: Tensor, columns: Tensor) -> Tensor:
            places = (rows * width + columns).unsqueeze(2).expand(-1, -1, tags.shape[2], -1)
            return flat.gather(3, places)  # (B, K, T, M)

        lower, later = lower.unsqueeze(2), later.unsqueeze(2)
        above = lerp(at(up, left), at(up, right), later)
        below = lerp(at(down, left), at(down, right), later)
        return lerp(above, below, lower).transpose(2, 3)


class ExportGraph(nn.Module):
    """A network with all that comes before and after it, up to the candidates.

    Args:
        network: in evaluation mode, in float32; it is copied, its batch norms folded.
        options: pixel normalization, flip and peaks of the pipeline to export.
        half: run the network in float16; all else stays float32.

    Raises:
        UserError: the pipeline has several scale factors.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: PoseNetwork, options: PipelineOptions, half: bool = False) -> None:
        super().__init__()
        if options.scales != (1.0,):
            raise UserError(
                f"TEST.SCALES: an export runs at one scale, got {list(options.scales)}; add TEST.SCALES '[1.0]'"
            )
        folded = fold_batch_norm(network).to("cpu", torch.float32)
        self.strides, self.tag_stride = _strides(folded)
        self.network = (folded.half() if half else folded).to(memory_format=torch.contiguous_format)
        self.flip, self.flip_index, self.half_precision = options.flip, list(options.flip_index), half
        self.by_centers = options.grouping().centers is not None
        self.find_peaks = PeakFinder(self.strides[-1], self.tag_stride, options.grouping().peaks)
        mean, std = PIXELS[options.pixels]
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map RGB images (B, 3, H, W) of values 0 to 255 to what `names` says.

        Returns:
            Merged heatmaps (B, K, h', w'), tags of image and flipped image (B, K, T, h, w), and `PeakFinder`'s, or
            merged center maps (B, 1 + 2·K, h, w).
        """
        inputs = (images.float() - self.mean) / self.std
        count = images.shape[0]
        if self.flip:
            inputs = torch.cat((inputs, inputs.flip(-1)))
        output = self.network(inputs.half() if self.half_precision else inputs)
        heatmaps = self._merge([heatmap.float() for heatmap in output.heatmaps])
        tags = output.tags.float().permute(0, 1, 4, 2, 3)
        if self.flip:
            turned = heatmaps[count:].flip(-1)[:, self.flip_index]
            heatmaps = (heatmaps[:count] + turned) / 2
            tags = torch.cat((tags[:count], tags[count:].flip(-1)[:, self.flip_index]), 2)
        if self.by_centers:
            centers = output.centers.float()
            if self.flip:
                centers = (centers[:count] + flip_centers(centers[count:], self.flip_index)) / 2
            return heatmaps, tags, centers
        return heatmaps, tags, *self.find_peaks(heatmaps, tags)

    @property
    def names(self) -> tuple[str, ...]:
        """Of what it outputs, in order."""
        return CENTER_OUTPUTS if self.by_centers else OUTPUTS

    def _merge(self, heatmaps: Sequence[Tensor]) -> Tensor:
        finest = self.strides[-1]
        upsampled = [upsample(maps, stride // finest) for maps, stride in zip(heatmaps, self.strides, strict=True)]
        return sum(upsampled[1:], upsampled[0]) / len(upsampled) if len(upsampled) > 1 else upsampled[0]


@torch.no_grad()
def _strides(network: PoseNetwork, side: int = 128) -> tuple[list[int], int]:
    """Return the strides of the heatmaps, finest last, and of the tags."""
    output = copy.deepcopy(network).eval()(torch.zeros(1, 3, side, side))
    return [side // heatmap.shape[-1] for heatmap in output.heatmaps], side // output.tags.shape[-2]


def lerp(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Interpolate, rounded as `decode.fast.upsample.lerp`; `torch.lerp` rounds otherwise."""
    return (1 - weight) * a + weight * b


def cells_of(pixels: Tensor, cells: int, factor: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the cells before and after pixels of an axis, and the second one's weight; exact in float32."""
    source = ((pixels.float() + 0.5) / factor - 0.5).clamp(min=0)
    first = source.long()
    return first, (first + 1).clamp(max=cells - 1), source - first


def upsample(maps: Tensor, factor: int) -> Tensor:
    """Upsample (B, K, h, w) bilinearly to (B, K, factor·h, factor·w), in the order of `decode.fast.upsample`."""
    if factor == 1:
        return maps
    for axis in (3, 2):
        cells = maps.shape[axis]
        pixels = torch.arange(cells * factor, device=maps.device)
        first, second, weight = cells_of(pixels, cells, factor)
        weight = weight if axis == 3 else weight[:, None]
        maps = lerp(maps.index_select(axis, first), maps.index_select(axis, second), weight)
    return maps


def suppress(maps: Tensor, options: PeakOptions) -> Tensor:
    """Return maps (B, K, H, W) with 0 wherever a pixel is not a local maximum."""
    kernel = options.kernel
    radius = kernel // 2
    across = F.max_pool2d(maps, (1, kernel), 1, (0, radius))
    kept = F.max_pool2d(across, (kernel, 1), 1, (radius, 0)) == maps
    if options.dedup_plateaus and radius:
        above = F.pad(across[:, :, :-1], (0, 0, radius, 0), value=-torch.inf)
        left = F.pad(maps[..., :-1], (radius, 0), value=-torch.inf)
        kept = kept & (F.max_pool2d(above, (radius, 1), 1) < maps) & (F.max_pool2d(left, (1, radius), 1) < maps)
    return torch.where(kept, maps, 0.0)
