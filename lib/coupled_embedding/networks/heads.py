"""Heads: heatmaps and multi-dimensional tags from the stride-4 feature (docs/method.md 1).

Parameter names are those of the released checkpoints.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coupled_embedding.networks.hrnet import BasicBlock

# heatmaps and scale maps of each resolution, lowest first, and tags
HeadOutput = tuple[list[Tensor], Tensor, list[Tensor]]


class Head(nn.Module, ABC):
    """What outputs maps of a feature."""

    starts_small = True  # all convs start from small weights, or only those that output maps
    tms_pred_layers: nn.Module
    scale_pred_layers: nn.ModuleList

    @abstractmethod
    def heatmap_layers(self) -> list[nn.Conv2d]:
        """Return the convolutions that output heatmaps, lowest resolution first."""

    def output_layers(self) -> list[nn.Conv2d]:
        """Return the convolutions that output maps."""
        return convs([*self.heatmap_layers(), self.tms_pred_layers, *self.scale_pred_layers])


class NoTags(nn.Module):
    """The tags of a network without any: (B, 0, h, w)."""

    def forward(self, feature: Tensor) -> Tensor:
        """Return no channels at the feature's size."""
        return feature[:, :0]


def tag_layer(width: int, channels: int) -> nn.Module:
    """Return the conv that outputs tags, of which a network with ``channels`` 0 has none."""
    return nn.Conv2d(width, channels, 1) if channels else NoTags()


def convs(layers: Iterable[nn.Module]) -> list[nn.Conv2d]:
    """Return the layers that are convs, in order."""
    return [layer for layer in layers if isinstance(layer, nn.Conv2d)]


def scale_layers(width: int, num_joints: int, resolutions: int) -> nn.ModuleList:
    """Return the convs of `scale_maps`, one a resolution."""
    return nn.ModuleList(nn.Conv2d(width, num_joints, 1) for _ in range(resolutions))


def scale_maps(layers: nn.ModuleList, features: Iterable[Tensor]) -> list[Tensor]:
    """Return each resolution's 1/s − 1, (B, K, h, w); without layers none.

    A convolution outputs it, so weights near 0 start from s = 1. The ELU is the identity above 0 and
    keeps the rest above −1: s stays positive.
    """
    return [F.elu(layer(feature)) for layer, feature in zip(layers, features, strict=False)]


class PlainHead(Head):
    """Two 1×1 convs: K heatmaps and K·D tags, both at stride 4; a third one for K scale maps if wanted."""

    def __init__(self, width: int, num_joints: int, tag_dim: int, with_scales: bool = False) -> None:
        super().__init__()
        self.hms_pred_layers = nn.Conv2d(width, num_joints, 1)
        self.tms_pred_layers = tag_layer(width, num_joints * tag_dim)
        self.scale_pred_layers = scale_layers(width, num_joints, 1 if with_scales else 0)

    def forward(self, feature: Tensor) -> HeadOutput:
        """Map (B, W, h, w) to [heatmaps (B, K, h, w)], tags (B, K·D, h, w) and [scale maps (B, K, h, w)]."""
        scales = scale_maps(self.scale_pred_layers, [feature])
        return [self.hms_pred_layers(feature)], self.tms_pred_layers(feature), scales

    def heatmap_layers(self) -> list[nn.Conv2d]:
        """Return the convolutions that output heatmaps, lowest resolution first."""
        return [self.hms_pred_layers]


class HigherHead(Head):
    """The plain head's two convs, then heatmaps at stride 2 from a transposed conv.

    Args:
        width: W.
        num_joints: K.
        tag_dim: D.
        blocks: basic blocks after the transposed conv.
        feed_tags: whether the transposed conv sees the tags besides feature and heatmaps, as
            HigherHRNet's (Cheng et al., CVPR 2020) does.
        with_scales: whether there are K scale maps at each resolution, see `scale_maps`.
    """

    def __init__(
        self,
        width: int,
        num_joints: int,
        tag_dim: int,
        blocks: int = 4,
        feed_tags: bool = False,
        with_scales: bool = False,
    ) -> None:
        super().__init__()
        self.feed_tags = feed_tags
        inputs = width + num_joints * (1 + tag_dim * feed_tags)
        self.hms_pred_layers = nn.ModuleList(nn.Conv2d(width, num_joints, 1) for _ in range(2))
        self.tms_pred_layers = tag_layer(width, num_joints * tag_dim)
        self.deconv_layers = nn.Sequential(
            nn.ConvTranspose2d(inputs, width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.blocks = nn.Sequential(*(BasicBlock(width) for _ in range(blocks)))
        self.scale_pred_layers = scale_layers(width, num_joints, 2 if with_scales else 0)

    def forward(self, feature: Tensor) -> HeadOutput:
        """Map (B, W, h, w) to [(B, K, h, w), (B, K, 2h, 2w)] heatmaps, (B, K·D, h, w) tags and scale maps."""
        low = self.hms_pred_layers[0](feature)
        tags = self.tms_pred_layers(feature)
        inputs = (feature, low, tags) if self.feed_tags else (feature, low)
        upsampled = self.blocks(self.deconv_layers(torch.cat(inputs, 1)))  # (B, W, 2h, 2w)
        scales = scale_maps(self.scale_pred_layers, (feature, upsampled))
        return [low, self.hms_pred_layers[1](upsampled)], tags, scales

    def heatmap_layers(self) -> list[nn.Conv2d]:
        """Return the convolutions that output heatmaps, lowest resolution first."""
        return list(self.hms_pred_layers)  # type: ignore[arg-type]


def initialize_head(head: Head, heatmap_bias: float = 0.0) -> None:
    """Start the convs of a head from normal(0, 0.001), biases 0, batch norm 1/0.

    Without ``starts_small`` only those that output maps: through three such layers in a row nothing would be learned.
    """
    for layer in head.modules() if head.starts_small else head.output_layers():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=0.001)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
    for layer in head.heatmap_layers():
        assert layer.bias is not None
        nn.init.constant_(layer.bias, heatmap_bias)
