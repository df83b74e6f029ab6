"""The commands of the model zoo as a user runs them, on the tiny crowd."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
CARD = """
title: a tiny network
config: {config}
input: 64
starts_from: scratch
test: {{TEST.SCALES: [2, 1], TEST.HEATMAP_THRESHOLD: 0.0}}
weights: {{file: tiny.pth}}
paper: {{source: no publication, trained_on: train, metrics: {{test: {{AP: 50.0}}}}}}
"""


def run(tool: str, *arguments: str, code: int = 0, folder: Path = CHECKOUT) -> str:
    """Run a command in a folder; return what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(CHECKOUT / "tools" / tool), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=400)
    printed = done.stdout + done.stderr
    assert done.returncode == code, printed
    assert "Traceback" not in printed
    return printed


def last_table(printed: str) -> list[list[str]]:
    lines = printed[printed.rindex("| seed |") :].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


@pytest.mark.slow
def test_seeds_of_a_card_are_trained_tested_averaged_and_not_done_again(tmp_path, tiny_text, tiny_crowd):
    (tmp_path / "models").mkdir()
    schema = f"{CHECKOUT}/datasets/synthetic.yaml, ROOT: '{tiny_crowd}'"
    (tmp_path / "tiny.yaml").write_text("NAME: tiny\n" + tiny_text.replace("datasets/synthetic.yaml", schema))
    (tmp_path / "models/tiny_ms.yaml").write_text(CARD.format(config=tmp_path / "tiny.yaml"))
    first = run("seeds.py", "--model", "tiny_ms", "--seeds", "1", "TRAIN.EPOCHS", "1", folder=tmp_path)
    assert "seed 1: training" in first
    assert last_table(first)[-1][1].endswith("± n/a")
    again = run("seeds.py", "--model", "tiny_ms", "--seeds", "2", "TRAIN.EPOCHS", "1", folder=tmp_path)
    assert "seed 1" not in again
    assert "seed 2: training" in again
    (tmp_path / "outputs/tiny_seeds.md").unlink()
    (tmp_path / "outputs/tiny_seeds.md").mkdir()
    printed = run("seeds.py", "--model", "tiny_ms", "--seeds", "1", "TRAIN.EPOCHS", "1", folder=tmp_path, code=2)
    assert "tiny_seeds.md: cannot write the table" in printed
    records = [
        json.loads((tmp_path / f"outputs/tiny_seed{seed}_ms/test_test/record_test.json").read_text()) for seed in (1, 2)
    ]
    for seed, record in enumerate(records, 1):
        assert (record["model"], record["seed"], record["settings"]["TEST.SCALES"]) == ("tiny_ms", seed, [2.0, 1.0])
        assert record["protocol"] == {"trained_on": "train", "selected_on": "val", "tested_on": "test"}
        trained = json.loads((tmp_path / f"outputs/tiny_seed{seed}/record_train.json").read_text())
        assert record["weights"].items() <= trained["weights"].items()
        assert (trained["settings"].get("SEED", 1), trained["resumed"]) == (seed, False)
    rows = last_table(again)
    assert [row[0] for row in rows[2:]] == ["1", "2", "mean ± sd"]
    for column, name in enumerate(rows[0][1:], 1):
        values = [100 * (record["metrics"][name] or 0) for record in records]
        mean = f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"
        assert rows[-1][column] in {mean, "n/a"}


def test_weights_says_what_is_missing_and_where_it_belongs():
    printed = run("weights.py", "--cfg", "config/coco/ce_hrnet_w48_640.yaml", "MODEL.PRETRAINED", "none/x.pth", code=2)
    assert printed.startswith("missing  x.pth (MODEL.PRETRAINED): belongs at ")
    assert "1 of 1 files that training starts from are missing" in printed
    assert "no file is needed" in run("weights.py", "--cfg", "config/synthetic/ce_small.yaml")


def test_table_rejects_other_files(tmp_path):
    (tmp_path / "record.json").write_text("{}")
    printed = run("table.py", "--add", str(tmp_path / "record.json"), code=2)
    assert "record.json: not a record of this package" in printed
