"""Checkpoints are chosen by a validation split, and say so."""

import pytest
import torch

from coupled_embedding.engine.run import build_trainer, run_folder, train
from coupled_embedding.networks.weights import read_weight_file
from coupled_embedding.utils.distributed import World
from coupled_embedding.utils.errors import UserError

HERE = World(0, 1, torch.device("cpu"))


def test_choosing_by_the_test_split_is_refused(tiny):
    with pytest.raises(UserError, match=r"DATASET\.VAL: 'test' is the split that figures of synthetic are reported on"):
        build_trainer(tiny("cheat", "DATASET.VAL", "test"), HERE)


def test_choosing_by_the_test_split_is_an_option_that_the_error_does_not_name(tiny):
    with pytest.raises(UserError) as refused:
        build_trainer(tiny("cheat", "DATASET.VAL", "test"), HERE)
    assert "SELECT_ON_TEST" not in str(refused.value)
    _, messages = build_trainer(tiny("chosen", "DATASET.VAL", "test", "TRAIN.SELECT_ON_TEST", "True"), HERE)
    (warning,) = [message for message in messages if message.startswith("warning")]
    assert "chosen by 'test', which figures of synthetic are reported on" in warning


def test_where_another_split_chooses_the_option_changes_nothing(tiny):
    _, messages = build_trainer(tiny("honest", "TRAIN.SELECT_ON_TEST", "True"), HERE)
    assert not [message for message in messages if message.startswith("warning")]


def test_training_on_the_test_split_is_warned_of(tiny):
    _, messages = build_trainer(tiny("cheat", "DATASET.TRAIN", "test"), HERE)
    assert any(message.startswith("warning: training on 'test'") for message in messages)


def test_missing_start_weights_are_told_with_what_to_do(tiny):
    with pytest.raises(UserError, match=r"MODEL\.INIT_FROM: /nowhere/x\.pth is missing.*tools/weights\.py"):
        build_trainer(tiny("from", "MODEL.INIT_FROM", "/nowhere/x.pth"), HERE)


def test_a_checkpoint_says_what_chose_it(tiny):
    cfg = tiny("chosen", "TRAIN.EPOCHS", "1")
    train(cfg, HERE)
    files = {name: read_weight_file(run_folder(cfg) / f"{name}.pth") for name in ("best", "final")}
    assert {name: content["selected_on"] for name, content in files.items()} == {"best": "val", "final": ""}
