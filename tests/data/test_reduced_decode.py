"""Large JPEGs decoded smaller: the picture lands where the whole one lands, and nothing else changes."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from coupled_embedding.data.dataset import SampleKey, TrainDataset
from coupled_embedding.data.images import read_photo, read_photo_for_warp
from coupled_embedding.data.io.headers import jpeg_size
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.transforms import AffineDraw, Augmentation, warp_image
from coupled_embedding.utils.errors import DatasetError

TURN_RIGHT = 6  # EXIF: the stored picture must be turned by 90° clockwise
WIDTH, HEIGHT = 330, 249  # no multiples of 8


@pytest.fixture
def picture():
    """A smooth picture with a bright spot at (200, 110), blue, green, red."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    spot = 200 * np.exp(-((x - 200) ** 2 + (y - 110) ** 2) / (2 * 20.0**2))
    return np.stack([20 + x / 4, 30 + spot, 90 + 60 * np.sin(y / 50)], axis=2).astype(np.uint8)


def write(path, picture, **options):
    Image.fromarray(np.ascontiguousarray(picture[..., ::-1])).save(path, **options)
    return ImageRecord(
        7,
        path,
        picture.shape[1],
        picture.shape[0],
        np.array([[[200, 110, 2], [190, 100, 1], [230, 140, 2]]], np.float32),
        np.array([[150, 60, 100, 100]], np.float32),
        ([[20, 20, 90, 20, 90, 60, 20, 60]],),
    )


@pytest.fixture
def record(tmp_path, picture):
    return write(tmp_path / "a.jpg", picture, quality=95)


def turned(quality=95):
    exif = Image.Exif()
    exif[0x0112] = TURN_RIGHT
    return {"quality": quality, "exif": exif}


@pytest.mark.parametrize(
    ("shrink", "reduction"),
    [(0.5, 1), (1.0, 1), (1.99, 1), (2.0, 2), (3.99, 2), (4.0, 4), (7.99, 4), (8.0, 8), (100.0, 8)],
)
def test_the_picture_is_never_smaller_than_the_warp_needs(record, shrink, reduction):
    photo = read_photo_for_warp(record, shrink)
    assert photo.reduction == reduction
    image = photo.pixels
    assert image.shape == (-(-HEIGHT // reduction), -(-WIDTH // reduction), 3)
    if reduction == 1:
        np.testing.assert_array_equal(image, read_photo(record))


@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_a_reduced_pixel_is_the_mean_of_its_pixels(record, reduction):
    image = read_photo_for_warp(record, reduction).pixels
    whole = read_photo(record).astype(float)[: HEIGHT // reduction * reduction, : WIDTH // reduction * reduction]
    blocks = whole.reshape(HEIGHT // reduction, reduction, WIDTH // reduction, reduction, 3).mean((1, 3))
    difference = np.abs(image[: blocks.shape[0], : blocks.shape[1]] - blocks)
    assert difference.mean() < 1
    assert difference.max() < 8


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_an_exif_orientation_turns_the_reduced_picture_too(tmp_path, picture, record, reduction):
    tagged = replace(write(tmp_path / "b.jpg", picture, **turned()), width=HEIGHT, height=WIDTH)
    plain = read_photo_for_warp(record, reduction)
    found = read_photo_for_warp(tagged, reduction)
    assert (plain.turned, found.turned, found.reduction) == (False, True, reduction)
    np.testing.assert_array_equal(found.pixels, np.rot90(plain.pixels, -1))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"comment": b"\xff\xc0 no frame"}])
def test_the_size_stands_in_the_header(tmp_path, picture, options):
    content = write(tmp_path / "a.jpg", picture, **turned(), **options).path.read_bytes()
    assert jpeg_size(content) == (WIDTH, HEIGHT)
    # fill bytes may stand before any marker
    assert jpeg_size(content[:2] + b"\xff\xff" + content[2:]) == (WIDTH, HEIGHT)


def test_grey_and_print_colours_have_a_size_too(tmp_path, picture):
    for mode in ("L", "CMYK"):
        path = tmp_path / f"{mode}.jpg"
        Image.fromarray(picture).convert(mode).save(path)
        assert jpeg_size(path.read_bytes()) == (WIDTH, HEIGHT)
        photo = read_photo_for_warp(replace(write(tmp_path / "x.jpg", picture), path=path), 2.0)
        assert (photo.pixels.shape, photo.reduction) == ((125, 165, 3), 2)


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda rest: b"\xff\xd8" + rest))
def test_any_bytes_have_a_size_or_none(content):
    size = jpeg_size(content)
    assert size is None or all(0 <= side < 2**16 for side in size)


