"""The endpoints: the predictor's answers, the formats, who may ask, and the page's files."""

import re

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from invalid_images import animated_webp, turned_jpeg

from coupled_embedding.serve.app import create_app
from coupled_embedding.serve.web import PAGE
from coupled_embedding.visualize import person_color

POSES = "/api/poses"


def without_time(answer):
    return {name: value for name, value in answer.items() if name != "time"}


def expected_of(predictor, pixels, **options):
    return without_time(predictor(pixels).filtered(options.get("min_score", 0.0)).to_dict())


def encoded(pixels, ending, *options):
    return cv2.imencode(ending, pixels, list(options))[1].tobytes()


@pytest.mark.parametrize(
    "file", [(".jpg",), (".png",), (".bmp",), (".webp", cv2.IMWRITE_WEBP_QUALITY, 101)], ids=lambda file: file[0]
)
def test_an_image_as_body_or_form_gets_the_poses_of_the_predictor(client, predictor, images, file):
    content = encoded(cv2.imread(str(images[0])), *file)
    expected = expected_of(predictor, cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR))
    assert len(expected["predictions"]) > 0
    answers = [
        client.post(POSES, content=content),
        client.post(POSES, content=content, headers={"Content-Type": "text/plain"}),
        client.post(POSES, files={"file": ("any.name", content)}),
        client.post(POSES, files={"file": ("any.name", content)}, data={"note": "other fields are ignored"}),
    ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert without_time(answer.json()) == expected
        assert set(answer.json()["time"]) == {"load", "network", "decode"}


def test_people_below_a_score_are_left_out_on_demand(client, predictor, images):
    pixels = cv2.imread(str(images[0]))
    limit = float(np.median(predictor(pixels).scores))
    answer = client.post(POSES, params={"min_score": limit}, content=encoded(pixels, ".png"))
    expected = expected_of(predictor, pixels, min_score=limit)
    assert without_time(answer.json()) == expected
    assert 0 < len(expected["predictions"]) < len(predictor(pixels))


@pytest.mark.parametrize("value", ["much", "nan", "inf", "-1"])
def test_a_score_that_is_none_is_an_error(client, images, value):
    answer = client.post(POSES, params={"min_score": value}, content=images[0].read_bytes())
    assert answer.status_code == 422
    assert "min_score" in answer.json()["error"]


def test_images_are_turned_by_their_orientation_and_of_animations_the_first_is_read(client):
    assert client.post(POSES, content=turned_jpeg(6)).json()["image_size"] == [32, 40]
    assert client.post(POSES, content=animated_webp()).json()["image_size"] == [40, 32]


@pytest.mark.parametrize(("kind", "number"), [("heatmaps", 0), ("tags", 1)])
def test_maps_are_those_of_the_predictor(client, predictor, images, kind, number):
    answer = client.post(f"/api/{kind}", content=images[0].read_bytes())
    assert answer.headers["content-type"] == "image/jpeg"
    drawn = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR).astype(float)
    expected = [maps.astype(float) for maps in predictor.maps(images[0])]
    apart = [np.abs(drawn - maps).mean() for maps in expected]
    assert apart[number] < min(2, 0.9 * apart[1 - number])  # JPEG's loss


def test_the_model_is_described(client, predictor):
    model = client.get("/api/model").json()
    assert (model["name"], model["input_size"], model["heatmap_threshold"]) == ("tiny", 64, 0.0)
    assert model["joints"] == list(predictor.schema.joints)
    assert [tuple(pair) for pair in model["skeleton"]] == list(predictor.schema.skeleton)
    assert model["limits"] == {"bytes": 100_000, "pixels": 40_000}
    blue, green, red = person_color(3)
    assert model["person_colors"][3] == f"#{red:02x}{green:02x}{blue:02x}"


def test_the_endpoints_are_documented(client):
    paths = client.get("/api/openapi.json").json()["paths"]
    assert set(paths) == {"/api/model", POSES, "/api/heatmaps", "/api/tags"}
    documented = paths[POSES]["post"]
    assert set(documented["requestBody"]["content"]) == {"multipart/form-data", "image/*"}
    assert {"400", "403", "408", "413", "415", "422", "503"} <= set(documented["responses"])


# ---- who may ask


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9999"},
        {"Origin": "http://localhost.evil.example:8765"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_pages_of_other_sites_are_refused(client, images, headers):
    answer = client.post(POSES, content=images[0].read_bytes(), headers=headers)
    assert answer.status_code == 403
    assert "other sites" in answer.json()["error"]
    assert "access-control-allow-origin" not in answer.headers
    assert client.options(POSES, headers=headers).status_code == 405


def test_the_page_itself_and_programs_are_not_refused(client, images):
    content = images[0].read_bytes()
    own = {"Origin": "http://localhost:8765", "Sec-Fetch-Site": "same-origin"}
    assert client.post(POSES, content=content, headers=own).status_code == 200
    for host in ("127.0.0.1:8765", "[::1]:8765", "LOCALHOST"):
        assert client.post(POSES, content=content, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "[::1", "", "10.0.0.1"]
)
def test_other_names_that_lead_here_are_refused(client, predictor, images, host):
    for answer in (
        client.get("/", headers={"Host": host}),
        client.post(POSES, content=images[0].read_bytes(), headers={"Host": host}),
    ):
        assert answer.status_code == 403
        assert "localhost" in answer.json()["error"]
    anywhere = TestClient(create_app(predictor, hosts=()))
    assert anywhere.get("/api/model", headers={"Host": host}).status_code == 200


# ---- errors, and the page


def test_a_bug_is_answered_and_the_next_request_too(predictor, images, monkeypatch):
    client = TestClient(create_app(predictor, "tiny"), "http://localhost", raise_server_exceptions=False)
    with monkeypatch.context() as patch:
        patch.setattr(predictor.pipeline, "forward", lambda *_: 1 / 0)
        answer = client.post(POSES, content=images[0].read_bytes())
    assert answer.status_code == 500
    assert "terminal" in answer.json()["error"]
    assert "division" not in answer.text
    assert client.post(POSES, content=images[0].read_bytes()).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/api/none", 404), ("GET", POSES, 405), ("GET", "/../app.py", 404)]
)
def test_other_paths_and_methods_are_errors_in_json(client, method, path, status):
    answer = client.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


def test_the_page_comes_whole_from_this_server_and_may_load_nothing_else(client):
    page = client.get("/")
    texts = [page.text]
    for name in [*re.findall(r'(?:href|src)="([\w.]+\.(?:css|js))"', page.text), "drawing.js", "requests.js"]:
        file = client.get(f"/{name}")
        assert file.status_code == 200
        assert file.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; ")
        texts.append(file.text)
    assert len(texts) == len(list(PAGE.iterdir()))
    assert not [url for text in texts for url in re.findall(r"(?:https?:)?//[\w.]+\.\w+", text)]
    assert "<style" not in page.text
    assert not re.search(r"\son\w+=", page.text)
