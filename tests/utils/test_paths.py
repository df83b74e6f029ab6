"""Errors that a user can fix, and the one rule for paths."""

from pathlib import Path

import pytest

from coupled_embedding.utils.errors import CheckpointError, ConfigError, DatasetError, UserError
from coupled_embedding.utils.paths import resolve


@pytest.mark.parametrize("kind", [ConfigError, DatasetError, CheckpointError])
def test_every_error_is_a_user_error_with_its_text(kind):
    with pytest.raises(UserError, match="what to do"):
        raise kind("what to do")


def test_an_existing_relative_path_stays_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").touch()
    assert resolve("mine.yaml") == Path("mine.yaml")


def test_a_path_that_does_not_exist_here_is_seen_from_the_checkout(tmp_path, monkeypatch, checkout):
    monkeypatch.chdir(tmp_path)
    assert resolve("datasets/coco.yaml").samefile(checkout / "datasets" / "coco.yaml")
    assert resolve("datasets/not_there.yaml") == checkout / "datasets" / "not_there.yaml"


def test_the_working_directory_goes_before_the_checkout(tmp_path, monkeypatch):
    mine = tmp_path / "datasets" / "coco.yaml"
    mine.parent.mkdir()
    mine.touch()
    monkeypatch.chdir(tmp_path)
    assert resolve("datasets/coco.yaml").samefile(mine)


def test_an_absolute_path_is_never_moved(tmp_path):
    assert resolve(tmp_path / "not_there") == tmp_path / "not_there"


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/weights.pth") == tmp_path / "weights.pth"
