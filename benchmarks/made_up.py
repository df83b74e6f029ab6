"""Inputs, targets, maps and networks for benchmarks, made up: no images and no weight files needed."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from yacs.config import CfgNode

from coupled_embedding.builders import build_model
from coupled_embedding.data.images import normalize
from coupled_embedding.data.outputs import PoseOutput
from coupled_embedding.data.targets import Targets, build_targets
from coupled_embedding.networks.pose_network import PoseNetwork
from decode import made_up_maps

JOINTS, PEOPLE = 14, 10  # people an image
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Inputs:
    """A batch for both: uint8 images (B, S, S, 3), and normalized (B, 3, S, S)."""

    images: Tensor
    normalized: Tensor

    @property
    def size(self) -> int:
        """S, pixels."""
        return self.images.shape[1]


def made_up_inputs(count: int, size: int) -> Inputs:
    """Return a batch of smooth noise."""
    noise = torch.randn(count, 3, size // 16, size // 16, generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(noise, size=(size, size), mode="bilinear")
    images = (128 + 60 * smooth).clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().to(DEVICE)
    return Inputs(images, normalize(images).contiguous())


def made_up_targets(count: int, cfg: CfgNode, strides: Sequence[int]) -> Targets:
    """Return targets of a crowd in each image, on the processor."""
    size = cfg.DATASET.INPUT_SIZE
    random = torch.Generator().manual_seed(0)
    places = torch.rand(count, PEOPLE, JOINTS, 2, generator=random) * size
    labels = 2.0 * (torch.rand(count, PEOPLE, JOINTS, 1, generator=random) < 0.75)
    joints = [torch.cat((places / stride, labels), -1) for stride in strides]
    masks = [torch.ones(count, size // stride, size // stride, dtype=torch.bool) for stride in strides]
    return build_targets(joints, masks, torch.rand(count, PEOPLE, generator=random) * 0.5 + 0.05)


def made_up_network(cfg: CfgNode, inputs: Inputs) -> PoseNetwork:
    """Return a float32 NCHW network with random weights and batch norm statistics that fit them."""
    torch.manual_seed(0)
    network = build_model(cfg, JOINTS).to(DEVICE).train()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network(inputs.normalized)
    for norm in norms:
        norm.momentum = 0.1
    return network


def made_up_crowd(cfg: CfgNode, count: int, strides: Sequence[int]) -> PoseOutput:
    """Return the output for images and then for the flipped images, (2B, ...)."""
    heatmap, tags = made_up_maps(PEOPLE, cfg.DATASET.INPUT_SIZE, cfg.DATASET.INPUT_SIZE)
    heatmaps = [heatmap if stride == 2 else F.max_pool2d(heatmap, 2) for stride in strides]
    heatmaps, tags = [h.repeat_interleave(count, 0).to(DEVICE) for h in heatmaps], tags.repeat_interleave(count, 0)
    return PoseOutput(tuple(heatmaps), tags.to(DEVICE))
