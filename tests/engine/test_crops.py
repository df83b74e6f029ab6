"""Single people from training to scores: annotated boxes, detected boxes, a bottom-up network's results."""

import json
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from runs import CPU, eval_job, train_config, untrained_checkpoint

from coupled_embedding.analysis.upper_bound import annotated_poses
from coupled_embedding.builders import build_records, build_schema, build_train_run, config_of, load_model, save_model
from coupled_embedding.config import load_config, override
from coupled_embedding.data.outputs import PoseOutput
from coupled_embedding.data.person_crops import person_crops
from coupled_embedding.decode.stage_times import StageTimes
from coupled_embedding.engine.evaluate import evaluate, predict_records, predict_split, write_result
from coupled_embedding.evaluation import poses_to_results, read_results, write_results
from coupled_embedding.predictor import Predictor
from coupled_embedding.utils.distributed import process_group
from coupled_embedding.utils.errors import ConfigError, DatasetError, InputError, UserError

CROPS = ["DATASET.CROPS", "people", "MODEL.TAG_DIM", "0", "LOSS.FOCAL", "False", "LOSS.SCALE_ADAPTED", "False"]
CROPS += ["MODEL.HEAD", "plain", "TRAIN.EPOCHS", "1"]


def pck_schema(folder: Path) -> Path:
    """Write the synthetic crowd's schema with the rules of PCK."""
    path = folder / "crowd_pck.yaml"
    text = Path("datasets/synthetic.yaml").read_text().replace("evaluator: crowdpose", "evaluator: pck")
    path.write_text(text.replace("synthetic: true", "synthetic: false"))
    return path


@pytest.fixture
def weights(tiny, tmp_path: Path) -> Path:
    """A checkpoint of an untrained network for crops of the tiny crowd."""
    return untrained_checkpoint(tiny("crops", *CROPS), tmp_path / "crops.pth")


@pytest.fixture
def perfect(tiny, tmp_path: Path) -> Path:
    """A results file with the annotated poses of the test split, scored 0.5, and one more pose of score 0.1."""
    cfg = tiny("perfect")
    poses = {r.image_id: annotated_poses(r) for r in build_records(cfg, build_schema(cfg), "test")}
    poses = {image_id: [replace(pose, score=0.5) for pose in found] for image_id, found in poses.items()}
    first = next(found for found in poses.values() if found)
    first.append(replace(first[0], score=0.1))
    write_results(tmp_path / "perfect.json", poses_to_results(poses))
    return tmp_path / "perfect.json"


