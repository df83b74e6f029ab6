"""Seeds: what is done is told from what is left, and the last row is mean and deviation."""

from dataclasses import replace

import pytest
import torch

from coupled_embedding.utils.distributed import World
from coupled_embedding.utils.errors import UserError
from coupled_embedding.zoo.jobs import Job
from coupled_embedding.zoo.records import record_of_test, write_record
from coupled_embedding.zoo.seeds import SeedRun, seed_options, seeds_table


@pytest.fixture
def run(tmp_path, tiny_file, tiny_crowd):
    """A seed's run that has not begun."""
    options = ["OUTPUT_DIR", str(tmp_path), "DATASET.ROOT", str(tiny_crowd), *seed_options("tiny", 3)]
    job = Job(str(tiny_file), tuple(options))
    return SeedRun(3, job, job, tmp_path / "tiny_seed3", tmp_path / "tiny_seed3/test_test/record_test.json")


def leave_record(run, weights):
    cfg = run.test.load()
    record = record_of_test(run.test, cfg, World(0, 1, torch.device("cpu")), weights, "test", 5, {"AP": 0.5}, 1)
    write_record(record, run.record.parent)
    return record


def test_a_run_is_trained_when_its_last_weights_are_there(run, save_weights):
    assert not run.is_trained()
    save_weights(run.train.load(), run.folder / "final.pth")
    assert run.is_trained()
    other = replace(run, train=Job(run.train.config, (*run.train.overrides, "TRAIN.LR", "9e-4")))
    with pytest.raises(UserError, match=r"TRAIN\.LR"):
        other.is_trained()


def test_a_run_is_tested_when_the_record_is_of_its_weights_and_options(run, save_weights):
    assert run.tested() is None
    weights = save_weights(run.train.load(), run.folder / "final.pth")
    record = leave_record(run, weights)
    assert run.tested() == record
    other = replace(run, test=Job(run.test.config, (*run.test.overrides, "TEST.FLIP", "False")))
    assert other.tested() is None
    # a best checkpoint is what would be tested
    save_weights(run.train.load(), run.folder / "best.pth", "val")
    assert run.tested() is None


@pytest.mark.parametrize("text", ["", "{", '{"format": "another"}'])
def test_a_record_that_cannot_be_read_is_of_no_test(run, save_weights, text):
    leave_record(run, save_weights(run.train.load(), run.folder / "final.pth"))
    run.record.write_text(text)
    assert run.tested() is None


def test_the_last_row_is_mean_and_sample_deviation(run, save_weights):
    record = leave_record(run, save_weights(run.train.load(), run.folder / "final.pth"))
    runs = [replace(record, seed=s, figures={"AP": ap, "AP_hard": None}) for s, ap in ((1, 0.2), (2, 0.3), (3, 0.7))]
    lines = seeds_table(runs).splitlines()
    assert lines[2:] == [
        "| 1 | 20.0 | n/a |",
        "| 2 | 30.0 | n/a |",
        "| 3 | 70.0 | n/a |",
        "| mean ± sd | 40.00 ± 26.46 | n/a |",
    ]
    assert seeds_table(runs[:1]).splitlines()[-1] == "| mean ± sd | 20.00 ± n/a | n/a |"
