"""Networks of stages that each output all maps: the loss supervises every stage, the last one's maps are used."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from coupled_embedding.networks.heads import HeadOutput


class StagedBackbone(nn.Module, ABC):
    """Maps images to each stage's maps; a stage sees what the one before made of the image.

    Batch norms are registered as `Backbone` of `pose_network` says.
    """

    @abstractmethod
    def forward(self, image: Tensor) -> list[Tensor]:
        """Map images (B, 3, H, W) to each stage's maps (B, outputs, H/stride, W/stride), the last one's last."""

    @abstractmethod
    def output_layers(self) -> list[nn.Conv2d]:
        """Return the convs that output maps, first stage to last."""

    def input_and_output_layers(self) -> list[nn.Module]:
        """Return the convs that see the image and those that output maps."""
        first = next(layer for layer in self.modules() if isinstance(layer, nn.Conv2d))
        return [first, *self.output_layers()]

    @torch.no_grad()
    def set_heatmap_bias(self, num_joints: int, bias: float) -> None:
        """Start the heatmaps' biases; the rest starts as the backbone made it."""
        for layer in self.output_layers():
            assert layer.bias is not None
            nn.init.constant_(layer.bias[:num_joints], bias)


@dataclass(frozen=True)
class StageSettings(ABC):
    """Sizes of a `StagedBackbone`."""

    stride: ClassVar[int] = 4  # input pixels per cell of the maps
    divisor: ClassVar[int] = 32  # of the input's sides

    @property
    def spare_channels(self) -> int:
        """Unused output channels of a joint that has tags."""
        return 0

    @abstractmethod
    def build(self, outputs: int) -> StagedBackbone:
        """Return the backbone, for maps of a number of channels."""


class SplitHead(nn.Module):
    """Divides the maps of a network that outputs them itself: K heatmaps, K·D tags, and spare channels after them."""

    def __init__(self, num_joints: int, tag_dim: int) -> None:
        super().__init__()
        self.num_joints, self.tag_dim = num_joints, tag_dim

    def forward(self, maps: Tensor) -> HeadOutput:
        """Divide (B, C, h, w) into [heatmaps (B, K, h, w)] and tags (B, K·D, h, w); no scale maps."""
        end = self.num_joints * (1 + self.tag_dim)
        return [maps[:, : self.num_joints]], maps[:, self.num_joints : end], []

    def output_layers(self) -> list[nn.Conv2d]:
        """Return nothing: the convolutions that output maps are the backbone's."""
        return []
