"""Stacked hourglasses: of residuals (one person, Newell et al., ECCV 2016), of convs (associative embedding, 2017).

Parameter names of those of convs are those of associative embedding's released checkpoint.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from coupled_embedding.networks.stages import StagedBackbone, StageSettings


@dataclass(frozen=True)
class HourglassSettings(StageSettings):
    """Sizes of a stack of hourglasses; the defaults are associative embedding's.

    Attributes:
        stacks: hourglasses in sequence, each with maps of its own.
        width: channels at stride 4.
        growth: further channels of each level below.
        depth: levels below stride 4.
        stem_width: channels of the first conv; the stem's others have twice as many.
        block: what hourglasses are made of: ``"conv"``, or ``"residual"`` (see `Residual`).
    """

    stacks: int = 4
    width: int = 256
    growth: int = 128
    depth: int = 4
    stem_width: int = 64
    block: str = "conv"

    @property
    def spare_channels(self) -> int:
        """Unused output channels of a joint that has tags, as in associative embedding's released checkpoint."""
        return 2 if self.block == "conv" else 0

    def build(self, outputs: int) -> "StackedHourglass":
        """Return the hourglasses."""
        return StackedHourglass(self, outputs)


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


class Residual(nn.Module):
    """A bottleneck of 1×1, 3×3 and 1×1 convs, each after its batch norm and ReLU (pre-activation), and a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = max(outputs // 2, 1)
        # a batch norm that follows a conv is registered after it, for `folding`; the first one follows a sum
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, half, 1)
        self.bn2, self.conv2 = nn.BatchNorm2d(half), nn.Conv2d(half, half, 3, padding=1)
        self.bn3, self.conv3 = nn.BatchNorm2d(half), nn.Conv2d(half, outputs, 1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h, w)."""
        out = self.conv1(F.relu(self.bn1(x), inplace=True))
        out = self.conv2(F.relu(self.bn2(out), inplace=True))
        out = self.conv3(F.relu(self.bn3(out), inplace=True))
        return out + (x if self.shortcut is None else self.shortcut(x))


# (inputs, outputs) -> a module that maps (B, inputs, h, w) to (B, outputs, h, w)
Block = Callable[[int, int], nn.Module]
BLOCKS: dict[str, Block] = {"conv": Conv, "residual": Residual}


class Merge(nn.Module):
    """A 1×1 conv that brings maps or features back to the width of the next hourglass's input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = Conv(inputs, outputs, 1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h, w)."""
        return self.conv(x)


class Hourglass(nn.Module):
    """A block parallel to a hourglass of half the size, one level less deep, and their sum."""

    def __init__(self, depth: int, width: int, growth: int, block: Block = Conv) -> None:
        super().__init__()
        below = width + growth
        self.up1 = block(width, width)
        self.low1 = block(width, below)
        self.low2 = Hourglass(depth - 1, below, growth, block) if depth > 1 else block(below, below)
        self.low3 = block(below, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, h, w) to the same shape; an odd side's last row or column comes from the one before."""
        skip = self.up1(x)
        low = self.low3(self.low2(self.low1(F.max_pool2d(x, 2, ceil_mode=True))))
        return skip + F.interpolate(low, scale_factor=2.0, mode="nearest")[..., : x.shape[-2], : x.shape[-1]]


class StackedHourglass(StagedBackbone):
    """Images to maps, once a stack: (B, 3, H, W) → stacks × (B, outputs, H/4, W/4).

    Each stack sees the feature of the one before and what that one made of it.

    Args:
        settings: sizes.
        outputs: channels of a stack's maps.
    """

    def __init__(self, settings: HourglassSettings, outputs: int) -> None:
        super().__init__()
        stem, width, stacks = settings.stem_width, settings.width, settings.stacks
        block, is_residual = BLOCKS[settings.block], settings.block == "residual"
        first = _normalized(3, stem, 7, 2) if is_residual else [Conv(3, stem, 7, 2)]
        self.pre = nn.Sequential(
            *first, block(stem, 2 * stem), nn.MaxPool2d(2), block(2 * stem, 2 * stem), block(2 * stem, width)
        )
        self.features = nn.ModuleList(
            nn.Sequential(
                Hourglass(settings.depth, width, settings.growth, block),
                block(width, width),
                *(_normalized(width, width, 1) if is_residual else [Conv(width, width)]),
            )
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

    def output_layers(self) -> list[nn.Conv2d]:
        """Return the convs that output maps, first stack to last."""
        return [out.conv for out in self.outs]  # type: ignore[misc]


def _normalized(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Return a 'same' padded conv, batch norm and ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
