"""The whole test, image file to results file, next to the released program's own."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from named_weights import weight_from_name

from coupled_embedding.builders import build_model
from coupled_embedding.config import load_config
from coupled_embedding.data.schema import load_schema

PIXELS, SCORES = 1e-3, 1e-4
# untrained weights put candidates next to each other: a near tie in 126 people, two in 266 were seen
TIES = 0.015


def write_weights(case, config: Path, path: Path) -> None:
    """Write the recorded network as a file of the released program's kind."""
    cfg = load_config(config)
    with torch.device("meta"):
        shapes = build_model(cfg, load_schema(cfg.DATASET.SCHEMA).num_joints).state_dict()
    weights = {name: weight_from_name(name, tuple(tensor.shape)) for name, tensor in shapes.items()}
    given = {name.removeprefix("weights/"): torch.from_numpy(case[name]) for name in case.files if "/" in name}
    assert given.keys() <= weights.keys()
    torch.save({"model": weights | given}, path)


def split_of(schema, images: str) -> str:
    """Return a split whose images lie in a folder, the last one named: a test split, if there is one."""
    return [name for name, split in schema.splits.items() if split.images == images][-1]


@pytest.mark.reference
@pytest.mark.photos
@pytest.mark.slow
def test_people_equal_the_recorded(end_to_end_case, images_dir, checkout, tmp_path):
    case = np.load(end_to_end_case, allow_pickle=False)
    settings = json.loads(str(case["settings"]))
    config = checkout / "config" / f"{settings['config']}.yaml"
    dataset, _, images = settings["photos"].partition("/")
    schema = load_schema(load_config(config).DATASET.SCHEMA)
    write_weights(case, config, tmp_path / "weights.pth")
    command = [sys.executable, "tools/test.py", "--cfg", str(config), "--weights", str(tmp_path / "weights.pth")]
    command += ["--split", split_of(schema, images), "--out", str(tmp_path / "out"), "--device", "cpu"]
    options = {
        "DATASET.ROOT": images_dir / dataset,
        "DATASET.IMAGE_IDS": settings["image_ids"],
        "TEST.SCALES": settings["scales"],
        "TEST.FLIP": settings["flip"],
        "TEST.PRECISION": "fp32",
        "TEST.IMAGES_PER_BATCH": 1,
        "TEST.WORKERS": 0,
        "TEST.OVERLAYS": 0,
    }
    command += [str(part) for option in options.items() for part in option]
    done = subprocess.run(command, capture_output=True, text=True, cwd=checkout, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    (results,) = (tmp_path / "out").glob("*keypoints_*_results.json")
    found = json.loads(results.read_text())
    different = 0
    for image_id in settings["image_ids"]:
        people = [entry for entry in found if entry["image_id"] == image_id]
        recorded = case["image_ids"] == image_id
        assert len(people) == recorded.sum() > 0
        keypoints = np.array([person["keypoints"] for person in people]).reshape(len(people), -1, 3)
        off = np.abs(keypoints - case["keypoints"][recorded])
        scores = np.abs(np.array([person["score"] for person in people]) - case["scores"][recorded])
        different += ((off[..., :2] > PIXELS).any((1, 2)) | (off[..., 2] > SCORES).any(1) | (scores > SCORES)).sum()
    assert different <= max(1, TIES * len(found)), f"{different} of {len(found)} people differ"
