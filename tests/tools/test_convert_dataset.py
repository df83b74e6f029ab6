"""A YOLO-pose folder of COCO's images, converted, passes the validation, and a network trains on it."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from coupled_embedding.data.coco import load_records
from coupled_embedding.data.schema import load_schema

CHECKOUT = Path(__file__).resolve().parents[2]
FLIP = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]


def run(tool: str, *arguments: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [tool, *map(str, arguments)])
        patch.setattr(sys, "path", [str(CHECKOUT / "tools"), *sys.path])
        try:
            runpy.run_path(str(CHECKOUT / "tools" / tool), run_name="__main__")
        except SystemExit as ended:
            return int(ended.code or 0)
    return 0


def labels(annotations: list[dict], width: int, height: int) -> str:
    """Return YOLO's lines of COCO's people."""
    lines = []
    for annotation in annotations:
        x, y, w, h = annotation["bbox"]
        box = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
        joints = np.reshape(annotation["keypoints"], (-1, 3)) / (width, height, 1)
        numbers = [f"{v:.6f}" for v in (*box, *joints.ravel())]
        lines.append(" ".join(["0", *numbers]))
    return "\n".join(lines)


@pytest.fixture(scope="module")
def yolo(images_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images of COCO's sample, with people whose joints lie inside their boxes, as a YOLO-pose folder."""
    folder = tmp_path_factory.mktemp("yolo")
    source = images_dir / "coco/train2017"
    content = json.loads((images_dir / "coco/annotations/person_keypoints_train2017.json").read_text())
    schema = load_schema("datasets/coco.yaml")
    fitting = []
    for record in load_records(schema, "train2017", root=str(images_dir / "coco")):
        labelled = record.keypoints[..., 2] > 0
        low, high = record.boxes[:, None, :2], record.boxes[:, None, :2] + record.boxes[:, None, 2:]
        inside = ((record.keypoints[..., :2] >= low) & (record.keypoints[..., :2] <= high)).all(-1)
        if labelled.any() and (inside | ~labelled).all():
            fitting.append(record.image_id)
    for image in [image for image in content["images"] if image["id"] in fitting][:4]:
        path = folder / "images/train" / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / image["file_name"], path)
        people = [a for a in content["annotations"] if a["image_id"] == image["id"] and not a["iscrowd"]]
        label = folder / "labels/train" / f"{path.stem}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(labels(people, image["width"], image["height"]))
    (folder / "data.yaml").write_text(
        f"path: .\ntrain: images/train\nval: images/train\nkpt_shape: [17, 3]\nflip_idx: {FLIP}\nnames: {{0: person}}\n"
    )
    return folder


@pytest.mark.photos
def test_a_yolo_folder_of_coco_s_images_is_valid_and_trains(
    yolo: Path, images_dir: Path, tmp_path: Path, tiny_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("convert_dataset.py", yolo, "--out", tmp_path / "out", "--name", "mine") == 0
    schema = tmp_path / "out/mine.yaml"
    check = ("--schema", schema, "--workers", "0", "--out", tmp_path / "check")
    assert run("check_dataset.py", *check) == 0, capsys.readouterr().out
    original = {
        record.path.name: record
        for record in load_records(load_schema("datasets/coco.yaml"), "train2017", root=str(images_dir / "coco"))
    }
    for record in load_records(load_schema(schema), "train"):
        expected = original[record.path.name]
        assert np.abs(record.keypoints - expected.keypoints).max() < 2e-3
        assert np.abs(record.boxes - expected.boxes).max() < 2e-3
    data = ["DATASET.SCHEMA", schema, "DATASET.TRAIN", "train", "DATASET.VAL", "", "DATASET.TEST", "train"]
    options = [*data, "NAME", "mine", "OUTPUT_DIR", tmp_path / "runs", "TRAIN.EPOCHS", 1, "TRAIN.IMAGES_PER_GPU", 4]
    assert run("train.py", "--cfg", tiny_file, "--device", "cpu", *options, "TRAIN.VISUALIZE_EVERY", 0) == 0
    assert (tmp_path / "runs/mine/final.pth").is_file(), capsys.readouterr().out
