"""The decode of one person's crop, against a slow oracle, and through the pipeline."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from coupled_embedding.data.geometry import region_geometry
from coupled_embedding.data.outputs import PoseOutput
from coupled_embedding.data.test_dataset import TestBatch
from coupled_embedding.decode.aggregate import ImageMaps
from coupled_embedding.decode.options import DecodeOptions
from coupled_embedding.decode.pipeline import InferencePipeline, PipelineOptions
from coupled_embedding.decode.single import SinglePersonOptions, decode_single
from coupled_embedding.utils.errors import NonFiniteError, UserError

IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])


def slow_joint(heatmap, stride, shift):
    """Return x, y, score of the best cell, cell by cell."""
    height, width = len(heatmap), len(heatmap[0])
    best = (0, 0)
    for row in range(height):
        for column in range(width):
            if heatmap[row][column] > heatmap[best[0]][best[1]]:
                best = (row, column)
    row, column = best
    x, y = column + 0.5, row + 0.5
    if 0 < column < width - 1 and heatmap[row][column + 1] != heatmap[row][column - 1]:
        x += math.copysign(shift, heatmap[row][column + 1] - heatmap[row][column - 1])
    if 0 < row < height - 1 and heatmap[row + 1][column] != heatmap[row - 1][column]:
        y += math.copysign(shift, heatmap[row + 1][column] - heatmap[row - 1][column])
    return x * stride, y * stride, heatmap[row][column]


@given(
    seed=st.integers(0, 10**6),
    joints=st.integers(1, 5),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    stride=st.sampled_from([1, 4, 8]),
    shift=st.sampled_from([0.25, 0.0]),
    levels=st.sampled_from([2, 5, 1000]),  # few make ties
)
@settings(max_examples=200, deadline=None)
def test_it_is_what_a_loop_over_cells_finds(seed, joints, height, width, stride, shift, levels):
    rng = np.random.default_rng(seed)
    heatmaps = (rng.integers(-levels, levels + 1, (joints, height, width)) / levels).astype(np.float32)
    tags = ()
    size = (width * stride, height * stride)
    (pose,) = decode_single(ImageMaps(heatmaps, tags), size, IDENTITY, SinglePersonOptions(shift))
    expected = [slow_joint(heatmap.tolist(), stride, shift) for heatmap in heatmaps]
    np.testing.assert_allclose(pose.keypoints, expected, atol=1e-12)
    assert pose.score == pytest.approx(sum(joint[2] for joint in expected) / joints)
    assert pose.source is None


def test_the_map_leads_to_the_image():
    heatmaps = np.zeros((1, 4, 4), np.float32)
    heatmaps[0, 1, 2], heatmaps[0, 1, 3] = 1, 0.5
    to_image = region_geometry((100, 50, 32), 16).to_image()  # 2 image pixels an input pixel, 8 a cell
    (pose,) = decode_single(ImageMaps(heatmaps, ()), (16, 16), to_image, SinglePersonOptions())
    np.testing.assert_allclose(pose.keypoints, [(84 + 8 * 2.75, 34 + 8 * 1.5, 1)], atol=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_maps_that_are_not_finite_are_an_error(value):
    heatmaps = np.zeros((2, 3, 3), np.float32)
    heatmaps[1, 2, 0] = value
    with pytest.raises(NonFiniteError, match="NaN or infinite"):
        decode_single(ImageMaps(heatmaps, ()), (12, 12), IDENTITY, SinglePersonOptions())


class Spots(nn.Module):
    """A network without tags whose heatmaps are the mean of each cell's red and green."""

    def __init__(self, stride, lopsided=0.0):
        super().__init__()
        self.stride, self.lopsided = stride, lopsided
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        cells = nn.functional.avg_pool2d(images, self.stride)[:, :2]
        # an error that a flip takes away: everything is seen further to the right
        cells = cells + self.lopsided * torch.arange(cells.shape[-1]) / cells.shape[-1]
        return PoseOutput((cells,), cells.new_zeros(*cells.shape, 0))


def spots(size, *places):
    """Return (1, S, S, 3) uint8 RGB with a bright square of 16 pixels in a channel around each place."""
    image = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    for x, y, channel in places:
        image[0, y - 8 : y + 8, x - 8 : x + 8, channel] = 250
    return image


@pytest.mark.parametrize("stride", [4, 8])
@pytest.mark.parametrize("scales", [(1.0,), (1.0, 2.0)])
@pytest.mark.parametrize("flip", [False, True])
def test_crops_go_through_the_pipeline_without_tags(stride, scales, flip):
    places = (24, 32, 0), (48, 16, 1)
    regions = (100, 100, 64), (20, 30, 128)
    images = tuple(
        torch.cat([spots(int(64 * s), *((int(x * s), int(y * s), c) for x, y, c in places))] * 2) for s in scales
    )
    geometries = tuple(region_geometry(region, 64) for region in regions)
    options = PipelineOptions((0, 1), SinglePersonOptions(), flip=flip, scales=scales, pixels="unit")
    pipeline = InferencePipeline(Spots(stride).eval(), options, threads=1)
    ((_, found),) = pipeline.run([TestBatch(images, geometries, (0, 1))])
    for (center_x, center_y, side), poses in zip(regions, found, strict=True):
        (pose,) = poses
        for (x, y, _), joint in zip(places, pose.keypoints, strict=True):
            expected = (center_x + (x - 32) * side / 64, center_y + (y - 32) * side / 64)
            # a flat top of 16 pixels has its first cell taken
            assert np.abs(joint[:2] - expected).max() <= 9 * side / 64


def test_the_flip_is_averaged_and_sides_change_places():
    """A network that looks further to the right finds the spot in the middle with the flip."""
    image = spots(64, (16, 32, 0), (48, 32, 0), (16, 32, 1), (48, 32, 1))
    for flip, left in ((False, False), (True, True)):
        options = PipelineOptions((1, 0), SinglePersonOptions(), flip=flip, pixels="unit")
        pipeline = InferencePipeline(Spots(8, lopsided=0.1).eval(), options, threads=1)
        ((_, ((pose,),)),) = pipeline.run([TestBatch((image,), (region_geometry((32, 32, 64), 64),), (0,))])
        assert ((pose.keypoints[:, 0] < 32) == left).all()


def test_what_groups_joints_refuses_the_options_of_one_person():
    grouping = DecodeOptions((0, 1))
    assert PipelineOptions((0, 1), grouping).grouping() is grouping
    with pytest.raises(UserError, match="crops of single people"):
        PipelineOptions((0, 1), SinglePersonOptions()).grouping()
