"""The endpoints: lists, images and fields; who may ask; and what cannot be asked for."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from coupled_embedding.browse.app import LONGEST, create_app
from coupled_embedding.browse.collection import Collection
from coupled_embedding.predictor import Predictor

HOST = "http://localhost:8766"


def client_of(collection, network=None, hosts=("localhost", "127.0.0.1", "::1")) -> TestClient:
    return TestClient(create_app(collection, "tiny", network, hosts), HOST)


@pytest.fixture
def client(known):
    with client_of(known) as client:
        yield client


def decoded(answer) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/jpeg"
    return cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)


def ids(client, **query) -> list[int]:
    return [row["image_id"] for row in client.get("/api/images", params=query).json()["rows"]]


def test_the_list_is_sorted_and_filtered(client, known):
    figures = known.figures
    assert ids(client, order="id") == sorted(figures)
    assert ids(client) == sorted(figures, key=lambda i: (figures[i].oks, i))
    limit = sorted(image.crowd_index for image in figures.values())[2]
    assert ids(client, order="id", max_crowd=limit) == sorted(i for i in figures if figures[i].crowd_index <= limit)
    assert ids(client, min_people=99) == []


def test_the_list_comes_in_parts_and_the_part_around_an_image(client, known):
    every = sorted(known.figures)
    part = client.get("/api/images", params={"order": "id", "limit": 2, "offset": 2}).json()
    assert ([row["image_id"] for row in part["rows"]], part["offset"], part["matching"]) == (every[2:4], 2, 5)
    part = client.get("/api/images", params={"order": "id", "limit": 2, "around": every[4]}).json()
    assert ([row["image_id"] for row in part["rows"]], part["offset"]) == (every[4:], 4)
    assert client.get("/api/images", params={"around": 0, "limit": 1}).json()["offset"] == 0


def test_an_image_has_its_people_and_their_errors(client, known):
    for image_id in known.records:
        assert client.get(f"/api/images/{image_id}").json() == known.describe(image_id)
        assert client.get(f"/api/images/{image_id}/predictions").json() == known.describe_predictions(image_id)


def test_all_images_are_predicted_while_the_server_runs_and_those_asked_for_at_once(collection, network):
    with client_of(collection(network), network) as client:
        for image_id in reversed(network._records):
            assert client.get(f"/api/images/{image_id}/predictions").status_code == 200
        assert client.get("/api/progress").json()["predicted"] == 5
    # without a single request, too: the server ends after what it had begun
    found = collection(network)
    with client_of(found, network) as client:
        first = next(iter(network._records))
        client.get(f"/api/images/{first}/heatmaps")  # waits behind the first batch
        assert client.get("/api/progress").json()["predicted"] > 0


def test_heatmaps_and_tags_are_those_of_the_predictor(collection, network, weights):
    predictor, found = Predictor.from_pretrained(weights), collection()
    image_id, record = next(iter(found.records.items()))
    with client_of(found, network) as client:
        joint = predictor.schema.joints[3]
        fields = predictor.fields(record.path)
        for kind, draw in (("heatmaps", fields.draw_heatmaps), ("tags", fields.draw_tags)):
            for number, query in ((None, ""), (3, f"?joint={joint}")):
                drawn = decoded(client.get(f"/api/images/{image_id}/{kind}{query}"))
                assert np.abs(drawn.astype(float) - draw(number)).mean() < 2  # JPEG's loss
    assert np.abs(fields.draw_heatmaps().astype(float) - fields.draw_heatmaps(3)).mean() > 0


def test_an_image_is_run_through_the_network_once_for_all_its_joints(collection, network, monkeypatch):
    runs, forward = [], network._pipeline.forward
    monkeypatch.setattr(network._pipeline, "forward", lambda *given: runs.append(1) or forward(*given))
    found = collection()
    with client_of(found, network) as client:
        for query in ("heatmaps", "tags", f"tags?joint={found.schema.joints[0]}"):
            assert client.get(f"/api/images/{next(iter(found.records))}/{query}").status_code == 200
    assert len(runs) == 1


@pytest.mark.parametrize(
    ("size", "sent"),
    [((3200, 800), (LONGEST, 400)), ((33, 4000), (13, LONGEST)), ((96, 96), (96, 96)), ((7, 5), (7, 5))],
)
def test_large_images_are_sent_smaller_and_none_enlarged(truth, schema, collection, tmp_path, size, sent):
    gray = np.linspace(0, 255, size[0] * size[1]).reshape(size[1], size[0]).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "one.jpg"), np.dstack([gray] * 3))
    record = next(iter(collection().records.values()))
    record = replace(record, path=tmp_path / "one.jpg", width=size[0], height=size[1])
    with client_of(Collection([record], truth, schema)) as client:
        pixels = decoded(client.get(f"/api/images/{record.image_id}/pixels"))
    assert pixels.shape[1::-1] == sent
    assert pixels.mean() == pytest.approx(127, abs=4)


def test_truth_alone_has_neither_predictions_nor_fields(collection):
    found = collection()
    with client_of(found) as client:
        about = client.get("/api/dataset").json()
        assert (about["predictions"], about["fields"], about["annotated"]) == (False, False, True)
        path = f"/api/images/{next(iter(found.records))}"
        assert client.get(path).json()["truth"]
        answers = [client.get(f"{path}/predictions"), client.get(f"{path}/tags")]
        assert [answer.status_code for answer in answers] == [422, 404]
        assert "give weights or results" in answers[0].json()["error"]
        assert "--weights" in answers[1].json()["error"]


# ---- what cannot be asked for


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/images/7", 404),
        ("/api/images/7/pixels", 404),
        ("/api/images/../../setup.py", 404),
        ("/api/images/..%2f..%2fsetup.py/pixels", 404),
        ("/api/images/1e3/pixels", 422),
        ("/..%2fapp.py", 404),
        ("/app.py", 404),
        ("/api/images?order=best", 422),
        ("/api/images?limit=100000", 422),
        ("/api/images?offset=-1", 422),
        ("/api/images?min_oks=nan", 422),
    ],
)
def test_other_things_are_errors_in_json(client, path, status):
    answer = client.get(path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


def test_joints_and_kinds_that_do_not_exist(collection, network):
    found = collection()
    path = f"/api/images/{next(iter(found.records))}"
    with client_of(found, network) as client:
        assert "joint: expected one of" in client.get(f"{path}/tags?joint=tail").json()["error"]
        assert client.get(f"{path}/weights").status_code == 404


@pytest.mark.bad_input
def test_an_image_that_cannot_be_read_is_an_error_of_its_own(truth, schema, collection, tmp_path):
    (tmp_path / "bad.jpg").write_text("no image")
    first, second = list(collection().records.values())[:2]
    with client_of(Collection([replace(first, path=tmp_path / "bad.jpg"), second], truth, schema)) as client:
        answer = client.get(f"/api/images/{first.image_id}/pixels")
        assert answer.status_code == 422
        assert "not an image" in answer.json()["error"]
        assert client.get(f"/api/images/{second.image_id}/pixels").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://evil.example"}],
    ids=str,
)
def test_pages_of_other_sites_cannot_even_show_an_image(client, known, headers):
    for path in ("/api/images", f"/api/images/{next(iter(known.records))}/pixels", "/browse.js"):
        assert client.get(path, headers=headers).status_code == 403
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200  # a link to the page
    own = {"Sec-Fetch-Site": "same-origin", "Origin": HOST}
    assert client.get("/api/images", headers=own).status_code == 200
    assert client.get("/api/images", headers={"Host": "evil.example"}).status_code == 403
