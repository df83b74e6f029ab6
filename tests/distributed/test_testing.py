"""Any number of processes test each photo once and print the table of one."""

import contextlib
import io
import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

from coupled_embedding.engine import checkpoint_files as checkpoint
from coupled_embedding.engine import evaluate as testing
from coupled_embedding.networks.pose_network import build_network
from coupled_embedding.prepare import schema_of

pytestmark = pytest.mark.distributed

SCENES = 5


@pytest.fixture
def weights(tiny, tmp_path: Path) -> Path:
    """A checkpoint of a network that sees people everywhere."""
    cfg = tiny("seer", "TEST.HEATMAP_THRESHOLD", "0", "TEST.IMAGES_PER_BATCH", "1", "TEST.OVERLAYS", "0")
    schema = schema_of(cfg)
    torch.manual_seed(0)
    network = build_network(cfg, schema.num_joints)
    for layer in network.head.output_layers():
        torch.nn.init.normal_(layer.weight, 0, 0.5)
    path = tmp_path / "seer.pth"
    checkpoint.save(checkpoint.describe(cfg, schema, network.state_dict(), {}, 0), path)
    return path


def run_command(tool: str, arguments: list[str]) -> tuple[str, list[int]]:
    """Run tools/test.py in this process; return what it printed and the photos that this process predicted."""
    predicted: list[int] = []
    predict = testing.predict_records

    def counted(*given, **options):
        people = predict(*given, **options)
        predicted.extend(people)
        return people

    testing.predict_records = counted
    sys.argv, printed = [tool, *arguments], io.StringIO()
    with contextlib.redirect_stdout(printed):
        runpy.run_path(tool, run_name="__main__")
    return printed.getvalue(), predicted


def test_any_number_of_processes_prints_the_table_of_one(together, weights, checkout, tmp_path) -> None:
    tables, files = {}, {}
    for processes in (1, 2, 3, 7):  # fewer photos than processes, too
        out = tmp_path / str(processes)
        arguments = ["--weights", str(weights), "--out", str(out), "--device", "cpu"]
        told = together(processes, run_command, str(checkout / "tools" / "test.py"), arguments)
        shares = [len(predicted) for _, predicted in told]
        assert max(shares) == -(-SCENES // processes)
        photos = [photo for _, predicted in told for photo in predicted]
        assert len(photos) == len(set(photos)) == SCENES
        assert [printed for printed, _ in told[1:]] == [""] * (processes - 1)
        tables[processes] = [line for line in told[0][0].splitlines() if line.startswith("|")]
        # the record says how many processes there were, and how long they took
        written = [path for path in out.glob("*.json") if path.name != "record_test.json"]
        files[processes] = {path.name: path.read_bytes() for path in written}
        assert len(tables[processes]) == 3
    (results,) = [json.loads(text) for name, text in files[1].items() if name.startswith("keypoints")]
    assert {result["image_id"] for result in results} == set(photos)
    assert len(files[1]) == 2  # results and scores
    for processes in (2, 3, 7):
        assert tables[processes] == tables[1]
        assert files[processes] == files[1]
