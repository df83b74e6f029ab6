"""The pose network: backbone and head."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from coupled_embedding.data.outputs import PoseOutput
from coupled_embedding.networks.heads import HigherHead, PlainHead, SeparableHead, SplitHead, initialize_head
from coupled_embedding.networks.hourglass import HourglassSettings, StackedHourglass, initialize_hourglass
from coupled_embedding.networks.hrnet import HRNetSettings, check_input_size, initialize_backbone
from coupled_embedding.networks.places import SPATIAL_DIMS, add_places
from coupled_embedding.utils.errors import ConfigError

# TRAIN.PRECISION and TEST.PRECISION -> dtype of autocast
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
# unused output channels of a joint in the stacked hourglass, as in the released checkpoint
SPARE_CHANNELS = 2


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
    """A backbone with a plain or higher head, or stacked hourglasses.

    Args:
        num_joints: K.
        tag_dim: D; 0: the network has heatmaps alone.
        backbone: sizes of the backbone, or of the hourglasses.
        head: ``"plain"``, ``"higher"`` or ``"separable"``; hourglasses have outputs like the plain head.
        head_blocks: basic blocks of the higher head.
        heatmap_bias: initial value of the heatmap convolutions' bias.
        feed_tags: see `HigherHead`.
        with_scales: whether the head outputs scale maps.
        spatial_tags: above 0: two further tag dimensions, see `add_places`, with this many units per cell.

    Raises:
        ValueError: hourglasses with another head or with scale maps, a separable head with scale maps, or an unknown
            head.
    """

    def __init__(
        self,
        num_joints: int,
        tag_dim: int = 8,
        backbone: Backbone | HourglassSettings = HRNetSettings(),  # noqa: B008 - frozen
        head: str = "higher",
        head_blocks: int = 4,
        heatmap_bias: float = 0.0,
        feed_tags: bool = False,
        with_scales: bool = False,
        spatial_tags: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_joints, self.spatial_tags = num_joints, spatial_tags
        self.place_dims = SPATIAL_DIMS if spatial_tags else 0  # the last ones of tag_dim
        self.tag_dim = tag_dim = tag_dim + self.place_dims
        self.backbone: nn.Module
        self.head: PlainHead | HigherHead | SeparableHead | SplitHead
        if isinstance(backbone, HourglassSettings):
            if head != "plain":
                raise ValueError(f"hourglasses output maps at stride 4: head must be 'plain', got '{head}'")
            if with_scales:
                raise ValueError("hourglasses output no scale maps: with_scales must be False")
            spare = SPARE_CHANNELS if tag_dim else 0
            self.backbone = StackedHourglass(backbone, (1 + tag_dim + spare) * num_joints)
            self.head = SplitHead(num_joints, tag_dim)
            initialize_hourglass(self.backbone, num_joints, heatmap_bias)
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

    @property
    def strides(self) -> tuple[int, ...]:
        """Input pixels per heatmap cell, one entry a resolution."""
        return (4, 2) if isinstance(self.head, HigherHead) else (4,)

    def input_and_output_layers(self) -> list[nn.Module]:
        """Return the first convolution and those that output maps: what is not a linear map between features."""
        own: list[nn.Module] = self.backbone.input_and_output_layers()  # type: ignore[operator]
        return [*own, *self.head.output_layers()]

    def forward(self, image: Tensor) -> PoseOutput:
        """Map normalized RGB images (B, 3, H, W) to heatmaps and tags.

        Raises:
            ValueError: a side is not a multiple of 32.
        """
        check_input_size(image)
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
        return PoseOutput(tuple(heatmaps), tags, scale_maps=tuple(scales))


def freeze(network: PoseNetwork, prefixes: Sequence[str]) -> list[str]:
    """Keep the parameters whose names begin with a prefix from training; return a line that says how many.

    Running statistics of batch norms go on.

    Raises:
        ConfigError: a prefix is that of no parameter, or of all of them.
    """
    parameters = dict(network.named_parameters())
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in parameters):
            parts = sorted({".".join(name.split(".")[:2]) for name in parameters})
            raise ConfigError(f"TRAIN.FREEZE: no parameter begins with '{prefix}'; there are {', '.join(parts)}")
    frozen = [parameter for name, parameter in parameters.items() if name.startswith(tuple(prefixes))]
    if len(frozen) == len(parameters):
        raise ConfigError(f"TRAIN.FREEZE: {list(prefixes)} leaves nothing to train")
    for parameter in frozen:
        parameter.requires_grad_(False)
    counts = (sum(p.numel() for p in group) for group in (frozen, parameters.values()))
    return ["frozen: {:,} of {:,} parameters".format(*counts)] if frozen else []


def build_on_meta(build: Callable[[], PoseNetwork]) -> PoseNetwork:
    """Build a network without memory for its weights, on the meta device, in evaluation mode.

    ``load_strictly`` gives it memory once a file's weights are known to fit: a stranger's config
    of a huge network then costs nothing.
    """
    with torch.device("meta"), SkipInit():
        return build().eval()


class SkipInit(TorchFunctionMode):
    """Skips filling tensors with initial values: on the meta device torch first loads 150 MB for that."""

    FILLING = frozenset({"uniform_", "normal_", "kaiming_uniform_", "kaiming_normal_", "fill_", "zero_"})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Return the tensor as it is instead of calling a filling function."""
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in self.FILLING:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
