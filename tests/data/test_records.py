"""Ignore regions: polygons and run lengths become a mask of the image."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from coupled_embedding.data.records import ImageRecord
from coupled_embedding.utils.errors import DatasetError


def record(ignored, width=12, height=8):
    nobody = np.zeros((0, 3, 3), np.float32)
    return ImageRecord(1, Path("x.jpg"), width, height, nobody, np.zeros((0, 4), np.float32), tuple(ignored))


def rectangle(left, top, right, bottom):
    return [left, top, right, top, right, bottom, left, bottom]


def run_lengths(mask):
    """Count 0s and 1s in turn, column by column, starting with 0s: COCO's uncompressed format."""
    counts, current = [0], 0
    for value in mask.ravel(order="F").astype(int):
        if value != current:
            counts.append(0)
            current = value
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def test_nothing_ignored_is_all_valid():
    mask = record([]).valid_mask()
    assert (mask.shape, mask.dtype, mask.min()) == ((8, 12), np.uint8, 255)


def test_a_polygon_covers_its_pixels():
    expected = np.full((8, 12), 255)
    expected[1:4, 2:6] = 0
    np.testing.assert_array_equal(record([[rectangle(2, 1, 6, 4)]]).valid_mask(), expected)


def test_all_parts_of_all_regions_are_ignored():
    regions = [[rectangle(0, 0, 2, 2), rectangle(8, 5, 12, 8)], [rectangle(1, 1, 4, 3)]]
    expected = np.full((8, 12), 255)
    expected[0:2, 0:2] = expected[5:8, 8:12] = expected[1:3, 1:4] = 0
    np.testing.assert_array_equal(record(regions).valid_mask(), expected)


def test_a_polygon_beyond_the_image_is_cut():
    assert (record([[rectangle(-5, -5, 30, 30)]]).valid_mask() == 0).all()


@given(regions=st.lists(arrays(bool, (5, 7)), min_size=1, max_size=3))
def test_run_lengths_of_either_kind_cover_exactly_their_pixels(regions):
    expected = np.where(np.any(regions, axis=0), 0, 255)
    plain = record([run_lengths(region) for region in regions], 7, 5)
    compressed = record([coco_mask.encode(np.asfortranarray(region.astype(np.uint8))) for region in regions], 7, 5)
    np.testing.assert_array_equal(plain.valid_mask(), expected)
    np.testing.assert_array_equal(compressed.valid_mask(), expected)


def test_polygons_and_run_lengths_mix():
    region = np.zeros((8, 12), np.uint8)
    region[3:, 4:6] = 1
    runs = coco_mask.encode(np.asfortranarray(region))
    region[0:2, 0:2] = region[5:8, 8:12] = 1
    mixed = record([[rectangle(0, 0, 2, 2)], runs, run_lengths(region), [rectangle(8, 5, 12, 8)]])
    mask = mixed.valid_mask()
    np.testing.assert_array_equal(mask, np.where(region, 0, 255))
    assert mask.flags.c_contiguous


def test_compressed_runs_that_cover_too_few_pixels_end():
    short = {"size": [8, 12], "counts": b"11"}
    mask = record([short, [rectangle(8, 5, 12, 8)]]).valid_mask()
    assert (mask.shape, mask[5:8, 8:12].max()) == ((8, 12), 0)


def test_compressed_counts_as_text_are_read_too():
    region = np.zeros((8, 12), np.uint8)
    region[3:, 4:6] = 1
    runs = coco_mask.encode(np.asfortranarray(region))
    text = {"size": runs["size"], "counts": runs["counts"].decode()}
    np.testing.assert_array_equal(record([text]).valid_mask(), np.where(region, 0, 255))


def test_a_record_cannot_be_changed():
    with pytest.raises(AttributeError):
        record([]).width = 3


@pytest.mark.parametrize(
    "segmentation",
    [
        "text",
        [["a", "b", "c", "d", "e", "f"]],
        [[None] * 6],
        {"size": [8, 12]},
        {"size": [7, 12], "counts": [84]},
        {"size": [8, 12], "counts": [90]},
        {"size": [8, 12], "counts": [100]},
        7,
    ],
)
def test_a_region_that_cannot_be_read_is_named_with_its_image(segmentation):
    with pytest.raises(DatasetError, match=r"x\.jpg: image 1 has a segmentation that cannot be read"):
        record([segmentation]).valid_mask()


@pytest.mark.parametrize("polygon", [[], [1, 1], [1, 1, 5, 5]])
def test_points_and_lines_cover_nothing(polygon):
    assert record([[polygon]]).valid_mask().min() == 255
    assert record([[polygon, rectangle(2, 1, 6, 4)]]).valid_mask().min() == 0
