"""What a network puts out, in one place for losses, decode and drawings."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class PoseMaps:
    """A network's output for B images of (H, W) input pixels.

    Attributes:
        heatmaps: (B, K, H/4, W/4), and for the higher head also (B, K, H/2, W/2).
        tags: (B, K, H/4, W/4, D) embeddings.
        earlier: what the earlier stages of a stacked network put out, first to last; the loss
            looks at them, decode does not.
        scale_maps: (B, K, h, w) for each heatmap, 1/s − 1 of the scale s > 0 that the cell's target takes;
            empty where a network has none. The loss looks at them, decode does not.
    """

    heatmaps: tuple[Tensor, ...]
    tags: Tensor
    earlier: tuple["PoseMaps", ...] = ()
    scale_maps: tuple[Tensor, ...] = ()
