"""Checkpoints are chosen by a validation split, and say so."""

import pytest
from runs import CPU, train_config

from coupled_embedding.builders import build_train_run
from coupled_embedding.networks.torch_files import read_weight_file
from coupled_embedding.utils.errors import UserError


def test_choosing_by_the_test_split_is_refused(tiny):
    with pytest.raises(UserError, match=r"DATASET\.VAL: 'test' is the split that results of synthetic are reported on"):
        build_train_run(tiny("cheat", "DATASET.VAL", "test"), CPU)


def test_choosing_by_the_test_split_is_an_option_that_the_error_does_not_name(tiny):
    with pytest.raises(UserError) as refused:
        build_train_run(tiny("cheat", "DATASET.VAL", "test"), CPU)
    assert "SELECT_ON_TEST" not in str(refused.value)
    messages = build_train_run(tiny("chosen", "DATASET.VAL", "test", "TRAIN.SELECT_ON_TEST", "True"), CPU).messages
    (warning,) = [message for message in messages if message.startswith("warning")]
    assert "chosen by 'test', which results of synthetic are reported on" in warning


def test_where_another_split_chooses_the_option_changes_nothing(tiny):
    messages = build_train_run(tiny("honest", "TRAIN.SELECT_ON_TEST", "True"), CPU).messages
    assert not [message for message in messages if message.startswith("warning")]


def test_training_on_the_test_split_is_warned_of(tiny):
    messages = build_train_run(tiny("cheat", "DATASET.TRAIN", "test"), CPU).messages
    assert any(message.startswith("warning: training on 'test'") for message in messages)


def test_missing_start_weights_are_told_with_what_to_do(tiny):
    with pytest.raises(UserError, match=r"MODEL\.INIT_FROM: /nowhere/x\.pth is missing.*tools/weights\.py"):
        build_train_run(tiny("from", "MODEL.INIT_FROM", "/nowhere/x.pth"), CPU)


def test_a_checkpoint_says_what_chose_it(tiny):
    folder = train_config(tiny("chosen", "TRAIN.EPOCHS", "1"))
    files = {name: read_weight_file(folder / f"{name}.pth") for name in ("best", "final")}
    assert {name: content["selected_on"] for name, content in files.items()} == {"best": "val", "final": ""}
