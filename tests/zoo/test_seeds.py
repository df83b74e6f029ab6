"""Seeds: what is done is known from what is left, and the last row is mean and deviation."""

from dataclasses import replace

import pytest
import torch

from coupled_embedding.config import load_config
from coupled_embedding.utils.distributed import DistEnv
from coupled_embedding.utils.errors import UserError
from coupled_embedding.zoo.records import record_of_test, write_record
from coupled_embedding.zoo.run_specs import RunSpec
from coupled_embedding.zoo.seeds import find_record, is_trained, seed_options, seeds_table


@pytest.fixture
def spec(tmp_path, tiny_file, tiny_crowd):
    """A seed's run that has not begun."""
    options = ["OUTPUT_DIR", str(tmp_path), "DATASET.ROOT", str(tiny_crowd), *seed_options("tiny", 3)]
    return RunSpec(str(tiny_file), tuple(options))


@pytest.fixture
def save(spec, save_weights):
    """save(name, selected_on): a checkpoint in the run's folder."""

    def save_one(name, selected_on=""):
        return save_weights(load_config(spec.config, spec.overrides), spec.describe().folder / name, selected_on)

    return save_one


def path_of(spec):
    return spec.describe().folder / "test_test/record_test.json"


def changed(spec, *options):
    return replace(spec, overrides=(*spec.overrides, *options))


def leave_record(spec, weights):
    env = DistEnv(0, 1, torch.device("cpu"))
    record = record_of_test(spec, spec.describe(), env, weights, "test", 5, {"AP": 0.5}, 1)
    write_record(record, path_of(spec).parent)
    return record


def test_a_run_is_trained_when_its_last_weights_are_there(spec, save):
    assert not is_trained(spec)
    save("final.pth")
    assert is_trained(spec)
    with pytest.raises(UserError, match=r"TRAIN\.LR"):
        is_trained(changed(spec, "TRAIN.LR", "9e-4"))


def test_a_run_is_tested_when_the_record_is_of_its_weights_and_options(spec, save):
    path = path_of(spec)
    assert find_record(path, spec, spec) is None
    record = leave_record(spec, save("final.pth"))
    assert find_record(path, spec, spec) == record
    assert find_record(path, spec, changed(spec, "TEST.FLIP", "False")) is None
    # a best checkpoint is what would be tested
    save("best.pth", "val")
    assert find_record(path, spec, spec) is None


@pytest.mark.parametrize("text", ["", "{", '{"format": "another"}'])
def test_a_record_that_cannot_be_read_is_of_no_test(spec, save, text):
    leave_record(spec, save("final.pth"))
    path_of(spec).write_text(text)
    assert find_record(path_of(spec), spec, spec) is None


def test_the_last_row_is_mean_and_sample_deviation(spec, save):
    record = leave_record(spec, save("final.pth"))
    runs = [replace(record, seed=s, metrics={"AP": ap, "AP_hard": None}) for s, ap in ((1, 0.2), (2, 0.3), (3, 0.7))]
    lines = seeds_table(runs).splitlines()
    assert lines[2:] == [
        "| 1 | 20.0 | n/a |",
        "| 2 | 30.0 | n/a |",
        "| 3 | 70.0 | n/a |",
        "| mean ± sd | 40.00 ± 26.46 | n/a |",
    ]
    assert seeds_table(runs[:1]).splitlines()[-1] == "| mean ± sd | 20.00 ± n/a | n/a |"
