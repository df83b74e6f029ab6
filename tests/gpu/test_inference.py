"""Inference on a GPU finds what the CPU finds: a network's maps in each precision, and the poses of a pipeline."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import train_config
from torch import Tensor, nn
from torch.nn import functional as F
from yacs.config import CfgNode

from coupled_embedding.data.geometry import resize_geometry
from coupled_embedding.data.outputs import PoseOutput
from coupled_embedding.data.test_dataset import TestBatch, warp_to_input
from coupled_embedding.decode.aggregate import MergedMaps
from coupled_embedding.decode.options import DecodeOptions
from coupled_embedding.decode.pipeline import InferencePipeline, PipelineOptions
from coupled_embedding.predictor import Predictor

pytestmark = pytest.mark.gpu
SIZE = (100, 80)  # of the images with spots
JOINTS = [[(20, 20), (30, 55)], [(70, 30), (84, 60)]]  # of two people


def maps_of(weights: Path, device: str, *options: str) -> MergedMaps:
    """The maps of an image of noise."""
    predictor = Predictor.from_pretrained(weights, options, device)
    assert predictor.pipeline.device.type == device
    geometry = resize_geometry(SIZE, predictor.input_size)
    image = np.random.default_rng(0).integers(0, 256, (*SIZE[::-1], 3), np.uint8)
    factors = predictor.pipeline.options.scales
    inputs = [torch.from_numpy(warp_to_input(image, geometry, factor))[None] for factor in factors]
    return predictor.pipeline.forward(inputs, geometry.base_size).cpu()


@pytest.mark.parametrize("scales", ["[1.0]", "[2.0, 1.0]"])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 0.02), ("bf16", 0.1), ("fp16", 0.02)])
def test_maps_are_those_of_the_cpu(tiny: Callable[..., CfgNode], scales: str, precision: str, tolerance: float) -> None:
    weights = train_config(tiny("trained", "DATASET.VAL", "''")) / "final.pth"
    expected = maps_of(weights, "cpu", "TEST.SCALES", scales)
    found = maps_of(weights, "cuda", "TEST.SCALES", scales, "TEST.PRECISION", precision)
    for name in ("heatmaps", "tags"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.device.type == "cpu"
        assert one.shape == other.shape
        assert (one - other).abs().max() <= tolerance * other.abs().max(), name


class ColorNetwork(nn.Module):
    """An image's red and green are the heatmaps, its blue the tags; a parameter says the device."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, images: Tensor) -> PoseOutput:
        colors = self.scale * images
        low, high = (F.avg_pool2d(colors, stride) for stride in (4, 2))
        return PoseOutput((low[:, :2], high[:, :2]), 4 * low[:, 2:, :, :, None].expand(-1, 2, -1, -1, 2))


def batch_with_spots(shift: int) -> TestBatch:
    """Two people, a red and a green spot each, on black and on blue ground; then the first alone."""
    x, y = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    images, geometry = [], resize_geometry(SIZE, 128)
    for people in (JOINTS, JOINTS[:1]):
        image = np.zeros((SIZE[1], SIZE[0], 3))
        image[:, 50:, 0] = 200
        for person in people:
            for channel, (i, j) in zip((2, 1), person, strict=True):
                image[..., channel] += 230 * np.exp(-((x - i - shift) ** 2 + (y - j) ** 2) / (2 * 5**2))
        images.append(warp_to_input(image.astype(np.uint8), geometry))
    return TestBatch((torch.from_numpy(np.stack(images)),), (geometry, geometry), (0, 1))


def poses_on(device: str) -> list[list[list[float]]]:
    """x, y and score of all joints of each image of several batches, sorted."""
    batches = [batch_with_spots(shift) for shift in range(-8, 8)]
    batches = [batch.pin_memory() for batch in batches] if device == "cuda" else batches
    options = PipelineOptions((0, 1), DecodeOptions((0, 1)), pixels="unit")
    pipeline = InferencePipeline(ColorNetwork().eval().to(device), options)
    images = [poses for _, images in pipeline.run(batches) for poses in images]
    return [sorted(joint for pose in poses for joint in pose.keypoints.tolist()) for poses in images]


def test_poses_are_those_of_the_cpu() -> None:
    expected, found = poses_on("cpu"), poses_on("cuda")
    for joints in (expected, found):
        assert [len(image) for image in joints] == [4, 2] * 16
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=0.5)  # half a pixel: neighbors may be equally high
