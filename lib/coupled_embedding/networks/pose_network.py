"""The pose network: backbone and head, and what it puts out."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from yacs.config import CfgNode

from coupled_embedding.data.pose_output import PoseMaps
from coupled_embedding.networks.heads import HigherHead, PlainHead, SplitHead, initialise_head
from coupled_embedding.networks.hourglass import HourglassSettings, StackedHourglass, initialise_hourglass
from coupled_embedding.networks.hrnet import HRNet, HRNetSettings, check_input_size, initialise_backbone

# channels a joint that the stacked hourglass puts out and nobody reads, as the released checkpoint has them
SPARE_CHANNELS = 2


class PoseNetwork(nn.Module):
    """HRNet with a plain or higher head, or stacked hourglasses.

    Args:
        num_joints: K.
        tag_dim: D.
        backbone: sizes of the HRNet or of the hourglasses.
        head: ``"plain"`` or ``"higher"``; hourglasses put out maps like the plain head.
        head_blocks: basic blocks of the higher head.
        heatmap_bias: start value of the heatmap convs' bias.
        feed_tags: see `HigherHead`.
        with_scales: whether the head puts out scale maps.

    Raises:
        ValueError: hourglasses with the higher head or with scale maps, or an unknown head.
    """

    def __init__(
        self,
        num_joints: int,
        tag_dim: int = 8,
        backbone: HRNetSettings | HourglassSettings = HRNetSettings(),  # noqa: B008 - frozen
        head: str = "higher",
        head_blocks: int = 4,
        heatmap_bias: float = 0.0,
        feed_tags: bool = False,
        with_scales: bool = False,
    ) -> None:
        super().__init__()
        self.num_joints = num_joints
        self.tag_dim = tag_dim
        self.backbone: HRNet | StackedHourglass
        self.head: PlainHead | HigherHead | SplitHead
        if isinstance(backbone, HourglassSettings):
            if head != "plain":
                raise ValueError(f"hourglasses put out maps at stride 4: head must be 'plain', got '{head}'")
            if with_scales:
                raise ValueError("hourglasses put out no scale maps: with_scales must be False")
            self.backbone = StackedHourglass(backbone, (1 + tag_dim + SPARE_CHANNELS) * num_joints)
            self.head = SplitHead(num_joints, tag_dim)
            initialise_hourglass(self.backbone, num_joints, heatmap_bias)
            return
        self.backbone = HRNet(backbone)
        if head == "higher":
            self.head = HigherHead(backbone.width, num_joints, tag_dim, head_blocks, feed_tags, with_scales)
        elif head == "plain":
            self.head = PlainHead(backbone.width, num_joints, tag_dim, with_scales)
        else:
            raise ValueError(f"head must be 'plain' or 'higher', got '{head}'")
        initialise_backbone(self.backbone)
        initialise_head(self.head, heatmap_bias)

    @property
    def strides(self) -> tuple[int, ...]:
        """Input pixels per heatmap cell, one entry a resolution."""
        return (4, 2) if isinstance(self.head, HigherHead) else (4,)

    def end_layers(self) -> list[nn.Module]:
        """Return the first conv and those that put out maps: all that are no maps between features."""
        return [*self.backbone.end_layers(), *self.head.output_layers()]

    def forward(self, image: Tensor) -> PoseMaps:
        """Map normalised RGB images (B, 3, H, W) to heatmaps and tags.

        Raises:
            ValueError: a side is no multiple of 32.
        """
        check_input_size(image)
        features = self.backbone(image)
        if isinstance(features, Tensor):
            return self._maps(features)
        *earlier, last = (self._maps(feature) for feature in features)
        return PoseMaps(last.heatmaps, last.tags, tuple(earlier))

    def _maps(self, feature: Tensor) -> PoseMaps:
        heatmaps, tags, scales = self.head(feature)
        batch, _, height, width = tags.shape
        tags = tags.view(batch, self.num_joints, self.tag_dim, height, width)  # channel k·D + d
        tags = tags.permute(0, 1, 3, 4, 2)  # (B, K, h, w, D)
        return PoseMaps(tuple(heatmaps), tags, scale_maps=tuple(scales))


def build_network(cfg: CfgNode, num_joints: int) -> PoseNetwork:
    """Build the network of a config for K joints, with fresh weights."""
    model = cfg.MODEL
    backbone: HRNetSettings | HourglassSettings
    if model.BACKBONE == "hourglass":
        backbone = HourglassSettings(
            model.STACKS, model.WIDTH, model.HOURGLASS_GROWTH, model.HOURGLASS_DEPTH, model.STEM_WIDTH
        )
    else:
        backbone = HRNetSettings(
            model.WIDTH, model.STEM_WIDTH, model.STEM_BLOCKS, tuple(model.STAGE_MODULES), model.STAGE_BLOCKS
        )
    return PoseNetwork(
        num_joints,
        model.TAG_DIM,
        backbone,
        model.HEAD,
        model.HEAD_BLOCKS,
        model.HEATMAP_BIAS,
        model.FEED_TAGS,
        model.SCALE_MAPS,
    )


def sketch_network(cfg: CfgNode, num_joints: int) -> PoseNetwork:
    """Build the network of a config without memory for its weights, on the meta device.

    ``load_strictly`` gives it memory once a file's weights are known to fit: a stranger's config
    of a huge network then costs nothing.
    """
    with torch.device("meta"), _Unfilled():
        return build_network(cfg, num_joints).eval()


class _Unfilled(TorchFunctionMode):
    """Leaves out filling tensors with start values: where there is no memory, torch first loads 150 MB for it."""

    FILLING = frozenset({"uniform_", "normal_", "kaiming_uniform_", "kaiming_normal_", "fill_", "zero_"})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Return the tensor as it is instead of calling a filling function."""
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in self.FILLING:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
