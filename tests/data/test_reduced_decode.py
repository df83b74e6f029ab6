"""Large JPEGs decoded smaller: the image lands where the whole one lands, and nothing else changes."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from coupled_embedding.data.dataset import SampleKey, TrainDataset
from coupled_embedding.data.images import read_image_for_warp, read_record_image
from coupled_embedding.data.io.headers import read_header
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.transforms import AffineParams, Augmentation, warp_image
from coupled_embedding.utils.errors import DatasetError

TURN_RIGHT = 6  # EXIF: the stored image must be turned by 90° clockwise
WIDTH, HEIGHT = 330, 249  # no multiples of 8


@pytest.fixture
def pixels():
    """A smooth image with a bright spot at (200, 110), blue, green, red."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    spot = 200 * np.exp(-((x - 200) ** 2 + (y - 110) ** 2) / (2 * 20.0**2))
    return np.stack([20 + x / 4, 30 + spot, 90 + 60 * np.sin(y / 50)], axis=2).astype(np.uint8)


def write(path, pixels, **options):
    Image.fromarray(np.ascontiguousarray(pixels[..., ::-1])).save(path, **options)
    return ImageRecord(
        7,
        path,
        pixels.shape[1],
        pixels.shape[0],
        np.array([[[200, 110, 2], [190, 100, 1], [230, 140, 2]]], np.float32),
        np.array([[150, 60, 100, 100]], np.float32),
        ([[20, 20, 90, 20, 90, 60, 20, 60]],),
    )


@pytest.fixture
def record(tmp_path, pixels):
    return write(tmp_path / "a.jpg", pixels, quality=95)


def turned(quality=95):
    exif = Image.Exif()
    exif[0x0112] = TURN_RIGHT
    return {"quality": quality, "exif": exif}


@pytest.mark.parametrize(
    ("shrink", "reduction"),
    [(0.5, 1), (1.0, 1), (1.99, 1), (2.0, 2), (3.99, 2), (4.0, 4), (7.99, 4), (8.0, 8), (100.0, 8)],
)
def test_the_image_is_never_smaller_than_the_warp_needs(record, shrink, reduction):
    decoded = read_image_for_warp(record, shrink)
    assert decoded.reduction == reduction
    image = decoded.pixels
    assert image.shape == (-(-HEIGHT // reduction), -(-WIDTH // reduction), 3)
    if reduction == 1:
        np.testing.assert_array_equal(image, read_record_image(record))


@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_a_reduced_pixel_is_the_mean_of_its_pixels(record, reduction):
    image = read_image_for_warp(record, reduction).pixels
    whole = read_record_image(record).astype(float)[: HEIGHT // reduction * reduction, : WIDTH // reduction * reduction]
    blocks = whole.reshape(HEIGHT // reduction, reduction, WIDTH // reduction, reduction, 3).mean((1, 3))
    difference = np.abs(image[: blocks.shape[0], : blocks.shape[1]] - blocks)
    assert difference.mean() < 1
    assert difference.max() < 8


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_an_exif_orientation_turns_the_reduced_image_too(tmp_path, pixels, record, reduction):
    tagged = replace(write(tmp_path / "b.jpg", pixels, **turned()), width=HEIGHT, height=WIDTH)
    plain = read_image_for_warp(record, reduction)
    found = read_image_for_warp(tagged, reduction)
    assert (plain.turned, found.turned, found.reduction) == (False, True, reduction)
    np.testing.assert_array_equal(found.pixels, np.rot90(plain.pixels, -1))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"comment": b"\xff\xc0 no frame"}])
def test_the_size_stands_in_the_header(tmp_path, pixels, options):
    content = write(tmp_path / "a.jpg", pixels, **turned(), **options).path.read_bytes()
    assert read_header(content).size == (WIDTH, HEIGHT)
    # fill bytes may stand before any marker
    assert read_header(content[:2] + b"\xff\xff" + content[2:]).size == (WIDTH, HEIGHT)


def test_gray_and_print_colors_have_a_size_too(tmp_path, pixels):
    for mode in ("L", "CMYK"):
        path = tmp_path / f"{mode}.jpg"
        Image.fromarray(pixels).convert(mode).save(path)
        assert read_header(path.read_bytes()).size == (WIDTH, HEIGHT)
        image = read_image_for_warp(replace(write(tmp_path / "x.jpg", pixels), path=path), 2.0)
        assert (image.pixels.shape, image.reduction) == ((125, 165, 3), 2)


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda rest: b"\xff\xd8" + rest))
def test_any_bytes_have_a_size_or_none(content):
    size = read_header(content).size
    assert size is None or all(0 <= side < (2**16 if content[:2] == b"\xff\xd8" else 2**32) for side in size)


