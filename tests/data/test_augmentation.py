"""The sampled parameters and their warps against slow loops; the two kinds of flip."""

import json
import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coupled_embedding.builders import build_augmentation
from coupled_embedding.config import load_config
from coupled_embedding.data.geometry import apply_affine
from coupled_embedding.data.transforms import (
    AffineParams,
    Augmentation,
    person_scales,
    top_labelled,
    warp_image,
    warp_joints,
    warp_mask,
)

FLIP_INDEX = (0, 2, 1)
IMAGES = st.tuples(st.integers(8, 120), st.integers(8, 120))
PARAMS = st.builds(
    AffineParams,
    scale=st.floats(0.5, 2),
    rotation=st.floats(-180, 180),
    translate=st.tuples(st.integers(-30, 30), st.integers(-30, 30)),
    flip=st.booleans(),
)
AS_IT_IS = AffineParams(1.0, 0.0, (0, 0), False)
FLIPPED = AffineParams(1.0, 0.0, (0, 0), True)


@given(size=IMAGES, seed=st.integers(0, 2**32), scale=st.floats(0.1, 2), translate=st.floats(0, 1))
def test_sampled_parameters_stay_inside_their_ranges(size, seed, scale, translate):
    augmentation = Augmentation((scale, 2 * scale), 30, translate)
    params = augmentation.sample(np.random.default_rng(seed), size)
    assert scale <= params.scale <= 2 * scale
    assert -30 <= params.rotation <= 30
    for shift, length in zip(params.translate, size, strict=True):
        limit = math.floor(translate * params.scale * length)
        assert type(shift) is int
        assert -limit <= shift < max(limit, 1)


def test_sampled_parameters_reach_all_of_their_ranges_and_follow_the_seed():
    augmentation = Augmentation((0.75, 1.5), 30, 0.2, 0.5)
    sampled = [augmentation.sample(np.random.default_rng(seed), (100, 50)) for seed in range(2000)]
    assert sampled[7] == augmentation.sample(np.random.default_rng(7), (100, 50))
    assert min(d.scale for d in sampled) < 0.76
    assert max(d.scale for d in sampled) > 1.49
    assert min(d.rotation for d in sampled) < -29
    assert max(d.rotation for d in sampled) > 29
    assert sum(d.flip for d in sampled) / 2000 == pytest.approx(0.5, abs=0.04)
    assert np.mean([d.scale for d in sampled]) == pytest.approx(1.125, abs=0.02)


def test_shifts_are_whole_pixels_of_a_half_open_range():
    augmentation = Augmentation((1.0, 1.0), 0, 0.1)
    rng = np.random.default_rng(0)
    shifts = np.array([augmentation.sample(rng, (40, 65)).translate for _ in range(500)])
    assert set(shifts[:, 0]) == set(range(-4, 4))
    assert set(shifts[:, 1]) == set(range(-6, 6))


@pytest.mark.parametrize(("probability", "flips"), [(0.0, {False}), (1.0, {True})])
def test_flips_can_be_never_or_always(probability, flips):
    augmentation = Augmentation(flip=probability)
    assert {augmentation.sample(np.random.default_rng(seed), (50, 50)).flip for seed in range(50)} == flips


def test_the_config_reaches_every_option():
    cfg = load_config(
        None,
        ["AUGMENT.SCALE", "[0.5, 2]", "AUGMENT.ROTATION", "10", "AUGMENT.TRANSLATE", "0.3", "AUGMENT.FLIP", "0.25",
         "AUGMENT.EXACT_FLIP", "True", "AUGMENT.COLOR", "0.4"],
    )  # fmt: skip
    assert build_augmentation(cfg) == Augmentation((0.5, 2.0), 10.0, 0.3, 0.25, True, 0.4)
    assert build_augmentation(load_config()) == Augmentation()


@given(size=IMAGES, params=PARAMS, output=st.integers(8, 64))
def test_the_matrix_is_a_turned_square_around_the_moved_center(size, params, output):
    matrix = params.matrix(size, output)
    center = np.array([size[0] / 2 + params.translate[0], size[1] / 2 + params.translate[1]])
    turn, zoom = math.radians(params.rotation), output / (params.scale * min(size))
    linear = zoom * np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    np.testing.assert_allclose(matrix[:, :2], linear, atol=1e-4 * zoom)
    np.testing.assert_allclose(matrix[:, :2] @ center + matrix[:, 2], [output / 2] * 2, atol=1e-3)


