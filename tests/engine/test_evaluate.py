"""Testing a network on a data set, through the library."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runs import CPU, eval_job, untrained_checkpoint

from coupled_embedding.data.outputs import Pose
from coupled_embedding.data.schema import load_schema
from coupled_embedding.decode.stage_times import StageTimes
from coupled_embedding.engine.evaluate import EvalResult, evaluate
from coupled_embedding.engine.outputs import write_result
from coupled_embedding.evaluation import ground_truth, poses_to_results
from coupled_embedding.predictor import Predictor
from coupled_embedding.utils.errors import CheckpointError
from coupled_embedding.visualize import filter_poses


@pytest.fixture
def weights(tiny, tmp_path: Path) -> Path:
    """A checkpoint of an untrained network on the tiny crowd."""
    return untrained_checkpoint(tiny("untrained"), tmp_path / "untrained.pth")


def test_every_image_has_an_entry_in_the_files_order(weights: Path) -> None:
    job = eval_job(weights)
    result = evaluate(job, CPU)
    assert list(result.poses) == [record.image_id for record in job.records]
    assert result.times.images == len(job.records) == 5


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
    result = evaluate(eval_job(weights, "DATASET.ROOT", str(root), "DATASET.SCHEMA", str(schema_file)), CPU)
    assert result.scores is not None
    assert result.scores.main >= 0
    assert all(pose["category_id"] == 0 for pose in result.results)


def test_a_data_set_with_other_joints_is_refused(weights: Path, tmp_path: Path) -> None:
    text = Path("datasets/synthetic.yaml").read_text()
    other = tmp_path / "other.yaml"
    other.write_text(text.replace("head", "crown"))
    with pytest.raises(
        CheckpointError, match=r"was trained for the joints .*head.*but data set 'synthetic' has .*crown"
    ):
        eval_job(weights, "DATASET.SCHEMA", str(other))


def test_the_predictor_takes_files_and_arrays(weights: Path, tiny_crowd: Path) -> None:
    predictor = Predictor.from_pretrained(weights)
    image = next((tiny_crowd / "images").iterdir())
    poses = predictor(image)
    assert [pose.score for pose in poses] == sorted((pose.score for pose in poses), reverse=True)
    with pytest.raises(ValueError, match="expected a"):
        predictor(torch.zeros(3, 3).numpy())


def test_what_cannot_be_scored_here_is_zipped_for_its_server(weights: Path, tmp_path: Path) -> None:
    poses = {9: [Pose(torch.ones(17, 3).numpy(), 0.5)], 10: []}
    result = EvalResult(poses, poses_to_results(poses), None, StageTimes())
    job = replace(eval_job(weights), schema=load_schema("datasets/coco.yaml"), split="test-dev2017", name="mine")
    path = write_result(result, job, tmp_path)
    assert path == tmp_path / "person_keypoints_test-dev2017_mine_results.zip"
    assert json.loads(path.with_suffix(".json").read_text())[0]["image_id"] == 9


def test_poses_worth_drawing_are_near_the_best_and_above_the_floor() -> None:
    poses = [Pose(torch.zeros(14, 3).numpy(), score) for score in (0.9, 0.5, 0.3, 0.05)]
    assert [pose.score for pose in filter_poses(poses)] == [0.9, 0.5]
    assert filter_poses(poses[3:]) == []
    assert filter_poses([]) == []


def test_one_reading_of_the_annotations_scores_a_whole_training(weights: Path, monkeypatch) -> None:
    job = eval_job(weights)
    job = replace(job, ground_truth=job.load_ground_truth())
    expected = evaluate(replace(job, ground_truth=None), CPU)
    monkeypatch.setattr(ground_truth, "read_json", lambda *_, **__: pytest.fail("read again"))
    again = evaluate(job, CPU)
    assert again.scores == expected.scores
    assert again.results == expected.results


# what each of two ranks runs: its scores, or its error, go to a file of its own
ON_EACH_RANK = """
import sys
from dataclasses import replace
from pathlib import Path

from coupled_embedding.builders import build_eval_job, config_of
from coupled_embedding.engine import evaluate as evaluation
from coupled_embedding.utils.distributed import process_group

weights, folder, backend = sys.argv[1:]
calls = []
score = evaluation.score_results
evaluation.score_results = lambda *arguments: calls.append(1) or score(*arguments)
with process_group("cpu") as env:
    job = build_eval_job(config_of(weights), Path(weights), "", env)
    try:
        result = evaluation.evaluate(replace(job, options=replace(job.options, oks_backend=backend)), env)
        text = repr((result.scores.values, list(result.poses)))
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
    Path(folder, f"{env.rank}.txt").write_text(text)
    Path(folder, f"{env.rank}.calls").write_text(str(len(calls)))
"""


def on_two_ranks(weights: Path, folder: Path, backend: str) -> list[str]:
    """Evaluate on two ranks; return the outcome of each, and check that rank 0 alone scored."""
    script = folder / "process.py"
    script.write_text(ON_EACH_RANK)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*launcher, str(weights), str(folder), backend], check=True, env=environment, timeout=400)
    assert [(folder / f"{rank}.calls").read_text() for rank in (0, 1)] == ["1", "0"]
    return [(folder / f"{rank}.txt").read_text() for rank in (0, 1)]


@pytest.mark.distributed
def test_rank_0_scores_for_all(weights: Path, tmp_path: Path) -> None:
    first, second = on_two_ranks(weights, tmp_path, "pycocotools")
    result = evaluate(eval_job(weights), CPU)
    assert result.scores is not None
    assert first == second == repr((result.scores.values, list(result.poses)))


@pytest.mark.distributed
def test_an_error_on_rank_0_stops_all(weights: Path, tmp_path: Path) -> None:
    first, second = on_two_ranks(weights, tmp_path, "none")
    assert first.startswith("UserError: unknown OKS backend 'none'")
    assert second == f"UserError: process 0 failed: {first}"
