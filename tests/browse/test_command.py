"""The verb browse: what it shows, where it listens, and its errors."""

import sys

import pytest
import uvicorn
from fastapi.testclient import TestClient


@pytest.fixture
def browse(tiny_crowd, monkeypatch, call_verb):
    """browse(option, ...): run the verb with a server that ends at once; return (printed, host, application)."""
    started = []
    monkeypatch.setattr(
        uvicorn.Server,
        "run",
        lambda self, sockets: started.extend((sockets[0].getsockname()[0], self.config.app)),
    )

    def run(*options, code=0):
        printed = call_verb("browse", "--port", "0", "--device", "cpu", *options, "DATASET.ROOT", tiny_crowd, code=code)
        return (printed, *(started or (None, None)))

    return run


def about(app) -> dict[str, object]:
    return TestClient(app, "http://localhost").get("/api/dataset").json()


def test_weights_alone_predict_their_own_data_set(browse, weights):
    printed, host, app = browse("--weights", weights, "--split", "val")
    assert host == "127.0.0.1"
    assert f"synthetic val · {weights}: 3 images at http://127.0.0.1:" in printed
    assert (about(app)["predictions"], about(app)["fields"]) == (True, True)


def test_truth_alone_needs_neither_weights_nor_results(browse, tiny_file):
    printed, _, app = browse("--cfg", tiny_file, "--split", "train")
    assert "synthetic train: 10 images" in printed
    assert (about(app)["predictions"], about(app)["fields"]) == (False, False)
    printed = browse("DATASET.SCHEMA", "datasets/synthetic.yaml", "DATASET.TEST", "val")[0]
    assert "synthetic val: 3 images" in printed


def test_results_need_no_network(browse, tiny_file, results):
    printed, _, app = browse("--cfg", tiny_file, "--results", results)
    assert f"synthetic test · {results}: 5 images" in printed
    assert (about(app)["predictions"], about(app)["fields"]) == (True, False)
    with TestClient(app, "http://localhost") as client:
        row = client.get("/api/images", params={"order": "id"}).json()["rows"][0]
        people = client.get(f"/api/images/{row['image_id']}/predictions").json()
    assert people[0]["verdict"] == "matched"


def test_results_with_weights_are_shown_with_the_networks_fields(browse, weights, results):
    app = browse("--weights", weights, "--results", results)[2]
    assert (about(app)["predictions"], about(app)["fields"]) == (True, True)
    with TestClient(app, "http://localhost") as client:
        first = client.get("/api/images", params={"order": "id"}).json()["rows"][0]["image_id"]
        scores = [person["score"] for person in client.get(f"/api/images/{first}/predictions").json()]
    assert min(scores) == 0.25  # of the file


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ((), "give --cfg, --weights, or DATASET.SCHEMA FILE"),
        (("--cfg", "none.yaml"), "none.yaml"),
        (("--weights", "none.pth"), "none.pth"),
        (("DATASET.SCHEMA", "datasets/synthetic.yaml", "DATASET.TEST", "moon"), "moon"),
        (
            ("--results", "none.json", "--split", "val", "DATASET.SCHEMA", "datasets/synthetic.yaml"),
            "none.json: no such results file",
        ),
    ],
)
def test_mistakes_are_reported_in_a_line(browse, options, text):
    printed = browse(*options, code=2)[0]
    assert text in printed
    assert "Traceback" not in printed


def test_packages_that_are_missing_are_named(browse, tiny_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    printed = browse("--cfg", tiny_file, code=2)[0]
    assert "browse needs the package uvicorn: pip install 'coupled-embedding[serve]'" in printed
