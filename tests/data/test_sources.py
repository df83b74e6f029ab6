"""Images of every kind become the same pixels; folders, globs and videos are found and read in order."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from coupled_embedding.data.sources import Video, expand, is_camera, is_video, to_bgr
from coupled_embedding.utils.errors import DatasetError, InputError, UserError


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)


def test_every_kind_of_image_gives_the_same_pixels(pixels, tmp_path):
    cv2.imwrite(str(tmp_path / "image.png"), pixels)
    rgb = np.ascontiguousarray(pixels[..., ::-1])
    chw = torch.from_numpy(rgb).permute(2, 0, 1)
    images = [tmp_path / "image.png", str(tmp_path / "image.png"), pixels, Image.fromarray(rgb), chw, chw / 255]
    for image in images:
        assert np.array_equal(to_bgr(image), pixels), type(image)
    assert np.array_equal(to_bgr(rgb, "rgb"), pixels)
    # the argument is about arrays
    assert np.array_equal(to_bgr(chw, "rgb"), pixels)


def test_pillow_images_of_any_mode_and_orientation_are_read(pixels):
    gray = Image.fromarray(pixels[..., 0])
    assert np.array_equal(to_bgr(gray), np.repeat(pixels[..., :1], 3, axis=2))
    turned = Image.fromarray(pixels[..., ::-1].copy())
    turned.getexif()[0x0112] = 6
    assert np.array_equal(to_bgr(turned), cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE))


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (np.zeros((4, 4), np.uint8), r"\(height, width, 3\) uint8 image, got \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), "got"),
        (np.zeros((4, 4, 3)), "float64"),
        (np.zeros((0, 4, 3), np.uint8), "got"),
        (torch.zeros(4, 4, 3), r"a tensor \(3, height, width\)"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "uint8 or of floats"),
        (torch.full((3, 4, 4), 255.0), "divide by 255"),
        (torch.full((3, 4, 4), torch.nan), "floats from 0 to 1"),
        (None, "got a NoneType"),
        (3.5, "got a float"),
    ],
)
def test_what_is_no_image_is_refused_in_words(image, error):
    with pytest.raises(InputError, match=error) as caught:
        to_bgr(image)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, UserError)


def test_another_channel_order_is_refused(pixels):
    with pytest.raises(InputError, match="channels: expected one of bgr, rgb, got 'gbr'"):
        to_bgr(pixels, "gbr")


def test_folders_and_globs_are_expanded_in_order(pixels, tmp_path):
    for name in ("b.jpg", "a.PNG", "c.mp4", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in expand(tmp_path)] == ["a.PNG", "b.jpg", "c.mp4"]
    assert [path.name for path in expand(f"{tmp_path}/*.jpg")] == ["b.jpg"]
    listed = expand(["0", tmp_path / "b.jpg", pixels, [str(tmp_path)]])
    assert listed[0] == "0"
    assert listed[2] is pixels
    assert len(listed) == 6


def test_a_name_with_brackets_is_a_file_if_it_exists(tmp_path):
    (tmp_path / "crowd[1].jpg").touch()
    assert expand(f"{tmp_path}/crowd[1].jpg") == [tmp_path / "crowd[1].jpg"]


def test_nothing_found_says_what_was_looked_for(tmp_path):
    for source in (tmp_path, f"{tmp_path}/*.jpg"):
        with pytest.raises(DatasetError, match=r"no images in it \(looked for .*\.jpg"):
            expand(source)


def test_cameras_are_numbers_unless_a_file_has_the_name(tmp_path, monkeypatch):
    assert [is_camera(source) for source in ("0", 1, "12", True, "a", Path("0"))] == [True, True, True] + 3 * [False]
    assert [is_video(source) for source in ("0", "clip.MP4", "image.jpg")] == [True, True, False]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0").touch()
    assert not is_camera("0")


def test_a_video_gives_its_frames_in_order(write_video):
    video = Video.open(write_video("clip.mp4", [10, 120, 240], rate=12))
    assert (video.rate, video.count) == (12, 3)
    means = [float(frame.mean()) for frame in video.frames()]
    assert means == pytest.approx([10, 120, 240], abs=4)


@pytest.mark.bad_input
def test_what_is_no_video_is_refused_with_its_name(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DatasetError, match=r"text\.mp4: not a video that OpenCV can read"):
        Video.open(tmp_path / "text.mp4")
    with pytest.raises(DatasetError, match=r"gone\.mp4: no such video"):
        Video.open(tmp_path / "gone.mp4")
    with pytest.raises(DatasetError, match="camera 97: cannot be opened"):
        Video.open("97")