def test_training_on_crops_and_testing_by_a_results_file_run_through_the_commands(
    tiny, tmp_path: Path, perfect: Path, tiny_crowd: Path
) -> None:
    folder = train_config(tiny("crops", *CROPS, "DATASET.VAL", ""))
    assert (folder / "final.pth").is_file()
    weights = str(folder / "final.pth")
    out = tmp_path / "boxes"
    command = [sys.executable, "tools/test.py", "--weights", weights, "--out", str(out), "--device", "cpu"]
    command += ["DATASET.ROOT", str(tiny_crowd), "TEST.BOXES", str(perfect), "TEST.BOX_SCORE", "0.2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "AP_medium" in done.stdout
    (file,) = out.glob("keypoints_*.json")
    entries, boxes = json.loads(file.read_text()), json.loads(perfect.read_text())
    kept = [number for number, box in enumerate(boxes) if box["score"] > 0.2]
    assert [entry["detection"] for entry in entries] == kept
    assert [entry["image_id"] for entry in entries] == [boxes[number]["image_id"] for number in kept]
    for entry in entries:
        joints = np.array(entry["keypoints"]).reshape(-1, 3)
        assert entry["score"] == pytest.approx(0.5 * joints[:, 2].mean(), abs=1e-6)
        assert "annotation_id" not in entry


def test_every_labelled_person_has_one_pose_of_the_annotations_id(weights: Path, tmp_path: Path) -> None:
    job = eval_job(weights, "TEST.IMAGES_PER_BATCH", "3")
    result = evaluate(job, CPU)
    expected = {
        record.image_id: [
            number for number, joints in zip(record.ids, record.keypoints, strict=True) if (joints[:, 2] > 0).any()
        ]
        for record in job.records
    }
    assert {image: [pose.source for pose in poses] for image, poses in result.poses.items()} == expected
    assert result.times.images == sum(map(len, expected.values())) == len(job.inputs)
    file = write_result(result, job, tmp_path)
    read = read_results(file, job.schema)
    assert [(r["image_id"], r["annotation_id"]) for r in read] == [(i, n) for i, ids in expected.items() for n in ids]
    assert result.scores is not None
    assert result.scores.main >= 0


class Colors(torch.nn.Module):
    """A network that finds each joint by its color: heatmap k is how much of a cell's surroundings has color k."""

    def __init__(self, colors: np.ndarray) -> None:
        super().__init__()
        self.colors = torch.nn.Parameter(torch.tensor(colors / 255.0, dtype=torch.float32))

    def forward(self, images: torch.Tensor) -> PoseOutput:
        distances = (images[:, None] - self.colors[None, :, :, None, None]).abs().amax(2)
        heatmaps = torch.nn.functional.avg_pool2d((distances < 0.04).float(), 28, 4, padding=12)
        return PoseOutput((heatmaps,), heatmaps.new_zeros(*heatmaps.shape, 0))


@pytest.mark.parametrize("evaluator", ["crowdpose", "pck"])
def test_a_network_that_sees_each_joint_scores_all_points(weights: Path, tmp_path: Path, evaluator: str) -> None:
    overrides = ["DATASET.SCHEMA", str(pck_schema(tmp_path))] if evaluator == "pck" else []
    job = eval_job(weights, "TEST.FLIP", "False", "DATASET.INPUT_SIZE", "256", *overrides)
    levels = [40, 120, 200]
    colors = np.array([(r, g, b) for r in levels for g in levels for b in levels])[:14]
    images = {}
    for place, record in enumerate(job.records):
        # one person an image, whose joints others cannot cover
        image = np.zeros((record.height, record.width, 3), np.uint8)
        rng = np.random.default_rng(place)
        grid = rng.permutation(16)[:14]
        joints = np.stack([14 + 18 * (grid % 4), 14 + 18 * (grid // 4), np.full(14, 2)], 1).astype(np.float32)
        for (x, y, _), color in zip(joints.astype(int), colors, strict=True):
            cv2.circle(image, (int(x), int(y)), 5, tuple(int(value) for value in color[::-1]), -1)
        path = tmp_path / f"{place}.png"
        cv2.imwrite(str(path), image)
        images[record.image_id] = (path, joints)
    annotations = tmp_path / "colors.json"
    annotations.write_text(json.dumps(annotated(images, job)))
    records = [
        replace(
            r, path=images[r.image_id][0], keypoints=images[r.image_id][1][None], boxes=BOX[None], ids=(r.image_id,)
        )
        for r in job.records
    ]
    crops = person_crops(records, 1.25)
    pipeline = replace(job.pipeline, pixels="unit", fold_bn=False)
    network = Colors(colors)
    result = evaluate(
        replace(job, network=network, pipeline=pipeline, records=records, crops=crops, annotations=annotations), CPU
    )
    assert result.scores is not None
    assert result.scores.main == pytest.approx(1.0)
    for image_id, (pose,) in result.poses.items():
        assert np.abs(pose.keypoints[:, :2] - images[image_id][1][:, :2]).max() < 1.5


BOX = np.array([5, 5, 72, 72], np.float32)


def annotated(images: dict, job) -> dict:
    """Return the content of an annotation file: one person an image, with the image's id."""
    return {
        "images": [
            {"id": r.image_id, "file_name": "x.png", "width": r.width, "height": r.height, "crowdIndex": 0.1}
            for r in job.records
        ],
        "annotations": [
            {
                "id": number, "image_id": number, "bbox": BOX.tolist(), "area": 5184, "iscrowd": 0, "num_keypoints": 14,
                "keypoints": joints.reshape(-1).tolist(),
            }
            for number, (_, joints) in images.items()
        ],
    }  # fmt: skip


def test_pck_chooses_the_best_checkpoint_while_training(tiny, tmp_path: Path) -> None:
    schema = str(pck_schema(tmp_path))
    folder = train_config(tiny("pck", *CROPS, "DATASET.SCHEMA", schema, "TRAIN.EPOCHS", "2"))
    best = load_model(folder / "best.pth")
    assert next(iter(best.metrics)) == "PCK@0.2"
    assert list(best.metrics)[1:] == ["Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    values = [line["val/PCK@0.2"] for line in lines if "val/PCK@0.2" in line]
    assert len(values) == 2
    assert best.metrics["PCK@0.2"] == max(values)
    # and the same network scores the same through a test of that split
    result = evaluate(eval_job(folder / "best.pth", "DATASET.SCHEMA", schema, split="val"), CPU)
    assert result.scores is not None
    assert result.scores.main == pytest.approx(max(values))


def test_several_ranks_find_the_same_poses_in_the_same_order(weights: Path, monkeypatch) -> None:
    job = eval_job(weights, "TEST.IMAGES_PER_BATCH", "2")
    whole = evaluate(job, CPU).poses
    ranks = [replace(CPU, rank=rank, world_size=3) for rank in range(3)]
    parts = [predict_records(job, job.new_pipeline(), env, StageTimes()) for env in ranks]
    assert any(len(parts[rank].get(i, [])) < len(poses) for i, poses in whole.items() for rank in range(3) if poses)
    monkeypatch.setattr("coupled_embedding.engine.evaluate.gather", lambda *_: [(part, [], {}) for part in parts])
    poses, _ = predict_split(job, ranks[0])
    assert list(poses) == list(whole)
    for image_id, found in poses.items():
        assert [pose.source for pose in found] == [pose.source for pose in whole[image_id]]
        for one, other in zip(found, whole[image_id], strict=True):
            np.testing.assert_allclose(one.keypoints, other.keypoints, atol=1e-3)


def test_mixed_data_sets_are_crops_too_and_keep_their_weights(tiny, tiny_crowd: Path) -> None:
    entry = {"schema": "datasets/synthetic.yaml", "split": "test", "root": str(tiny_crowd), "weight": 0.5}
    cfg = tiny("mixed", *CROPS, "DATASET.VAL", "", "TRAIN.IMAGES_PER_GPU", "1", "DATASET.MIX", str([entry]))
    schema = build_schema(cfg)
    train, other = (len(person_crops(build_records(cfg, schema, split))) for split in ("train", "test"))
    with process_group("cpu") as env:
        run = build_train_run(cfg, env)
    assert f"mixed: {train + other} crops with {train + other} labelled people" in run.about
    assert run.steps_per_epoch == train + other // 2


def test_a_subset_of_images_keeps_its_boxes(weights: Path, perfect: Path) -> None:
    whole = eval_job(weights, "TEST.BOXES", str(perfect))
    chosen = whole.records[2].image_id
    job = eval_job(weights, "TEST.BOXES", str(perfect), "DATASET.IMAGE_IDS", f"[{chosen}]")
    assert [crop.region for crop in job.inputs] == [c.region for c in whole.inputs if c.image_id == chosen]
    assert list(evaluate(job, CPU).poses) == [chosen]


def test_detections_make_the_crops_that_annotations_make(weights: Path, tmp_path: Path) -> None:
    job = eval_job(weights)
    entries = [
        {"image_id": r.image_id, "bbox": box.tolist(), "score": 0.5}
        for r in job.records
        for box, joints in zip(r.boxes, r.keypoints, strict=True)
        if (joints[:, 2] > 0).any()
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(entries))
    detected = eval_job(weights, "TEST.BOXES", str(tmp_path / "boxes.json"))
    assert [crop.region for crop in detected.inputs] == [crop.region for crop in job.inputs]
    first, second = evaluate(job, CPU).poses, evaluate(detected, CPU).poses
    for image_id, poses in first.items():
        for one, other in zip(poses, second[image_id], strict=True):
            np.testing.assert_array_equal(one.keypoints, other.keypoints)
            assert other.score == pytest.approx(0.5 * one.score)


def test_the_predictor_finds_one_pose_a_box(weights: Path, tiny_crowd: Path) -> None:
    predictor = Predictor.from_pretrained(weights)
    job = eval_job(weights)
    record = max(job.records, key=lambda r: len(r.keypoints))
    crops = [crop for crop in job.inputs if crop.image_id == record.image_id]
    boxes = np.concatenate([crop.boxes for crop in crops])
    poses = predictor(record.path, boxes=boxes)
    assert len(poses) == len(boxes)
    assert poses.sources is not None
    assert sorted(poses.sources) == list(range(len(boxes)))
    assert [person.source for person in poses[1:]] == list(poses.sources[1:])
    alone = predictor(record.path, boxes=boxes[poses.sources[:1]])
    np.testing.assert_allclose(alone.xy, poses.xy[:1], atol=1e-3)
    tested = sorted(evaluate(job, CPU).poses[record.image_id], key=lambda pose: -pose.score)
    assert poses.decoded is not None
    for found, expected in zip(poses.decoded, tested, strict=True):
        np.testing.assert_allclose(found, expected.keypoints, atol=1e-3)
    assert len(predictor(record.path, boxes=np.zeros((0, 4)))) == 0
    with pytest.raises(UserError, match=r"one person in a box: predictor\(image, boxes="):
        predictor(record.path)
    with pytest.raises(UserError, match="one person in a box"):
        next(predictor.stream(record.path))
    with pytest.raises(UserError, match="one person in a box"):
        predictor.maps(record.path)
    with pytest.raises(UserError, match="several images"):
        predictor([record.path], boxes=boxes)
    for wrong in ([1, 2, 3, 4], [[1, 2, 3]], [[1, 2, 3, float("nan")]], "boxes"):
        with pytest.raises(InputError, match=r"boxes: expected \(N, 4\) finite numbers"):
            predictor(record.path, boxes=wrong)


def test_a_network_of_whole_images_takes_no_boxes(tiny, tmp_path: Path, tiny_crowd: Path) -> None:
    predictor = Predictor.from_pretrained(untrained_checkpoint(tiny("whole"), tmp_path / "whole.pth"))
    with pytest.raises(UserError, match="this model finds the people itself"):
        predictor(next((tiny_crowd / "images").iterdir()), boxes=[[0, 0, 9, 9]])


def test_what_shows_grouping_refuses_a_network_of_crops(weights: Path, tmp_path: Path, call_tool) -> None:
    for tool, *words in (
        ("diagnose", "--weights", weights, "--out", tmp_path / "page"),
        ("export", "--weights", weights, "--out", tmp_path / "exported"),
    ):
        printed = call_tool(tool, *words, code=2)
        assert "crops of single people" in printed
    assert not (tmp_path / "exported").exists()


def test_the_verb_predict_refuses_a_network_of_crops(
    weights: Path, tmp_path: Path, tiny_crowd: Path, call_verb
) -> None:
    image = next((tiny_crowd / "images").iterdir())
    printed = call_verb("predict", image, "--model", weights, "--out", tmp_path / "poses", code=2)
    assert "this model finds the joints of one person in a box" in printed


@pytest.fixture
def call_tool(monkeypatch, capsys, checkout):
    """call_tool(name, word, ..., code): run a command in this process; return what it printed."""

    def call(name, *words, code=0):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, words)])
        monkeypatch.syspath_prepend(str(checkout / "tools"))
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(checkout / "tools" / f"{name}.py"), run_name="__main__")
        assert ended.value.code == code
        printed = capsys.readouterr()
        return printed.out + printed.err

    return call


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["TEST.BOXES", "boxes.json"], "TEST.BOXES: needs DATASET.CROPS people"),
        ([*CROPS, "AUGMENT.PASTE", "cut.json"], "AUGMENT.PASTE: is invalid with DATASET.CROPS"),
        (["DATASET.CROPS", "groups"], "DATASET.CROPS: 'groups' is invalid"),
        ([*CROPS, "DATASET.CROP_MARGIN", "0.1"], "DATASET.CROP_MARGIN: 0.1 is invalid"),
    ],
)
def test_options_that_do_not_fit_are_errors(overrides, text) -> None:
    with pytest.raises(ConfigError, match=text):
        load_config(None, overrides)


