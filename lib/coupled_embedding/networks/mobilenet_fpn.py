"""MobileNetV2 with a feature pyramid to stride 4: a small backbone for CPUs and phones.

MobileNetV2 (Sandler et al., CVPR 2018) is built of torchvision's blocks; the pyramid is MoveNet MultiPose's, of
separable convolutions. With biases instead of batch norms and TensorFlow's padding it computes what converted weights
compute.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# expansion, channels at width factor 1, blocks, stride of the first one (MobileNetV2, table 2)
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_TAPS = (3, 6, 10)  # the last of the trunk's blocks (0 is the first convolution) at strides 4, 8 and 16
_EXPANDED = 1280  # channels of the trunk's last convolution
_PYRAMID = (64, 32, 24, 24)  # channels at strides 32, 16, 8 and 4
# numbers of MoveNet MultiPose's convolutions: those of the trunk come before
_MOVENET_LATERALS = (97, 99, 105, 111)
_MOVENET_SMOOTH = (101, 107, 113)
_MOVENET_HEATMAPS = (128, 129, 131)  # of its heads


@dataclass(frozen=True)
class MobileNetFPNSettings:
    """Sizes and variants of the backbone; the defaults are those of the converted weights.

    Attributes:
        factor: of MobileNetV2's channels.
        batch_norm: whether convolutions are followed by batch norm; else by a bias.
        same_padding: pad a convolution of stride 2 on the right and below only, as TensorFlow does for even sides; else
            by one on all sides.
        tag_width: channels of a second pyramid, whose features are for tags alone; 0: there is none.
    """

    factor: float = 1.5
    batch_norm: bool = False
    same_padding: bool = True
    tag_width: int = 0

    @property
    def width(self) -> int:
        """Channels of the features, those for tags alone among them."""
        return _PYRAMID[-1] + self.tag_width

    def build(self) -> "MobileNetFPN":
        """Return the backbone."""
        return MobileNetFPN(self)


class ChannelBias(nn.Module):
    """What is left of a batch norm that was folded into the convolution before it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Add a bias to each channel of (B, C, h, w)."""
        return x + self.bias.view(1, -1, 1, 1)


class SamePaddedConv2d(nn.Conv2d):
    """A 3×3 convolution of stride 2 that pads even sides as TensorFlow does: on the right and below."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C', h/2, w/2)."""
        return super().forward(F.pad(input, (0, 1, 0, 1)))


class Pyramid(nn.Module):
    """From features at strides 32, 16, 8 and 4 to one at stride 4 that has seen all of them.

    Args:
        tapped: channels of the features, coarsest first.
        channels: of the pyramid, coarsest first.
        norm: what follows a convolution.
    """

    def __init__(self, tapped: Sequence[int], channels: Sequence[int], norm: type[nn.Module]) -> None:
        super().__init__()
        steps = list(zip(tapped, (channels[0], *channels[:-1]), strict=True))
        self.laterals = nn.ModuleList(nn.Conv2d(inputs, outputs, 1) for inputs, outputs in steps)
        self.smooth = nn.ModuleList(
            separable(inputs, outputs, norm) for (_, inputs), outputs in zip(steps[1:], channels[1:], strict=True)
        )

    def forward(self, tapped: Sequence[Tensor]) -> Tensor:
        """Map features (B, C, H/32, W/32) to (B, C, H/4, W/4), coarsest first, to (B, channels[-1], H/4, W/4)."""
        x = self.laterals[0](tapped[0])
        for lateral, smooth, finer in zip(self.laterals[1:], self.smooth, tapped[1:], strict=True):
            upsampled = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = smooth(upsampled + lateral(finer))
        return x


