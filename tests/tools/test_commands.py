"""The commands as a user runs them: real processes, real files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch

from coupled_embedding.analysis.upper_bound import annotated_poses
from coupled_embedding.builders import build_model, load_model
from coupled_embedding.config import load_config
from coupled_embedding.data.coco import annotation_file, load_records
from coupled_embedding.data.schema import load_schema
from coupled_embedding.evaluation import poses_to_results, write_results

CHECKOUT = Path(__file__).resolve().parents[2]


def run(tool: str, *arguments: str, code: int = 0) -> str:
    """Run a command; return what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(CHECKOUT / "tools" / tool), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, env=environment, timeout=400)
    printed = done.stdout + done.stderr
    assert done.returncode == code, printed
    return printed


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_crowd: Path, tiny_text: str) -> dict[str, str]:
    """A run of tools/train.py on the tiny crowd."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "tiny.yaml").write_text(tiny_text)
    options = ["NAME", "tiny", "OUTPUT_DIR", str(folder / "out"), "DATASET.ROOT", str(tiny_crowd)]
    printed = run("train.py", "--cfg", str(folder / "tiny.yaml"), *options)
    return {
        "cfg": str(folder / "tiny.yaml"),
        "options": " ".join(options),
        "printed": printed,
        "folder": str(folder / "out/tiny"),
    }


def table(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if line.startswith("|")]


def test_train_says_what_it_does_and_ends_with_the_scores(trained: dict[str, str]) -> None:
    assert "tiny: 10 images with" in trained["printed"]
    assert "6 steps of 4 images (1 x cpu)" in trained["printed"]
    assert "val: AP " in trained["printed"]


def test_a_second_run_is_refused_and_resume_is_offered(trained: dict[str, str]) -> None:
    printed = run("train.py", "--cfg", trained["cfg"], *trained["options"].split(), code=2)
    assert "already holds a run; continue it with --resume" in printed
    printed = run("train.py", "--cfg", trained["cfg"], "--resume", "TRAIN.LR", "1", code=2)
    assert "--resume: TRAIN.LR: expected a .pth file; put --resume last, or before another option" in printed
    assert "Traceback" not in printed


def test_test_scores_writes_results_and_draws(trained: dict[str, str]) -> None:
    printed = run("test.py", "--cfg", trained["cfg"], *trained["options"].split())
    assert [name.strip() for name in table(printed)[0].split("|")[1:4]] == ["AP", "AP50", "AP75"]
    assert "ms by stage: decode" in printed
    folder = Path(trained["folder"]) / "test_test"
    results = json.loads((folder / "keypoints_synthetic_test_tiny_results.json").read_text())
    assert all(len(entry["keypoints"]) == 42 for entry in results)
    for name in ("best_1", "worst_1", "crowded_1"):
        assert cv2.imread(str(folder / f"{name}.jpg")).shape[0] > 96


def test_profiling_prints_tables_and_stops(trained: dict[str, str], tmp_path: Path) -> None:
    options = [*trained["options"].split(), "NAME", "profiled"]
    printed = run("train.py", "--cfg", trained["cfg"], "--profile", *options)
    assert "| backward |" in printed
    assert [path.name for path in (Path(trained["folder"]).parent / "profiled").iterdir()] == ["profile_train.json.gz"]
    weights = str(Path(trained["folder"]) / "final.pth")
    printed = run("test.py", "--weights", weights, "--profile", "--out", str(tmp_path))
    assert "| decode |" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["profile_test.json.gz"]


@pytest.mark.distributed
def test_two_processes_print_the_same_table_to_the_last_digit(trained: dict[str, str], tmp_path: Path) -> None:
    options = trained["options"].split()
    one = run("test.py", "--cfg", trained["cfg"], "--out", str(tmp_path / "one"), *options)
    two = run(
        "test.py", "--cfg", trained["cfg"], "--out", str(tmp_path / "two"), "--gpus", "2", "--device", "cpu", *options
    )
    assert table(one) == table(two)
    name = "keypoints_synthetic_test_tiny_results.json"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.distributed
def test_two_processes_train_together(trained: dict[str, str]) -> None:
    options = [*trained["options"].split(), "NAME", "pair", "TRAIN.EPOCHS", "1", "TRAIN.IMAGES_PER_GPU", "2"]
    printed = run("train.py", "--cfg", trained["cfg"], "--gpus", "2", "--device", "cpu", *options)
    assert "3 steps of 4 images (2 x cpu)" in printed
    assert (Path(trained["folder"]).parent / "pair" / "final.pth").exists()


def test_a_checkpoint_needs_no_config(trained: dict[str, str], tmp_path: Path) -> None:
    weights = str(Path(trained["folder"]) / "final.pth")
    printed = run("test.py", "--weights", weights, "--split", "val", "--out", str(tmp_path), "TEST.FLIP", "False")
    assert len(table(printed)) == 3


def test_multi_scale_testing_runs(trained: dict[str, str], tmp_path: Path) -> None:
    weights = str(Path(trained["folder"]) / "final.pth")
    printed = run("test.py", "--weights", weights, "--out", str(tmp_path), "TEST.SCALES", "[2, 1, 0.5]")
    assert len(table(printed)) == 3


def test_stacked_hourglasses_train_and_test_with_tags_of_all_scales(trained: dict[str, str], tmp_path: Path) -> None:
    options = [*trained["options"].split(), "NAME", "hourglass", "MODEL.BACKBONE", "hourglass", "MODEL.HEAD", "plain"]
    options += ["MODEL.STACKS", "2", "MODEL.HOURGLASS_DEPTH", "2", "MODEL.HOURGLASS_GROWTH", "4"]
    options += ["MODEL.TAG_DIM", "1", "MODEL.PIXELS", "unit", "LOSS.SCALE_ADAPTED", "False", "LOSS.FOCAL", "False"]
    options += ["TEST.MULTISCALE_TAGS", "concat", "TEST.GROUPING_COST", "ae", "TEST.MISSING_JOINTS", "zero"]
    printed = run("train.py", "--cfg", trained["cfg"], *options)
    assert "val: AP " in printed
    figures = (Path(trained["folder"]).parent / "hourglass" / "metrics.jsonl").read_text()
    assert '"loss/pull"' in figures
    scales = ["TEST.SCALES", "[2, 1, 0.5]"]
    printed = run("test.py", "--cfg", trained["cfg"], "--out", str(tmp_path), *options, *scales)
    assert len(table(printed)) == 3


def test_released_weights_become_a_checkpoint(trained: dict[str, str], tmp_path: Path) -> None:
    overrides = ["MODEL.HEAD", "plain", "MODEL.TAG_DIM", "1"]
    cfg = load_config(trained["cfg"], overrides)
    torch.manual_seed(3)
    network = build_model(cfg, load_schema(cfg.DATASET.SCHEMA).num_joints)
    own = network.state_dict()
    released = {name: tensor for name, tensor in own.items() if name.startswith("backbone.")}
    for kind in ("weight", "bias"):
        both = own[f"head.hms_pred_layers.{kind}"], own[f"head.tms_pred_layers.{kind}"]
        released[f"keypoint_head.final_layers.0.{kind}"] = torch.cat(both)
    torch.save({"state_dict": released}, tmp_path / "released.pth")
    out = tmp_path / "new" / "model.pth"
    command = ["convert.py", str(tmp_path / "released.pth"), "--out", str(out), "--cfg", trained["cfg"]]
    command += ["--options", *overrides]
    assert f"{len(released)} tensors" in run(*command)
    model = load_model(out)
    assert all(torch.equal(tensor, own[name]) for name, tensor in model.network.state_dict().items())
    assert model.schema.name == "synthetic"
    assert "delete it first" in run(*command, code=2)


def test_a_checkpoint_becomes_one_small_file_that_is_tested(trained: dict[str, str], tmp_path: Path) -> None:
    weights, out = str(Path(trained["folder"]) / "final.pth"), tmp_path / "small.safetensors"
    (tmp_path / "LICENSE").write_text("Apache-2.0")
    printed = run("convert.py", weights, "--out", str(out), "--half", "--license", str(tmp_path / "LICENSE"))
    assert f"{out}: " in printed
    assert "as tiny" in printed
    own, model = load_model(weights), load_model(out)
    assert (model.license, model.metrics, model.schema) == ("Apache-2.0", own.metrics, own.schema)
    assert out.stat().st_size < 0.6 * sum(t.numel() * t.element_size() for t in own.network.state_dict().values()) + 2e5
    root = trained["options"].split()[-2:]
    assert len(table(run("test.py", "--weights", str(out), "--out", str(tmp_path / "test"), *root))) == 3
    assert "delete it first" in run("convert.py", weights, "--out", str(out), code=2)
    assert "--out NAME.safetensors" in run("convert.py", weights, "--out", str(tmp_path / "again.pth"), code=2)
    assert "--half and --license" in run("convert.py", weights, "--out", str(tmp_path / "a.pth"), "--half", code=2)


def test_diagnosis_leaves_a_page_and_its_figures(trained: dict[str, str], tmp_path: Path) -> None:
    weights = str(Path(trained["folder"]) / "final.pth")
    printed = run("diagnose.py", "--weights", weights, "--split", "val", "--every", "2", "--out", str(tmp_path))
    assert len(table(printed)) == 4 * 3
    figures = json.loads((tmp_path / "diagnosis.json").read_text())
    assert (figures["name"], figures["split"], figures["all"]["images"]) == ("tiny", "val", 2)
    assert (tmp_path / "diagnosis.html").read_text().startswith("<!DOCTYPE html>")


def test_demo_draws_images_and_folders(trained: dict[str, str], tiny_crowd: Path, tmp_path: Path) -> None:
    images = sorted((tiny_crowd / "images").iterdir())
    folder = tmp_path / "some images"
    folder.mkdir()
    for image in images[:2]:
        (folder / image.name).write_bytes(image.read_bytes())
    weights = str(Path(trained["folder"]) / "final.pth")
    run("demo.py", str(folder), str(images[2]), "--weights", weights, "--out", str(tmp_path / "new" / "out"))
    people = json.loads((tmp_path / "new" / "out" / "people.json").read_text())
    assert len(people) == 3
    assert all(
        len(joint) == 3 for found in people.values() for person in found for joint in person["keypoints"].values()
    )
    assert len(list((tmp_path / "new" / "out").glob("*_people.jpg"))) == 3


def test_upper_bound_of_exact_annotations_is_100(tmp_path: Path, trained: dict[str, str]) -> None:
    printed = run("upper_bound.py", "--cfg", trained["cfg"], *trained["options"].split())
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in table(printed)[2:]]
    assert rows[0] == ["annotations themselves", "100.0"]
    assert [row[0] for row in rows[1:]] == ["maps and tags, all candidates", "maps and tags, 30 candidates"]


def test_join_annotations_writes_once(tiny_crowd: Path, tmp_path: Path) -> None:
    files = [str(tiny_crowd / "json" / f"synthetic_{split}.json") for split in ("train", "val")]
    printed = run("join_annotations.py", *files, "--out", str(tmp_path / "json" / "trainval.json"))
    assert "13 images" in printed
    printed = run("join_annotations.py", *files, "--out", str(tmp_path / "json" / "trainval.json"), code=2)
    assert "delete it first" in printed


@pytest.mark.parametrize(
    ("tool", "arguments", "told"),
    [
        ("train.py", ["--cfg", "nowhere.yaml"], "nowhere.yaml: no such config file"),
        ("train.py", ["--cfg", "config/synthetic/ce_small.yaml", "TRAIN.LRR", "1"], "unknown key 'TRAIN.LRR'"),
        ("train.py", ["--cfg", "config/coco/ce_hrnet_w32_512.yaml", "OUTPUT_DIR", "/tmp/ce_none"], "is missing"),
        ("test.py", ["--weights", "nowhere.pth"], "nowhere.pth: no such weight file"),
        ("convert.py", ["nowhere.pth", "--out", "/tmp/ce_none.pth"], "nowhere.pth: no such weight file"),
        ("demo.py", ["x.jpg", "--weights", "nowhere.pth"], "nowhere.pth: no such weight file"),
        ("upper_bound.py", ["--cfg", "config/coco/ce_hrnet_w32_512.yaml", "--split", "no"], "has no split 'no'"),
    ],
)
def test_mistakes_are_reported_without_a_traceback(tool: str, arguments: list[str], told: str) -> None:
    printed = run(tool, *arguments, code=2)
    assert told in printed
    assert printed.startswith("error: ")
    assert "Traceback" not in printed


@pytest.fixture
def scored(tmp_path: Path, tiny_crowd: Path) -> list[str]:
    """The annotations of the tiny crowd's test split as results, and how to score them."""
    schema = load_schema("datasets/synthetic.yaml")
    records = load_records(schema, "test", str(tiny_crowd))
    write_results(tmp_path / "results.json", poses_to_results({r.image_id: annotated_poses(r) for r in records}))
    return [str(tmp_path / "results.json"), "--schema", "datasets/synthetic.yaml"]


