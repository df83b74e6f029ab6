"""Reading images of all kinds as they are stored, and the network's normalization."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from coupled_embedding.data.images import normalize, read_image, read_image_for_warp, read_record_image
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.utils.errors import DatasetError

TURN_RIGHT = 6  # EXIF: the stored image must be turned by 90° clockwise
HALF_TURN = 3


@pytest.fixture
def pixels():
    """A smooth 24 × 16 image with four different corners, blue, green, red."""
    y, x = np.mgrid[0:16, 0:24]
    return np.stack([10 + 5 * x, 20 + 8 * y, 200 - 3 * x - 2 * y], axis=2).astype(np.uint8)


def write(path, pixels, **options):
    Image.fromarray(np.ascontiguousarray(pixels[..., ::-1])).save(path, **options)
    return path


def test_channels_are_blue_green_red(tmp_path, pixels):
    image = read_image(write(tmp_path / "a.png", pixels))
    np.testing.assert_array_equal(image, pixels)
    assert image.dtype == np.uint8


def stored_with(path, pixels, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return write(path, pixels, exif=exif, **({} if path.suffix == ".png" else {"quality": 100}))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_exif_orientation_is_followed_as_pillow_does(tmp_path, pixels, suffix, orientation):
    path = stored_with(tmp_path / f"a{suffix}", pixels, orientation)
    with Image.open(path) as file:
        expected = np.asarray(ImageOps.exif_transpose(file).convert("RGB"))[..., ::-1]
    assert np.abs(read_image(path).astype(int) - expected).mean() < 3


@pytest.mark.parametrize("content", [b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"eXIf" * 50])
def test_damaged_exif_says_nothing(tmp_path, pixels, content):
    path = stored_with(tmp_path / "a.jpg", pixels, TURN_RIGHT)
    whole = path.read_bytes()
    start = whole.index(b"Exif\0\0")
    path.write_bytes(whole[:start] + content[:30].ljust(30, b"\0") + whole[start + 30 :])
    assert read_image(path).shape == (16, 24, 3)


def record_of(path, size, orientation="auto"):
    people = np.zeros((0, 3, 3), np.float32), np.zeros((0, 4), np.float32)
    return ImageRecord(7, path, *size, *people, orientation=orientation)


@pytest.mark.parametrize(
    ("policy", "size", "turned"),
    [("auto", (16, 24), True), ("auto", (24, 16), False), ("upright", (16, 24), True), ("stored", (24, 16), False)],
)
def test_the_annotated_size_says_whether_a_quarter_turn_was_annotated_upright(tmp_path, pixels, policy, size, turned):
    record = record_of(stored_with(tmp_path / "a.jpg", pixels, TURN_RIGHT), size, policy)
    image = read_image_for_warp(record, 1.0)
    assert (image.turned, image.orientation, image.pixels.shape) == (turned, TURN_RIGHT, (*size[::-1], 3))


@pytest.mark.parametrize(("policy", "turned"), [("auto", True), ("upright", True), ("stored", False)])
def test_a_half_turn_is_followed_unless_the_pixels_count_as_stored(tmp_path, pixels, policy, turned):
    stored = read_image(write(tmp_path / "b.png", pixels))
    record = record_of(stored_with(tmp_path / "a.png", pixels, HALF_TURN), (24, 16), policy)
    np.testing.assert_array_equal(read_record_image(record), stored[::-1, ::-1] if turned else stored)


@pytest.mark.parametrize(("policy", "size"), [("upright", (24, 16)), ("stored", (16, 24)), ("auto", (24, 24))])
def test_a_size_that_the_policy_cannot_give_is_an_error_with_both(tmp_path, pixels, policy, size):
    record = record_of(stored_with(tmp_path / "a.jpg", pixels, TURN_RIGHT), size, policy)
    with pytest.raises(DatasetError, match=rf"EXIF orientation 6: stored as 24×16.*annotated as {size[0]}×{size[1]}"):
        read_record_image(record)


def test_gray_images_get_three_equal_channels(tmp_path, pixels):
    cv2.imwrite(str(tmp_path / "a.png"), pixels[..., 0])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.repeat(pixels[..., :1], 3, axis=2))


def test_transparency_is_dropped(tmp_path, pixels):
    cv2.imwrite(str(tmp_path / "a.png"), np.dstack([pixels, np.zeros((16, 24), np.uint8)]))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels)


def test_sixteen_bits_become_eight(tmp_path, pixels):
    cv2.imwrite(str(tmp_path / "a.png"), pixels.astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels)


def test_print_colors_become_screen_colors(tmp_path, pixels):
    rgb = Image.fromarray(np.ascontiguousarray(pixels[..., ::-1]))
    rgb.convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - pixels).max() < 12


def test_names_beyond_ascii_are_read(tmp_path, pixels):
    np.testing.assert_array_equal(read_image(write(tmp_path / "fête 写真.png", pixels)), pixels)


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\xff\xd8\xff\xe0 half a header"])
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"bad\.jpg: not an image .*\({len(content)} bytes\)"):
        read_image(path)


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"gone\.jpg: cannot read this image \(No such file"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(DatasetError, match="cannot read this image"):
        read_image(tmp_path)


def annotated(path: Path, width, height):
    return ImageRecord(7, path, width, height, np.zeros((0, 3, 3), np.float32), np.zeros((0, 4), np.float32))


def test_an_image_of_the_annotated_size_is_read_as_stored(tmp_path, pixels):
    exif = Image.Exif()
    exif[0x0112] = TURN_RIGHT
    path = write(tmp_path / "a.jpg", pixels, exif=exif)
    assert read_record_image(annotated(path, 24, 16)).shape == (16, 24, 3)


@pytest.mark.parametrize("size", [(16, 24), (24, 17), (23, 16)])
def test_another_size_than_annotated_is_an_error(tmp_path, pixels, size):
    path = write(tmp_path / "a.png", pixels)
    with pytest.raises(
        DatasetError, match=rf"a\.png: .* 24×16 pixels, but image 7 is annotated as {size[0]}×{size[1]}"
    ):
        read_record_image(annotated(path, *size))


def test_normalize_is_imagenets_per_channel():
    images = torch.randint(0, 256, (2, 5, 4, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    result = normalize(images)
    assert (result.shape, result.dtype) == ((2, 3, 5, 4), torch.float32)
    assert result.is_contiguous(memory_format=torch.channels_last)
    for channel, (mean, std) in enumerate([(123.675, 58.395), (116.28, 57.12), (103.53, 57.375)]):
        expected = (images[..., channel].double() - mean) / std
        torch.testing.assert_close(result[:, channel].double(), expected, rtol=1e-6, atol=1e-6)


def test_normalize_to_unit_range_divides_by_255():
    images = torch.arange(0, 256, dtype=torch.uint8)[None, None, :, None].expand(1, 1, -1, 3)
    result = normalize(images, "unit")
    assert torch.equal(result[0, :, 0], (torch.arange(256) / 255).expand(3, -1))
