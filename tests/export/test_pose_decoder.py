"""The decoder that needs NumPy alone finds the library's people in the same maps."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import recorded_case

from coupled_embedding.data.geometry import resize_geometry
from coupled_embedding.decode.aggregate import ImageMaps
from coupled_embedding.decode.decode import decode
from coupled_embedding.decode.fast.munkres import munkres_columns
from coupled_embedding.decode.fast.views import TagView
from coupled_embedding.decode.options import COST_RULES, PRESETS, DecodeOptions, PeakOptions, with_preset
from coupled_embedding.export import pose_decoder, pose_maps


def assert_same_people(maps, geometry, options, outputs_of, options_of):
    """Decode by both; compare coordinates, scores and order."""
    size = geometry.base_size[::-1]
    expected = sorted(decode(maps, geometry.base_size, geometry.to_image(), options), key=lambda pose: -pose.score)
    found = pose_decoder.decode(outputs_of(maps, size, options), size, geometry.to_image(), options_of(options))
    assert len(found.scores) == len(found.tags) == len(expected)
    if expected:
        np.testing.assert_allclose(found.keypoints, np.stack([pose.keypoints for pose in expected]), rtol=0, atol=1e-9)
        np.testing.assert_allclose(found.scores, [pose.score for pose in expected], rtol=0, atol=1e-7)


def random_maps(seed: int, exact: bool) -> ImageMaps:
    """Maps of a few people and noise; exact ones hold binary fractions, so that equal values are many."""
    random = np.random.default_rng(seed)
    joints, dim, side = 3, int(random.integers(1, 4)), int(random.integers(1, 3)) * 16
    factor = int(random.choice([1, 2]))
    heatmaps = random.normal(0, 0.05, (joints, factor * side, factor * side))
    peaks = random.random(heatmaps.shape) < random.choice([0.003, 0.03])
    heatmaps = np.where(peaks, random.random(heatmaps.shape), heatmaps)
    tags = random.normal(0, random.choice([0.3, 2]), (joints, side, side, dim))
    if exact:
        heatmaps, tags = np.round(heatmaps * 8) / 8, np.round(tags * 4) / 4
    values = tags.astype(np.float32).transpose(1, 2, 0, 3)
    views = [TagView(np.ascontiguousarray(values))]
    if random.random() < 0.5:
        views.append(TagView(np.ascontiguousarray(values[:, ::-1] + np.float32(0.25)), (1, 0, 2)))
    return ImageMaps(np.ascontiguousarray(heatmaps, np.float32), tuple(views))


@pytest.mark.reference
def test_same_people_in_recorded_maps(decode_case: Path, outputs_of, options_of):
    assert_same_people(*recorded_case(decode_case), outputs_of, options_of)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    exact=st.booleans(),
    preset=st.sampled_from(sorted(PRESETS)),
    refine=st.sampled_from(["fast", "none"]),
    threshold=st.sampled_from([0.5, 1.0, 1.3]),
    candidates=st.sampled_from([2, 5, 30]),
    kernel=st.sampled_from([1, 3, 5]),
)
def test_same_people_in_random_maps(seed, exact, preset, refine, threshold, candidates, kernel, outputs_of, options_of):
    maps = random_maps(seed, exact)
    side = 4 * maps.tags[0].shape[0]
    options = DecodeOptions((2, 0, 1), PeakOptions(kernel, candidates, 0.15), threshold, refine=refine)
    options = with_preset(options, preset, max_joined=4 if seed % 2 else None)
    geometry = dataclasses.replace(resize_geometry((301, 200), 64), base_size=(side, side))
    assert_same_people(maps, geometry, options, outputs_of, options_of)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 9), st.integers(0, 5), st.sampled_from(sorted(COST_RULES)), st.integers(0, 2**32 - 1))
def test_munkres_chooses_as_the_library_among_equal_costs(rows, more, rule, seed):
    random = np.random.default_rng(seed)
    values = random.integers(0, 4, (rows, rows + more)) / random.choice([1, 3])
    cost = np.where(random.random(values.shape) < 0.2, COST_RULES[rule].invalid_cost, values)
    cost = cost.astype(COST_RULES[rule].dtype)
    assert pose_decoder.munkres_columns(cost).tolist() == munkres_columns(cost).tolist()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_topk_orders_equal_values_as_torch(count, distinct, seed):
    random = np.random.default_rng(seed)
    values = random.integers(-1, distinct, 64 * count + int(random.integers(0, 6000))).astype(np.float32)
    expected = torch.from_numpy(values).topk(count).indices.tolist()
    assert pose_maps.torch_topk(values, count).tolist() == expected


def test_nothing_above_the_threshold_is_no_people(outputs_of, options_of):
    maps = ImageMaps(np.zeros((2, 16, 16), np.float32), (TagView(np.zeros((16, 16, 2, 3), np.float32)),))
    options = DecodeOptions((0, 1))
    found = pose_decoder.decode(outputs_of(maps, (64, 64), options), (64, 64), np.eye(2, 3), options_of(options))
    assert found.keypoints.shape == (0, 2, 3)
    assert found.tags.shape == (0, 3)


def test_damaged_maps_are_an_error(outputs_of, options_of):
    options = DecodeOptions((0, 1))
    maps = ImageMaps(np.zeros((2, 16, 16), np.float32), (TagView(np.zeros((16, 16, 2, 3), np.float32)),))
    outputs = outputs_of(maps, (64, 64), options)
    outputs["tags"][1, 2, 3, 4] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        pose_decoder.decode(outputs, (64, 64), np.eye(2, 3), options_of(options))


@pytest.mark.parametrize("values", [{"grouping_order": [0], "magic": 1}, {"kernel": 5}])
def test_options_of_another_version_are_an_error(values):
    with pytest.raises(ValueError, match="same version"):
        pose_decoder.Options.from_dict(values)
