"""The verbs nms and fit-nms on results files, and what they write in a test of a network."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from runs import CPU, eval_job, untrained_checkpoint

from coupled_embedding.builders import load_model, save_model
from coupled_embedding.data.coco import load_records
from coupled_embedding.data.schema import load_schema
from coupled_embedding.engine.evaluate import evaluate
from coupled_embedding.evaluation import build_pose_nms, evaluate_keypoints, read_results, suppress_results
from coupled_embedding.predictor import Predictor
from coupled_embedding.utils.errors import ConfigError, UserError

SCHEMA_FILE = "datasets/synthetic.yaml"
SCHEMA = load_schema(SCHEMA_FILE)
Call = Callable[..., str]


@pytest.fixture
def results(tiny_crowd: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two results files of the validation split: its people, and the same people a little aside with lower scores."""
    files = []
    for number, (shift, factor) in enumerate(((0, 1.0), (3, 0.8))):
        poses = []
        for record in load_records(SCHEMA, "val", str(tiny_crowd)):
            for row, person in enumerate(record.keypoints.astype(float)):
                found = person[:, 2:] > 0
                joints = np.where(found, np.hstack((person[:, :2] + shift, np.ones((len(person), 1)))), 0.0)
                score = factor * (0.9 - 0.02 * row)
                entry = {"image_id": record.image_id, "category_id": 1, "keypoints": joints.ravel().tolist()}
                poses.append(entry | {"score": score})
        files.append(tmp_path / f"results_{number}.json")
        files[-1].write_text(json.dumps(poses))
    return files[0], files[1]


def of_synthetic(*words: object) -> tuple[object, ...]:
    return (*words, "--schema", SCHEMA_FILE)


def test_several_files_are_merged_into_a_new_one(call_verb: Call, results: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "new" / "merged.json"
    command = of_synthetic("nms", *results, "--preset", "released", "--parameters", "eta=20", "--out", out)
    printed = call_verb(*command)
    both = [entry for path in results for entry in json.loads(path.read_text())]
    left = json.loads(out.read_text())
    assert left == suppress_results(both, SCHEMA, build_pose_nms("released", SCHEMA.sigmas, ["eta=20"]))
    assert f"{out}: {len(left)} of {len(both)} poses in 3 images" in printed
    assert "exists; delete it first" in call_verb(*command, code=2)


def test_files_without_joint_scores_get_a_warning(call_verb: Call, results: tuple[Path, Path], tmp_path: Path) -> None:
    poses = json.loads(results[0].read_text())
    for entry in poses:
        entry["keypoints"][2::3] = [0] * 14
    results[0].write_text(json.dumps(poses))
    printed = call_verb(*of_synthetic("nms", results[0], "--preset", "paper", "--out", tmp_path / "out.json"))
    assert "warning: no joint has a score above 0" in printed
    assert json.loads((tmp_path / "out.json").read_text()) == poses


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--preset", "paper"], "entry 0: keypoints: expected 51 numbers, got 42"),  # COCO's joints
        (["--schema", SCHEMA_FILE, "--preset", "soft"], "--preset: 'soft' is none of oks"),
        (["--schema", SCHEMA_FILE, "--preset", "oks", "--parameters", "eta=3"], "no such parameter"),
    ],
)
def test_wrong_command_lines_write_nothing(call_verb, results, tmp_path, words, message):
    assert message in call_verb("nms", results[0], *words, "--out", tmp_path / "out.json", code=2)
    assert not (tmp_path / "out.json").exists()


def test_a_fit_is_written_for_the_other_commands(
    call_verb: Call, results: tuple[Path, Path], tmp_path: Path, tiny_crowd: Path
) -> None:
    out, root = tmp_path / "fitted.yaml", ["DATASET.ROOT", tiny_crowd]
    words = ["fit-nms", *results, "--preset", "oks", "--split", "val", "--out", out, "--options", *root]
    printed = call_verb(*of_synthetic(*words))
    assert "AP on synthetic val: " in printed
    assert out.read_text().startswith("# fitted by tools/fit_nms.py: AP on synthetic val: ")
    merged = tmp_path / "merged.json"
    call_verb(*of_synthetic("nms", *results, "--preset", out, "--out", merged))
    left = read_results(merged, SCHEMA)
    assert len(left) < sum(len(json.loads(path.read_text())) for path in results)
    ap = evaluate_keypoints(tiny_crowd / "json/synthetic_val.json", left, SCHEMA).main
    assert f"before the fit, {100 * ap:.2f} after" in out.read_text()
    assert "exists; delete it first" in call_verb(*of_synthetic(*words), code=2)


