import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from coupled_embedding.decode.fast.upsample import axis_weights, upsample


def by_torch(small, height, width):
    whole = torch.from_numpy(small)[None, None]
    return F.interpolate(whole, size=(height, width), mode="bilinear", align_corners=False)[0, 0].numpy()


def random_map(seed, height, width):
    return np.random.default_rng(seed).standard_normal((height, width)).astype(np.float32)


sides = st.integers(1, 40)


@given(st.integers(0, 2**31), sides, sides, st.integers(1, 100), st.integers(1, 100))
@settings(max_examples=150, deadline=None)
def test_any_size_equals_torch(seed, h, w, height, width):
    small = random_map(seed, h, w)
    large = upsample(small, height, width)
    assert large.dtype == np.float32
    # a coordinate is right to half of its last place in float32, 2e-6 at 40 cells, and neighbors differ by 8 at most
    np.testing.assert_allclose(large, by_torch(small, height, width), atol=2e-5)


@given(st.integers(0, 2**31), sides, sides, st.sampled_from([1, 2, 4, 8]))
@settings(max_examples=60, deadline=None)
def test_exact_numbers_equal_torch_to_the_last_bit(seed, h, w, factor):
    small = (np.random.default_rng(seed).integers(-64, 65, (h, w)) / 64).astype(np.float32)
    np.testing.assert_array_equal(upsample(small, factor * h, factor * w), by_torch(small, factor * h, factor * w))


def test_same_size_is_the_same_map():
    small = random_map(0, 7, 9)
    np.testing.assert_array_equal(upsample(small, 7, 9), small)


def test_doubling_a_ramp_by_hand():
    large = upsample(np.array([[0.0, 4.0]], np.float32), 2, 4)
    assert large.tolist() == [[0, 1, 3, 4]] * 2


def test_views_need_not_be_contiguous():
    small = random_map(1, 12, 10)
    np.testing.assert_array_equal(upsample(small[::2, ::-1], 20, 20), upsample(small[::2, ::-1].copy(), 20, 20))


@pytest.mark.parametrize(("size_in", "size_out"), [(1, 5), (4, 16), (5, 13), (16, 4)])
def test_positions_are_cells_of_the_input_with_weights_in_0_1(size_in, size_out):
    first, second, weight = axis_weights(size_in, size_out)
    assert len(first) == len(second) == len(weight) == size_out
    assert (first >= 0).all()
    assert (second < size_in).all()
    assert np.isin(second - first, (0, 1)).all()
    assert ((weight >= 0) & (weight <= 1)).all()
    middle = np.clip((np.arange(size_out) + 0.5) * size_in / size_out - 0.5, 0, size_in - 1)
    np.testing.assert_allclose(first + weight * (second - first), middle, atol=1e-5)