def test_boxes_and_rules_that_do_not_fit_are_errors(weights: Path, tmp_path: Path, perfect: Path, tiny) -> None:
    schema = str(pck_schema(tmp_path))
    with pytest.raises(UserError, match=r"TEST\.BOXES: .*perfect\.json: the rules of 'pck' .*give TEST\.BOXES ''"):
        eval_job(weights, "TEST.BOXES", str(perfect), "DATASET.SCHEMA", schema)
    whole = untrained_checkpoint(tiny("whole"), tmp_path / "whole.pth")
    with pytest.raises(UserError, match=r"DATASET\.CROPS: the rules of 'pck' .*are for one person a crop"):
        eval_job(whole, "DATASET.SCHEMA", schema)
    with pytest.raises(DatasetError, match=r"none\.json: no such file of boxes"):
        eval_job(weights, "TEST.BOXES", str(tmp_path / "none.json"))


def test_a_models_file_names_no_boxes_of_this_machine(weights: Path, tmp_path: Path) -> None:
    model = load_model(weights)
    model = replace(model, cfg=override(model.cfg, ["TEST.BOXES", "/home/me/boxes.json"]))
    save_model(tmp_path / "model.safetensors", model)
    assert config_of(tmp_path / "model.safetensors").TEST.BOXES == ""
