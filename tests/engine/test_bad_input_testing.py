"""Testing on broken photos: strict stops, tolerant finds nobody there and changes nothing else."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from coupled_embedding.data import test_dataset as inputs
from coupled_embedding.data.io.data_errors import BadInput, BadInputError
from coupled_embedding.engine import checkpoint_files as checkpoint
from coupled_embedding.engine.evaluate import prepare_test, run_test
from coupled_embedding.networks.pose_network import build_network
from coupled_embedding.predictor import Predictor
from coupled_embedding.prepare import schema_of
from coupled_embedding.utils.distributed import World
from coupled_embedding.utils.errors import DatasetError

pytestmark = pytest.mark.bad_input

HERE = World(0, 1, torch.device("cpu"))


@pytest.fixture
def weights(tiny, tmp_path: Path) -> Path:
    cfg = tiny("untrained")
    schema = schema_of(cfg)
    torch.manual_seed(0)
    path = tmp_path / "untrained.pth"
    network = build_network(cfg, schema.num_joints)
    checkpoint.save(checkpoint.describe(cfg, schema, network.state_dict(), {}, 0), path)
    return path


@pytest.fixture
def root(tiny_crowd: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_crowd, tmp_path / "broken"))


def outcome_of(weights: Path, root: Path, *options: str):
    # a threshold that an untrained network's heatmaps exceed
    fixed = ["DATASET.ROOT", str(root), "TEST.HEATMAP_THRESHOLD", "0.0001"]
    task = prepare_test(None, str(weights), [*fixed, *options], None, HERE)
    outcome = run_test(task.network, task.cfg, task.schema, task.records, task.split, HERE, bad_input=task.bad_input)
    return task, outcome


@pytest.mark.parametrize("workers", ["0", "1"])
def test_nobody_is_found_in_a_broken_photo_and_the_others_stay(weights, root, workers):
    task, sound = outcome_of(weights, root, "TEST.WORKERS", workers)
    photo = task.records[2]
    assert sound.people[photo.image_id]
    photo.path.write_bytes(photo.path.read_bytes()[:-40])
    with pytest.raises(DatasetError, match=rf"{photo.path.name}: the file ends .*DATASET\.BAD_INPUT tolerant"):
        outcome_of(weights, root, "TEST.WORKERS", workers)
    task, broken = outcome_of(weights, root, "TEST.WORKERS", workers, "DATASET.BAD_INPUT", "tolerant")
    assert broken.people[photo.image_id] == []
    for image_id in set(sound.people) - {photo.image_id}:
        pairs = zip(sound.people[image_id], broken.people[image_id], strict=True)
        assert all(np.array_equal(a.keypoints, b.keypoints) for a, b in pairs)
    assert task.bad_input.unreadable == {photo.image_id}
    assert broken.scores is not None


def test_all_photos_broken_is_a_score_of_nothing_found(weights, root):
    for path in (root / "images").iterdir():
        path.write_bytes(b"")
    task, outcome = outcome_of(weights, root, "DATASET.BAD_INPUT", "tolerant")
    assert outcome.scores is not None
    assert (outcome.scores.main, outcome.results) == (0, [])
    assert len(task.bad_input.problems) == len(task.records)


def change(root: Path, kind: str, **changes) -> None:
    path = root / "json/synthetic_test.json"
    content = json.loads(path.read_text())
    content[kind][0].update(changes)
    path.write_text(json.dumps(content))


def test_a_photo_too_long_for_the_network_is_left_out_before_its_batch(weights, root):
    change(root, "images", width=20_000, height=20)
    with pytest.raises(DatasetError, match=r"the photo is 20000×20 pixels; testing takes photos up to 32 times"):
        outcome_of(weights, root)
    task, outcome = outcome_of(weights, root, "DATASET.BAD_INPUT", "tolerant")
    assert outcome.people[task.records[0].image_id] == []
    assert len(task.bad_input.problems) == 1


def test_the_predictor_refuses_what_would_fill_the_memory(weights):
    model = checkpoint.load_model(weights)
    with pytest.raises(DatasetError, match="picture: the photo is 4000×100 pixels"):
        Predictor(model.network, model.cfg, model.schema)(np.zeros((100, 4000, 3), np.uint8))


# changes of the first annotation -> field; the score's own reader lets all but the first pass
MENDED = {
    "a box of three": ({"bbox": [1, 2, 3]}, "bbox"),
    "a box of a negative side": ({"bbox": [50, 50, -9, 20]}, "bbox"),
    "a label of 3": ({"keypoints": [1, 2, 3] * 14}, "keypoints"),
    "an unknown image": ({"image_id": 5}, "image_id"),
    "another annotation's id": ({"id": None}, "id"),
}


@pytest.mark.parametrize("policy", ["auto", "tolerant"])
@pytest.mark.parametrize("name", MENDED)
def test_scores_are_never_those_of_mended_annotations(weights, root, policy, name):
    changes, field = MENDED[name]
    if name == "another annotation's id":
        changes = {"id": json.loads((root / "json/synthetic_test.json").read_text())["annotations"][1]["id"]}
    change(root, "annotations", **changes)
    with pytest.raises(BadInputError, match=r"synthetic_test\.json: annotation \d+ of image \d+: ") as raised:
        outcome_of(weights, root, "DATASET.BAD_INPUT", policy)
    assert raised.value.problem.field == field


@pytest.mark.parametrize("policy", ["auto", "tolerant"])
def test_a_broken_image_entry_is_one_of_a_broken_annotation_file(weights, root, policy):
    change(root, "images", file_name="../../elsewhere.jpg")
    with pytest.raises(DatasetError, match=r"leaves the data set's folder .*annotations that are scored"):
        outcome_of(weights, root, "DATASET.BAD_INPUT", policy)


def test_a_killed_loader_process_names_the_photo(weights, root, monkeypatch):
    real = inputs.read_photo

    def deadly(record):
        if record.path.name == name:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(record)

    name = prepare_test(None, str(weights), [], None, HERE).records[3].path.name
    monkeypatch.setattr(inputs, "read_photo", deadly)
    with pytest.raises(DatasetError, match=rf"a loader process .* while reading \S*{name}"):
        outcome_of(weights, root, "TEST.WORKERS", "1")


def test_a_policy_of_ones_own_holds_for_the_photos(weights, root):
    task = prepare_test(None, str(weights), ["DATASET.ROOT", str(root)], None, HERE)
    task.records[0].path.unlink()
    bad_input = BadInput(tolerant=True)
    arguments = (task.network, task.cfg, task.schema, task.records, task.split, HERE)
    run_test(*arguments, bad_input=bad_input)
    assert bad_input.unreadable == {task.records[0].image_id}
    with pytest.raises(DatasetError, match="No such file"):
        run_test(*arguments)
