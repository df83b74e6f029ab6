import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coupled_embedding.data.geometry import apply_affine, resize_geometry
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.test_dataset import TestDataset, build_test_loader, group_by_shape, warp_to_input
from coupled_embedding.utils.errors import DatasetError


def write_image(folder, number, width, height):
    image = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
    path = folder / f"{number}.png"
    cv2.imwrite(str(path), image)
    nothing = np.zeros((0, 4), np.float32)
    return ImageRecord(number, path, width, height, np.zeros((0, 3, 3), np.float32), nothing), image


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 3)), max_size=40), st.integers(1, 7))
@settings(max_examples=100, deadline=None)
def test_every_image_is_in_one_batch_of_equal_shape_in_order(sizes, limit):
    batches = group_by_shape(sizes, limit, 1)
    assert sorted(index for batch in batches for index in batch) == list(range(len(sizes)))
    for batch in batches:
        width, height = sizes[batch[0]]
        assert 1 <= len(batch) <= limit
        assert len(batch) == 1 or len(batch) * width * height <= limit * 2
        assert len({sizes[index] for index in batch}) == 1
        assert batch == sorted(batch)


@given(st.lists(st.integers(1, 3), min_size=1, max_size=40), st.integers(1, 7))
@settings(max_examples=50, deadline=None)
def test_batches_are_as_few_as_can_be(widths, limit):
    batches = group_by_shape([(width, 64) for width in widths], limit, 64)
    assert len(batches) == sum(-(-widths.count(width) // limit) for width in set(widths))


@pytest.mark.parametrize("factor", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("size", [(200, 150), (90, 160), (64, 64)])
def test_a_spot_of_the_image_lands_where_the_geometry_says(size, factor):
    width, height = size
    geometry = resize_geometry(size, 128)
    for x, y in ((width // 2, height // 2), (width // 4, height // 3), (width - 20, height - 25)):
        image = np.zeros((height, width, 3), np.float32)
        cv2.circle(image, (x, y), 8, (255, 255, 255), -1)
        warped = warp_to_input(image.astype(np.uint8), geometry, factor).astype(float)[..., 0]
        assert warped.shape[::-1] == geometry.size(factor)
        ys, xs = np.mgrid[: warped.shape[0], : warped.shape[1]]
        centroid = (xs * warped).sum() / warped.sum(), (ys * warped).sum() / warped.sum()
        np.testing.assert_allclose(centroid, apply_affine(geometry.to_input(factor), np.array([x, y])), atol=0.3)


def test_blue_green_red_becomes_red_green_blue_on_black():
    image = np.full((100, 180, 3), (10, 20, 30), np.uint8)
    geometry = resize_geometry((180, 100), 64)
    assert geometry.base_size == (128, 64)
    warped = warp_to_input(image, geometry)
    assert warped.dtype == np.uint8
    assert (warped[10:-10, 20:-20] == (30, 20, 10)).all()
    covered = warped.any((0, 2))  # 180 · 64 / 100 = 115.2 of the 128 columns
    assert 114 <= covered.sum() <= 117
    assert not covered[0]
    assert not covered[-1]


def test_batches_hold_each_image_at_each_scale_with_its_geometry(tmp_path):
    sizes = [(80, 60), (60, 80), (81, 60), (60, 60)]
    records, sources = zip(*(write_image(tmp_path, i, *size) for i, size in enumerate(sizes)), strict=True)
    geometries = [resize_geometry(size, 64) for size in sizes]
    plan = group_by_shape([g.base_size for g in geometries], 2, 128)
    assert plan == [[0, 2], [1], [3]]
    dataset = TestDataset(records, plan, 64, (0.5, 1.0))
    assert len(dataset) == 3
    batches = list(build_test_loader(dataset, 0, False))
    assert [list(batch.indices) for batch in batches] == plan
    for batch in batches:
        for place, index in enumerate(batch.indices):
            assert batch.geometries[place] == geometries[index]
            for images, factor in zip(batch.images, (0.5, 1.0), strict=True):
                assert images.dtype == torch.uint8
                np.testing.assert_array_equal(
                    images[place].numpy(), warp_to_input(sources[index], geometries[index], factor)
                )


def test_an_image_that_cannot_be_read_is_an_error_that_names_it(tmp_path):
    record, _ = write_image(tmp_path, 0, 64, 64)
    record.path.write_bytes(b"no image")
    dataset = TestDataset([record], [[0]], 64, (1.0,))
    with pytest.raises(DatasetError, match=r"0\.png"):
        list(build_test_loader(dataset, 0, False))


def test_an_image_of_another_size_than_annotated_is_an_error(tmp_path):
    record, _ = write_image(tmp_path, 0, 64, 64)
    cv2.imwrite(str(record.path), np.zeros((64, 65, 3), np.uint8))
    with pytest.raises(DatasetError, match="annotated"):
        list(build_test_loader(TestDataset([record], [[0]], 64, (1.0,)), 0, False))
