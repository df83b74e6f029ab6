import cv2
import numpy as np
import pytest

from coupled_embedding.utils.errors import UserError
from coupled_embedding.visualize import contact_sheet, save_image, side_by_side


def plain(height, width, value=90):
    return np.full((height, width, 3), value, np.uint8)


def test_small_images_are_upsampled_to_a_readable_height():
    joined = side_by_side([plain(192, 192), plain(96, 192)], ["image", "result"])
    assert joined.shape[1] == 384 + 8 + 768
    assert joined.shape[0] > 384 + 15
    assert (joined[:384, :384] == 90).all()
    assert (joined[384:, :384] < 100).any()


def test_a_height_can_be_chosen():
    joined = side_by_side([plain(480, 640)], ["image"], height=240)
    assert joined.shape[1] == 320
    assert (joined[239] == 90).all()
    assert (joined[240] == 255).all()


@pytest.mark.parametrize("label", ["", "a " * 300, "übung 東京", "one_word_that_is_wider_than_its_image"])
def test_any_caption_fits(label):
    joined = side_by_side([plain(100, 30)], [label], height=200)
    assert joined.shape[1] == 60


@pytest.mark.parametrize(("images", "labels"), [([], []), ([plain(5, 5)], []), ([plain(5, 5)], ["a", "b"])])
def test_labels_must_match_the_images(images, labels):
    with pytest.raises(ValueError, match="label"):
        side_by_side(images, labels)


def test_a_contact_sheet_keeps_ratios_and_centers():
    sheet = contact_sheet([plain(10, 40), plain(40, 10), plain(30, 30)], 2, cell=(60, 60))
    assert sheet.shape == (128, 128, 3)
    assert (sheet[30, :60] == 90).all()
    assert (sheet[5, :60] == 255).all()
    assert (sheet[:60, 98] == 90).all()
    assert (sheet[68:, :60] == 90).all()
    assert (sheet[68:, 68:] == 255).all()


def test_a_contact_sheet_is_no_wider_than_its_images():
    assert contact_sheet([plain(1, 1)], 5, cell=(20, 10)).shape == (10, 20, 3)


@pytest.mark.parametrize(("images", "columns", "cell"), [([], 1, (5, 5)), ([plain(5, 5)], 0, (5, 5))])
def test_impossible_sheets_are_refused(images, columns, cell):
    with pytest.raises(ValueError, match="columns"):
        contact_sheet(images, columns, cell)


@pytest.mark.parametrize("name", ["a.png", "Übung 東京.PNG", "b.jpg", "c.jpeg"])
def test_saved_images_can_be_read_again(tmp_path, name):
    path = tmp_path / name
    save_image(path, plain(8, 9))
    read = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_allclose(read.astype(int), 90, atol=2)
    assert read.shape == (8, 9, 3)


@pytest.mark.parametrize("name", ["a.gif", "a", "folder.png", "file/a.jpg"])
def test_errors_name_the_path(tmp_path, name):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=name):
        save_image(tmp_path / name, plain(8, 9))


def test_an_image_too_large_for_its_format_is_an_error(tmp_path):
    with pytest.raises(UserError, match="wide"):
        save_image(tmp_path / "wide.jpg", plain(1, 70000))


def test_missing_folders_are_made(tmp_path):
    save_image(tmp_path / "new" / "folder" / "a.png", np.zeros((2, 3, 3), np.uint8))
    assert cv2.imread(str(tmp_path / "new" / "folder" / "a.png")).shape == (2, 3, 3)
