"""People by their centers: a slow oracle, perfect maps through flip and scales, and rules by hand."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coupled_embedding.data.schema import load_schema
from coupled_embedding.data.targets import build_targets
from coupled_embedding.decode import centers as fast_centers
from coupled_embedding.decode import pose_centers
from coupled_embedding.decode.aggregate import ImageMaps, MergedMaps, merge_flip
from coupled_embedding.decode.decode import decode
from coupled_embedding.decode.fast.views import TagView
from coupled_embedding.decode.flipped_maps import flip_centers
from coupled_embedding.decode.options import CenterRule, DecodeOptions
from coupled_embedding.decode.pose_centers import find_centers, suppress
from coupled_embedding.evaluation.pose_nms import OksNMS
from coupled_embedding.utils.errors import NonFiniteError

IDENTITY = np.array([[1.0, 0, 0], [0, 1.0, 0]])
RULE = CenterRule(threshold=0.1)
OPTIONS = DecodeOptions((0, 1, 2), centers=RULE)


def tags(height, width, joints, values=0):
    return (TagView(np.zeros((height, width, joints, values), np.float32)),)


def slow_best(heatmap, x, y, reach):
    """The largest heatmap / (distance + reach) of all cells."""
    height, width = heatmap.shape
    return max(
        max(float(heatmap[i, j]), 0) / (math.dist((x, y), (j + 0.5, i + 0.5)) + reach)
        for i, j in itertools.product(range(height), range(width))
    )


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.3, -0.5]),
    st.floats(0.5, 8.0),
)
@settings(max_examples=150, deadline=None)
def test_the_search_finds_the_best_of_all_cells(seed, height, width, lift, reach):
    rng = np.random.default_rng(seed)
    # mostly background, as heatmaps are; negative values, as a linear heatmap may have
    heatmaps = ((rng.random((2, height, width)) ** 6) + lift * (rng.random((2, height, width)) < 0.5)).astype(
        np.float32
    )
    predicted = rng.uniform(-4, 16, (3, 2, 2))
    for search in (fast_centers.best_cells, pose_centers.best_cells):
        places, scores = search(heatmaps, predicted, np.full(3, reach))
        for p, k in itertools.product(range(3), range(2)):
            x, y = places[p, k]
            assert 0 <= x < width
            assert 0 <= y < height
            assert scores[p, k] == max(heatmaps[k, y, x], 0)
            if not scores[p, k]:  # nothing to see: it stays where it is predicted
                inside = np.clip(np.floor(predicted[p, k]), 0, (width - 1, height - 1))
                assert places[p, k].tolist() == inside.tolist()
            reached = scores[p, k] / (math.dist(predicted[p, k], (x + 0.5, y + 0.5)) + reach)
            assert reached == pytest.approx(slow_best(heatmaps[k], *predicted[p, k], reach), rel=1e-6)


def test_centers_are_local_maxima_best_first_and_a_flat_top_is_one():
    heatmap = np.zeros((5, 7), np.float32)
    heatmap[1, 1:3] = 0.5  # flat
    heatmap[3, 5] = 0.9
    heatmap[3, 6] = 0.8  # next to a larger one
    heatmap[4, 0] = 0.05  # below the threshold
    assert find_centers(heatmap, 0.1).tolist() == [[5, 3], [1, 1]]
    assert len(find_centers(np.zeros((3, 3), np.float32), 0.1)) == 0


def people_of(rng, count, joints, width, height):
    """(1, count, joints, 3) of people, one in each of `count` columns."""
    place = rng.random((1, count, joints, 2))
    x = (np.arange(count)[:, None] + 0.15 + 0.7 * place[..., 0]) * width / count
    y = (0.1 + 0.8 * place[..., 1]) * height
    return torch.from_numpy(np.stack((x, y, np.full_like(x, 2)), -1)).float()


def perfect(joints, height, width):
    """The maps of a perfect network: Gaussians, and displacements that each cell near a center has."""
    scales = torch.full(joints.shape[:2], 0.3)
    targets = build_targets([joints], [torch.ones(1, height, width)], scales, with_centers=True)
    maps = torch.zeros(1, 1 + 2 * joints.shape[2], height, width)
    maps[:, :1] = targets.centers.heatmap
    for person, (x, y) in enumerate(targets.centers.cells[0].tolist()):
        for down, across in itertools.product(range(-1, 2), repeat=2):
            if 0 <= y + down < height and 0 <= x + across < width:
                moved = targets.centers.displacements[0, person] - torch.tensor([across, down])
                maps[0, 1:, y + down, x + across] = moved.flatten()
    return MergedMaps(targets.heatmaps[0], torch.zeros(1, joints.shape[2], height, width, 0), centers=maps)


def mirrored(joints, width, flip_index):
    other = joints[:, :, list(flip_index)].clone()
    other[..., 0] = width - other[..., 0]
    return other


@pytest.mark.parametrize("seed", range(4))
def test_perfect_maps_give_the_people_through_flip_and_scales(seed):
    schema = load_schema("datasets/crowdpose.yaml")
    rng = np.random.default_rng(seed)
    joints = people_of(rng, 3, schema.num_joints, 60, 40)
    maps = perfect(joints, 40, 60)
    flipped = perfect(mirrored(joints, 60, schema.flip_index), 40, 60)
    both = merge_flip(maps, flipped, schema.flip_index)
    larger = joints * torch.tensor([2.0, 2.0, 1.0])
    scaled = replace(both, others=(perfect(larger, 80, 120),))
    for merged, scales in ((maps, 1), (both, 1), (scaled, 2)):
        poses = decode(merged.cpu().image(0), (240, 160), IDENTITY, OPTIONS)
        assert len(poses) == 3 * scales  # each scale has found everybody
        for person in joints[0].numpy():
            errors = sorted(np.abs(pose.keypoints[:, :2] - 4 * person[:, :2]).max() for pose in poses)
            # half a cell: heatmaps' targets are at whole cells, which are smaller in the larger image
            assert errors[scales - 1] <= 2.01
            assert errors[0] <= 2.01 / scales


def test_flipped_center_maps_are_those_of_the_image():
    schema = load_schema("datasets/crowdpose.yaml")
    joints = people_of(np.random.default_rng(0), 3, schema.num_joints, 60, 40)
    joints[..., 0] = joints[..., 0].round() + 0.25  # centers in the middle of a cell have one mirrored cell
    straight = perfect(joints, 40, 60).centers
    turned = flip_centers(perfect(mirrored(joints, 60, schema.flip_index), 40, 60).centers, schema.flip_index)
    at_centers = straight[:, :1] == 1
    assert at_centers.sum() == 3
    torch.testing.assert_close(turned[:, :1], straight[:, :1])
    torch.testing.assert_close(turned * at_centers, straight * at_centers, rtol=0, atol=1e-4)


def test_a_joint_that_the_heatmap_does_not_show_is_where_its_center_says():
    heatmaps = np.full((3, 20, 20), 1e-3, np.float32)
    heatmaps[0, 4, 6] = 0.9
    maps = np.zeros((7, 20, 20), np.float32)
    maps[0, 10, 10] = 0.8
    predicted = np.array([[-3.5, -5.5], [4.0, 2.0], [0.0, 6.0]])
    maps[1:, 10, 10] = predicted.reshape(-1)
    (pose,) = decode(ImageMaps(heatmaps, tags(20, 20, 3), centers=maps), (80, 80), IDENTITY, OPTIONS)
    np.testing.assert_allclose(pose.keypoints[0], [6.5 * 4, 4.5 * 4, 0.9], rtol=1e-6)
    np.testing.assert_allclose(pose.keypoints[1:, :2], (10.5 + predicted[1:]) * 4, atol=2)
    assert pose.score == pytest.approx(math.sqrt(0.8 * (0.9 + 2e-3) / 3), rel=1e-5)
    assert pose.tag is None


def test_the_place_in_a_cell_is_exact_for_a_gaussian():
    y, x = np.mgrid[:16, :16] + 0.5
    heatmaps = np.exp(-((x - 7.8) ** 2 + (y - 6.1) ** 2) / 8)[None].astype(np.float32)
    maps = np.zeros((3, 16, 16), np.float32)
    maps[0, 6, 7] = 1
    options = DecodeOptions((0,), centers=RULE)
    (pose,) = decode(ImageMaps(heatmaps, tags(16, 16, 1), centers=maps), (64, 64), IDENTITY, options)
    np.testing.assert_allclose(pose.keypoints[0, :2], [4 * 7.8, 4 * 6.1], atol=1e-3)


def test_a_persons_tag_is_the_mean_over_the_joints_that_were_found():
    heatmaps = np.zeros((2, 8, 8), np.float32)
    heatmaps[0, 2, 2], heatmaps[1, 5, 5] = 0.9, 0.05  # the second one's is below the threshold
    maps = np.zeros((5, 8, 8), np.float32)
    maps[0, 4, 4] = 0.5
    maps[1:, 4, 4] = [-2, -2, 1, 1]
    values = np.zeros((8, 8, 2, 3), np.float32)
    values[:, :, 0] = [1, 2, 3]
    values[:, :, 1] = [7, 7, 7]
    options = DecodeOptions((0, 1), centers=RULE)
    for threshold, expected in ((0.1, [1, 2, 3]), (2.0, [4, 4.5, 5])):  # of no joint above it: all joints'
        chosen = DecodeOptions((0, 1), peaks=type(options.peaks)(threshold=threshold), centers=RULE)
        (pose,) = decode(ImageMaps(heatmaps, (TagView(values),), centers=maps), (32, 32), IDENTITY, chosen)
        np.testing.assert_allclose(pose.tag, expected)


def test_an_image_without_people_a_limit_and_damaged_maps():
    empty = ImageMaps(np.zeros((3, 6, 6), np.float32), tags(6, 6, 3), centers=np.zeros((7, 6, 6), np.float32))
    assert decode(empty, (24, 24), IDENTITY, OPTIONS) == []
    crowd = np.zeros((7, 9, 9), np.float32)
    crowd[0, ::3, ::3] = np.linspace(0.2, 0.9, 9).reshape(3, 3)
    few = DecodeOptions((0, 1, 2), centers=CenterRule(max_people=4))
    poses = decode(ImageMaps(np.ones((3, 9, 9), np.float32), tags(9, 9, 3), centers=crowd), (36, 36), IDENTITY, few)
    assert len(poses) == 4
    assert [pose.score for pose in poses] == pytest.approx(np.sqrt(sorted(crowd[0].flatten(), reverse=True)[:4]))
    crowd[3, 0, 0] = np.nan
    with pytest.raises(NonFiniteError):
        decode(ImageMaps(np.ones((3, 9, 9), np.float32), tags(9, 9, 3), centers=crowd), (36, 36), IDENTITY, few)
    with pytest.raises(ValueError, match="the maps have none"):
        decode(ImageMaps(np.ones((3, 9, 9), np.float32), tags(9, 9, 3)), (36, 36), IDENTITY, few)


@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.sampled_from([0.1, 0.5, 0.9]), st.sampled_from([0.0, 0.3]))
@settings(max_examples=100, deadline=None)
def test_the_exports_suppression_is_the_librarys(seed, people, threshold, joint_score):
    rng = np.random.default_rng(seed)
    sigmas = rng.uniform(0.02, 0.2, 4)
    joints = rng.uniform(0, 50, (people, 4, 3))
    joints[1::2] = joints[: people // 2 * 2 : 2] + rng.normal(0, 2, (people // 2, 4, 3))  # doubles
    joints[..., 2] = np.where(rng.random((people, 4)) < 0.2, 0, rng.random((people, 4)))
    scores = rng.random(people).round(1)
    kept = OksNMS(tuple(sigmas), threshold, joint_score).apply(joints, scores).rows
    assert suppress(joints, scores, sigmas, threshold, joint_score).tolist() == kept.tolist()
