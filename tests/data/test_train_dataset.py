"""Training samples: the same key gives the same sample, and pixels and joints stay together."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from coupled_embedding.data.dataset import SampleKey, TrainDataset, collate
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.transforms import Augmentation
from coupled_embedding.utils.errors import DatasetError

FLIP_INDEX = (0, 2, 1)
SIZE, STRIDES = 32, (4, 2)


def dataset_of(records, augmentation=None, **options):
    return TrainDataset(records, FLIP_INDEX, augmentation or Augmentation(color=0.2), SIZE, STRIDES, **options)


def key(epoch=0, index=0, step_images=1):
    return SampleKey(epoch, index, step_images)


def arrays_of(sample):
    return [sample.image, *sample.joints, *sample.masks, sample.scales]


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(arrays_of(first), arrays_of(second), strict=True))


def test_a_sample_has_the_shapes_and_types_it_says(make_records):
    sample = dataset_of(make_records(3), max_people=5).sample(key(index=2, step_images=9))
    assert (sample.image.shape, sample.image.dtype) == ((32, 32, 3), np.uint8)
    assert [(j.shape, j.dtype) for j in sample.joints] == [((5, 3, 3), np.float32)] * 2
    assert [(m.shape, m.dtype) for m in sample.masks] == [((8, 8), bool), ((16, 16), bool)]
    assert sample.scales.shape == (5,)
    assert (sample.image_id, sample.dropped_people, sample.step_images) == (102, 0, 9)
    # two people, then padding
    assert (sample.scales > 0).tolist() == [True, True, False, False, False]
    assert not sample.joints[0][2:].any()


def test_the_same_key_gives_the_same_sample_whatever_came_before(make_records):
    records = make_records(3)
    first, second = dataset_of(records, seed=5), dataset_of(records, seed=5)
    for other in range(3):
        second.sample(key(epoch=4, index=other))
    np.random.seed(0)  # the global state must not matter
    assert same(first.sample(key(1, 2)), second.sample(key(1, 2)))


@pytest.mark.parametrize(("seed", "epoch"), [(5, 2), (6, 1)])
def test_epochs_and_seeds_sample_other_parameters(make_records, seed, epoch):
    records = make_records(3)
    first = dataset_of(records, seed=5).sample(key(1, 2))
    assert not same(first, dataset_of(records, seed=seed).sample(key(epoch, 2)))


def test_images_of_one_epoch_are_augmented_differently(make_records):
    (record,) = make_records(1, people=2)
    dataset = dataset_of([record, record])
    assert not same(dataset.sample(key(index=0)), dataset.sample(key(index=1)))


def test_colors_are_red_green_blue(make_records):
    (record,) = make_records(1)
    cv2.imwrite(str(record.path), np.full((32, 40, 3), (10, 20, 200), np.uint8))
    still = Augmentation((1.0, 1.0), 0, 0, 0)
    assert dataset_of([record], still).sample(key()).image[16, 16].tolist() == [200, 20, 10]


def blob_record(folder, x, y):
    """Write an image with a smooth bright blob, in the place of its person's joint 1."""
    rows, columns = np.mgrid[0:128, 0:160]
    blob = 250 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 6.0**2))
    path = folder / f"blob_{x}_{y}.png"
    cv2.imwrite(str(path), np.repeat(blob[..., None], 3, axis=2).astype(np.uint8))
    keypoints = np.array([[[0, 0, 0], [x, y, 2], [0, 0, 0]]], np.float32)
    return ImageRecord(1, path, 160, 128, keypoints, np.array([[0, 0, 50, 50]], np.float32))


def centroid(image):
    weights = image[..., 0].astype(float)
    rows, columns = np.mgrid[0 : weights.shape[0], 0 : weights.shape[1]]
    return np.array([(weights * columns).sum(), (weights * rows).sum()]) / weights.sum()


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("exact", [False, True])
def test_joints_follow_the_pixels_but_for_the_released_flip(tmp_path, flip, exact):
    record = blob_record(tmp_path, 75, 66)
    augmentation = Augmentation((0.8, 1.2), 30, 0.05, flip, exact)
    dataset = TrainDataset([record], FLIP_INDEX, augmentation, 128, STRIDES)
    for epoch in range(8):
        sample = dataset.sample(key(epoch))
        for joints, stride in zip(sample.joints, STRIDES, strict=True):
            place = joints[0, 2 if flip else 1]
            assert place[2] == 2
            # the released flip lacks almost one cell, all else is the pixel itself
            gap = stride - 1 if flip and not exact else 0
            found = place[:2] * stride + (gap, 0)
            np.testing.assert_allclose(found, centroid(sample.image), atol=0.2)


