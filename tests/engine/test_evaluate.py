"""Testing a network on a data set, through the library."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from yacs.config import CfgNode

from coupled_embedding.data.schema import Pose, load_schema
from coupled_embedding.decode.pipeline import StageTimes
from coupled_embedding.engine import checkpoint_files as checkpoint
from coupled_embedding.engine.evaluate import (
    TestOutcome,
    ground_truth_of,
    likely_people,
    prepare_test,
    run_test,
    write_outcome,
)
from coupled_embedding.evaluation import ground_truth, poses_to_results
from coupled_embedding.networks.pose_network import build_network
from coupled_embedding.predictor import Predictor
from coupled_embedding.prepare import schema_of
from coupled_embedding.utils.distributed import World
from coupled_embedding.utils.errors import CheckpointError

HERE = World(0, 1, torch.device("cpu"))


@pytest.fixture
def weights(tiny, tmp_path: Path) -> Path:
    """A checkpoint of an untrained network on the tiny crowd."""
    cfg: CfgNode = tiny("untrained")
    schema = schema_of(cfg)
    torch.manual_seed(0)
    network = build_network(cfg, schema.num_joints)
    path = tmp_path / "untrained.pth"
    checkpoint.save(checkpoint.describe(cfg, schema, network.state_dict(), {}, 0), path)
    return path


def test_every_photo_has_an_entry_in_the_files_order(weights: Path) -> None:
    task = prepare_test(None, str(weights), [], None, HERE)
    outcome = run_test(task.network, task.cfg, task.schema, task.records, task.split, HERE)
    assert list(outcome.people) == [record.image_id for record in task.records]
    assert outcome.times.photos == len(task.records) == 5


def test_another_category_id_is_scored_too(weights: Path, tiny_crowd: Path, tmp_path: Path) -> None:
    content = json.loads((tiny_crowd / "json/synthetic_test.json").read_text())
    content["categories"][0]["id"] = 0
    for annotation in content["annotations"]:
        annotation["category_id"] = 0
    root = tmp_path / "zero"
    (root / "json").mkdir(parents=True)
    (root / "images").symlink_to(tiny_crowd / "images")
    # not a rendered data set any more: the schema says so
    schema_file = tmp_path / "zero.yaml"
    schema_file.write_text(Path("datasets/synthetic.yaml").read_text().replace("synthetic: true", "synthetic: false"))
    (root / "json/synthetic_test.json").write_text(json.dumps(content))
    options = ["DATASET.ROOT", str(root), "DATASET.SCHEMA", str(schema_file)]
    task = prepare_test(None, str(weights), options, None, HERE)
    outcome = run_test(task.network, task.cfg, task.schema, task.records, task.split, HERE)
    assert outcome.scores is not None
    assert outcome.scores.main >= 0
    assert all(result["category_id"] == 0 for result in outcome.results)


def test_a_data_set_with_other_joints_is_refused(weights: Path, tmp_path: Path) -> None:
    text = Path("datasets/synthetic.yaml").read_text()
    other = tmp_path / "other.yaml"
    other.write_text(text.replace("head", "crown"))
    with pytest.raises(
        CheckpointError, match=r"was trained for the joints .*head.*but data set 'synthetic' has .*crown"
    ):
        prepare_test(None, str(weights), ["DATASET.SCHEMA", str(other)], None, HERE)


def test_a_run_without_weights_is_named(tiny_file: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds neither best\.pth nor final\.pth; train first"):
        prepare_test(str(tiny_file), None, ["OUTPUT_DIR", str(tmp_path / "nothing")], None, HERE)


def test_the_predictor_takes_files_and_arrays(weights: Path, tiny_crowd: Path) -> None:
    model = checkpoint.load_model(weights)
    predictor = Predictor(model.network, model.cfg, model.schema)
    photo = next((tiny_crowd / "images").iterdir())
    people = predictor(photo)
    assert [pose.score for pose in people] == sorted((pose.score for pose in people), reverse=True)
    with pytest.raises(ValueError, match="expected a"):
        predictor(torch.zeros(3, 3).numpy())


def test_what_cannot_be_scored_here_is_zipped_for_its_server(tmp_path: Path) -> None:
    people = {9: [Pose(torch.ones(17, 3).numpy(), 0.5)], 10: []}
    outcome = TestOutcome(people, poses_to_results(people), None, StageTimes())
    path = write_outcome(outcome, tmp_path, load_schema("datasets/coco.yaml"), "test-dev2017", "mine")
    assert path == tmp_path / "person_keypoints_test-dev2017_mine_results.zip"
    assert json.loads(path.with_suffix(".json").read_text())[0]["image_id"] == 9


def test_likely_people_are_near_the_best_and_above_the_floor() -> None:
    poses = [Pose(torch.zeros(14, 3).numpy(), score) for score in (0.9, 0.5, 0.3, 0.05)]
    assert [pose.score for pose in likely_people(poses)] == [0.9, 0.5]
    assert likely_people(poses[3:]) == []
    assert likely_people([]) == []


def test_one_reading_of_the_annotations_scores_a_whole_training(weights: Path, monkeypatch) -> None:
    task = prepare_test(None, str(weights), [], None, HERE)
    arguments = (task.network, task.cfg, task.schema, task.records, task.split, HERE)
    truth = ground_truth_of(task.cfg, task.schema, task.records, task.split)
    expected = run_test(*arguments)
    monkeypatch.setattr(ground_truth, "read_json", lambda *_, **__: pytest.fail("read again"))
    again = run_test(*arguments, truth=truth)
    assert again.scores == expected.scores
    assert again.results == expected.results


# what each of two processes runs: its scores, or its error, go to a file of its own
ON_EACH_PROCESS = """
import sys
from pathlib import Path
from coupled_embedding.engine import evaluate as testing
from coupled_embedding.utils.distributed import process_group

