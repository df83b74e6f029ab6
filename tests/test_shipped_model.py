"""The shipped model: it is the file that its card describes, and scores what the card says."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from coupled_embedding.builders import assemble_eval_job, load_model
from coupled_embedding.config import override
from coupled_embedding.data.coco import load_records
from coupled_embedding.data.schema import load_schema
from coupled_embedding.engine.evaluate import evaluate
from coupled_embedding.networks.model_file import DEFAULT_MODEL, find_model
from coupled_embedding.predictor import Predictor
from coupled_embedding.utils.distributed import DistEnv


@pytest.fixture(scope="module")
def card(checkout: Path) -> dict[str, Any]:
    """The fields at the top of the model's card."""
    text = (checkout / f"models/{DEFAULT_MODEL}.md").read_text(encoding="utf-8")
    return yaml.safe_load(text.split("---\n")[1])


def test_the_file_is_the_cards(card: dict[str, Any]) -> None:
    content = find_model(DEFAULT_MODEL).read_bytes()
    assert hashlib.sha256(content).hexdigest() == card["sha256"]
    assert len(content) <= 15e6
    model = load_model(DEFAULT_MODEL)
    assert sum(parameter.numel() for parameter in model.network.parameters()) == card["parameters"]
    assert model.schema.joints == load_schema("datasets/coco.yaml").joints
    assert "Apache" in model.license


@pytest.mark.photos
@pytest.mark.slow
def test_it_scores_what_the_card_says(card: dict[str, Any], images_dir: Path) -> None:
    model = load_model(DEFAULT_MODEL)
    result = min(card["results"], key=lambda entry: entry["size"])
    options = ["DATASET.ROOT", str(images_dir / "coco"), "DATASET.INPUT_SIZE", str(result["size"]), "TEST.WORKERS", "0"]
    options += ["TEST.SCALES", str([float(scale) for scale in result["scales"]])]
    cfg = override(model.cfg, [*options, "DATASET.SCHEMA", "datasets/coco.yaml", "DATASET.MIX", "[]"])
    schema = load_schema("datasets/coco.yaml")
    records = load_records(schema, "val2017", str(images_dir / "coco"))
    job = assemble_eval_job(cfg, model.network, schema, "val2017", records)
    scores = evaluate(job, DistEnv(0, 1, torch.device("cpu"))).scores
    assert scores is not None
    assert scores.values["AP"] == pytest.approx(result["AP"] / 100, abs=0.01)


@pytest.mark.photos
def test_it_is_the_default_of_the_predictor(images_dir: Path) -> None:
    image = sorted((images_dir / "coco/val2017").glob("*.jpg"))[0]
    predictor = Predictor.from_pretrained()
    assert predictor.schema.num_joints == 17
    assert len(predictor(image).xy.shape) == 3
