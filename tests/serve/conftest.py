"""A tiny predictor behind the application: called in this process, or by a real server in a thread."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import web
from fastapi.testclient import TestClient
from runs import untrained_checkpoint

from coupled_embedding.predictor import Predictor
from coupled_embedding.serve.app import create_app
from coupled_embedding.serve.uploads import Limits

browser, serving = web.browser, web.serving


@pytest.fixture
def weights(tiny, tmp_path: Path) -> Path:
    return untrained_checkpoint(tiny("untrained"), tmp_path / "untrained.pth")


@pytest.fixture
def predictor(weights: Path) -> Predictor:
    # untrained networks find nothing that is likely
    return Predictor.from_pretrained(weights, heatmap_threshold=0.0)


@pytest.fixture
def images(tiny_crowd: Path) -> list[Path]:
    return sorted((tiny_crowd / "images").iterdir())


@pytest.fixture
def client(predictor: Predictor) -> Iterator[TestClient]:
    """A client of an application that takes 100 kB and 40,000 pixels."""
    app = create_app(predictor, "tiny", Limits(bytes=100_000, pixels=40_000))
    with TestClient(app, "http://localhost:8765") as client:
        yield client
