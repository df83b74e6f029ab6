"""Uploads that are no images, damaged, too large or too slow get a 4xx status and a reason; the server stays alive."""

import socket
from urllib.parse import urlsplit

import cv2
import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from invalid_images import animated_gif, encoded, png

from coupled_embedding.serve.app import create_app
from coupled_embedding.serve.uploads import Limits

pytestmark = pytest.mark.bad_input
POSES = "/api/poses"
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>1</script></svg>'
WIDE = cv2.imencode(".png", np.zeros((8, 900, 3), np.uint8))[1].tobytes()

# content of a file -> status, and what the error says
FILES = {
    "empty": (b"", 400, "empty"),
    "text": (b"<html>404 not found</html>", 415, "not a JPEG"),
    "json": (b'{"url": "http://127.0.0.1/"}', 415, "not a JPEG"),
    "svg": (SVG, 415, "not a JPEG"),
    "gif": (animated_gif(), 415, "not a JPEG"),
    "tiff": (encoded(".tiff"), 415, "not a JPEG"),
    "wave_sound": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(28), 415, "not a JPEG"),
    "first_bytes_of_a_png": (png(9, 9)[:12], 415, "not a JPEG"),
    "cut_jpeg": (encoded(".jpg")[: len(encoded(".jpg")) * 4 // 5], 422, "ends before its image data"),
    "cut_png": (encoded(".png")[:-40], 422, "ends before its image data"),
    "cut_bmp": (encoded(".bmp")[:2000], 422, "not an image"),
    "noise_after_a_png_header": (encoded(".png")[:33] + bytes(range(256)) * 4, 422, "image"),
    "no_pixels": (png(0, 0), 422, "not an image"),
    "bomb": (png(30_000, 30_000), 413, "30000×30000 pixels; at most 0.04 megapixels"),
    "largest_size": (png(2**32 - 1, 2**32 - 1), 413, "4294967295×4294967295 pixels"),
    "too_long": (WIDE, 422, "900×8 pixels"),
    "too_many_bytes": (encoded(".jpg") + bytes(100_001), 413, "larger than 0.1 MB"),
}


@pytest.fixture
def is_alive(client, images):
    """Whether a good image still gets poses, and no request holds its place in the queue."""
    return lambda: (
        client.post(POSES, content=images[0].read_bytes()).status_code == 200 and client.app.state.desk.waiting == 0
    )


@pytest.mark.parametrize("path", [POSES, "/api/heatmaps"])
@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_image(client, is_alive, name, path):
    content, status, reason = FILES[name]
    answer = client.post(path, content=content, headers={"Content-Type": "image/jpeg"})
    assert answer.status_code == status, answer.text
    assert reason in answer.json()["error"]
    in_form = client.post(path, files={"file": ("image.jpg", content, "image/jpeg")})
    assert (in_form.status_code, in_form.json()["error"]) == (status, answer.json()["error"])
    assert is_alive()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([".jpg", ".png", ".bmp", ".webp"]),
    st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=8)), max_size=4),
    st.integers(0, 5000),
)
def test_damaged_files_are_never_the_servers_fault(client, ending, changes, length):
    content = bytearray(encoded(ending)[:length] if length < 500 else encoded(ending))
    for place, patch in changes:
        content[place : place + len(patch)] = patch
    answer = client.post(POSES, content=bytes(content))
    assert answer.status_code in (200, 400, 413, 415, 422), answer.text
    assert ("error" in answer.json()) == (answer.status_code != 200)


def form(*parts, boundary="x", end="--"):
    return b"".join(f"--{boundary}\r\n{part}\r\n".encode() for part in parts) + f"--{boundary}{end}\r\n".encode()


FILE = 'Content-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\nabc'
TYPE = "multipart/form-data; boundary=x"
FORMS = {
    "no_boundary": ("multipart/form-data", form(FILE)),
    "another_boundary": ("multipart/form-data; boundary=y", form(FILE)),
    "long_boundary": (f"multipart/form-data; boundary={'x' * 5000}", form(FILE)),
    "no_charset": (TYPE + "; charset=base64", form('Content-Disposition: form-data; name="note"\r\n\r\n\xff')),
    "another_multipart": ("multipart/mixed", b"--"),
    "empty": (TYPE, b""),
    "no_file": (TYPE, form('Content-Disposition: form-data; name="note"\r\n\r\nabc')),
    "two_files": (TYPE, form(FILE, FILE)),
    "many_fields": (TYPE, form(*['Content-Disposition: form-data; name="note"\r\n\r\nabc'] * 50)),
    "large_field": (TYPE, form('Content-Disposition: form-data; name="note"\r\n\r\n' + "abc" * 30_000)),
    "no_name": (TYPE, form('Content-Disposition: form-data; filename="a.jpg"\r\n\r\nabc')),
    "no_header": (TYPE, form("\r\nabc")),
    "cut_in_its_file": (TYPE, form(FILE)[:-8]),
    "cut_in_its_header": (TYPE, form(FILE)[:20]),
    "no_form": (TYPE, encoded(".jpg")),
}


@pytest.mark.parametrize("name", FORMS)
def test_malformed_forms(client, is_alive, name):
    kind, body = FORMS[name]
    answer = client.post(POSES, content=body, headers={"Content-Type": kind})
    assert answer.status_code == 400, answer.text
    assert "form" in answer.json()["error"]
    assert is_alive()


def test_a_body_without_a_length_is_read_up_to_the_limit_alone(client, is_alive):
    sent = []

    def endless():
        for number in range(1000):
            sent.append(number)
            yield bytes(10_000)

    answer = client.post(POSES, content=endless())
    assert answer.status_code == 413
    assert is_alive()
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    assert client.post(POSES, content=endless(), headers=kind).status_code == 413


# ---- over real connections


def exchange(url: str, request: bytes) -> bytes:
    """Send bytes to a server; return all that it answers until it closes the connection."""
    with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=20) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


HEAD = b"POST /api/poses HTTP/1.1\r\nHost: localhost\r\n"


def test_a_slow_upload_is_ended(predictor, images, serving):
    with serving(create_app(predictor, limits=Limits(receive_seconds=0.2))) as url:
        answer = exchange(url, HEAD + b"Content-Length: 1000\r\n\r\nonly this")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"longer than 0.2 s" in answer
        assert httpx.post(f"{url}api/poses", content=images[0].read_bytes()).status_code == 200


def test_an_upload_that_is_too_large_is_answered_before_the_connection_ends(predictor, images, serving):
    with serving(create_app(predictor, limits=Limits(bytes=100_000))) as url:
        answer = httpx.post(f"{url}api/poses", content=bytes(350_000))
        assert (answer.status_code, "0.1 MB" in answer.json()["error"]) == (413, True)
        assert httpx.post(f"{url}api/poses", content=images[0].read_bytes()).status_code == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00" + bytes(64),  # TLS
        b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        HEAD + b"Content-Length: -5\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nno chunk\r\n",
    ],
    ids=["tls", "long_header", "negative_length", "two_lengths", "endless_length", "no_chunks"],
)
def test_requests_that_are_no_http_do_not_stop_the_server(predictor, images, serving, request_bytes):
    with serving(create_app(predictor, limits=Limits(receive_seconds=1))) as url:
        assert exchange(url, request_bytes)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 413", b"")
        assert httpx.post(f"{url}api/poses", content=images[0].read_bytes()).status_code == 200
