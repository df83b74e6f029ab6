"""Loader processes that die or stall name the image that they were reading."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import traceback
from multiprocessing import queues

import pytest
import torch

from coupled_embedding.data import loader
from coupled_embedding.data.dataset import TrainDataset
from coupled_embedding.data.io import worker_monitor as workers
from coupled_embedding.data.io.data_errors import DataErrorPolicy
from coupled_embedding.data.io.worker_monitor import WorkerMonitor
from coupled_embedding.data.loader import StepBatchSampler, train_batches
from coupled_embedding.data.transforms import Augmentation
from coupled_embedding.utils.errors import DatasetError

pytestmark = pytest.mark.bad_input


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """Have torch's loaders end their processes at once, and within the test."""
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.1)
    yield
    gc.collect()


class Deadly(TrainDataset):
    """Reading image 103 kills the process, as a bug in a decoder or a full memory would."""

    def _augmented(self, record, key):
        if record.image_id == 103:
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._augmented(record, key)


class Stalling(TrainDataset):
    """Reading image 103 never ends, as on a disk that is gone."""

    def _augmented(self, record, key):
        if record.image_id == 103:
            threading.Event().wait()
        return super()._augmented(record, key)


class Buggy(TrainDataset):
    """A mistake in the program is not a broken image."""

    def _augmented(self, record, key):
        raise RuntimeError("DataLoader is not to blame")


def load(kind, records, processes):
    dataset = kind(records, (0, 2, 1), Augmentation(), 32, (4,), policy=DataErrorPolicy(skip=True))
    return list(train_batches(dataset, StepBatchSampler(6, 1, last_step=6), processes, pin_memory=False))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_process_that_is_killed_names_the_image(make_records, processes):
    records = make_records(6)
    with pytest.raises(DatasetError, match=rf"a loader process .* while reading {records[3].path}; .*TRAIN\.WORKERS"):
        load(Deadly, records, processes)


class WaitingForADeath(StepBatchSampler):
    """The second batch is asked for when a loader process has died of the first one."""

    def __iter__(self):
        for number, batch in enumerate(super().__iter__()):
            if number == 1:
                os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            yield batch


def test_a_process_that_is_killed_before_the_loader_is_ready_names_the_image(make_records):
    records = make_records(6)[3:]
    dataset = Deadly(records[:1], (0, 2, 1), Augmentation(), 32, (4,), policy=DataErrorPolicy(skip=True))
    sampler = WaitingForADeath(1, 1, last_step=6)
    with pytest.raises(DatasetError, match=rf"a loader process .* while reading {records[0].path}"):
        list(train_batches(dataset, sampler, 1, pin_memory=False))


def test_a_death_is_not_raised_while_a_queue_has_its_lock(make_records, monkeypatch):
    start = queues.Queue._start_thread

    def start_and_lose_the_process(queue):
        start(queue)
        process = multiprocessing.active_children()[0]
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # torch is still to find it dead

    monkeypatch.setattr(queues.Queue, "_start_thread", start_and_lose_the_process)
    with pytest.raises(DatasetError, match=r"a loader process .* between two images") as caught:
        load(TrainDataset, make_records(6), 1)
    frames = traceback.extract_tb(caught.value.__cause__.__traceback__)
    assert "read_batches" in {frame.name for frame in frames}
    assert "put" not in {frame.name for frame in frames}


def test_a_process_that_stalls_names_the_image(make_records, monkeypatch):
    records = make_records(6)
    for module in (loader, workers):
        monkeypatch.setattr(module, "STALLED_SECONDS", 1)
    with pytest.raises(DatasetError, match=rf"brought nothing for 1 s, while reading {records[3].path}"):
        load(Stalling, records, 1)


@pytest.mark.parametrize("processes", [0, 1])
def test_a_mistake_in_the_program_stays_what_it_is(make_records, processes):
    with pytest.raises(RuntimeError, match="DataLoader is not to blame"):
        load(Buggy, make_records(6), processes)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("DataLoader worker (pid 12) is killed by signal: Killed. ", "is killed by signal: Killed between two images"),
        ("DataLoader worker (pid(s) 12, 13) exited unexpectedly", "exited unexpectedly between two images"),
    ],
)
def test_torchs_texts_are_understood(error, text, tmp_path):
    with pytest.raises(DatasetError) as raised:
        WorkerMonitor().raise_if_worker_died(RuntimeError(error), [tmp_path])
    assert text in str(raised.value)


def test_other_errors_are_left_alone(tmp_path):
    assert WorkerMonitor().raise_if_worker_died(RuntimeError("CUDA out of memory"), [tmp_path]) is None


UNFINISHED = """
import sys
from coupled_embedding.builders import build_train_run
from coupled_embedding.config import load_config
from coupled_embedding.utils.distributed import process_group

with process_group("cpu") as env:
    run = build_train_run(load_config(sys.argv[1], sys.argv[2:]), env)
batches = run.open_loader(0, 50)
next(batches)
print("ends", flush=True)
"""


def test_a_program_ends_though_its_loader_is_not_at_its_end(tiny_file, tiny_crowd) -> None:
    options = ["DATASET.ROOT", str(tiny_crowd), "DATASET.VAL", "", "TRAIN.WORKERS", "2", "TRAIN.EPOCHS", "50"]
    command = [sys.executable, "-c", UNFINISHED, str(tiny_file), *options]
    # the processes of the loader take SIGTERM for Slurm's and would stay for minutes
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, "ends\n"), done.stderr
