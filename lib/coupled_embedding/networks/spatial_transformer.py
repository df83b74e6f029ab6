"""Symmetric spatial transformer of a single-person network (RMPE, Fang et al., ICCV 2017).

A localisation network finds the affine map θ (2×3) that takes places of a better crop to places of the input; the
single-person network sees that crop, and its heatmaps return to the input's places by the inverse map γ. Places are in
[−1, 1] from edge to edge, as torch's grids have them.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from coupled_embedding.data.outputs import PoseOutput
from coupled_embedding.networks.hrnet import check_input_size
from coupled_embedding.networks.pose_network import PoseNetwork

IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
SMALLEST_DETERMINANT = 1e-3  # of [θ1 θ2]: a crop of a thousandth of the input
_WIDTHS = (16, 32, 64, 64)  # channels of the localisation network's convs
_CELLS = 4  # of its last feature, down and across


class Localisation(nn.Module):
    """Predicts θ from the input; the identity at the start."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in zip((3, *_WIDTHS), _WIDTHS, strict=False):
            conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(_CELLS), nn.Flatten())
        self.hidden = nn.Linear(_WIDTHS[-1] * _CELLS**2, 64)
        self.theta = nn.Linear(64, 6)
        nn.init.zeros_(self.theta.weight)
        self.theta.bias.data.copy_(torch.tensor(IDENTITY).flatten())

    def forward(self, image: Tensor) -> Tensor:
        """Map normalized images (B, 3, H, W) to θ (B, 2, 3)."""
        theta: Tensor = self.theta(F.relu(self.hidden(self.features(image))))
        return theta.view(-1, 2, 3)


def resample(maps: Tensor, theta: Tensor) -> Tensor:
    """Return maps (B, C, h, w) in which each place shows what θ (B, 2, 3) takes it to; 0 beyond the edges."""
    maps = maps.float()
    grid = F.affine_grid(theta.float(), list(maps.shape), align_corners=False)
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def inverse(theta: Tensor) -> Tensor:
    """Return γ of θ, both (B, 2, 3): [γ1 γ2] = [θ1 θ2]⁻¹, γ3 = −[γ1 γ2]·θ3.

    A determinant nearer to 0 than `SMALLEST_DETERMINANT` counts as that, so that a collapsed θ gives finite maps.
    """
    (a, b, x), (c, d, y) = (row.unbind(1) for row in theta.unbind(1))
    determinant = a * d - b * c
    size = determinant.abs().clamp_min(SMALLEST_DETERMINANT)
    determinant = torch.where(determinant < 0, -size, size)
    a, b, c, d = d / determinant, -b / determinant, -c / determinant, a / determinant
    return torch.stack((a, b, -a * x - b * y, c, d, -c * x - d * y), 1).view(-1, 2, 3)


class TransformedPoseNetwork(PoseNetwork):
    """A single-person network between a spatial transformer and its inverse.

    Its weights have the single-person network's names, besides ``localisation.*``: MODEL.INIT_FROM starts from a
    trained one.

    Args:
        arguments, options: of `PoseNetwork`.
        parallel: whether training has a parallel branch, the single-person network with its weights held constant and
            without the inverse map, whose heatmaps `PoseOutput.parallel` holds.

    Raises:
        ValueError: the network has tags, scale maps or center maps, or as `PoseNetwork`.
    """

    def __init__(self, *arguments: Any, parallel: bool = False, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.tag_dim or options.get("with_scales") or options.get("centers"):
            raise ValueError(
                "a spatial transformer takes back heatmaps alone: tag_dim must be 0, with_scales and centers False"
            )
        self.parallel = parallel
        self.localisation = Localisation()

    def input_and_output_layers(self) -> list[nn.Module]:
        """Return the convs that see the image and those that output maps."""
        return [self.localisation.features[0], *super().input_and_output_layers()]

    def forward(self, image: Tensor, transformed: bool = True) -> PoseOutput:
        """Map normalized RGB images (B, 3, H, W) to heatmaps; ``transformed=False``: as the single-person network does.

        Raises:
            ValueError: as `PoseNetwork.forward`.
        """
        if not transformed:
            return super().forward(image)
        check_input_size(image, self.divisor)
        with torch.autocast(image.device.type, enabled=False):
            theta = self.localisation(image.float())
            crop, back = resample(image, theta).to(image.dtype), inverse(theta)
        output = super().forward(crop)
        stages = tuple(_taken_back(stage, back) for stage in output.aux_outputs)
        parallel = self._parallel(crop) if self.parallel and self.training else None
        return replace(_taken_back(output, back), aux_outputs=stages, parallel=parallel)

    def _parallel(self, crop: Tensor) -> Tensor:
        """Return the lowest resolution's heatmaps of a crop, of which only the crop learns."""
        constant = {name: tensor.detach() for name, tensor in self.named_parameters()}
        statistics = {name: tensor.clone() for name, tensor in self.named_buffers()}  # not updated a second time
        output: PoseOutput = functional_call(self, {**constant, **statistics}, (crop, False))
        return output.heatmaps[0]


def _taken_back(output: PoseOutput, back: Tensor) -> PoseOutput:
    return replace(output, heatmaps=tuple(resample(heatmap, back) for heatmap in output.heatmaps))
