"""A run that has ended is trained longer: the same bits as if that had been planned, or a clear refusal."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import train_config as run
from yacs.config import CfgNode

from coupled_embedding.builders import load_model
from coupled_embedding.config import load_config
from coupled_embedding.engine.checkpointer import list_checkpoints
from coupled_embedding.engine.run_folder import earlier_ends
from coupled_embedding.utils.errors import UserError

Tiny = Callable[..., CfgNode]
QUICK = ("DATASET.VAL", "''", "TRAIN.VISUALIZE_EVERY", "0")


def content(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def assert_same(a: object, b: object) -> None:
    """Compare containers of tensors and plain values, to the bit."""
    if isinstance(a, dict):
        assert isinstance(b, dict)
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("TRAIN.EMA", "0.9", "TRAIN.MILESTONES", "[1, 3]", "TRAIN.EVAL_EVERY", "2"),
        ("TRAIN.WARMUP_STEPS", "9", "TRAIN.MILESTONES", "[4]", *QUICK),
    ],
)
def test_a_longer_run_equals_one_that_was_planned_as_long(tiny: Tiny, options: tuple[str, ...]) -> None:
    whole = run(tiny("whole", *options, "TRAIN.EPOCHS", "4"))
    first = run(tiny("parts", *options, "TRAIN.EPOCHS", "2"))
    longer = run(tiny("parts", *options, "TRAIN.EPOCHS", "4"), resume="auto")
    assert longer == first
    assert_same(content(whole / "final.pth")["model"], content(longer / "final.pth")["model"])
    states = [content(list_checkpoints(folder)[-1]) for folder in (whole, longer)]
    assert [state["step"] for state in states] == [12, 12]
    assert_same(states[0]["training"], states[1]["training"])


def test_the_earlier_end_is_kept_under_its_own_name(tiny: Tiny) -> None:
    folder = run(tiny("kept", *QUICK, "TRAIN.EPOCHS", "1"))
    before = (folder / "final.pth").read_bytes()
    assert earlier_ends(folder) == []
    run(tiny("kept", *QUICK, "TRAIN.EPOCHS", "2"), resume="auto")
    assert (folder / "final_1_epochs.pth").read_bytes() == before
    assert load_model(folder / "final.pth").cfg.TRAIN.EPOCHS == 2
    assert content(folder / "final.pth")["step"] == 6
    assert load_config(folder / "config.yaml").TRAIN.EPOCHS == 2
    run(tiny("kept", *QUICK, "TRAIN.EPOCHS", "3"), resume="auto")
    assert earlier_ends(folder) == [1, 2]
    assert content(folder / "final.pth")["step"] == 9


def test_a_longer_run_that_is_stopped_has_no_last_weights_and_goes_on(tiny: Tiny, monkeypatch) -> None:
    folder = run(tiny("stopped", *QUICK, "TRAIN.EPOCHS", "1"))
    longer = tiny("stopped", *QUICK, "TRAIN.EPOCHS", "3")
    save = torch.save

    def save_twice(saved: dict, file: object) -> None:
        if saved["step"] == 9:
            raise OSError(28, "No space left on device")
        save(saved, file)

    monkeypatch.setattr(torch, "save", save_twice)
    with pytest.raises(UserError, match="No space left"):
        run(longer, resume="auto")
    monkeypatch.undo()
    assert not (folder / "final.pth").exists()
    run(longer, resume="auto")
    assert content(folder / "final.pth")["step"] == 9
    assert earlier_ends(folder) == [1]


def test_a_run_that_was_stopped_before_its_end_can_be_made_longer(tiny: Tiny) -> None:
    whole = run(tiny("whole", *QUICK, "TRAIN.EPOCHS", "3"))
    folder = run(tiny("parts", *QUICK, "TRAIN.EPOCHS", "2"))
    (folder / "final.pth").unlink()
    list_checkpoints(folder)[-1].unlink()
    run(tiny("parts", *QUICK, "TRAIN.EPOCHS", "3"), resume="auto")
    assert earlier_ends(folder) == []
    assert_same(content(whole / "final.pth")["model"], content(folder / "final.pth")["model"])


@pytest.mark.parametrize(
    ("options", "epochs", "reason"),
    [
        (("TRAIN.SCHEDULE", "cosine"), "3", "the learning rates of TRAIN.SCHEDULE cosine depend on it"),
        ((), "1", "a run can be made longer, not shorter"),
    ],
)
def test_what_would_be_another_training_is_refused_with_the_way_to_do_it(
    tiny: Tiny, options: tuple[str, ...], epochs: str, reason: str
) -> None:
    folder = run(tiny("refused", *QUICK, *options))
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(UserError) as caught:
        run(tiny("refused", *QUICK, *options, "TRAIN.EPOCHS", epochs), resume="auto")
    text = str(caught.value)
    assert f"TRAIN.EPOCHS: 2 before, {epochs} now ({reason}" in text
    assert f"NAME some_name MODEL.INIT_FROM {folder / 'final.pth'}" in text
    assert before == {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_the_way_that_the_refusal_names_works(tiny: Tiny) -> None:
    folder = run(tiny("first", *QUICK, "TRAIN.SCHEDULE", "cosine", "TRAIN.EPOCHS", "1"))
    start = str(folder / "final.pth")
    other = run(tiny("some_name", *QUICK, "TRAIN.SCHEDULE", "cosine", "MODEL.INIT_FROM", start, "TRAIN.EPOCHS", "1"))
    assert content(other / "final.pth")["step"] == 3


def test_another_option_beside_is_still_refused(tiny: Tiny) -> None:
    run(tiny("other", *QUICK, "TRAIN.EPOCHS", "1"))
    with pytest.raises(UserError, match=r"TRAIN\.LR: 0\.0015 before, 0\.01 now") as caught:
        run(tiny("other", *QUICK, "TRAIN.EPOCHS", "2", "TRAIN.LR", "0.01"), resume="auto")
    assert "TRAIN.EPOCHS" not in str(caught.value)