def test_a_header_cut_short_has_no_size(record):
    content = record.path.read_bytes()
    assert jpeg_size(content[:20]) is None
    assert jpeg_size(b"") is None


@pytest.mark.parametrize("shrink", [1.0, 2.0, 8.0])
def test_other_formats_are_read_whole(tmp_path, picture, shrink):
    record = write(tmp_path / "a.png", picture)
    photo = read_photo_for_warp(record, shrink)
    assert photo.reduction == 1
    np.testing.assert_array_equal(photo.pixels, picture)


@pytest.mark.parametrize("shrink", [1.0, 2.0, 8.0])
@pytest.mark.parametrize("size", [(WIDTH + 1, HEIGHT), (WIDTH, HEIGHT - 1), (HEIGHT, WIDTH)])
def test_another_size_than_annotated_is_an_error_whatever_the_warp(record, shrink, size):
    with pytest.raises(DatasetError, match=rf"the photo is {WIDTH}×{HEIGHT} pixels, .* annotated as {size[0]}×"):
        read_photo_for_warp(replace(record, width=size[0], height=size[1]), shrink)


@pytest.mark.parametrize("shrink", [1.0, 2.0])
def test_files_that_are_no_picture_are_named_whatever_the_warp(record, shrink):
    # the header is whole, what it announces is not there
    content = record.path.read_bytes()
    record.path.write_bytes(content[: content.index(b"\xff\xda")])
    with pytest.raises(DatasetError, match=r"a\.jpg: not a picture"):
        read_photo_for_warp(record, shrink)
    with pytest.raises(DatasetError, match=r"gone\.jpg: cannot read"):
        read_photo_for_warp(replace(record, path=record.path.with_name("gone.jpg")), shrink)


def spot_center(image):
    weights = np.maximum(image[..., 1].astype(float) - 100, 0)
    rows, columns = np.mgrid[0 : weights.shape[0], 0 : weights.shape[1]]
    return np.array([(weights * columns).sum(), (weights * rows).sum()]) / weights.sum()


@pytest.mark.parametrize("reduction", [2, 4, 8])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("rotation", [0.0, 25.0])
def test_a_reduced_picture_lands_where_the_whole_one_lands(record, reduction, flip, rotation):
    draw = AffineDraw(1.1, rotation, (20, -10), flip)
    size = int(draw.side((WIDTH, HEIGHT)) / reduction)
    photo = read_photo_for_warp(record, draw.side((WIDTH, HEIGHT)) / size)
    assert photo.reduction == reduction
    reduced = warp_image(photo.pixels, draw, size, (WIDTH, HEIGHT), reduction)
    whole = warp_image(read_photo(record), draw, size)
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


def test_photos_that_are_not_halved_keep_their_pixels(record):
    for reduced, whole in zip(*samples(record, 192), strict=True):
        np.testing.assert_array_equal(reduced.image, whole.image)


def test_the_limit_is_two_photo_pixels_a_pixel(record):
    # the region's side is the photo's short side, 249 pixels
    for size, same in ((124, False), (125, True)):
        reduced, whole = samples(record, size, scale=(1.0, 1.0), rotation=0.0, translate=0.0)
        assert np.array_equal(reduced[0].image, whole[0].image) == same
