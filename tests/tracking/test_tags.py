"""The mean tags sampled at poses are those that grouping computed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coupled_embedding.data.geometry import resize_geometry
from coupled_embedding.decode.aggregate import ImageMaps
from coupled_embedding.decode.decode import decode
from coupled_embedding.decode.fast.views import TagView
from coupled_embedding.decode.grouping import group
from coupled_embedding.decode.options import DecodeOptions
from coupled_embedding.decode.peaks import find_candidates
from coupled_embedding.tracking import mean_tags_of

JOINTS, DIM = 4, 3
FLIP_INDEX = (1, 0, 3, 2)


def random_maps(seed, geometry, views):
    """Maps with a few peaks, and tags of several people."""
    rng = np.random.default_rng(seed)
    width, height = (side // 4 for side in geometry.base_size)
    heatmaps = np.zeros((JOINTS, 2 * height, 2 * width), np.float32)
    heatmaps[rng.random(heatmaps.shape) < 0.004] = 1
    heatmaps *= rng.uniform(0.2, 1, heatmaps.shape).astype(np.float32)
    tags = rng.normal(0, 1, (views, height, width, JOINTS, DIM)).astype(np.float32)
    indices = (None, FLIP_INDEX)
    return ImageMaps(heatmaps, tuple(TagView(tags[n], indices[n]) for n in range(views)))


@given(st.integers(0, 2**31), st.sampled_from([1, 2]), st.sampled_from([(300, 200), (64, 64), (97, 230)]))
@settings(max_examples=25, deadline=None)
def test_mean_tags_are_those_of_grouping(seed, views, image_size):
    geometry = resize_geometry(image_size, 64)
    maps = random_maps(seed, geometry, views)
    options = DecodeOptions(tuple(range(JOINTS)), refine="none")
    size = geometry.base_size[1], geometry.base_size[0]
    candidates = [find_candidates(k, h, maps.tags, size, options.peaks) for k, h in enumerate(maps.heatmaps)]
    expected = group(candidates, options).tags
    poses = decode(maps, geometry.base_size, geometry.to_image(), options)
    keypoints = np.array([pose.keypoints for pose in poses]).reshape(-1, JOINTS, 3)
    tags = mean_tags_of(keypoints, maps, geometry.base_size, geometry.to_input())
    assert tags.dtype == np.float32
    assert tags.shape == (len(poses), views * DIM)
    np.testing.assert_allclose(tags, expected, atol=1e-5)


@pytest.fixture
def example():
    geometry = resize_geometry((300, 200), 64)
    return random_maps(5, geometry, 2), geometry


def sample(example, keypoints):
    maps, geometry = example
    return mean_tags_of(keypoints, maps, geometry.base_size, geometry.to_input())


def test_missing_joints_do_not_count(example):
    rng = np.random.default_rng(0)
    pose = np.concatenate([rng.uniform(0, 200, (1, JOINTS, 2)), np.ones((1, JOINTS, 1))], 2)
    alone = [np.where(np.arange(JOINTS)[:, None] == joint, pose, (np.nan, np.nan, 0)) for joint in range(JOINTS)]
    each = np.concatenate([sample(example, one) for one in alone])
    np.testing.assert_allclose(sample(example, pose)[0], each.mean(0), atol=1e-6)
    pair = np.where(np.arange(JOINTS)[:, None] < 2, pose, (0, 0, -0.2))
    np.testing.assert_allclose(sample(example, pair)[0], each[:2].mean(0), atol=1e-6)


def test_joints_outside_the_image_take_the_nearest_cell(example):
    near, far = np.ones((2, 1, JOINTS, 3))
    near[..., :2], far[..., :2] = (-60, 100), (-1e9, 100)  # the input has black borders of less than 60 pixels
    np.testing.assert_array_equal(sample(example, near), sample(example, far))


def test_no_people_and_no_joints(example):
    assert sample(example, np.zeros((0, JOINTS, 3))).shape == (0, 2 * DIM)
    np.testing.assert_array_equal(sample(example, np.zeros((2, JOINTS, 3))), np.zeros((2, 2 * DIM)))


@pytest.mark.parametrize("shape", [(2, JOINTS), (2, JOINTS + 1, 3), (2, JOINTS, 2)])
def test_wrong_shapes_are_named(example, shape):
    with pytest.raises(ValueError, match=r"expected keypoints of shape \(N, 4, 3\), got"):
        sample(example, np.zeros(shape))
