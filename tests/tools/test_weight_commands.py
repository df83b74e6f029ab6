"""Weights and runs as users have them, given to the commands: real processes, real files."""

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import torch

CHECKOUT = Path(__file__).resolve().parents[2]
QUICK = ["DATASET.VAL", "", "TRAIN.VISUALIZE_EVERY", "0", "TRAIN.EPOCHS", "1", "TEST.OVERLAYS", "0"]


def run(tool: str, *arguments: str, code: int = 0) -> str:
    """Run a command; return what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(CHECKOUT / "tools" / tool), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, env=environment, timeout=400)
    printed = done.stdout + done.stderr
    assert done.returncode == code, printed
    assert "Traceback" not in printed
    return printed


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_crowd: Path, tiny_text: str) -> tuple[list[str], Path]:
    """Return the options of a config whose run has ended, and the run's folder."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / "tiny.yaml").write_text(tiny_text)
    options = ["NAME", "tiny", "OUTPUT_DIR", str(folder / "out"), "DATASET.ROOT", str(tiny_crowd), *QUICK]
    given = ["--cfg", str(folder / "tiny.yaml"), *options]
    run("train.py", *given)
    return given, folder / "out/tiny"


@pytest.fixture(scope="module")
def weights(trained: tuple[list[str], Path]) -> dict[str, torch.Tensor]:
    return torch.load(trained[1] / "final.pth", weights_only=True)["model"]


def error_of(printed: str) -> str:
    """Return a command's error, which is of a few lines."""
    text = printed[printed.index("error: ") :]
    assert len(text.splitlines()) <= 12
    return text


def test_averaged_weights_of_another_program_are_tested_and_reported(trained, weights, tmp_path: Path) -> None:
    raw = {f"module.{name}": tensor + 1 for name, tensor in weights.items()}
    torch.save({"model": raw, "model_ema": weights}, tmp_path / "both.pth")
    printed = run("test.py", *trained[0], "--weights", str(tmp_path / "both.pth"), "--out", str(tmp_path / "out"))
    assert "both.pth: the averaged weights (the key 'model_ema') are taken, not those of 'model'" in printed


def test_weights_for_other_joints_name_the_joints(trained) -> None:
    final = str(trained[1] / "final.pth")
    error = error_of(run("test.py", "--weights", final, "DATASET.SCHEMA", "datasets/coco.yaml", code=2))
    assert "was trained for the joints" in error
    assert "(14), but data set 'coco' has nose," in error
    assert "MODEL.INIT_FROM" in error


def test_weights_alone_for_other_joints_name_both_numbers(trained, weights, tmp_path: Path) -> None:
    torch.save(weights, tmp_path / "alone.pth")
    given = [*trained[0], "DATASET.SCHEMA", "datasets/coco.yaml", "--weights", str(tmp_path / "alone.pth")]
    assert "weights for 14 joints, the data set has 17" in error_of(run("test.py", *given, code=2)).splitlines()[0]


def test_another_config_than_a_checkpoints_own_names_the_option(trained) -> None:
    given = [*trained[0], "MODEL.TAG_DIM", "2", "--weights", str(trained[1] / "final.pth")]
    first = error_of(run("diagnose.py", *(given[:2] + given[-2:] + given[2:-2]), code=2)).splitlines()[0]
    assert "MODEL.TAG_DIM is 4 in the file, 2 in this network" in first
    assert "without --cfg the file's own config applies" in first


def test_the_demo_says_how_weights_alone_become_a_checkpoint(weights, tmp_path: Path) -> None:
    torch.save({"state_dict": weights}, tmp_path / "alone.pth")
    error = error_of(run("demo.py", "image.jpg", "--weights", str(tmp_path / "alone.pth"), code=2))
    assert "alone.pth: not a checkpoint of this package" in error
    assert "python tools/convert.py" in error


def test_a_conversion_for_other_joints_names_both_numbers(tmp_path: Path) -> None:
    torch.save({"final_layers.0.weight": torch.ones(34, 32, 1, 1)}, tmp_path / "coco.pth")
    given = [str(tmp_path / "coco.pth"), "--out", str(tmp_path / "new.pth")]
    error = error_of(run("convert.py", *given, "--cfg", "config/crowdpose/ae_hrhrnet_w32_512.yaml", code=2))
    assert "weights for 17 joints, data set 'crowdpose' has 14" in error
    assert not (tmp_path / "new.pth").exists()


def test_a_run_that_is_trained_longer_says_so_and_so_does_its_record(trained) -> None:
    given, folder = trained
    before = (folder / "final.pth").read_bytes()
    printed = run("train.py", *given, "TRAIN.EPOCHS", "2", "--resume")
    assert f"trained longer: 2 epochs instead of 1; the weights after 1 epoch are {folder}/final_1_ep" in printed
    record = json.loads((folder / "record_train.json").read_text())
    assert record["notes"] == "trained longer: it had ended after 1 epoch, and went on from there"
    assert (record["settings"]["TRAIN.EPOCHS"], record["resumed"]) == (2, True)
    assert record["weights"]["final.pth"] == sha256((folder / "final.pth").read_bytes()).hexdigest()
    assert (folder / "final_1_epochs.pth").read_bytes() == before
    assert "was finished before; nothing to do" in run("train.py", *given, "TRAIN.EPOCHS", "2", "--resume")
    assert "MODEL.INIT_FROM" in error_of(run("train.py", *given, "--resume", code=2))
