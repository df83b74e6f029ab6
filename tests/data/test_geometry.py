"""The affine maps: their definition, their inverse, the test layout, and the recorded matrices."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coupled_embedding.data.geometry import apply_affine, crop_to_output_affine, resize_geometry

CENTERS = st.tuples(st.floats(-500, 4000), st.floats(-500, 4000))
SIDES = st.floats(20, 8000)
ANGLES = st.floats(-180, 180)
SIZES = st.tuples(st.integers(16, 1024), st.integers(16, 1024))
IMAGES = st.tuples(st.integers(1, 3000), st.integers(1, 3000)).filter(lambda size: max(size) <= 20 * min(size))
INPUTS = st.integers(64, 800)
DIVISORS = st.sampled_from([32, 64, 128])


def definition(center, side, rotation, output_size):
    """Build docs/method.md 2's map in plain float64: [c s; −s c] and the center to the middle."""
    turn = math.radians(rotation)
    c, s = output_size[0] / side * math.cos(turn), output_size[0] / side * math.sin(turn)
    linear = np.array([[c, s], [-s, c]])
    return np.column_stack([linear, np.array(output_size) / 2 - linear @ np.array(center)])


@given(center=CENTERS, side=SIDES, rotation=ANGLES, size=SIZES)
def test_the_map_is_the_definition_up_to_float32(center, side, rotation, size):
    found, expected = crop_to_output_affine(center, side, rotation, size), definition(center, side, rotation, size)
    # three float32 points: their spacing near 4000 is 5e-4, against a half side of 10 at least
    near_float32 = 1e-3 * max(abs(v) for v in (*center, side)) / side * size[0]
    np.testing.assert_allclose(found[:, :2], expected[:, :2], atol=near_float32 / side)
    middle = apply_affine(found, np.array(center))
    np.testing.assert_allclose(middle, np.array(size) / 2, atol=1e-3 * size[0] / side + 1e-6)


@given(center=CENTERS, side=SIDES, rotation=ANGLES, size=SIZES, points=st.lists(CENTERS, min_size=1, max_size=5))
def test_forward_then_inverse_is_the_identity(center, side, rotation, size, points):
    forward = crop_to_output_affine(center, side, rotation, size)
    back = crop_to_output_affine(center, side, rotation, size, inverse=True)
    points = np.array(points)
    np.testing.assert_allclose(apply_affine(back, apply_affine(forward, points)), points, atol=1e-6)
    np.testing.assert_allclose(apply_affine(forward, apply_affine(back, points)), points, atol=1e-6)


def test_a_turn_of_ninety_degrees_takes_the_left_edge_to_the_bottom():
    matrix = crop_to_output_affine((50.0, 50.0), 100.0, 90.0, (200, 200))
    corners = np.array([[0.0, 0.0], [100.0, 0.0], [100.0, 100.0], [0.0, 100.0], [50.0, 50.0]])
    expected = [[0, 200], [0, 0], [200, 0], [200, 200], [100, 100]]
    np.testing.assert_allclose(apply_affine(matrix, corners), expected, atol=1e-4)


def test_apply_affine_equals_a_loop_for_any_leading_shape():
    rng = np.random.default_rng(0)
    matrix, points = rng.normal(size=(2, 3)), rng.normal(size=(2, 4, 3, 2)).astype(np.float32)
    mapped = apply_affine(matrix, points)
    assert (mapped.shape, mapped.dtype) == (points.shape, np.float64)
    for index in np.ndindex(2, 4, 3):
        x, y = (float(v) for v in points[index])
        expected = [matrix[row, 0] * x + matrix[row, 1] * y + matrix[row, 2] for row in (0, 1)]
        np.testing.assert_allclose(mapped[index], expected, rtol=1e-12)
    assert apply_affine(matrix, np.zeros((0, 17, 2))).shape == (0, 17, 2)