def ramp(width, height):
    """Return an image whose colors are linear in x and y."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([20 + x, 200 - y, 60 + (x + y) / 2], axis=2).astype(np.uint8)


@given(size=IMAGES, params=PARAMS)
def test_warped_images_equal_a_bilinear_loop(size, params):
    image, output = ramp(*size), 24
    warped = warp_image(image, params, output)
    assert (warped.shape, warped.dtype) == ((output, output, 3), np.uint8)
    back = np.linalg.inv(np.vstack([params.matrix(size, output), [0, 0, 1]]))
    for row in range(0, output, 3):
        for column in range(output):
            source = output - 1 - column if params.flip else column
            x, y, _ = back @ (source, row, 1)
            pixel = warped[row, column].astype(float)
            if 0 <= x <= size[0] - 1 and 0 <= y <= size[1] - 1:
                # OpenCV rounds positions to 1/32 pixel, and the ramp itself is rounded down to whole numbers
                np.testing.assert_allclose(pixel, [20 + x, 200 - y, 60 + (x + y) / 2], atol=1.6)
            elif not (-1.1 <= x <= size[0] + 0.1 and -1.1 <= y <= size[1] + 0.1):
                np.testing.assert_array_equal(pixel, 0)


@given(size=IMAGES, params=PARAMS, seed=st.integers(0, 1000))
def test_warped_images_equal_opencvs_warp_of_three_channels(size, params, seed):
    image = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    expected = cv2.warpAffine(image, params.matrix(size, 40), (40, 40))
    warped = warp_image(image, params, 40)
    np.testing.assert_array_equal(warped, expected[:, ::-1] if params.flip else expected)
    assert warped.flags.c_contiguous


@given(size=IMAGES, params=PARAMS)
def test_masks_are_true_well_inside_and_false_outside_the_image(size, params):
    mask, output = np.full((size[1], size[0]), 255, np.uint8), 24
    valid = warp_mask(mask, params, output)
    back = np.linalg.inv(np.vstack([params.matrix(size, output), [0, 0, 1]]))
    for row in range(output):
        for column in range(output):
            x, y, _ = back @ (output - 1 - column if params.flip else column, row, 1)
            if -0.2 < x < size[0] - 0.8 and -0.2 < y < size[1] - 0.8:
                assert valid[row, column]
            elif not (-0.8 < x < size[0] - 0.2 and -0.8 < y < size[1] - 0.2):
                assert not valid[row, column]


def test_half_covered_cells_of_a_mask_are_ignored():
    values = np.array([[0, 126, 127, 128, 129, 255]] * 6, np.uint8)
    np.testing.assert_array_equal(warp_mask(values, AS_IT_IS, 6)[0], [False, False, False, True, True, True])
    np.testing.assert_array_equal(warp_mask(values, FLIPPED, 6)[0], [True, True, True, False, False, False])


@given(size=IMAGES, params=PARAMS, output=st.integers(4, 64), seed=st.integers(0, 1000))
def test_warped_joints_equal_a_loop(size, params, output, seed):
    rng = np.random.default_rng(seed)
    keypoints = (rng.uniform(-50, 150, (2, 3, 3)) * (1, 1, 0) + rng.integers(0, 3, (2, 3, 1)) * (0, 0, 1)).astype("f4")
    before = keypoints.copy()
    warped = warp_joints(keypoints, params, size, output, FLIP_INDEX)
    matrix = params.matrix(size, output)
    for person in range(2):
        for joint in range(3):
            # unlabelled joints move and change places as well
            x, y, label = (float(v) for v in keypoints[person, FLIP_INDEX[joint] if params.flip else joint])
            u, v = matrix[0] @ (x, y, 1), matrix[1] @ (x, y, 1)
            np.testing.assert_allclose(
                warped[person, joint], [output - 1 - u if params.flip else u, v, label], rtol=1e-5, atol=1e-3
            )
    assert warped.dtype == np.float32
    np.testing.assert_array_equal(keypoints, before)
    assert warp_joints(np.zeros((0, 3, 3), np.float32), params, size, output, FLIP_INDEX).shape == (0, 3, 3)


def dot_and_joint(x, y, stride, gap):
    """Flip a white pixel at (x, y) and its joint 1; return both columns, in input pixels."""
    image = np.zeros((32, 32, 3), np.uint8)
    image[y, x] = 255
    rows, columns, _ = np.nonzero(warp_image(image, FLIPPED, 32))
    keypoints = np.array([[[0, 0, 0], [x, y, 2], [0, 0, 0]]], np.float32)
    joint = warp_joints(keypoints, FLIPPED, (32, 32), 32 // stride, FLIP_INDEX, gap)[0, 2]
    assert set(rows) == {y} == {joint[1] * stride}
    assert joint[2] == 2
    return columns[0], joint[0] * stride


@given(x=st.integers(0, 31), y=st.integers(0, 31), stride=st.sampled_from([1, 2, 4]))
def test_an_exact_flip_keeps_the_joint_on_its_pixel(x, y, stride):
    pixel, joint = dot_and_joint(x, y, stride, 1 / stride)
    assert pixel == joint == 31 - x


@given(x=st.integers(0, 31), y=st.integers(0, 31), stride=st.sampled_from([1, 2, 4]))
def test_the_released_flip_is_almost_one_cell_off(x, y, stride):
    pixel, joint = dot_and_joint(x, y, stride, 1.0)
    assert (joint - pixel) / stride == -(1 - 1 / stride)


def corners(box, matrix):
    x, y, width, height = (float(v) for v in box)
    points = np.array([[x, y, 1], [x + width, y, 1], [x, y + height, 1]])
    return points @ matrix.T


@given(size=IMAGES, params=PARAMS, seed=st.integers(0, 1000))
def test_person_scales_are_the_sides_of_the_mapped_box(size, params, seed):
    boxes = np.random.default_rng(seed).uniform(0, 200, (3, 4)).astype(np.float32)
    matrix = params.matrix(size, 512)
    found = person_scales(boxes, matrix, 512)
    for box, scale in zip(boxes, found, strict=True):
        origin, right, below = corners(box, matrix)
        expected = math.sqrt(math.dist(origin, right) * math.dist(origin, below)) / 512
        assert scale == pytest.approx(expected, rel=1e-9)
        # rotation does not matter: the zoom does
        assert scale == pytest.approx(math.sqrt(box[2] * box[3]) / (params.scale * min(size)), rel=1e-4)


@given(labels=st.lists(st.lists(st.integers(0, 2), min_size=4, max_size=4), max_size=8), limit=st.integers(1, 5))
def test_people_with_most_labelled_joints_are_kept_in_their_order(labels, limit):
    keypoints = np.zeros((len(labels), 4, 3), np.float32)
    keypoints[..., 2] = np.array(labels).reshape(-1, 4)
    counts = [sum(label > 0 for label in person) for person in labels]
    best = sorted(range(len(labels)), key=lambda n: (-counts[n], n))[:limit]
    assert top_labelled(keypoints, limit).tolist() == sorted(best)


@given(size=IMAGES, params=PARAMS, reduction=st.sampled_from([2, 4, 8]), x=st.integers(0, 40), y=st.integers(0, 40))
def test_the_map_takes_a_reduced_pixel_where_the_middle_of_its_pixels_goes(size, params, reduction, x, y):
    covered = np.mgrid[0:reduction, 0:reduction].reshape(2, -1).T + np.array([reduction * x, reduction * y])
    expected = apply_affine(params.matrix(size, 64), covered.mean(0))
    found = apply_affine(params.matrix(size, 64, reduction), np.array([x, y], np.float64))
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.reference
def test_matrices_equal_the_recorded(reference_dir):
    cases = json.loads((reference_dir / "parity" / "augmentation_matrices.json").read_text())
    cases = [case for case in cases if case["scale_type"] == "short"]  # the longer side is not an option here
    assert cases
    for case in cases:
        moved = np.array(case["center"]) - np.array(case["image_size"]) / 2
        params = AffineParams(case["scale"], case["rotation"], (int(moved[0]), int(moved[1])), False)
        matrix = params.matrix(tuple(case["image_size"]), case["output_size"])
        np.testing.assert_allclose(matrix, case["matrix"], rtol=0, atol=1e-9)
