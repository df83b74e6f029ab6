"""tools/export.py writes, checks and evaluates; its errors name what to do."""

import contextlib
import importlib.util
import io
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch

from coupled_embedding.builders import build_model, build_schema
from coupled_embedding.config import config_to_dict, load_config
from coupled_embedding.engine.checkpointer import write_checkpoint
from coupled_embedding.networks.weights import FORMAT

pytest.importorskip("onnxruntime")
CHECKOUT = Path(__file__).resolve().parents[2]


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tool_export", CHECKOUT / "tools" / "export.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*arguments: object, code: int = 0) -> str:
    """Run the command in this process; return what it printed."""
    given, sys.argv = sys.argv, ["export.py", *map(str, arguments)]
    printed = io.StringIO()
    stopped = None
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            tool().main()
    except SystemExit as stop:
        stopped = stop.code
    finally:
        sys.argv = given
    assert (stopped or 0) == code, printed.getvalue()
    return printed.getvalue()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_text: str, tiny_crowd: Path) -> Path:
    """A network with a plain head, not trained, whose maps have some peaks; its license lies beside it."""
    folder = tmp_path_factory.mktemp("export_command")
    (folder / "tiny.yaml").write_text(tiny_text)
    (folder / "LICENSE").write_text("Anyone may use it.")
    cfg = load_config(folder / "tiny.yaml", ["MODEL.HEAD", "plain", "DATASET.ROOT", str(tiny_crowd)])
    schema = build_schema(cfg)
    torch.manual_seed(1)
    network = build_model(cfg, schema.num_joints)
    torch.nn.init.normal_(network.head.hms_pred_layers.weight, std=0.05)
    torch.nn.init.constant_(network.head.hms_pred_layers.bias, -0.15)
    torch.nn.init.normal_(network.head.tms_pred_layers.weight, std=0.03)
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(4, 3, 64, 64))
    content = {"format": FORMAT, "model": network.state_dict(), "config": config_to_dict(cfg)}
    write_checkpoint({**content, "schema": schema.to_dict(), "metrics": {}, "step": 0}, folder / "tiny.pth")
    return folder / "tiny.pth"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export_images")
    for number, shape in enumerate(((64, 64), (64, 128))):  # without borders, where maps are flat
        noise = np.random.default_rng(number).integers(0, 256, (*shape, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), noise)
    return folder


@pytest.mark.slow
def test_exports_checks_and_evaluates(checkpoint, images, tmp_path):
    out = tmp_path / "out"
    options = [
        "--images",
        images,
        "--int8",
        images,
        "--fp16",
        "--pt2",
        "--no-flip",
        "--input",
        "float",
        "--evaluate",
        "val",
    ]
    # by the nearer tag: which of equal costs munkres chooses depends on the last digits
    printed = run("--weights", checkpoint, "--out", out, *options, "TEST.COMPAT", "clean")
    models = {"model.onnx", "model.fp16.onnx", "model.int8.onnx", "model.pt2"}
    programs = {"predict.py", "pose_centers.py", "pose_decoder.py", "pose_maps.py"}
    texts = {"model.json", "requirements.txt", "README.md", "LICENSE"}
    assert {path.name for path in out.iterdir()} == models | programs | texts
    assert '"flip": false' in (out / "model.json").read_text()
    assert "float32 RGB" in (out / "README.md").read_text()
    assert "model.onnx: 2 images" in printed
    assert printed.count("one thread each") == 3
    rows = [line for line in printed.splitlines() if line.startswith("|") and "AP" not in line and "-:" not in line]
    assert len(rows) == 4
    assert rows[0] == rows[1]  # the library's scores and those of model.onnx


@pytest.mark.slow
def test_checks_on_noise_where_no_images_are_given(checkpoint, tmp_path):
    printed = run("--weights", checkpoint, "--out", tmp_path / "out", "TEST.NMS_KERNEL", "3")
    assert "checking on noise; --images FOLDER checks on real images" in printed
    assert "decoders in the same maps: 0.0e+00 pixels" in printed
    assert '"kernel": 3' in (tmp_path / "out" / "model.json").read_text()


def test_errors_say_what_to_do(checkpoint, images, tmp_path):
    (tmp_path / "empty").mkdir()
    printed = run("--weights", checkpoint, "--out", images, code=2)
    assert f"{images}: --out must be a new or an empty folder" in printed
    printed = run("--weights", checkpoint, "--out", tmp_path / "out", "--int8", tmp_path / "empty", code=2)
    assert f"{tmp_path / 'empty'}: no folder with images" in printed
    printed = run("--weights", checkpoint, "--out", tmp_path / "out", "TEST.SCALES", "[1, 2]", code=2)
    assert "TEST.SCALES" in printed
    assert not (tmp_path / "out").exists()
