"""Crops of single people: which records, how they are augmented around the region, and what a test feeds."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coupled_embedding.data.dataset import SampleKey, TrainDataset, collate
from coupled_embedding.data.geometry import apply_affine
from coupled_embedding.data.person_crops import PersonBox, box_crops, person_crops, square_region
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.test_dataset import TestDataset, build_test_loader, group_by_shape, input_geometry
from coupled_embedding.data.transforms import AffineParams, Augmentation
from coupled_embedding.decode.aggregate import ImageMaps
from coupled_embedding.decode.single import SinglePersonOptions, decode_single

FLIP_INDEX = (0, 2, 1)
SIZE, STRIDE = 64, 4
STILL = Augmentation(scale=(1, 1), rotation=0, translate=0, flip=0, exact_flip=True)


def record_of(path, keypoints, boxes, size=(120, 90), **about):
    keypoints, boxes = np.array(keypoints, np.float32), np.array(boxes, np.float32)
    return ImageRecord(7, path, *size, keypoints.reshape(-1, 3, 3), boxes.reshape(-1, 4), **about)


@pytest.fixture
def blank(tmp_path):
    """blank(width, height): the path of a black image."""

    def make(width=120, height=90, name="blank.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((height, width, 3), np.uint8))
        return tmp_path / name

    return make


def test_each_person_with_a_labelled_joint_is_one_record(tmp_path):
    joints = np.zeros((3, 3, 3))
    joints[0, 0] = (10, 20, 2)
    joints[2, 1] = (60, 50, 1)
    record = record_of(
        tmp_path / "a.jpg",
        joints,
        [[0, 0, 20, 40], [1, 1, 5, 5], [40, 30, 50, 30]],
        ignored=([[0, 0, 9, 0, 9, 9]],),
        ids=(11, 12, 13.0),
        crowds=(False, False, True),
        num_keypoints=(1, 0, 1),
        areas=(1.0, 2.0, 3.0),
        confidence=np.array([[0.1, 1, 1], [0.2, 1, 1], [0.3, 1, 1]], np.float32),
    )
    first, second = person_crops([record])
    assert (first.region, second.region) == ((10, 20, 50), (65, 45, 62.5))
    assert (first.source, second.source) == (11, 13)
    assert (first.ids, second.crowds, second.num_keypoints, second.areas) == ((11,), (True,), (1,), (3.0,))
    np.testing.assert_array_equal(second.keypoints, record.keypoints[2:])
    np.testing.assert_array_equal(second.boxes, record.boxes[2:])
    assert second.confidence is not None
    np.testing.assert_array_equal(second.confidence, record.confidence[2:])
    assert first.ignored == second.ignored == record.ignored
    assert person_crops([replace(record, keypoints=np.zeros_like(record.keypoints))]) == []


def test_a_box_without_area_is_that_of_the_joints_and_one_joint_has_a_region_too(tmp_path):
    joints = np.zeros((2, 3, 3))
    joints[0, :2] = ((10, 20, 2), (50, 40, 2))
    joints[1, 2] = (70, 60, 2)
    crops = person_crops([record_of(tmp_path / "a.jpg", joints, np.zeros((2, 4)))], margin=1.5)
    assert crops[0].region == (30, 30, 60)
    assert crops[1].region == (70, 60, 12)


@pytest.mark.parametrize("scale", [0.8, 2.0])
def test_the_hourglass_crop_of_200_pixels_times_the_scale_is_a_box(scale):
    side = 200 * scale
    assert square_region((300 - side / 2, 250 - side / 2, side, side), 1.25) == (300, 250, side * 1.25)


def test_boxes_make_records_without_people_in_the_images_order(tmp_path):
    joints = np.full((1, 3, 3), 5.0)
    images = [replace(record_of(tmp_path / "a.jpg", joints, [[0, 0, 9, 9]]), image_id=i) for i in (3, 4, 5)]
    boxes = {
        5: [PersonBox((0, 0, 10, 20), 0.5, 2), PersonBox((10, 10, 40, 20), 0.75, 0)],
        3: [PersonBox((2, 2, 8, 8), 1.0, 1)],
        9: [PersonBox((0, 0, 1, 1))],
    }
    crops = box_crops(images, boxes, margin=2)
    found = [(crop.image_id, crop.region, crop.box_score, crop.source) for crop in crops]
    assert found == [(3, (6, 6, 16), 1.0, 1), (5, (5, 10, 40), 0.5, 2), (5, (30, 20, 80), 0.75, 0)]
    assert all(crop.keypoints.shape == (0, 3, 3) and crop.boxes.shape == (0, 4) for crop in crops)


@given(
    region=st.tuples(st.floats(-30, 150), st.floats(-30, 150), st.floats(5, 400)),
    scale=st.floats(0.5, 2),
    rotation=st.floats(-180, 180),
    shift=st.tuples(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2)),
    flip=st.booleans(),
    places=st.lists(st.tuples(st.floats(0.02, 0.97), st.floats(0.02, 0.97)), min_size=3, max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_joints_come_back_from_the_cells_within_half_a_cell(region, scale, rotation, shift, flip, places):
    translate = (shift[0] * region[2], shift[1] * region[2])
    params = AffineParams(scale, rotation, translate, flip, region)
    to_input = params.matrix((120, 90), SIZE)
    back = np.vstack([to_input, [0, 0, 1]])
    shown = np.array([(x * SIZE, y * SIZE) for x, y in places])  # in the input before the flip
    joints = np.ones((1, 3, 3), np.float32) * 2
    joints[0, :, :2] = apply_affine(np.linalg.inv(back)[:2], shown)
    record = record_of("none.png", joints, [[0, 0, 10, 10]], region=region)
    dataset = TrainDataset([record], FLIP_INDEX, STILL, SIZE, (STRIDE,))
    sample = dataset.build_sample(record, params, np.zeros((SIZE, SIZE, 3), np.uint8), 1)
    heatmaps = collate([sample]).targets().heatmaps[0][0].numpy()
    flipped = np.array([[-1.0, 0, SIZE - 1], [0, 1, 0], [0, 0, 1]]) if flip else np.eye(3)
    to_image = (np.linalg.inv(back) @ np.linalg.inv(flipped))[:2]
    (pose,) = decode_single(ImageMaps(heatmaps, ()), (SIZE, SIZE), to_image, SinglePersonOptions())
    found = pose.keypoints[list(FLIP_INDEX) if flip else slice(None)]
    in_cells = apply_affine(to_input, found[:, :2]) / STRIDE
    # a float32 joint and a map of three float32 points are off by thousandths of a cell
    assert np.abs(in_cells - shown / STRIDE).max() <= 0.5 + 0.01
    np.testing.assert_array_equal(found[:, 2], 1)


@given(st.integers(0, 10**6), st.floats(1, 500))
@settings(max_examples=50, deadline=None)
def test_parameters_are_in_units_of_the_region(seed, side):
    augmentation = Augmentation(scale=(0.5, 2), rotation=40, translate=0.25, flip=0.5)
    params = augmentation.sample(np.random.default_rng(seed), (1000, 10), (50.0, 60.0, side))
    assert params.side((1000, 10)) == params.scale * side
    assert 0.5 <= params.scale <= 2
    assert np.abs(params.translate).max() <= 0.25 * params.scale * side
    middle = apply_affine(params.matrix((1000, 10), 64), np.array([50.0, 60.0]) + params.translate)
    np.testing.assert_allclose(middle, (32, 32), atol=0.01)


def test_without_a_region_the_whole_image_is_augmented_by_the_same_draws():
    augmentation = Augmentation(flip=0.5)
    drawn = augmentation.sample(np.random.default_rng(3), (200, 100))
    rng = np.random.default_rng(3)
    scale, rotation = rng.uniform(0.75, 1.5), rng.uniform(-30, 30)
    limits = [int(0.2 * scale * length) for length in (200, 100)]
    shift = [int(rng.integers(-limit, limit)) for limit in limits]
    assert drawn == AffineParams(scale, rotation, (shift[0], shift[1]), bool(rng.random() < 0.5))


def test_a_sample_shows_the_person_alone_and_others_are_background(blank):
    path = blank()
    image = cv2.imread(str(path))
    image[30:50, 40:60] = (255, 0, 0)  # blue
    cv2.imwrite(str(path), image)
    joints = np.zeros((2, 3, 3))
    joints[0] = [(50, 40, 2), (42, 32, 2), (58, 48, 2)]
    joints[1] = [(45, 45, 2), (0, 0, 0), (0, 0, 0)]
    record = record_of(
        path, joints, [[40, 30, 20, 20], [30, 30, 30, 30]], ignored=([[55, 30, 70, 30, 70, 60, 55, 60]],)
    )
    crops = person_crops([record], margin=2.0)
    sample = TrainDataset(crops, FLIP_INDEX, STILL, SIZE, (STRIDE,)).sample(SampleKey(0, 0, 1))
    # 40 × 40 pixels around (50, 40): 1.6 input pixels each
    np.testing.assert_array_equal(sample.image[32, 32], (0, 0, 255))
    blue = np.argwhere(sample.image[..., 2] > 127)
    assert np.abs(blue.min(0) - 16).max() <= 2
    assert np.abs(blue.max(0) - 47).max() <= 2
    np.testing.assert_allclose(sample.joints[0][0, :, :2], [(8, 8), (4.8, 4.8), (11.2, 11.2)], atol=0.01)
    assert (sample.joints[0][1:] == 0).all()
    assert sample.dropped_people == 0
    heatmaps = collate([sample]).targets().heatmaps[0][0]
    assert [int((heatmap == 1).sum()) for heatmap in heatmaps] == [1, 1, 1]
    # the ignored region stays: from x = 55, cell (55 − 30) / 2.5 = 10
    mask = sample.masks[0]
    assert mask[:, :9].all()
    assert not mask[5, 11:15].any()


def test_outside_of_the_image_there_is_nothing_to_find(blank):
    joints = np.full((1, 3, 3), 2.0)
    record = record_of(blank(), joints, [[-20, -20, 40, 40]], ignored=([[0, 0, 10, 0, 10, 10, 0, 10]],))
    (crop,) = person_crops([record], margin=1.0)
    sample = TrainDataset([crop], FLIP_INDEX, STILL, SIZE, (STRIDE,)).sample(SampleKey(0, 0, 1))
    mask = sample.masks[0]
    assert mask[:7].all()
    assert mask[:, :7].all()
    assert not mask[9:11, 9:11].any()
    whole = TrainDataset([record], FLIP_INDEX, replace(STILL, scale=(3, 3)), SIZE, (STRIDE,)).sample(SampleKey(0, 0, 1))
    assert not whole.masks[0][0].any()


def test_a_test_feeds_each_region_as_a_square(blank):
    image = np.zeros((90, 120, 3), np.uint8)
    image[20:40, 10:30] = (0, 0, 255)
    image[50:80, 70:100] = (0, 255, 0)
    path = blank()
    cv2.imwrite(str(path), image)
    joints = np.zeros((2, 3, 3))
    joints[:, 0] = ((20, 30, 2), (85, 65, 2))
    crops = person_crops([record_of(path, joints, [[10, 20, 20, 20], [70, 50, 30, 30]])], margin=2.0)
    sizes = [input_geometry(crop, SIZE).base_size for crop in crops]
    assert sizes == [(SIZE, SIZE)] * 2
    dataset = TestDataset(crops, group_by_shape(sizes, 4, SIZE), SIZE, (1.0, 2.0))
    (batch,) = build_test_loader(dataset, 0, False)
    assert [tuple(images.shape) for images in batch.images] == [(2, SIZE, SIZE, 3), (2, 2 * SIZE, 2 * SIZE, 3)]
    for factor, images in zip((1, 2), batch.images, strict=True):
        for number, channel in enumerate((0, 1)):
            inside = images[number, ..., channel].numpy() > 127
            rows, columns = inside.any(1).nonzero()[0], inside.any(0).nonzero()[0]
            assert (
                np.abs(
                    np.array([rows[0], rows[-1], columns[0], columns[-1]]) - factor * np.array([16, 47, 16, 47])
                ).max()
                <= 2
            )
            assert not images[number, ..., 1 - channel].any() or number == 0
    for crop, geometry in zip(crops, batch.geometries, strict=True):
        middle = apply_affine(geometry.to_image(), np.array([SIZE / 2, SIZE / 2]))
        np.testing.assert_allclose(middle, crop.region[:2], atol=1e-3)


def test_a_large_person_is_decoded_smaller_and_stays_in_place(tmp_path):
    ramp = np.repeat(np.linspace(0, 255, 800)[None], 640, 0)
    image = np.stack([ramp, np.repeat(np.linspace(0, 255, 640)[:, None], 800, 1), ramp], 2)
    path = tmp_path / "large.jpg"
    cv2.imwrite(str(path), image.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 98])
    crop = record_of(path, np.zeros((0, 3, 3)), np.zeros((0, 4)), (800, 640), region=(400.0, 320.0, 600.0))
    (batch,) = build_test_loader(TestDataset([crop], [[0]], SIZE, (1.0,)), 0, False)
    shown = batch.images[0][0].numpy().astype(float)
    # a ramp's value says where in the image a pixel of the input comes from
    places = apply_affine(batch.geometries[0].to_image(), np.array([(8.0, 20.0), (32, 32), (50, 60)]))
    for (x, y), (column, row) in zip(places, ((8, 20), (32, 32), (50, 60)), strict=True):
        assert abs(shown[row, column, 0] - 255 * x / 799) < 2
        assert abs(shown[row, column, 1] - 255 * y / 639) < 2


def test_a_long_image_can_be_tested_by_crops(blank):
    path = blank(2000, 20, "long.png")
    crop = record_of(path, np.zeros((0, 3, 3)), np.zeros((0, 4)), (2000, 20), region=(500.0, 10.0, 30.0))
    (batch,) = build_test_loader(TestDataset([crop], [[0]], SIZE, (1.0,)), 0, False)
    assert batch.images[0].shape == (1, SIZE, SIZE, 3)
    assert isinstance(batch.images[0], torch.Tensor)
