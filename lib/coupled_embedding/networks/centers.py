"""A head for people's centers and, from there, their joints (docs/method.md 9.6)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from coupled_embedding.networks.separable_head import HIDDEN, separable_hidden

CENTER_BIAS = -2.19  # logit of 0.1: of a map that is nearly all background (Lin et al., focal loss, ICCV 2017)
# numbers of MoveNet MultiPose's convolutions: of its centers, and of its displacements
_MOVENET = {"heatmap": (116, 117, 119), "displacement": (132, 133, 135)}


class CenterHead(nn.Module):
    """Two branches of a depthwise 3×3 and two 1×1 convs: a heatmap of centers, and displacements of K joints.

    They are MoveNet MultiPose's.

    Args:
        width: channels of the feature that it sees, its first ones.
        num_joints: K.
    """

    def __init__(self, width: int, num_joints: int) -> None:
        super().__init__()
        self.width = width
        self.heatmap_hidden, self.displacement_hidden = separable_hidden(width), separable_hidden(width)
        self.heatmap_layer = nn.Conv2d(HIDDEN, 1, 1)
        self.displacement_layer = nn.Conv2d(HIDDEN, 2 * num_joints, 1)

    def forward(self, feature: Tensor) -> Tensor:
        """Map (B, W, h, w) to center maps (B, 1 + 2·K, h, w), see `PoseOutput`; the heatmap in float32."""
        feature = feature[:, : self.width]
        heatmap = self.heatmap_layer(self.heatmap_hidden(feature)).float().sigmoid()
        return torch.cat((heatmap, self.displacement_layer(self.displacement_hidden(feature)).float()), 1)

    def output_layers(self) -> list[nn.Conv2d]:
        """Return the convolutions that output maps."""
        return [self.heatmap_layer, self.displacement_layer]


@torch.no_grad()
def initialize_center_head(head: CenterHead) -> None:
    """Start the convs that output maps from normal(0, 0.001), displacements at 0 and centers at 0.1."""
    for layer, bias in zip(head.output_layers(), (CENTER_BIAS, 0.0), strict=True):
        nn.init.normal_(layer.weight, std=0.001)
        assert layer.bias is not None
        nn.init.constant_(layer.bias, bias)


def movenet_centers(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Return a `CenterHead`'s tensors from MoveNet MultiPose's converted file, and the file's names of them.

    Empty where the file has no such heads. Its displacements are y before x and from a cell's corner.
    """
    tensors: dict[str, Tensor] = {}
    used: list[str] = []
    for branch, numbers in _MOVENET.items():
        layers = zip((f"{branch}_hidden.0", f"{branch}_hidden.1", f"{branch}_layer"), numbers, strict=True)
        names = {
            f"{layer}.{kind}": f"conv{number}.{kind}"
            for layer, number in layers
            for kind in ("weight", "bias")
            if (layer, kind) != (f"{branch}_hidden.0", "bias")
        }
        if not set(names.values()) <= weights.keys():
            return {}, []
        tensors |= {name: weights[other] for name, other in names.items()}
        used += names.values()
    for kind in ("weight", "bias"):
        name = f"displacement_layer.{kind}"
        tensors[name] = tensors[name].unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
    tensors["displacement_layer.bias"] = tensors["displacement_layer.bias"].float() - 0.5
    return tensors, used