def test_a_header_cut_short_has_no_size(record):
    content = record.path.read_bytes()
    assert read_header(content[:20]).size is None
    assert read_header(b"").size is None


@pytest.mark.parametrize("shrink", [1.0, 2.0, 8.0])
def test_other_formats_are_read_whole(tmp_path, pixels, shrink):
    record = write(tmp_path / "a.png", pixels)
    image = read_image_for_warp(record, shrink)
    assert image.reduction == 1
    np.testing.assert_array_equal(image.pixels, pixels)


@pytest.mark.parametrize("shrink", [1.0, 2.0, 8.0])
@pytest.mark.parametrize("size", [(WIDTH + 1, HEIGHT), (WIDTH, HEIGHT - 1), (HEIGHT, WIDTH)])
def test_another_size_than_annotated_is_an_error_whatever_the_warp(record, shrink, size):
    with pytest.raises(DatasetError, match=rf"the image is {WIDTH}×{HEIGHT} pixels, .* annotated as {size[0]}×"):
        read_image_for_warp(replace(record, width=size[0], height=size[1]), shrink)


@pytest.mark.parametrize("shrink", [1.0, 2.0])
def test_files_that_are_no_image_are_named_whatever_the_warp(record, shrink):
    # the header is whole, what it announces is not there
    content = record.path.read_bytes()
    record.path.write_bytes(content[: content.index(b"\xff\xda")])
    with pytest.raises(DatasetError, match=r"a\.jpg: not an image"):
        read_image_for_warp(record, shrink)
    with pytest.raises(DatasetError, match=r"gone\.jpg: cannot read"):
        read_image_for_warp(replace(record, path=record.path.with_name("gone.jpg")), shrink)


def spot_center(image):
    weights = np.maximum(image[..., 1].astype(float) - 100, 0)
    rows, columns = np.mgrid[0 : weights.shape[0], 0 : weights.shape[1]]
    return np.array([(weights * columns).sum(), (weights * rows).sum()]) / weights.sum()


@pytest.mark.parametrize("reduction", [2, 4, 8])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("rotation", [0.0, 25.0])
def test_a_reduced_image_lands_where_the_whole_one_lands(record, reduction, flip, rotation):
    params = AffineParams(1.1, rotation, (20, -10), flip)
    size = int(params.side((WIDTH, HEIGHT)) / reduction)
    image = read_image_for_warp(record, params.side((WIDTH, HEIGHT)) / size)
    assert image.reduction == reduction
    reduced = warp_image(image.pixels, params, size, (WIDTH, HEIGHT), reduction)
    whole = warp_image(read_record_image(record), params, size)
    np.testing.assert_allclose(spot_center(reduced), spot_center(whole), atol=0.06)
    inside = cv2.erode(whole.min(2), np.ones((3, 3))) > 0  # the black border begins softer
    difference = np.abs(reduced.astype(int) - whole)[inside]
    assert difference.mean() < 1.5
    assert difference.max() < 16


def samples(record, size, **augmentation):
    for reduced in (True, False):
        dataset = TrainDataset(
            [record], (0, 2, 1), Augmentation(**augmentation), size, (4, 2), 3, reduced_decode=reduced
        )
        yield [dataset.sample(SampleKey(epoch, 0, 1)) for epoch in range(6)]


def test_joints_masks_and_scales_do_not_notice(record):
    changed = 0
    for reduced, whole in zip(*samples(record, 64), strict=True):
        for name in ("joints", "masks"):
            for a, b in zip(getattr(reduced, name), getattr(whole, name), strict=True):
                np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(reduced.scales, whole.scales)
        changed += not np.array_equal(reduced.image, whole.image)
        assert np.abs(reduced.image.astype(int) - whole.image).mean() < 3
    assert changed == 6


def test_images_that_are_not_halved_keep_their_pixels(record):
    for reduced, whole in zip(*samples(record, 192), strict=True):
        np.testing.assert_array_equal(reduced.image, whole.image)


def test_the_limit_is_two_image_pixels_a_pixel(record):
    # the region's side is the image's short side, 249 pixels
    for size, same in ((124, False), (125, True)):
        reduced, whole = samples(record, size, scale=(1.0, 1.0), rotation=0.0, translate=0.0)
        assert np.array_equal(reduced[0].image, whole[0].image) == same
