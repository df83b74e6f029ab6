"""Any number of processes test each image once and print the table of one."""

import contextlib
import io
import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from runs import untrained_checkpoint

from coupled_embedding.engine import evaluate as evaluation

pytestmark = pytest.mark.distributed

SCENES = 5


@pytest.fixture
def weights(tiny, tmp_path: Path) -> Path:
    """A checkpoint of a network that sees people everywhere."""
    cfg = tiny("seer", "TEST.HEATMAP_THRESHOLD", "0", "TEST.IMAGES_PER_BATCH", "1", "TEST.OVERLAYS", "0")
    path = untrained_checkpoint(cfg, tmp_path / "seer.pth")
    content = torch.load(path, weights_only=True)
    for name, weight in content["model"].items():
        if "pred_layers" in name and name.endswith("weight"):
            torch.nn.init.normal_(weight, 0, 0.5)
    torch.save(content, path)
    return path


def run_command(tool: str, arguments: list[str]) -> tuple[str, list[int]]:
    """Run tools/test.py in this process; return what it printed and the images that this process predicted."""
    predicted: list[int] = []
    predict = evaluation.predict_records

    def counted(*given, **options):
        poses = predict(*given, **options)
        predicted.extend(poses)
        return poses

    evaluation.predict_records = counted
    sys.argv, printed = [tool, *arguments], io.StringIO()
    sys.path.insert(0, str(Path(tool).parent))  # as for a command: tools import each other
    with contextlib.redirect_stdout(printed):
        runpy.run_path(tool, run_name="__main__")
    return printed.getvalue(), predicted


def test_any_number_of_processes_prints_the_table_of_one(together, weights, checkout, tmp_path) -> None:
    tables, files = {}, {}
    for processes in (1, 2, 3, 7):  # fewer images than processes, too
        out = tmp_path / str(processes)
        arguments = ["--weights", str(weights), "--out", str(out), "--device", "cpu"]
        told = together(processes, run_command, str(checkout / "tools" / "test.py"), arguments)
        shares = [len(predicted) for _, predicted in told]
        assert max(shares) == -(-SCENES // processes)
        images = [image for _, predicted in told for image in predicted]
        assert len(images) == len(set(images)) == SCENES
        assert [printed for printed, _ in told[1:]] == [""] * (processes - 1)
        tables[processes] = [line for line in told[0][0].splitlines() if line.startswith("|")]
        # the record says how many processes there were, and how long they took
        written = [path for path in out.glob("*.json") if path.name != "record_test.json"]
        files[processes] = {path.name: path.read_bytes() for path in written}
        assert len(tables[processes]) == 3
    (results,) = [json.loads(text) for name, text in files[1].items() if name.startswith("keypoints")]
    assert {result["image_id"] for result in results} == set(images)
    assert len(files[1]) == 2  # results and scores
    for processes in (2, 3, 7):
        assert tables[processes] == tables[1]
        assert files[processes] == files[1]
