"""The one table of options, and the one of names and values that they had before."""

import pytest

from coupled_embedding.config import config_from_dict, default_config, flat, load_config
from coupled_embedding.config.aliases import BEFORE, OPTIONS
from coupled_embedding.config.checks import coerce
from coupled_embedding.config.defaults import all_options
from coupled_embedding.config.resume import RESUME_SAFE

TABLE = all_options()
OLD_VALUES = [(old, new, before, now) for old, (new, values) in OPTIONS.items() for before, now in values.items()]


def nested(name, value):
    group, _, key = name.rpartition(".")
    return {group: {key: value}} if group else {key: value}


@pytest.mark.parametrize("name", TABLE)
def test_every_option_has_a_valid_default_of_its_own_type_and_a_meaning(name):
    option = TABLE[name]
    assert option.meaning.strip() == option.meaning != ""
    if option.default is None:  # another option's choice, whose type has to be named
        assert option.kind in (bool, int, str)
    else:
        assert option.kind is None
        assert coerce(option, option.default, name, "x") == option.default
        assert option.rule is None or option.rule.test(option.default)
    assert option.rule is None or option.rule.words


def test_the_defaults_are_the_tables():
    assert flat(default_config()) == {name: option.default for name, option in TABLE.items()}
    assert flat(load_config()) == flat(default_config())


def test_what_changes_no_result_may_change_on_resume_but_for_what_the_process_is_built_of():
    free = {name for name, option in TABLE.items() if not option.results} - RESUME_SAFE
    assert free == {"NAME", "TRAIN.CHANNELS_LAST", "TRAIN.COMPILE"}


@pytest.mark.parametrize("old", OPTIONS)
def test_old_names_are_of_existing_options_in_the_same_group(old):
    new, values = OPTIONS[old]
    assert new in TABLE
    assert old == new or old not in TABLE
    assert old != new or values
    assert old.partition(".")[0] == new.partition(".")[0]


@pytest.mark.parametrize(("old", "new", "before", "now"), OLD_VALUES)
def test_old_values_are_read_as_existing_ones_from_files_and_checkpoints(old, new, before, now, tmp_path):
    option = TABLE[new]
    assert coerce(option, now, new, "x") == now
    assert option.rule is None or option.rule.test(now)
    assert flat(config_from_dict(nested(old, before), "x"))[new] == now
    (tmp_path / "old.yaml").write_text(f"{old.partition('.')[0]}: {{{old.partition('.')[2]}: {before}}}")
    assert flat(load_config(tmp_path / "old.yaml"))[new] == now
    assert flat(load_config(None, [old, str(before)]))[new] == now


@pytest.mark.parametrize("old", OPTIONS)
def test_old_names_take_todays_values_and_give_way_to_todays_names(old):
    new, _ = OPTIONS[old]
    value = TABLE[new].default
    if value is None:
        value = False if TABLE[new].kind is bool else TABLE[new].rule.words.split("'")[1]
    assert flat(config_from_dict(nested(old, value), "x"))[new] == value
    group = old.partition(".")[0]
    both = {group: nested(new, value)[group] | {old.partition(".")[2]: [["no such value"]]}}
    if old != new:
        assert flat(config_from_dict(both, "x"))[new] == value


def test_checkpoints_older_than_an_option_have_what_held_for_them():
    for name, value in BEFORE.items():
        assert TABLE[name].rule is None or TABLE[name].rule.test(value)
        assert value != TABLE[name].default
        group = name.partition(".")[0]
        assert flat(config_from_dict({group: {}}, "x"))[name] == value
        given = nested(name, TABLE[name].default)
        assert flat(config_from_dict(given, "x"))[name] == TABLE[name].default
