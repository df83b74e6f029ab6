"""Convolutional pose machines (Wei et al., CVPR 2016): one person's heatmaps, refined stage by stage.

The layers are the released networks', which pool 3×3 where the paper says 2×2. Their background channel is left out:
no loss of this package has a target for it.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from coupled_embedding.networks.stages import StagedBackbone, StageSettings

STRIDE = 8


@dataclass(frozen=True)
class CPMSettings(StageSettings):
    """Sizes of a convolutional pose machine; the defaults are its authors'.

    Attributes:
        stages: the first sees the image alone.
        width: channels of most layers; the 5×5 convs have a quarter, the first stage's last layers four times as many.
        batch_norm: whether one follows every conv but the stages' last; the authors have none.
        pool: side of the pooled windows: 3 as released, 2 as in the paper.
        center_sigma: pixels; width of the center map's Gaussian, which marks the person in the middle.
    """

    stages: int = 6
    width: int = 128
    batch_norm: bool = False
    pool: int = 3
    center_sigma: float = 21.0

    stride: ClassVar[int] = STRIDE
    divisor: ClassVar[int] = STRIDE

    def build(self, outputs: int) -> "ConvolutionalPoseMachine":
        """Return the pose machine."""
        return ConvolutionalPoseMachine(self, outputs)


class ConvolutionalPoseMachine(StagedBackbone):
    """Images to maps, once a stage: (B, 3, H, W) → stages × (B, outputs, H/8, W/8).

    Later stages see features of the image, the maps of the stage before, and the center map.

    Args:
        settings: sizes.
        outputs: channels of a stage's maps.
    """

    def __init__(self, settings: CPMSettings, outputs: int) -> None:
        super().__init__()
        width, norm, later = settings.width, settings.batch_norm, settings.stages - 1
        narrow, wide = max(width // 4, 1), 4 * width
        self.center_sigma = settings.center_sigma
        self.first = nn.Sequential(
            *_trunk(settings),
            *_conv(width, narrow, 5, norm),
            *_conv(narrow, wide, 9, norm),
            *_conv(wide, wide, 1, norm),
            nn.Conv2d(wide, outputs, 1),
        )
        self.shared = nn.Sequential(*(_trunk(settings) if later else ()))
        self.features = nn.ModuleList(nn.Sequential(*_conv(width, narrow, 5, norm)) for _ in range(later))
        self.refiners = nn.ModuleList(
            nn.Sequential(
                *_conv(narrow + outputs + 1, width, 11, norm),
                *_conv(width, width, 11, norm),
                *_conv(width, width, 11, norm),
                *_conv(width, width, 1, norm),
                nn.Conv2d(width, outputs, 1),
            )
            for _ in range(later)
        )
        _initialize(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map images (B, 3, H, W) to each stage's maps (B, outputs, H/8, W/8), the last one's last."""
        maps = [self.first(image)]
        shared = self.shared(image) if self.refiners else None
        center = center_map(maps[0], self.center_sigma)
        for features, refiner in zip(self.features, self.refiners, strict=True):
            maps.append(refiner(torch.cat((features(shared), maps[-1], center), 1)))
        return maps

    def output_layers(self) -> list[nn.Conv2d]:
        """Return the convs that output maps, first stage to last."""
        return [stage[-1] for stage in (self.first, *self.refiners)]

    def input_and_output_layers(self) -> list[nn.Module]:
        """Return the convs that see the image and those that output maps."""
        return [self.first[0], *([self.shared[0]] if self.refiners else []), *self.output_layers()]


def center_map(maps: Tensor, sigma: float) -> Tensor:
    """Return a Gaussian at the middle of the input, sampled at the cells' centers.

    Args:
        maps: (B, C, h, w) at stride 8, for shape, device and type.
        sigma: input pixels.

    Returns:
        (B, 1, h, w).
    """
    height, width = maps.shape[-2:]
    rows, columns = (STRIDE * (torch.arange(n, device=maps.device) + 0.5 - n / 2) for n in (height, width))
    gaussian = torch.exp(-(rows[:, None] ** 2 + columns**2) / (2 * sigma**2))
    return gaussian.to(maps.dtype).expand(len(maps), 1, height, width)


def _conv(inputs: int, outputs: int, kernel: int, norm: bool) -> list[nn.Module]:
    """Return a 'same' padded conv, batch norm if wanted, and ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=not norm)
    return [conv, *([nn.BatchNorm2d(outputs)] if norm else []), nn.ReLU(inplace=True)]


def _trunk(settings: CPMSettings) -> list[nn.Module]:
    """Return three 9×9 convs, each followed by a pooling to half the size."""
    layers: list[nn.Module] = []
    for inputs in (3, settings.width, settings.width):
        layers += _conv(inputs, settings.width, 9, settings.batch_norm)
        layers.append(nn.MaxPool2d(settings.pool, 2, ceil_mode=True))
    return layers


def _initialize(module: ConvolutionalPoseMachine) -> None:
    """Start convs as the authors' do: by He's larger weights their learning rate diverges at once."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
