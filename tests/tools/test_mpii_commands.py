"""MPII from its annotation file to scores by the commands, on a rendered crowd that is annotated as MPII is."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from mpii_file import of_crowd

from coupled_embedding.builders import build_eval_job
from coupled_embedding.config import load_config
from coupled_embedding.data.coco import load_records
from coupled_embedding.data.schema import load_schema
from coupled_embedding.evaluation import load_ground_truth, mpii_groups
from coupled_embedding.utils.distributed import DistEnv

CHECKOUT = Path(__file__).resolve().parents[2]


def run(tool: str, *arguments: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [tool, *map(str, arguments)])
        patch.setattr(sys, "path", [str(CHECKOUT / "tools"), *sys.path])
        try:
            runpy.run_path(str(CHECKOUT / "tools" / tool), run_name="__main__")
        except SystemExit as ended:
            return int(ended.code or 0)
    return 0


@pytest.fixture(scope="module")
def mpii(tiny_crowd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder ``datasets/mpii`` as the documents have it made: images/ and what the converter writes."""
    folder = tmp_path_factory.mktemp("mpii")
    files = [tiny_crowd / f"json/synthetic_{split}.json" for split in ("train", "test", "val")]
    source = of_crowd(tiny_crowd / "images", files, folder)
    assert run("convert_dataset.py", source, "--out", folder, "--name", "mpii") == 0
    single = ("--out", folder / "single", "--name", "mpii_single", "--format", "mpii-single")
    assert run("convert_dataset.py", source, *single) == 0
    return folder


def options(folder: Path, tmp_path: Path) -> list[object]:
    shipped = ["DATASET.SCHEMA", "datasets/mpii.yaml", "DATASET.ROOT", folder, "DATASET.TEST", "val"]
    return [*shipped, "OUTPUT_DIR", tmp_path / "runs", "NAME", "mpii", "TRAIN.EPOCHS", 1, "TRAIN.VISUALIZE_EVERY", 0]


def poses_of(people: list[dict]) -> list[dict]:
    """Annotated people as results."""
    results = []
    for person in people:
        joints = np.reshape(person["keypoints"], (-1, 3)).astype(float)
        joints[:, 2] = joints[:, 2] > 0
        one = {"image_id": person["image_id"], "category_id": 1, "keypoints": joints.ravel().tolist(), "score": 1.0}
        results.append(one)
    return results


def test_a_converted_file_is_valid_trains_and_is_tested_on_crops_of_groups(
    mpii: Path, tmp_path: Path, tiny_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("check_dataset.py", "--schema", mpii / "mpii.yaml", "--workers", "0", "--out", tmp_path / "check") == 0
    changes = options(mpii, tmp_path)
    assert run("train.py", "--cfg", tiny_file, "--device", "cpu", *changes) == 0, capsys.readouterr().out
    assert run("test.py", "--cfg", tiny_file, "--device", "cpu", *changes) == 0, capsys.readouterr().out
    assert "|  AP | Head | Shoulder | Elbow | Wrist | Hip | Knee | Ankle |" in capsys.readouterr().out
    folder = tmp_path / "runs/mpii/test_val"
    scores = json.loads((folder / "scores_mpii_val.json").read_text())
    assert list(scores) == ["AP", "Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle"]
    (results,) = folder.glob("*results.json")
    assert all(entry["group"] >= 1 for entry in json.loads(results.read_text()))
    # the same file scores the same
    arguments = ("--schema", "datasets/mpii.yaml", "--split", "val", "--out", tmp_path / "again.json")
    assert run("score.py", results, *arguments, "DATASET.ROOT", mpii) == 0
    assert json.loads((tmp_path / "again.json").read_text()) == pytest.approx(scores)


def test_the_people_that_count_are_found_and_others_cost(mpii: Path, tmp_path: Path) -> None:
    everyone = json.loads((mpii / "annotations/train.json").read_text())["annotations"]
    counted = [person for person in everyone if "group" in person and "head_box" in person]
    assert len(counted) < len(everyone)
    found = []
    for people in (counted, everyone):
        (tmp_path / "results.json").write_text(json.dumps(poses_of(people)))
        out = tmp_path / f"scores_{len(found)}.json"
        arguments = ("--schema", "datasets/mpii.yaml", "--split", "train", "--out", out, "DATASET.ROOT", mpii)
        assert run("score.py", tmp_path / "results.json", *arguments) == 0
        found.append(json.loads(out.read_text())["AP"])
    # a head of half an image makes everyone else's joints right for that person, too
    assert 0.7 < found[1] < found[0]
    assert found[0] > 0.85


def test_inputs_are_the_groups_crops_or_whole_images(mpii: Path, tmp_path: Path, tiny_file: Path) -> None:
    changes = [str(option) for option in options(mpii, tmp_path)]
    assert run("train.py", "--cfg", tiny_file, "--device", "cpu", *changes, "DATASET.VAL", "") == 0
    cfg = load_config(tiny_file, changes)
    job = build_eval_job(cfg, tmp_path / "runs/mpii/final.pth", "train", DistEnv(0, 1, "cpu"))
    groups = mpii_groups(load_ground_truth(mpii / "annotations/train.json", load_schema("datasets/mpii.yaml")))
    assert [(crop.image_id, crop.source) for crop in job.inputs] == [(g.image_id, g.number) for g in groups]
    assert all(crop.region for crop in job.inputs)
    whole = load_config(tiny_file, [*changes, "TEST.GROUP_CROPS", "False"])
    job = build_eval_job(whole, tmp_path / "runs/mpii/final.pth", "train", DistEnv(0, 1, "cpu"))
    assert job.inputs is job.records
    assert all(record.region is None for record in job.records)


def test_the_test_part_has_crops_and_no_scores(
    mpii: Path, tmp_path: Path, tiny_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = options(mpii, tmp_path)
    assert run("train.py", "--cfg", tiny_file, "--device", "cpu", *changes, "DATASET.VAL", "") == 0
    assert run("test.py", "--cfg", tiny_file, "--device", "cpu", "--split", "test", *changes) == 0
    assert "n/a: AP, Head" in capsys.readouterr().out


def test_a_validation_split_without_what_scores_need_is_an_error_before_training(
    mpii: Path, tmp_path: Path, tiny_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((mpii / "annotations/val.json").read_text())
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").symlink_to(mpii / "images")
    (tmp_path / "annotations/train.json").write_text((mpii / "annotations/train.json").read_text())
    for field, error in (
        ("head_box", "no person of a group (field 'group') with a head_box"),
        ("group", "no person of a group"),
    ):
        people = [{k: v for k, v in a.items() if k != field} for a in content["annotations"]]
        (tmp_path / "annotations/val.json").write_text(json.dumps(content | {"annotations": people}))
        assert run("train.py", "--cfg", tiny_file, "--device", "cpu", *options(tmp_path, tmp_path)) == 2
        assert error in capsys.readouterr().err


def test_single_people_are_squares_around_their_centers(mpii: Path) -> None:
    records = load_records(load_schema("datasets/mpii_single.yaml"), "train", root=str(mpii))
    entries = json.loads((mpii / "single/annotations/train.json").read_text())["annotations"]
    assert entries
    for entry in entries:
        x, y, width, height = entry["bbox"]
        assert width == height == pytest.approx(200 * entry["scale"], abs=2e-3)
        center = [x + width / 2, y + height / 2 - 15 * entry["scale"]]
        assert center == pytest.approx(entry["center"], abs=4e-3)
    assert sum(len(record.keypoints) for record in records) == len(entries)