def test_a_results_file_is_scored_by_split_or_by_annotations(
    scored: list[str], tiny_crowd: Path, tmp_path: Path
) -> None:
    root = ["DATASET.ROOT", str(tiny_crowd)]
    by_split = run("score.py", *scored, "--split", "test", "--out", str(tmp_path / "scores.json"), *root)
    file = annotation_file(load_schema("datasets/synthetic.yaml"), "test", str(tiny_crowd))
    by_file = run("score.py", *scored, "--annotations", str(file))
    assert table(by_split) == table(by_file)
    assert table(by_split)[2].split("|")[1].strip() == "100.0"
    assert json.loads((tmp_path / "scores.json").read_text())["AP"] == pytest.approx(1)
    assert "rules of crowdpose" in by_split


def test_scoring_says_what_is_missing_and_why_a_score_is_not_available(scored: list[str], tmp_path: Path) -> None:
    assert "--split: which one of train, val, test?" in run("score.py", *scored, code=2)
    assert "no such results file" in run("score.py", "gone.json", *scored[1:], "--split", "test", code=2)
    nobody = tmp_path / "nobody.json"
    nobody.write_text(json.dumps({"images": [{"id": 1}], "annotations": []}))
    (tmp_path / "none.json").write_text("[]")
    printed = run("score.py", str(tmp_path / "none.json"), *scored[1:], "--annotations", str(nobody))
    assert "n/a: AP, AP50" in printed
    assert "none of the 1 images has an annotated person" in printed
