"""What a file says of itself, and that no cut of a file goes unnoticed."""

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from invalid_images import animated_gif, animated_png, animated_webp, encoded, smooth_image, turned_jpeg

from coupled_embedding.data.images import read_image
from coupled_embedding.data.io.headers import read_header
from coupled_embedding.utils.errors import DatasetError

pytestmark = pytest.mark.bad_input

FILES = {
    "jpeg": encoded(".jpg"),
    "progressive": encoded(".jpg", None, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "turned": turned_jpeg(),
    "png": encoded(".png"),
    "webp": encoded(".webp", None, cv2.IMWRITE_WEBP_QUALITY, 80),
    "lossless webp": encoded(".webp", None, cv2.IMWRITE_WEBP_QUALITY, 101),
    "animated webp": animated_webp(),
    "animated png": animated_png(),
    "gif": animated_gif(),
    "bmp": encoded(".bmp"),
}


@pytest.mark.parametrize("name", FILES)
def test_the_size_is_that_of_the_decoded_image(name):
    (path_size,) = {read_header(FILES[name]).size}
    assert path_size == {"animated png": (3, 2), "gif": (2, 2)}.get(name, (40, 32))
    assert read_header(FILES[name]).is_jpeg == (name in ("jpeg", "progressive", "turned"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cut")


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("gif", "bmp")])
@given(data=st.data())
def test_no_cut_goes_unnoticed(folder, name, data):
    content = FILES[name]
    path = folder / "cut"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(DatasetError, match=r"cut: (the file ends before its image data does|not an image)"):
        read_image(path)


@given(content=st.binary(max_size=60), start=st.sampled_from([b"", b"\xff\xd8", b"GIF89a", b"BM", b"RIFF....WEBPVP8X"]))
def test_any_bytes_have_a_header_or_none(content, start):
    header = read_header(start + content)
    assert header.size is None or min(header.size) >= 0


def test_a_bitmap_whose_rows_go_down_has_a_positive_height():
    content = bytearray(encoded(".bmp", smooth_image()))
    content[22:26] = (-32).to_bytes(4, "little", signed=True)
    assert read_header(bytes(content)).size == (40, 32)
