"""Heads: heatmaps and multi-dimensional tags from the stride-4 feature (docs/method.md 1).

Parameter names are those of the released checkpoints.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coupled_embedding.networks.hrnet import BasicBlock

# heatmaps and scale maps of each resolution, lowest first, and tags
HeadOutput = tuple[list[Tensor], Tensor, list[Tensor]]


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


class PlainHead(nn.Module):
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

    def output_layers(self) -> list[nn.Conv2d]:
        """Return the convolutions that output maps."""
        return convs([self.hms_pred_layers, self.tms_pred_layers, *self.scale_pred_layers])


class HigherHead(nn.Module):
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

    def output_layers(self) -> list[nn.Conv2d]:
        """Return the convolutions that output maps."""
        return convs([*self.heatmap_layers(), self.tms_pred_layers, *self.scale_pred_layers])


class SeparableHead(nn.Module):
    """Two branches of a depthwise 3×3 and two 1×1 convs at stride 4: K heatmaps, and K·D tags.

    The heatmap branch is that of MoveNet MultiPose.

    Args:
        width: channels of the feature.
        num_joints: K.
        tag_dim: D.
        tag_width: of these, the last, which the tag branch sees alone and the heatmap branch not at all; 0: both see
            all.
    """

    HIDDEN = 96  # channels

    def __init__(self, width: int, num_joints: int, tag_dim: int, tag_width: int = 0) -> None:
        super().__init__()
        self.widths = (width - tag_width, tag_width or width)
        self.hms_hidden_layers = self._hidden(self.widths[0])
        self.tms_hidden_layers = self._hidden(self.widths[1]) if tag_dim else nn.Identity()
        self.hms_pred_layers = nn.Conv2d(self.HIDDEN, num_joints, 1)
        self.tms_pred_layers = tag_layer(self.HIDDEN, num_joints * tag_dim)

    def _hidden(self, inputs: int) -> nn.Sequential:
        depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        return nn.Sequential(depthwise, nn.Conv2d(inputs, self.HIDDEN, 1), nn.ReLU(inplace=True))

    def forward(self, feature: Tensor) -> HeadOutput:
        """Map (B, W, h, w) to [heatmaps (B, K, h, w)] and tags (B, K·D, h, w); no scale maps."""
        for_heatmaps, for_tags = feature[:, : self.widths[0]], feature[:, -self.widths[1] :]
        heatmaps = self.hms_pred_layers(self.hms_hidden_layers(for_heatmaps))
        return [heatmaps], self.tms_pred_layers(self.tms_hidden_layers(for_tags)), []

    def heatmap_layers(self) -> list[nn.Conv2d]:
        """Return the convolution that outputs heatmaps."""
        return [self.hms_pred_layers]

    def output_layers(self) -> list[nn.Conv2d]:
        """Return the convolutions that output maps."""
        return convs([self.hms_pred_layers, self.tms_pred_layers])


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


def initialize_head(head: PlainHead | HigherHead | SeparableHead, heatmap_bias: float = 0.0) -> None:
    """Start the convs of a head from normal(0, 0.001), biases 0, batch norm 1/0.

    Of a separable head only those that output maps: through three such layers in a row nothing would be learned.
    """
    for layer in head.output_layers() if isinstance(head, SeparableHead) else head.modules():
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
