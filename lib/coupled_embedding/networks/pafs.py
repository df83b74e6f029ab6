"""Heads of part affinity fields: one convolution, or stages that see what the one before made (docs/method.md 9.1)."""

import torch
from torch import Tensor, nn

CONVS = 5  # of 7×7 in a stage, as in OpenPose's later stages


class PafStage(nn.Module):
    """A later stage: from the feature, heatmaps and fields to better ones, in a branch each; with batch norm.

    Args:
        width: W of the feature, and the branches' channels.
        heatmaps: K.
        fields: 2·L.
    """

    def __init__(self, width: int, heatmaps: int, fields: int) -> None:
        super().__init__()
        self.heatmap_branch, self.field_branch = (
            self._branch(width + heatmaps + fields, width, outputs) for outputs in (heatmaps, fields)
        )

    @staticmethod
    def _branch(inputs: int, width: int, outputs: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for number in range(CONVS):
            conv = nn.Conv2d(width if number else inputs, width, 7, padding=3, bias=False)
            layers += [conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        hidden = [nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers, *hidden, nn.Conv2d(width, outputs, 1))

    def forward(self, feature: Tensor, heatmaps: Tensor, fields: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, W, h, w), (B, K, h, w), (B, 2·L, h, w) to heatmaps and fields of the same shapes."""
        x = torch.cat((feature, heatmaps, fields), 1)
        return self.heatmap_branch(x), self.field_branch(x)

    def output_layers(self) -> list[nn.Conv2d]:
        """Return the convolutions that output maps."""
        return [self.heatmap_branch[-1], self.field_branch[-1]]  # type: ignore[list-item]


class PafHead(nn.Module):
    """The fields of a feature and, with several stages, better heatmaps and fields.

    Args:
        width: W.
        num_joints: K.
        limbs: L.
        stages: 1: one convolution; more: `PafStage`s after it.
    """

    def __init__(self, width: int, num_joints: int, limbs: int, stages: int = 1) -> None:
        super().__init__()
        self.pred_layer = nn.Conv2d(width, 2 * limbs, 1)
        self.stages = nn.ModuleList(PafStage(width, num_joints, 2 * limbs) for _ in range(stages - 1))

    def forward(self, feature: Tensor, heatmaps: list[Tensor]) -> list[tuple[list[Tensor], Tensor]]:
        """Return each stage's heatmaps, of the first those given, and fields (B, 2·L, h, w)."""
        outputs = [(heatmaps, self.pred_layer(feature))]
        for stage in self.stages:
            (last,), fields = outputs[-1]
            better, fields = stage(feature, last, fields)
            outputs.append(([better], fields))
        return outputs

    def output_layers(self) -> list[nn.Conv2d]:
        """Return the convolutions that output maps."""
        return [self.pred_layer, *(layer for stage in self.stages for layer in stage.output_layers())]  # type: ignore[operator]


@torch.no_grad()
def initialize_paf_head(head: PafHead, heatmap_bias: float = 0.0) -> None:
    """Start the convs that output maps from normal(0, 0.001) and their biases; the others as `hrnet` starts."""
    for layer in head.output_layers():
        nn.init.normal_(layer.weight, std=0.001)
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
    for stage in head.stages:
        nn.init.constant_(stage.heatmap_branch[-1].bias, heatmap_bias)  # type: ignore[index,union-attr]
