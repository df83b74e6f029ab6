"""HRNet backbone of any width (Sun et al., CVPR 2019): stages and fusions are data.

Parameter names are those of the published weight files, so that they load key by key.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class HRNetSettings:
    """Sizes of an HRNet; the defaults are HRNet-W32.

    Attributes:
        width: W, channels at stride 4; branch i has W·2^i.
        stem_width: channels of the two stride-2 convs.
        stem_blocks: bottlenecks of stage 1.
        stage_modules: modules of stages 2, 3 and 4 (2, 3 and 4 branches).
        stage_blocks: basic blocks of a branch in each module.
    """

    width: int = 32
    stem_width: int = 64
    stem_blocks: int = 4
    stage_modules: tuple[int, int, int] = (1, 4, 3)
    stage_blocks: int = 4

    @property
    def tag_width(self) -> int:
        """No channels for tags alone."""
        return 0

    def build(self) -> "HRNet":
        """Return the backbone."""
        return HRNet(self)


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Return a conv without bias, 'same' padded, and its batch norm."""
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]


class BasicBlock(nn.Module):
    """Two 3×3 convs with a shortcut; the width stays."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(width, width, 3)
        self.conv2, self.bn2 = conv_bn(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to the same shape."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(out)) + x, inplace=True)


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 convs with a shortcut; ``4 * width`` channels out."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(inputs, width, 1)
        self.conv2, self.bn2 = conv_bn(width, width, 3)
        self.conv3, self.bn3 = conv_bn(width, 4 * width, 1)
        self.downsample = nn.Sequential(*conv_bn(inputs, 4 * width, 1)) if inputs != 4 * width else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, 4·width, h, w)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        return F.relu(self.bn3(self.conv3(out)) + shortcut, inplace=True)


def _projection(source_width: int, target_width: int) -> nn.Sequential:
    # upsampled in `ExchangeModule._fuse`
    return nn.Sequential(*conv_bn(source_width, target_width, 1))


def _downsample_path(source_width: int, target_width: int, steps: int) -> nn.Sequential:
    # every step halves the size; the width changes in the last one only, which has no ReLU
    layers = [nn.Sequential(*conv_bn(source_width, source_width, 3, 2), nn.ReLU(True)) for _ in range(steps - 1)]
    return nn.Sequential(*layers, nn.Sequential(*conv_bn(source_width, target_width, 3, 2)))


class ExchangeModule(nn.Module):
    """Parallel branches of basic blocks, then each output branch sums all resampled branches.

    Args:
        widths: channels of each branch.
        blocks: basic blocks of a branch.
        outputs: how many of the highest resolutions to output.
    """

    def __init__(self, widths: Sequence[int], blocks: int, outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(width) for _ in range(blocks))) for width in widths)
        rows = []
        for target in range(outputs):
            row: list[nn.Module] = []
            for source, width in enumerate(widths):
                if source > target:
                    row.append(_projection(width, widths[target]))
                elif source < target:
                    row.append(_downsample_path(width, widths[target], target - source))
                else:
                    row.append(nn.Identity())
            rows.append(nn.ModuleList(row))
        self.fuse_layers = nn.ModuleList(rows)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Map one (B, W·2^i, h/2^i, w/2^i) tensor a branch to the first ``outputs`` of them."""
        features = [branch(x) for branch, x in zip(self.branches, features, strict=True)]
        return [self._fuse(target, row, features) for target, row in enumerate(self.rows())]

    def rows(self) -> list[nn.ModuleList]:
        """Return one list of layers per output branch."""
        return [row for row in self.fuse_layers if isinstance(row, nn.ModuleList)]

    @staticmethod
    def _fuse(target: int, row: nn.ModuleList, features: list[Tensor]) -> Tensor:
        total: Tensor | None = None
        for source, (layer, x) in enumerate(zip(row, features, strict=True)):
            x = layer(x)
            if source > target:
                x = F.interpolate(x, scale_factor=2.0 ** (source - target), mode="nearest")
            total = x if total is None else total + x
        assert total is not None
        return F.relu(total, inplace=len(features) > 1)


class HRNet(nn.Module):
    """HRNet without incremental or classification layers: (B, 3, H, W) → (B, W, H/4, W/4).

    The input's sides must be multiples of 32. The last module of stage 4 keeps only the highest-resolution branch.
    """

    def __init__(self, settings: HRNetSettings = HRNetSettings()) -> None:
        super().__init__()
        stem, width = settings.stem_width, settings.width
        self.width = width
        self.conv1, self.bn1 = conv_bn(3, stem, 3, 2)
        self.conv2, self.bn2 = conv_bn(stem, stem, 3, 2)
        blocks = [Bottleneck(stem, stem)] + [Bottleneck(4 * stem, stem) for _ in range(settings.stem_blocks - 1)]
        self.layer1 = nn.Sequential(*blocks)
        previous = [4 * stem]
        for number, modules in enumerate(settings.stage_modules):
            widths = [width * 2**i for i in range(number + 2)]
            setattr(self, f"transition{number + 1}", _transition(previous, widths))
            last = number == len(settings.stage_modules) - 1
            stage = [
                ExchangeModule(widths, settings.stage_blocks, 1 if last and m == modules - 1 else len(widths))
                for m in range(modules)
            ]
            setattr(self, f"stage{number + 2}", nn.Sequential(*stage))
            previous = widths

    def forward(self, image: Tensor) -> Tensor:
        """Map normalized images (B, 3, H, W) to features (B, width, H/4, W/4)."""
        x = F.relu(self.bn1(self.conv1(image)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        features = [self.layer1(x)]
        for number in (1, 2, 3):
            features = self._widen(getattr(self, f"transition{number}"), features)
            features = getattr(self, f"stage{number + 1}")(features)
        return features[0]

    def input_and_output_layers(self) -> list[nn.Module]:
        """Return the first conv: no map between features."""
        return [self.conv1]

    @staticmethod
    def _widen(transition: nn.ModuleList, features: list[Tensor]) -> list[Tensor]:
        # a new branch grows from the lowest resolution so far
        return [layer(features[min(i, len(features) - 1)]) for i, layer in enumerate(transition)]


def _transition(previous: Sequence[int], widths: Sequence[int]) -> nn.ModuleList:
    layers: list[nn.Module] = []
    for i, width in enumerate(widths):
        if i >= len(previous):
            layers.append(nn.Sequential(nn.Sequential(*conv_bn(previous[-1], width, 3, 2), nn.ReLU(True))))
        elif previous[i] != width:
            layers.append(nn.Sequential(*conv_bn(previous[i], width, 3), nn.ReLU(True)))
        else:
            layers.append(nn.Identity())
    return nn.ModuleList(layers)


def initialize_backbone(module: nn.Module) -> None:
    """Start convs from He-normal weights: for training without an ImageNet file."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            layer.weight.data *= layer.groups**0.5  # each output belongs to one group alone
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)


def check_input_size(image: Tensor, divisor: int = 32) -> None:
    """Raise ValueError unless both sides of (B, 3, H, W) are multiples of a divisor."""
    height, width = image.shape[-2:]
    if height % divisor or width % divisor:
        raise ValueError(f"the network needs sides that are multiples of {divisor} pixels, got {width}×{height}")