def test_people_above_the_limit_give_way_to_those_with_more_joints(make_records):
    (record,) = make_records(1, people=4)
    labels = np.array([[2, 0, 0], [2, 2, 2], [0, 0, 0], [2, 2, 0]], np.float32)
    record.keypoints[..., 2] = labels
    boxes = np.array([[0, 0, 10, 10], [0, 0, 20, 20], [0, 0, 30, 30], [0, 0, 16, 16]], np.float32)
    still = Augmentation((1.0, 1.0), 0, 0, 0)
    sample = dataset_of([replace(record, boxes=boxes)], still, max_people=2).sample(key())
    np.testing.assert_array_equal(sample.joints[0][..., 2], labels[[1, 3]])
    # the short side is 32 image pixels
    np.testing.assert_allclose(sample.scales, [20 / 32, 16 / 32], rtol=1e-6)
    assert sample.dropped_people == 2


def test_an_image_without_people_is_a_sample_too(make_records):
    sample = dataset_of(make_records(1)).sample(key())
    assert not sample.scales.any()
    assert not any(joints.any() for joints in sample.joints)


def test_ignored_regions_and_the_outside_are_masked(make_records):
    (record,) = make_records(1, size=(32, 32))
    left_half = [[0, 0, 16, 0, 16, 32, 0, 32]]
    ignoring = replace(record, ignored=(left_half,))
    still, far = Augmentation((1.0, 1.0), 0, 0, 0), Augmentation((2.0, 2.0), 0, 0, 0)
    (low, high) = dataset_of([ignoring], still).sample(key()).masks
    assert low.all(0).tolist() == low.any(0).tolist() == [False] * 4 + [True] * 4
    assert high.all(0).tolist() == high.any(0).tolist() == [False] * 8 + [True] * 8
    # zoomed out to half, the image is the middle of the crop
    (low, _) = dataset_of([record], far).sample(key()).masks
    assert low[2:6, 2:6].all()
    assert low.sum() == 16


def test_errors_are_returned_by_item_and_raised_by_sample(make_records):
    (record,) = make_records(1)
    for wrong in (replace(record, path=record.path.with_name("gone.png")), replace(record, width=41)):
        dataset = dataset_of([wrong])
        with pytest.raises(DatasetError, match=wrong.path.name):
            dataset.sample(key())
        returned = dataset[key()]
        assert isinstance(returned, DatasetError)
        assert wrong.path.name in str(returned)


def test_collate_stacks_in_order(make_records):
    dataset = dataset_of(make_records(3, people=4), max_people=3)
    samples = [dataset.sample(key(0, index, 7)) for index in (2, 0)]
    batch = collate(samples)
    assert (batch.image_ids, batch.dropped_people, batch.step_images) == ([102, 100], 2, 7)
    assert (batch.images.shape, batch.images.dtype) == ((2, 32, 32, 3), torch.uint8)
    for n, sample in enumerate(samples):
        np.testing.assert_array_equal(batch.images[n], sample.image)
        people = batch.scales.shape[1]  # rows that are empty in all samples may be left out
        np.testing.assert_array_equal(batch.scales[n], sample.scales[:people])
        assert not sample.scales[people:].any()
        for resolution in range(2):
            np.testing.assert_array_equal(batch.joints[resolution][n], sample.joints[resolution][:people])
            assert not sample.joints[resolution][people:].any()
            np.testing.assert_array_equal(batch.masks[resolution][n], sample.masks[resolution])


def test_the_first_error_takes_the_batchs_place(make_records):
    sample = dataset_of(make_records(1)).sample(key())
    first, second = DatasetError("one.png"), DatasetError("two.png")
    assert collate([sample, first, second]) is first


def test_a_batch_moves_whole_and_builds_its_targets(make_records):
    dataset = dataset_of(make_records(2, people=2))
    batch = collate([dataset.sample(key(index=index)) for index in range(2)])
    moved = batch.to(torch.device("cpu"))
    assert (moved.image_ids, moved.step_images) == (batch.image_ids, batch.step_images)
    torch.testing.assert_close(moved.images, batch.images, rtol=0, atol=0)
    targets = moved.targets()
    assert [tuple(h.shape) for h in targets.heatmaps] == [(2, 3, 8, 8), (2, 3, 16, 16)]
    assert targets.cells.shape == (2, batch.scales.shape[1], 3, 2)
    # every visible joint has its own peak
    for image, person, joint in targets.visible.nonzero().tolist():
        x, y = targets.cells[image, person, joint].tolist()
        assert targets.heatmaps[0][image, joint, y, x] == 1
    assert targets.visible.any()


def test_a_person_with_an_empty_box_keeps_its_joints(make_records):
    (record,) = make_records(1, people=2)
    boxes = record.boxes.copy()
    boxes[1, 2:] = 0
    flat = dataset_of([replace(record, boxes=boxes)])
    batch = collate([flat.sample(SampleKey(0, 0, 1))])
    assert batch.joints[0].shape[1] == 2
    assert (batch.joints[0][0, :, :, 2] > 0).all()
