"""Signals: when the training heeds them."""

import os
import signal
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from yacs.config import CfgNode

from coupled_embedding.builders import run_folder, start_train_run
from coupled_embedding.engine.checkpointer import latest_valid, list_checkpoints
from coupled_embedding.engine.signals import StopSignal
from coupled_embedding.engine.train import train
from coupled_embedding.utils.distributed import DistEnv, process_group
from coupled_embedding.utils.errors import CheckpointError, StoppedBySignal

Tiny = Callable[..., CfgNode]
ALONE = DistEnv(0, 1, torch.device("cpu"))


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def usual_handlers() -> Iterator[None]:
    """A shell starts its background jobs with SIGINT ignored; here it means what Python makes of it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_signal_is_remembered_and_the_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignal(ALONE) as stop:
        assert stop.requested() == 0
        send(signal.SIGTERM)
        assert stop.requested() == signal.SIGTERM
        send(signal.SIGINT)  # torchrun and the terminal both pass one Ctrl-C on
        assert stop.requested() == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_later_second_signal_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with StopSignal(ALONE):
        send(signal.SIGINT)
        now += 5
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_where_all_is_saved_a_signal_stops_at_once() -> None:
    with StopSignal(ALONE) as stop, stop.interruptible(), pytest.raises(StoppedBySignal) as stopped:
        send(signal.SIGTERM)
    assert stopped.value.exit_code == 143


def test_an_earlier_signal_stops_such_a_block_before_it_begins() -> None:
    with StopSignal(ALONE) as stop:
        send(signal.SIGTERM)
        with pytest.raises(StoppedBySignal), stop.interruptible():
            pytest.fail("the block began")


def test_other_threads_train_without_signals() -> None:
    seen = []

    def work() -> None:
        with StopSignal(ALONE) as stop:
            seen.append(stop.requested())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [0]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


@pytest.mark.parametrize("at", [1, 2])  # the first validation, and that of the last epoch
def test_stopped_while_validating_a_run_validates_when_it_goes_on(tiny: Tiny, at: int) -> None:
    with process_group("cpu") as env:
        train(start_train_run(tiny("whole"), env))
        run = start_train_run(tiny("stopped"), env)
        evaluate, calls = run.evaluate, []

        def stopped_evaluate(network) -> dict[str, float]:
            calls.append(1)
            if len(calls) == at:
                send(signal.SIGTERM)
            return evaluate(network)

        run.evaluate = stopped_evaluate
        with pytest.raises(StoppedBySignal, match=f"after step {3 * at} of 6"):
            train(run)
        scores = train(start_train_run(tiny("stopped"), env, "auto"))
    whole, folder = run_folder(tiny("whole")), run_folder(tiny("stopped"))
    final, expected = (torch.load(f / "final.pth", weights_only=True) for f in (folder, whole))
    assert final["metrics"] == expected["metrics"] == scores
    for name in ("best.pth", "final.pth"):
        a, b = weights(whole / name), weights(folder / name)
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_run_that_ended_before_its_last_file_writes_it_when_it_goes_on(tiny: Tiny) -> None:
    with process_group("cpu") as env:
        scores = train(start_train_run(tiny("late"), env))
        final = run_folder(tiny("late")) / "final.pth"
        before = weights(final)
        final.unlink()
        assert train(start_train_run(tiny("late"), env, "auto")) == scores
    after = weights(final)
    assert all(torch.equal(before[key], after[key]) for key in before)


def damage_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def damage_middle(path: Path) -> None:
    # inside a tensor: what lies between the parts of the file is padding that nobody reads
    with zipfile.ZipFile(path) as archive:
        largest = archive.read(max(archive.infolist(), key=lambda part: part.file_size))
    content = bytearray(path.read_bytes())
    content[content.index(largest) + len(largest) // 2] ^= 0xFF
    path.write_bytes(content)


def damage_all(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [damage_end, damage_middle, damage_all])
def test_a_damaged_checkpoint_is_told_and_the_one_before_it_used(tiny: Tiny, capsys, damage) -> None:
    with process_group("cpu") as env:
        train(start_train_run(tiny("damaged"), env))
        folder = run_folder(tiny("damaged"))
        before = weights(folder / "final.pth")
        last = list_checkpoints(folder)[-1]
        damage(last)
        (folder / "final.pth").unlink()
        (folder / "checkpoint_00000006.pth.part").write_bytes(b"unfinished")
        capsys.readouterr()
        train(start_train_run(tiny("damaged"), env, "auto"))
    said = capsys.readouterr().out
    assert f"warning: {last}: not a readable weight file" in said
    assert "continuing from" in said
    assert "checkpoint_00000003.pth" in said
    assert not list(folder.glob("*.part"))
    after = weights(folder / "final.pth")
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_without_any_sound_checkpoint_nothing_is_started(tiny: Tiny) -> None:
    with process_group("cpu") as env:
        train(start_train_run(tiny("hopeless"), env))
        folder = run_folder(tiny("hopeless"))
        for path in list_checkpoints(folder):
            damage_end(path)
        with pytest.raises(CheckpointError, match=r"none of its checkpoints can be read; start again .*best\.pth"):
            train(start_train_run(tiny("hopeless"), env, "auto"))
    assert latest_valid(folder.parent) == (None, [])
