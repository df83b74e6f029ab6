"""The verb fit-proposals on a detections file, and the option that takes what it writes."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from coupled_embedding.builders import build_records, build_schema, build_train_dataset
from coupled_embedding.config import load_config
from coupled_embedding.data.coco import load_records
from coupled_embedding.data.dataset import SampleKey
from coupled_embedding.data.fit_proposals import load_proposals
from coupled_embedding.data.schema import load_schema
from coupled_embedding.utils.errors import ConfigError

SCHEMA_FILE = "datasets/synthetic.yaml"
Call = Callable[..., str]


@pytest.fixture
def detections(tiny_crowd: Path, tmp_path: Path) -> Path:
    """Boxes of the training split, a tenth too wide to the left."""
    found = []
    for record in load_records(load_schema(SCHEMA_FILE), "train", str(tiny_crowd)):
        for x, y, width, height in record.boxes.astype(float):
            box = [x - 0.1 * width, y, 1.1 * width, height]
            found.append({"image_id": record.image_id, "category_id": 1, "bbox": box, "score": 0.9})
    path = tmp_path / "detections.json"
    path.write_text(json.dumps(found))
    return path


def test_a_fit_is_what_the_option_takes(call_verb: Call, detections: Path, tiny_crowd: Path, tmp_path: Path) -> None:
    out, root = tmp_path / "proposals.json", ["DATASET.ROOT", tiny_crowd]
    words = ["fit-proposals", detections, "--split", "train", "--clusters", "2", "--parts", "1", "--out", out]
    words += ["--schema", SCHEMA_FILE, "--options", *root]
    printed = call_verb(*words)
    assert "detected boxes are paired with an annotated one" in printed
    assert "mean -0.1" in printed
    schema = load_schema(SCHEMA_FILE)
    proposals = load_proposals(str(out), schema.joints)
    rng = np.random.default_rng(0)
    boxes = np.array([proposals.propose(rng, (100, 0, 50, 80), np.zeros((14, 3))) for _ in range(50)])
    assert np.median(boxes[:, 0]) == pytest.approx(95, abs=1)
    assert "exists; delete it first" in call_verb(*words, code=2)


def test_a_split_of_reported_results_is_refused(call_verb: Call, detections: Path, tiny_crowd: Path, tmp_path: Path):
    words = ["fit-proposals", detections, "--out", tmp_path / "out.json", "--schema", SCHEMA_FILE]
    assert "--split: which one of train, val, test?" in call_verb(*words, code=2)
    printed = call_verb(*words, "--split", "test", "--options", "DATASET.ROOT", tiny_crowd, code=2)
    assert "--split: boxes fitted to 'test', which results of synthetic are reported on, flatter them" in printed
    printed = call_verb(*words, "--split", "train", "--options", "DATASET.ROOT", tiny_crowd, "--clusters", "0", code=2)
    assert "expected a number from 1 on" in printed


def test_the_option_varies_the_crops_of_a_training(tiny: Callable) -> None:
    def joints(*options: str) -> np.ndarray:
        cfg = tiny("crops", "DATASET.CROPS", "people", "AUGMENT.SCALE", "[1, 1]", "AUGMENT.ROTATION", "0", *options)
        schema = build_schema(cfg)
        data = build_train_dataset(cfg, build_records(cfg, schema, "train"), schema, (4,))
        return np.array([data.sample(SampleKey(0, image, 1)).joints[0][0] for image in range(6)])

    still = ("AUGMENT.TRANSLATE", "0", "AUGMENT.FLIP", "0")
    plain, varied = joints(*still), joints(*still, "AUGMENT.PROPOSALS", "released")
    assert np.array_equal(plain[..., 2], varied[..., 2])
    labelled = plain[..., 2] > 0
    apart = np.abs(plain - varied)[..., :2][labelled]
    assert 0.05 < apart.mean() < 8
    assert np.array_equal(varied, joints(*still, "AUGMENT.PROPOSALS", "released"))


def test_whole_images_have_no_proposals() -> None:
    with pytest.raises(ConfigError, match=r"AUGMENT\.PROPOSALS: needs DATASET\.CROPS people"):
        load_config(None, ["AUGMENT.PROPOSALS", "released"])
