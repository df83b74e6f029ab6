"""Stacked hourglasses (Newell et al., ECCV 2016) as associative embedding uses them (NIPS 2017).

Parameter names are those of the released checkpoint.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class HourglassSettings:
    """Sizes of a stack of hourglasses; the defaults are associative embedding's.

    Attributes:
        stacks: hourglasses in sequence, each with maps of its own.
        width: channels at stride 4.
        growth: further channels of each level below.
        depth: levels below stride 4.
        stem_width: channels of the first conv; the stem's others have twice as many.
    """

    stacks: int = 4
    width: int = 256
    growth: int = 128
    depth: int = 4
    stem_width: int = 64


class Conv(nn.Module):
    """A 'same' padded conv with bias, and ReLU unless switched off; no batch norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, relu: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h/stride, w/stride)."""
        x = self.conv(x)
        return F.relu(x, inplace=True) if self.relu else x


class Merge(nn.Module):
    """A 1×1 conv that brings maps or features back to the width of the next hourglass's input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = Conv(inputs, outputs, 1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h, w)."""
        return self.conv(x)


class Hourglass(nn.Module):
    """A conv parallel to a hourglass of half the size, one level less deep, and their sum."""

    def __init__(self, depth: int, width: int, growth: int) -> None:
        super().__init__()
        below = width + growth
        self.up1 = Conv(width, width)
        self.low1 = Conv(width, below)
        self.low2 = Hourglass(depth - 1, below, growth) if depth > 1 else Conv(below, below)
        self.low3 = Conv(below, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, h, w) to the same shape; an odd side's last row or column comes from the one before."""
        skip = self.up1(x)
        low = self.low3(self.low2(self.low1(F.max_pool2d(x, 2, ceil_mode=True))))
        return skip + F.interpolate(low, scale_factor=2.0, mode="nearest")[..., : x.shape[-2], : x.shape[-1]]


class StackedHourglass(nn.Module):
    """Images to maps, once a stack: (B, 3, H, W) → stacks × (B, outputs, H/4, W/4).

    Each stack sees the feature of the one before and what that one made of it.

    Args:
        settings: sizes.
        outputs: channels of a stack's maps.
    """

    def __init__(self, settings: HourglassSettings, outputs: int) -> None:
        super().__init__()
        stem, width, stacks = settings.stem_width, settings.width, settings.stacks
        self.pre = nn.Sequential(
            Conv(3, stem, 7, 2), Conv(stem, 2 * stem), nn.MaxPool2d(2), Conv(2 * stem, 2 * stem), Conv(2 * stem, width)
        )
        self.features = nn.ModuleList(
            nn.Sequential(Hourglass(settings.depth, width, settings.growth), Conv(width, width), Conv(width, width))
            for _ in range(stacks)
        )
        self.outs = nn.ModuleList(Conv(width, outputs, 1, relu=False) for _ in range(stacks))
        self.merge_features = nn.ModuleList(Merge(width, width) for _ in range(stacks - 1))
        self.merge_preds = nn.ModuleList(Merge(outputs, width) for _ in range(stacks - 1))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map images (B, 3, H, W) to each stack's maps (B, outputs, H/4, W/4), the last one's last."""
        x = self.pre(image)
        maps = []
        for number, (features, out) in enumerate(zip(self.features, self.outs, strict=True)):
            feature = features(x)
            maps.append(out(feature))
            if number < len(self.merge_preds):
                x = x + self.merge_preds[number](maps[-1]) + self.merge_features[number](feature)
        return maps

    def input_and_output_layers(self) -> list[nn.Module]:
        """Return the first conv and those that output maps."""
        return [layer.conv for layer in (self.pre[0], *self.outs)]


@torch.no_grad()
def initialize_hourglass(module: StackedHourglass, num_joints: int, heatmap_bias: float) -> None:
    """Start the heatmaps' biases; the rest starts as torch has it: He's weights grow from stack to stack."""
    for out in module.outs:
        nn.init.constant_(out.conv.bias[:num_joints], heatmap_bias)  # type: ignore[union-attr,index]
