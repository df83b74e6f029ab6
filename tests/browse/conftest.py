"""A tiny crowd with an untrained network, and with results that are known to be wrong in known ways."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import web
from runs import eval_job, untrained_checkpoint

from coupled_embedding.browse.collection import Collection
from coupled_embedding.browse.predictions import FilePredictions, NetworkPredictions, Predictions
from coupled_embedding.data.coco import load_records
from coupled_embedding.data.schema import KeypointSchema, load_schema
from coupled_embedding.engine.evaluate import EvalJob
from coupled_embedding.evaluation import GroundTruth, load_ground_truth

browser, serving = web.browser, web.serving


@pytest.fixture
def weights(tiny, tmp_path: Path) -> Path:
    return untrained_checkpoint(tiny("untrained"), tmp_path / "untrained.pth")


@pytest.fixture
def job(weights) -> EvalJob:
    # untrained networks find nothing that is likely
    return eval_job(weights, "TEST.HEATMAP_THRESHOLD", "0")


@pytest.fixture
def network(job) -> NetworkPredictions:
    return NetworkPredictions(job)


@pytest.fixture
def schema() -> KeypointSchema:
    return load_schema("datasets/synthetic.yaml")


@pytest.fixture
def truth(tiny_crowd, schema) -> GroundTruth:
    return load_ground_truth(tiny_crowd / "json/synthetic_test.json", schema)


@pytest.fixture
def collection(tiny_crowd, schema, truth) -> Callable[..., Collection]:
    """collection(predictions): that of the tiny crowd's five test images."""

    def build(predictions: Predictions | None = None) -> Collection:
        return Collection(load_records(schema, "test", str(tiny_crowd)), truth, schema, predictions)

    return build


@pytest.fixture
def results(truth, schema, tmp_path) -> Path:
    """Results of the annotated people with joints moved, sides exchanged, people left out, and somebody nowhere."""
    random, entries = np.random.default_rng(3), []
    for row, (image_id, keypoints) in enumerate(zip(truth.image_ids, truth.keypoints, strict=True)):
        joints = keypoints.reshape(-1, 3).copy()
        joints[:, :2] += random.normal(0, 0.05 * np.sqrt(truth.areas[row]), (len(joints), 1))
        if row % 3 == 0:
            joints = joints[list(schema.flip_index)]
        joints[:, 2] = random.uniform(0.2, 1, len(joints))
        for score in (0.9 - 0.01 * row, 0.3) if row % 4 == 0 else (0.8 - 0.01 * row,) * (row % 5 > 0):
            entries.append(
                {"image_id": image_id, "category_id": 1, "keypoints": joints.ravel().tolist(), "score": score}
            )
    nowhere = np.tile([2.0, 3.0, 0.5], schema.num_joints).tolist()
    entries += [{"image_id": i, "category_id": 1, "keypoints": nowhere, "score": 0.25} for i in truth.images]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(entries))
    return path


@pytest.fixture
def known(collection, results, truth, schema) -> Collection:
    """The crowd with these results, all of them analyzed."""
    found = collection(FilePredictions(results, truth, schema))
    while found.predict_next():
        pass
    return found