class MobileNetFPN(nn.Module):
    """Maps images to features at stride 4."""

    def __init__(self, settings: MobileNetFPNSettings) -> None:
        # here, as this import takes as long as torch's, and every command would wait for it
        from torchvision.models.mobilenetv2 import InvertedResidual, _make_divisible
        from torchvision.ops.misc import Conv2dNormActivation

        super().__init__()
        norm = nn.BatchNorm2d if settings.batch_norm else ChannelBias
        activated = partial(Conv2dNormActivation, norm_layer=norm, activation_layer=nn.ReLU6)
        channels = [_make_divisible(32 * settings.factor, 8)]
        self.trunk = nn.Sequential(activated(3, channels[0], 3, 2))
        for expansion, width, blocks, stride in _STAGES:
            for number in range(blocks):
                channels.append(_make_divisible(width * settings.factor, 8))
                first = stride if number == 0 else 1
                self.trunk.append(InvertedResidual(*channels[-2:], first, expansion, norm_layer=norm))
        self.trunk.append(activated(channels[-1], _EXPANDED, 1))
        tapped = [_EXPANDED, *(channels[tap] for tap in reversed(_TAPS))]
        self.pyramid = Pyramid(tapped, _PYRAMID, norm)
        # always with batch norm: nothing converted is loaded into this one
        self.tag_pyramid = Pyramid(tapped, [settings.tag_width] * 4, nn.BatchNorm2d) if settings.tag_width else None
        if settings.same_padding:
            _pad_as_tensorflow(self.trunk)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalized images (B, 3, H, W), of sides that 32 divides, to (B, 24 + tag width, H/4, W/4)."""
        tapped = []
        x = images
        for number, block in enumerate(self.trunk):
            x = block(x)
            if number in _TAPS:
                tapped.append(x)
        tapped = [x, *reversed(tapped)]
        feature = self.pyramid(tapped)
        return feature if self.tag_pyramid is None else torch.cat((feature, self.tag_pyramid(tapped)), 1)

    def adapt_pretrained(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Return a file's tensors under this backbone's names, and the names of those that it has no use for.

        MoveNet MultiPose's converted file numbers its layers (``conv0.weight``); its heads are not used.
        """
        if "conv0.weight" not in weights:
            return dict(weights), []
        numbers = sorted({int(found[1]) for name in weights if (found := re.match(r"conv(\d+)\.", name))})
        trunk = [number for number in numbers if number < _MOVENET_LATERALS[0]]
        laterals = _names(self.pyramid.laterals, "pyramid.laterals.", nn.Conv2d)
        convs = [*_names(self.trunk, "trunk.", nn.Conv2d), *laterals]
        biases = [*_names(self.trunk, "trunk.", ChannelBias), *laterals]
        layers = [*zip((*trunk, *_MOVENET_LATERALS), convs, biases, strict=False)]
        for place, number in enumerate(_MOVENET_SMOOTH):
            name = f"pyramid.smooth.{place}"
            layers += [(number, f"{name}.0", ""), (number + 1, f"{name}.1", f"{name}.2")]
        names = {f"conv{number}.weight": f"{conv}.weight" for number, conv, _ in layers}
        names |= {f"conv{number}.bias": f"{bias}.bias" for number, _, bias in layers if bias}
        adapted = {names[name]: tensor for name, tensor in weights.items() if name in names}
        new = {} if self.tag_pyramid is None else self.tag_pyramid.state_dict(prefix="tag_pyramid.")
        return {**adapted, **new}, [name for name in weights if name not in names]

    @torch.no_grad()
    def balance(self) -> None:
        """Make the two kernels of each of the pyramid's convolutions alike in size, channel by channel.

        They compute the same. Of folded batch norms one kernel is up to 5,000 times the other: a step of Adam, as large
        for both, would destroy one.
        """
        for smooth in self.pyramid.smooth:
            depthwise, pointwise = (weight for weight in smooth.parameters() if weight.ndim == 4)
            sizes = [k.square().mean(axes).sqrt() for k, axes in ((depthwise, (1, 2, 3)), (pointwise, (0, 2, 3)))]
            factor = torch.where((sizes[0] > 0) & (sizes[1] > 0), (sizes[0] / sizes[1]).sqrt(), 1.0)
            depthwise.div_(factor[:, None, None, None])
            pointwise.mul_(factor[:, None, None])

    def input_and_output_layers(self) -> list[nn.Module]:
        """Return the first convolution."""
        return [self.trunk[0][0]]  # type: ignore[index]


def movenet_heatmaps(weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Return tensor names of a `SeparableHead`'s heatmap branch -> those of MoveNet MultiPose's converted file.

    Its joints are COCO's, and it outputs logits. Empty where the file has no such branch.
    """
    depthwise, pointwise, last = (f"conv{number}" for number in _MOVENET_HEATMAPS)
    names = {"hms_hidden_layers.0.weight": f"{depthwise}.weight"}
    for name, conv in (("hms_hidden_layers.1", pointwise), ("hms_pred_layers", last)):
        names |= {f"{name}.{kind}": f"{conv}.{kind}" for kind in ("weight", "bias")}
    return names if set(names.values()) <= weights.keys() else {}


def separable(inputs: int, outputs: int, norm: type[nn.Module]) -> nn.Sequential:
    """Return a depthwise 3×3 and a 1×1 convolution, norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        norm(outputs),
        nn.ReLU(inplace=True),
    )


def _names(module: nn.Module, prefix: str, kind: type[nn.Module]) -> list[str]:
    return [prefix + name for name, layer in module.named_modules() if isinstance(layer, kind)]


def _pad_as_tensorflow(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2):
            layer.__class__ = SamePaddedConv2d
            layer.padding = (0, 0)
            layer._reversed_padding_repeated_twice = [0] * 4
