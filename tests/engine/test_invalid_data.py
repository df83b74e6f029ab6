"""Training on a data set with broken images and annotations goes on, reports it, and stays exact."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import train_config as run
from yacs.config import CfgNode

from coupled_embedding.builders import run_folder
from coupled_embedding.data.io.data_errors import LOG
from coupled_embedding.engine.checkpointer import list_checkpoints
from coupled_embedding.utils.errors import DatasetError

pytestmark = pytest.mark.bad_input

Tiny = Callable[..., CfgNode]


def annotations_of(root: Path, split: str) -> Path:
    return root / f"json/synthetic_{split}.json"


def images_of(root: Path, split: str) -> list[Path]:
    images = json.loads(annotations_of(root, split).read_text())["images"]
    return [root / "images" / image["file_name"] for image in images]


@pytest.fixture
def broken(tiny_crowd: Path, tmp_path: Path) -> Path:
    """A tiny crowd with a cut and a missing training image, a broken box, and an empty validation image."""
    root = tmp_path / "broken"
    shutil.copytree(tiny_crowd, root)
    train_images = images_of(root, "train")
    train_images[3].write_bytes(train_images[3].read_bytes()[:-50])
    train_images[7].unlink()
    images_of(root, "val")[1].write_bytes(b"")
    content = json.loads(annotations_of(root, "train").read_text())
    content["annotations"][0]["bbox"] = [1, 2, 3]
    annotations_of(root, "train").write_text(json.dumps(content))
    return root


def test_a_training_goes_on_and_reports_each_image_once(tiny: Tiny, broken: Path, capsys) -> None:
    options = ("DATASET.ROOT", str(broken), "TRAIN.WORKERS", "1", "TRAIN.IMAGES_PER_GPU", "5")
    folder = run(tiny("goes_on", *options))
    printed = capsys.readouterr().out
    cut, gone = (images_of(broken, "train")[number] for number in (3, 7))
    assert "invalid annotations, skipped: 1\n" in printed
    assert "bbox: expected 4 numbers, got 3" in printed
    assert "epoch 1: images that cannot be read, others in their places: 2\n" in printed
    assert "epoch 2: images that cannot be read, others in their places: 2, 0 of them new\n" in printed
    assert printed.count(f"{cut}: the file ends before its image data does") == 1
    assert printed.count(f"{gone}: cannot read this image (No such file or directory)") == 1
    assert "validation images that cannot be read, without detections: 1\n" in printed
    log = json.loads((folder / LOG).read_text())
    files = [Path(issue["file"]) for issue in log["issues"]]
    assert files[0] == annotations_of(broken, "train")
    assert set(files[1:]) == {cut, gone, images_of(broken, "val")[1]}
    assert log["count"] == 4


def test_resuming_on_broken_images_is_exact(tiny: Tiny, broken: Path) -> None:
    options = ("DATASET.ROOT", str(broken), "DATASET.VAL", "''")
    whole = run(tiny("whole", *options))
    parts = run(tiny("parts", "TRAIN.KEEP", "5", *options))
    (parts / "final.pth").unlink()
    list_checkpoints(parts)[-1].unlink()
    run(tiny("parts", *options, "TRAIN.WORKERS", "2"), resume="auto")
    first, second = (torch.load(f / "final.pth", weights_only=True)["model"] for f in (whole, parts))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_strict_training_stops_with_the_files_name(tiny: Tiny, broken: Path) -> None:
    with pytest.raises(DatasetError, match=r"synthetic_train\.json: annotation \d+ of image \d+: bbox"):
        run(tiny("strict", "DATASET.ROOT", str(broken), "DATASET.ON_INVALID", "raise"))


def test_odd_but_readable_annotations_train_and_score(tiny: Tiny, tiny_crowd: Path, tmp_path: Path, capsys) -> None:
    root = Path(shutil.copytree(tiny_crowd, tmp_path / "odd"))
    for split in ("train", "val"):
        content = json.loads(annotations_of(root, split).read_text())
        people = content["annotations"]
        first, second, *_ = (image["id"] for image in content["images"])
        crowd = [dict(people[0], id=10**9 + n, image_id=first) for n in range(500)]
        content["annotations"] = [a for a in people if a["image_id"] != second] + crowd  # an empty image
        odd = content["annotations"]
        odd[0]["keypoints"][:6] = [-50, -3, 2, 5000, 7, 1]  # outside the image
        odd[1]["bbox"] = [3, 3, 0, 0]  # no area, so a scale of 0
        odd[2]["bbox"] = [900, 900, 20, 20]  # outside the image
        odd[3]["keypoints"] = [0] * len(odd[3]["keypoints"])  # counted, but not labelled
        annotations_of(root, split).write_text(json.dumps(content))
    folder = run(tiny("odd", "DATASET.ROOT", str(root), "DATASET.ON_INVALID", "raise"))
    model = torch.load(folder / "final.pth", weights_only=True)["model"]
    assert all(torch.isfinite(tensor).all() for tensor in model.values())
    assert "invalid annotations" not in capsys.readouterr().out


def test_the_policy_may_change_when_a_run_is_continued(tiny: Tiny) -> None:
    folder = run(tiny("changed", "DATASET.VAL", "''", "DATASET.ON_INVALID", "raise"))
    list_checkpoints(folder)[-1].unlink()
    (folder / "final.pth").unlink()
    run(tiny("changed", "DATASET.VAL", "''", "DATASET.ON_INVALID", "skip"), resume="auto")
    assert (folder / "final.pth").is_file()


def test_annotations_that_score_are_read_strictly_and_first(tiny: Tiny, broken: Path) -> None:
    content = json.loads(annotations_of(broken, "val").read_text())
    content["annotations"][0]["keypoints"][0] = float("nan")
    annotations_of(broken, "val").write_text(json.dumps(content))
    cfg = tiny("val", "DATASET.ROOT", str(broken), "DATASET.ON_INVALID", "skip")
    with pytest.raises(DatasetError, match=r"synthetic_val\.json: annotation \d+ of image \d+: keypoints"):
        run(cfg)
    assert not (run_folder(cfg) / "metrics.jsonl").exists()
