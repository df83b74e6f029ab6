"""How many threads a training on a CPU takes next to other programs."""

import time

import pytest
import torch

from coupled_embedding.utils import cores
from coupled_embedding.utils.cores import free_cores, limit_threads


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """machine(cores, busy): the kernel's counters while that many of the cores compute; the file."""
    path = tmp_path / "stat"

    def describe(count, busy):
        def write(ticks):
            # user nice system idle iowait irq softirq steal guest guest_nice; guests are in user, too
            fields = (
                100 + ticks * busy,
                0,
                50,
                1000 + ticks * (count - busy) // 2,
                ticks * (count - busy) // 2,
                0,
                0,
                3,
            )
            path.write_text(f"cpu  {' '.join(map(str, fields))} 70 0\ncpu0 1 2 3\n")

        write(0)
        monkeypatch.setattr(cores.os, "cpu_count", lambda: count)
        monkeypatch.setattr(time, "sleep", lambda seconds: write(20))
        return path

    return describe


@pytest.mark.parametrize(("count", "busy", "free"), [(2, 0, 2), (2, 1, 1), (2, 2, 1), (8, 3, 5), (64, 64, 1)])
def test_free_cores_are_those_that_others_leave_idle(machine, count, busy, free):
    assert free_cores(stat=machine(count, busy)) == free


@pytest.mark.parametrize("text", ["", "cpu", "cpu a b c d e f g h", "cpu 1 2 3 4 5 6 7 8"])
def test_a_system_that_does_not_say_has_all_cores_free(monkeypatch, tmp_path, text):
    monkeypatch.setattr(cores.os, "cpu_count", lambda: 4)
    path = tmp_path / "stat"
    assert free_cores(0, path) == 4
    path.write_text(text)
    assert free_cores(0, path) == 4


@pytest.fixture
def four_threads(monkeypatch):
    """Torch with four threads that the user did not choose; the number is restored."""
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_threads_are_limited_to_free_cores_and_it_is_said(four_threads, monkeypatch):
    monkeypatch.setattr(cores, "free_cores", lambda: 3)
    assert limit_threads().startswith(
        "3 of 4 CPU threads, as other programs keep the other cores busy; give TRAIN.THREADS 4"
    )
    assert torch.get_num_threads() == 3


def test_free_machines_and_chosen_threads_stay(four_threads, monkeypatch):
    monkeypatch.setattr(cores, "free_cores", lambda: 4)
    assert limit_threads() == ""
    monkeypatch.setattr(cores, "free_cores", lambda: 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert limit_threads() == ""
    assert torch.get_num_threads() == 4
