"""The pose network: backbone and head."""

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from coupled_embedding.data.outputs import PoseOutput
from coupled_embedding.networks.centers import CenterHead, initialize_center_head
from coupled_embedding.networks.heads import HigherHead, PlainHead, initialize_head
from coupled_embedding.networks.hrnet import HRNetSettings, check_input_size, initialize_backbone
from coupled_embedding.networks.pafs import PafHead, initialize_paf_head
from coupled_embedding.networks.places import SPATIAL_DIMS, add_places
from coupled_embedding.networks.separable_head import SeparableHead
from coupled_embedding.networks.stages import SplitHead, StageSettings

# TRAIN.PRECISION and TEST.PRECISION -> dtype of autocast
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Backbone(Protocol):
    """The sizes of a backbone that outputs features (B, width, H/4, W/4).

    The module that it builds lists in ``input_and_output_layers()`` its first convolution, and registers each batch
    norm directly after the convolution that it follows, so that `folding` finds the pairs.
    """

    @property
    def width(self) -> int:
        """Channels of the features."""

    @property
    def tag_width(self) -> int:
        """Of these, the last, which are for tags alone; 0: all are for heatmaps and tags."""

    def build(self) -> nn.Module:
        """Return the backbone."""


class PoseNetwork(nn.Module):
    """A backbone with a head, or a backbone of stages that output maps themselves.

    Args:
        num_joints: K.
        tag_dim: D; 0: the network has heatmaps alone.
        backbone: sizes of the backbone, or of the stages.
        head: ``"plain"``, ``"higher"`` or ``"separable"``; stages have outputs like the plain head.
        head_blocks: basic blocks of the higher head.
        heatmap_bias: initial value of the heatmap convolutions' bias.
        feed_tags: see `HigherHead`.
        with_scales: whether the head outputs scale maps.
        spatial_tags: above 0: two further tag dimensions, see `add_places`, with this many units per cell.
        limbs: L; 0: the network has no part affinity fields.
        paf_stages: see `PafHead`; more than 1 need the plain head and no tags.
        centers: whether there are center maps.
        logistic: whether heatmaps are probabilities, by a sigmoid.

    Raises:
        ValueError: several paf_stages with centers or logistic; stages with another head, scale maps, fields or center
            maps; a separable head with scale maps; an unknown head.
    """

    def __init__(
        self,
        num_joints: int,
        tag_dim: int = 8,
        backbone: Backbone | StageSettings = HRNetSettings(),  # noqa: B008 - frozen
        head: str = "higher",
        head_blocks: int = 4,
        heatmap_bias: float = 0.0,
        feed_tags: bool = False,
        with_scales: bool = False,
        spatial_tags: float = 0.0,
        limbs: int = 0,
        paf_stages: int = 1,
        centers: bool = False,
        logistic: bool = False,
    ) -> None:
        super().__init__()
        self.num_joints, self.spatial_tags, self.limbs, self.logistic = num_joints, spatial_tags, limbs, logistic
        self.paf_head: PafHead | None = None
        self.center_head: CenterHead | None = None
        self.place_dims = SPATIAL_DIMS if spatial_tags else 0  # the last ones of tag_dim
        self.tag_dim = tag_dim = tag_dim + self.place_dims
        self.backbone: nn.Module
        self.strides: tuple[int, ...] = (4, 2) if head == "higher" else (4,)  # input pixels per heatmap cell
        self.divisor = 32  # of the input's sides
        self.head: PlainHead | HigherHead | SeparableHead | SplitHead
        if isinstance(backbone, StageSettings):
            if head != "plain":
                raise ValueError(f"stages output maps themselves: head must be 'plain', got '{head}'")
            if with_scales:
                raise ValueError("stages output no scale maps: with_scales must be False")
            if limbs or centers or logistic:
                raise ValueError("stages output heatmaps and tags alone: limbs must be 0, centers and logistic False")
            spare = backbone.spare_channels if tag_dim else 0
            staged = self.backbone = backbone.build((1 + tag_dim + spare) * num_joints)
            self.strides, self.divisor = (backbone.stride,), backbone.divisor
            self.head = SplitHead(num_joints, tag_dim)
            staged.set_heatmap_bias(num_joints, heatmap_bias)
            return
        self.backbone = backbone.build()
        if head == "higher":
            self.head = HigherHead(backbone.width, num_joints, tag_dim, head_blocks, feed_tags, with_scales)
        elif head == "plain":
            self.head = PlainHead(backbone.width, num_joints, tag_dim, with_scales)
        elif head == "separable" and not with_scales:
            self.head = SeparableHead(backbone.width, num_joints, tag_dim, backbone.tag_width)
        else:
            raise ValueError(f"no head '{head}'{' with scale maps' if with_scales else ''}")
        initialize_backbone(self.backbone)
        initialize_head(self.head, heatmap_bias)
        if limbs:
            if paf_stages > 1 and (centers or logistic):
                raise ValueError("with paf_stages above 1 centers and logistic must be False")
            self.paf_head = PafHead(backbone.width, num_joints, limbs, paf_stages)
            initialize_backbone(self.paf_head)
            initialize_paf_head(self.paf_head, heatmap_bias)
        if centers:
            self.center_head = CenterHead(backbone.width - backbone.tag_width, num_joints)
            initialize_backbone(self.center_head)
            initialize_center_head(self.center_head)

    def input_and_output_layers(self) -> list[nn.Module]:
        """Return the first convolution and those that output maps: what is not a linear map between features."""
        own: list[nn.Module] = self.backbone.input_and_output_layers()  # type: ignore[operator]
        heads = (self.head, self.paf_head, self.center_head)
        return [*own, *(layer for head in heads if head is not None for layer in head.output_layers())]

    def forward(self, image: Tensor) -> PoseOutput:
        """Map normalized RGB images (B, 3, H, W) to heatmaps and tags.

        Raises:
            ValueError: a side is not a multiple of 32 (of 8 for convolutional pose machines).
        """
        check_input_size(image, self.divisor)
        features = self.backbone(image)
        if isinstance(features, Tensor):
            return self._output(features)
        *aux, last = (self._output(feature) for feature in features)
        return PoseOutput(last.heatmaps, last.tags, tuple(aux))

    def _output(self, feature: Tensor) -> PoseOutput:
        heatmaps, tags, scales = self.head(feature)
        batch, _, height, width = tags.shape
        tags = tags.view(batch, self.num_joints, self.tag_dim, height, width)  # channel k·D + d
        tags = tags.permute(0, 1, 3, 4, 2)  # (B, K, h, w, D)
        if self.spatial_tags:
            tags = add_places(tags, self.spatial_tags)
        centers = None if self.center_head is None else self.center_head(feature)
        if self.logistic:
            heatmaps = [heatmap.float().sigmoid() for heatmap in heatmaps]
        if self.paf_head is None:
            return PoseOutput(tuple(heatmaps), tags, scale_maps=tuple(scales), centers=centers)
        *earlier, last = (
            PoseOutput(tuple(maps), tags, scale_maps=tuple(scales), pafs=fields.unflatten(1, (self.limbs, 2)))
            for maps, fields in self.paf_head(feature, heatmaps)
        )
        return replace(last, aux_outputs=tuple(earlier), centers=centers)