@given(size=IMAGES, input_size=INPUTS, divisor=DIVISORS)
def test_the_input_fits_the_image_and_the_divisor(size, input_size, divisor):
    geometry = resize_geometry(size, input_size, divisor)
    short, long = sorted(geometry.base_size)
    assert short == math.ceil(input_size / divisor) * divisor
    exact = Fraction(short) * max(size) / min(size)
    assert long % divisor == 0
    # the least multiple that holds the whole side; float division may put a side that is exactly one above it
    assert exact <= long <= exact + divisor
    assert (geometry.base_size[0] > geometry.base_size[1]) == (size[0] >= size[1] and long > short)


@given(size=IMAGES, input_size=INPUTS, divisor=DIVISORS)
def test_the_image_lies_in_the_middle_and_fills_the_short_side(size, input_size, divisor):
    geometry = resize_geometry(size, input_size, divisor)
    matrix = geometry.to_input()
    scale = min(geometry.base_size) / min(size)
    np.testing.assert_allclose(matrix[:, :2], scale * np.eye(2), rtol=1e-4, atol=1e-4 * scale)
    rounded = [round(length / 2) for length in size]  # half to even
    assert geometry.center == tuple(rounded)
    np.testing.assert_allclose(
        apply_affine(matrix, np.array(rounded, float)), np.array(geometry.base_size) / 2, rtol=1e-4
    )


@given(size=IMAGES, input_size=INPUTS, factor=st.sampled_from([0.5, 0.75, 1.0, 1.5, 2.0]))
def test_a_scale_factor_shows_the_same_region_larger_or_smaller(size, input_size, factor):
    geometry = resize_geometry(size, input_size)
    assert geometry.size(factor) == tuple(int(factor * length) for length in geometry.base_size)
    points = np.array([[0.0, 0.0], size, geometry.center])
    scaled, plain = apply_affine(geometry.to_input(factor), points), apply_affine(geometry.to_input(), points)
    np.testing.assert_allclose(scaled, factor * plain, rtol=1e-4, atol=1e-4 * max(geometry.base_size))


@given(size=IMAGES, input_size=INPUTS)
def test_input_and_image_maps_are_inverse(size, input_size):
    geometry = resize_geometry(size, input_size)
    points = np.array([[0.0, 0.0], size])
    there_and_back = apply_affine(geometry.to_image(), apply_affine(geometry.to_input(), points))
    np.testing.assert_allclose(there_and_back, points, atol=1e-6 * max(size))


def test_a_square_image_fills_the_input():
    geometry = resize_geometry((300, 300), 500)
    assert (geometry.base_size, geometry.center, geometry.side) == ((512, 512), (150, 150), 300)


@pytest.mark.parametrize(
    ("size", "base_size"),
    [((500, 333), (832, 512)), ((1000, 666), (832, 512)), ((950, 633), (832, 512)), ((533, 800), (512, 832))],
)
def test_a_fraction_of_a_pixel_above_a_multiple_is_rounded_up(size, base_size):
    assert resize_geometry(size, 512).base_size == base_size


@pytest.mark.parametrize(("width", "center"), [(101, 50), (103, 52), (105, 52), (107, 54)])
def test_the_center_is_rounded_half_to_even(width, center):
    assert resize_geometry((width, 100), 512).center == (center, 50)


@pytest.mark.reference
def test_test_geometry_equals_the_recorded(reference_dir):
    cases = json.loads((reference_dir / "parity" / "test_geometry.json").read_text())
    for case in cases:
        geometry = resize_geometry(tuple(case["image_size"]), case["input_size"], case["size_divisor"])
        assert list(geometry.base_size) == case["base_size"]
        assert list(geometry.center) == case["center"]
        # recorded in units of 200 image pixels, the covered width first
        np.testing.assert_allclose(geometry.side / 200, case["scale"][0], rtol=0, atol=1e-9)
        np.testing.assert_allclose(geometry.to_input(), case["matrix"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(geometry.to_image(), case["inverse_matrix"], rtol=0, atol=1e-9)