weights, folder, engine = sys.argv[1:]
calls = []
score = testing.score_results
testing.score_results = lambda *arguments: calls.append(1) or score(*arguments)
with process_group("cpu") as world:
    task = testing.prepare_test(None, weights, ["TEST.ENGINE", "pycocotools"], None, world)
    task.cfg.defrost()
    task.cfg.TEST.ENGINE = engine
    try:
        outcome = testing.run_test(task.network, task.cfg, task.schema, task.records, task.split, world)
        told = repr((outcome.scores.values, list(outcome.people)))
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
    Path(folder, f"{world.rank}.txt").write_text(told)
    Path(folder, f"{world.rank}.calls").write_text(str(len(calls)))
"""


def on_two_processes(weights: Path, folder: Path, engine: str) -> list[str]:
    """Test on two processes; return what each was told, and check that the main one alone scored."""
    script = folder / "process.py"
    script.write_text(ON_EACH_PROCESS)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*launcher, str(weights), str(folder), engine], check=True, env=environment, timeout=400)
    assert [(folder / f"{rank}.calls").read_text() for rank in (0, 1)] == ["1", "0"]
    return [(folder / f"{rank}.txt").read_text() for rank in (0, 1)]


@pytest.mark.distributed
def test_the_main_process_scores_for_all(weights: Path, tmp_path: Path) -> None:
    first, second = on_two_processes(weights, tmp_path, "pycocotools")
    task = prepare_test(None, str(weights), [], None, HERE)
    outcome = run_test(task.network, task.cfg, task.schema, task.records, task.split, HERE)
    assert outcome.scores is not None
    assert first == second == repr((outcome.scores.values, list(outcome.people)))


@pytest.mark.distributed
def test_an_error_of_the_main_process_stops_all(weights: Path, tmp_path: Path) -> None:
    first, second = on_two_processes(weights, tmp_path, "none")
    assert first.startswith("UserError: unknown evaluation engine 'none'")
    assert second == f"UserError: process 0 failed: {first}"