def test_a_split_of_reported_results_is_refused_and_otherwise_warned_of(
    call_verb: Call, results: tuple[Path, Path], tmp_path: Path, tiny_crowd: Path
) -> None:
    words = ["fit-nms", results[0], "--split", "test", "--out", tmp_path / "fitted.yaml", "--options"]
    root = ["DATASET.ROOT", tiny_crowd]
    printed = call_verb(*words, *root, "--schema", SCHEMA_FILE, code=2)
    assert "--split: parameters fitted to 'test', which results of synthetic are reported on, flatter them" in printed
    results[0].write_text("[]")
    allowed = [*root, "TRAIN.SELECT_ON_TEST", "True", "--schema", SCHEMA_FILE]
    assert "warning: TRAIN.SELECT_ON_TEST: parameters are fitted to 'test'" in call_verb(*words, *allowed)
    words[words.index(tmp_path / "fitted.yaml")] = tmp_path / "fitted.txt"
    assert "expected a name that ends in .yaml" in call_verb(*words, *allowed, code=2)
    words = ["fit-nms", results[0], "--out", tmp_path / "other.yaml", "--schema", SCHEMA_FILE]
    assert "--split: which one of train, val, test?" in call_verb(*words, code=2)


# ---- in tests of networks


@pytest.fixture
def weights(tiny, tmp_path: Path) -> Path:
    return untrained_checkpoint(tiny("untrained"), tmp_path / "untrained.pth")


LIKE = ("TEST.HEATMAP_THRESHOLD", "0.0", "TEST.POSE_NMS", "paper", "TEST.POSE_NMS_PARAMETERS", "[eta=4, sigma2=900]")


def test_a_test_suppresses_what_the_results_file_would(weights: Path) -> None:
    plain = evaluate(eval_job(weights, *LIKE[:2]), CPU)
    suppressed = evaluate(eval_job(weights, *LIKE), CPU)
    nms = build_pose_nms("paper", SCHEMA.sigmas, ["eta=4", "sigma2=900"])
    assert suppressed.results == suppress_results(plain.results, SCHEMA, nms)
    assert 0 < len(suppressed.results) < len(plain.results)


def test_a_predictor_suppresses_as_a_test(weights: Path, tiny_crowd: Path) -> None:
    result = evaluate(eval_job(weights, *LIKE), CPU)
    predictor = Predictor.from_pretrained(weights, LIKE)
    for record in load_records(SCHEMA, "test", str(tiny_crowd)):
        poses = predictor(record.path)
        np.testing.assert_allclose(poses.scores, [pose.score for pose in result.poses[record.image_id]], atol=1e-5)


def test_a_model_that_is_saved_holds_what_a_file_says(tiny, tmp_path: Path) -> None:
    path = tmp_path / "fitted.yaml"
    path.write_text("preset: paper\neta: 4\n")
    options = ("TEST.POSE_NMS", str(path), "TEST.POSE_NMS_PARAMETERS", "[sigma2=900]")
    weights = untrained_checkpoint(tiny("own", *options), tmp_path / "own.pth")
    save_model(tmp_path / "own.safetensors", load_model(weights))
    path.unlink()
    predictor = Predictor.from_pretrained(tmp_path / "own.safetensors")
    assert predictor.pipeline.options.pose_nms == build_pose_nms("paper", SCHEMA.sigmas, ["eta=4", "sigma2=900"])
    with pytest.raises(UserError, match="no such file of a fitted suppression"):
        Predictor.from_pretrained(weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("TEST.POSE_NMS", "best"), "TEST.POSE_NMS: 'best' is invalid; expected one of none, oks"),
        (("TEST.POSE_NMS_PARAMETERS", "[eta]"), "TEST.POSE_NMS_PARAMETERS: .* expected a list of parameters"),
        (("TEST.POSE_NMS_PARAMETERS", "[eta=1]"), "TEST.POSE_NMS_PARAMETERS: needs TEST.POSE_NMS"),
    ],
)
def test_wrong_options_are_errors(weights, options, message):
    with pytest.raises(ConfigError, match=message):
        eval_job(weights, *options)


def test_a_parameter_that_the_preset_has_not_is_an_error(weights):
    with pytest.raises(UserError, match=r"TEST\.POSE_NMS_PARAMETERS: eta: 'oks' has no such parameter"):
        eval_job(weights, "TEST.POSE_NMS", "oks", "TEST.POSE_NMS_PARAMETERS", "[eta=1]")
