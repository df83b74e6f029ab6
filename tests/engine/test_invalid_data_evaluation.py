"""Evaluation on invalid images: ``raise`` stops; ``skip`` counts them without detections and changes nothing else."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from runs import CPU, eval_job, untrained_checkpoint

from coupled_embedding.data import test_dataset as inputs
from coupled_embedding.data.io.data_errors import DataError, DataErrorPolicy
from coupled_embedding.engine.evaluate import EvalJob, EvalResult, evaluate
from coupled_embedding.predictor import Predictor
from coupled_embedding.utils.errors import DatasetError

pytestmark = pytest.mark.bad_input


@pytest.fixture
def weights(tiny, tmp_path: Path) -> Path:
    return untrained_checkpoint(tiny("untrained"), tmp_path / "untrained.pth")


@pytest.fixture
def root(tiny_crowd: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_crowd, tmp_path / "broken"))


def evaluated(weights: Path, root: Path, *options: str) -> tuple[EvalJob, EvalResult]:
    # a threshold that an untrained network's heatmaps exceed
    job = eval_job(weights, "DATASET.ROOT", str(root), "TEST.HEATMAP_THRESHOLD", "0.0001", *options)
    return job, evaluate(job, CPU)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_broken_image_has_no_detections_and_the_others_keep_theirs(weights, root, workers):
    job, valid = evaluated(weights, root, "TEST.WORKERS", workers)
    image = job.records[2]
    assert valid.poses[image.image_id]
    image.path.write_bytes(image.path.read_bytes()[:-40])
    with pytest.raises(DatasetError, match=rf"{image.path.name}: the file ends .*DATASET\.ON_INVALID skip"):
        evaluated(weights, root, "TEST.WORKERS", workers)
    job, broken = evaluated(weights, root, "TEST.WORKERS", workers, "DATASET.ON_INVALID", "skip")
    assert broken.poses[image.image_id] == []
    for image_id in set(valid.poses) - {image.image_id}:
        pairs = zip(valid.poses[image_id], broken.poses[image_id], strict=True)
        assert all(np.array_equal(a.keypoints, b.keypoints) for a, b in pairs)
    assert job.policy.unreadable == {image.image_id}
    assert broken.scores is not None


def test_all_images_broken_is_a_score_of_no_detections(weights, root):
    for path in (root / "images").iterdir():
        path.write_bytes(b"")
    job, result = evaluated(weights, root, "DATASET.ON_INVALID", "skip")
    assert result.scores is not None
    assert (result.scores.main, result.results) == (0, [])
    assert len(job.policy.issues) == len(job.records)


def change(root: Path, kind: str, **changes) -> None:
    path = root / "json/synthetic_test.json"
    content = json.loads(path.read_text())
    content[kind][0].update(changes)
    path.write_text(json.dumps(content))


def test_a_image_too_long_for_the_network_is_left_out_before_its_batch(weights, root):
    change(root, "images", width=20_000, height=20)
    with pytest.raises(DatasetError, match=r"the image is 20000×20 pixels; testing takes images up to 32 times"):
        evaluated(weights, root)
    job, result = evaluated(weights, root, "DATASET.ON_INVALID", "skip")
    assert result.poses[job.records[0].image_id] == []
    assert len(job.policy.issues) == 1


def test_the_predictor_refuses_what_would_fill_the_memory(weights):
    predictor = Predictor.from_pretrained(weights)
    with pytest.raises(DatasetError, match="image: the image is 4000×100 pixels"):
        predictor(np.zeros((100, 4000, 3), np.uint8))


# changes of the first annotation -> field; the score's own reader lets all but the first pass
MENDED = {
    "a box of three": ({"bbox": [1, 2, 3]}, "bbox"),
    "a box of a negative side": ({"bbox": [50, 50, -9, 20]}, "bbox"),
    "a label of 3": ({"keypoints": [1, 2, 3] * 14}, "keypoints"),
    "an unknown image": ({"image_id": 5}, "image_id"),
    "another annotation's id": ({"id": None}, "id"),
}


@pytest.mark.parametrize("policy", ["auto", "skip"])
@pytest.mark.parametrize("name", MENDED)
def test_scores_are_never_those_of_mended_annotations(weights, root, policy, name):
    changes, field = MENDED[name]
    if name == "another annotation's id":
        changes = {"id": json.loads((root / "json/synthetic_test.json").read_text())["annotations"][1]["id"]}
    change(root, "annotations", **changes)
    with pytest.raises(DataError, match=r"synthetic_test\.json: annotation \d+ of image \d+: ") as raised:
        evaluated(weights, root, "DATASET.ON_INVALID", policy)
    assert raised.value.issue.field == field


@pytest.mark.parametrize("policy", ["auto", "skip"])
def test_a_broken_image_entry_is_one_of_a_broken_annotation_file(weights, root, policy):
    change(root, "images", file_name="../../elsewhere.jpg")
    with pytest.raises(DatasetError, match=r"leaves the data set's folder .*annotations that are scored"):
        evaluated(weights, root, "DATASET.ON_INVALID", policy)


def test_a_killed_loader_process_names_the_image(weights, root, monkeypatch):
    real = inputs.read_image_for_warp

    def deadly(record, shrink):
        if record.path.name == name:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(record, shrink)

    name = eval_job(weights).records[3].path.name
    monkeypatch.setattr(inputs, "read_image_for_warp", deadly)
    with pytest.raises(DatasetError, match=rf"a loader process .* while reading \S*{name}"):
        evaluated(weights, root, "TEST.WORKERS", "1")


def test_a_policy_of_ones_own_holds_for_the_images(weights, root):
    job = eval_job(weights, "DATASET.ROOT", str(root))
    job.records[0].path.unlink()
    policy = DataErrorPolicy(skip=True)
    evaluate(replace(job, policy=policy), CPU)
    assert policy.unreadable == {job.records[0].image_id}
    with pytest.raises(DatasetError, match="No such file"):
        evaluate(job, CPU)
