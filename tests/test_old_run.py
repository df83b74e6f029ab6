"""A run of 2026-11-26, before options, fields and modules were renamed: still read, tested and continued to the bit."""

import hashlib
import json
import re
import zipfile
from pathlib import Path

import pytest
import torch
from runs import CPU

from coupled_embedding.builders import build_eval_job, load_model, start_train_run
from coupled_embedding.config import load_config
from coupled_embedding.engine.evaluate import evaluate
from coupled_embedding.engine.outputs import write_result
from coupled_embedding.engine.train import train
from coupled_embedding.zoo.records import read_record


@pytest.fixture
def run(tmp_path: Path, checkout: Path) -> Path:
    """The run's folder; its name and its options are those of then."""
    with zipfile.ZipFile(checkout / "tests/files/run_2026-11-26.zip") as archive:
        archive.extractall(tmp_path / "out" / "legacy")
    return tmp_path / "out" / "legacy"


@pytest.fixture
def config(run: Path, tiny_crowd: Path) -> Path:
    """The run's config, with the paths of this machine."""
    path = run / "config.yaml"
    text = re.sub(r"(ROOT|OUTPUT_DIR): .*", lambda m: f"{m[1]}: {PATHS[m[1]](run, tiny_crowd)}", path.read_text())
    path.write_text(text)
    return path


PATHS = {"ROOT": lambda run, crowd: crowd, "OUTPUT_DIR": lambda run, crowd: run.parent}


def test_options_are_read_by_their_old_names_and_values(config: Path) -> None:
    assert "PICTURES_EVERY" in config.read_text()
    cfg = load_config(config)
    assert cfg.TRAIN.VISUALIZE_EVERY == 3
    assert cfg.DATASET.ON_INVALID == "skip"
    assert (cfg.TEST.GROUPING_COST, cfg.TEST.MULTISCALE_TAGS, cfg.TEST.REFINE) == ("ae", "concat", "fast")
    assert (cfg.TEST.NMS_TIE_ORDER, cfg.TEST.NMS_DEDUP_PLATEAUS, cfg.TEST.MISSING_JOINTS) == ("rows", True, "zero")


def test_its_checkpoint_is_continued_to_the_same_bits_and_the_same_results(
    run: Path, config: Path, tmp_path: Path
) -> None:
    cfg = load_config(config)
    train(start_train_run(cfg, CPU, "auto"))
    digest = hashlib.sha256()
    for name, tensor in torch.load(run / "final.pth", weights_only=True)["model"].items():
        digest.update(name.encode() + tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    assert digest.hexdigest() == json.loads((run / "expected.json").read_text())["final_weights_sha256"]
    # the best network was that of the first epoch
    job = build_eval_job(cfg, run / "checkpoint_00000003.pth", "test", CPU)
    results = write_result(evaluate(job, CPU), job, tmp_path)
    assert results.read_bytes() == (run / "test_test" / results.name).read_bytes()


def test_its_checkpoint_alone_is_loaded(run: Path) -> None:
    model = load_model(run / "checkpoint_00000003.pth")
    assert model.metrics["AP"] >= 0
    assert (model.cfg.TEST.OKS_BACKEND, model.cfg.TRAIN.MAX_NONFINITE_STEPS) == ("pycocotools", 20)


def test_its_records_are_read(run: Path) -> None:
    trained, tested = read_record(run / "record_train.json"), read_record(run / "test_test/record_test.json")
    assert (trained.kind, trained.dataset, trained.ranks) == ("train", "synthetic", 1)
    assert (tested.kind, tested.images, tested.protocol.kind) == ("test", 5, "validated")
    assert tested.metrics.keys() >= {"AP", "AP_easy", "AP_hard"}
