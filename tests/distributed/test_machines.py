"""Two machines, played by two torchruns on one, and processes that are killed while they train."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from coupled_embedding.builders import run_folder, start_train_run
from coupled_embedding.config import load_config
from coupled_embedding.engine.checkpointer import list_checkpoints
from coupled_embedding.engine.train import train
from coupled_embedding.utils.distributed import process_group

pytestmark = pytest.mark.distributed


@pytest.fixture
def configured(tiny, as_file) -> Callable[[str], str]:
    """configured(name): the file of a config of two processes with 2 images each: 3 steps per epoch, 2 epochs."""
    return lambda name: as_file(tiny(name, "TRAIN.IMAGES_PER_GPU", "2", "TRAIN.EMA", "0.9", "DATASET.VAL", "''"))


@pytest.fixture
def one_machine(together, configured) -> dict[str, torch.Tensor]:
    """The weights that two processes of one machine end with."""
    cfg = configured("one_machine")
    together(2, train_here, cfg)
    return final_weights(cfg)


def train_here(file: str) -> None:
    with process_group("cpu") as env:
        train(start_train_run(load_config(file), env))


def final_weights(file: str) -> dict[str, torch.Tensor]:
    return torch.load(run_folder(load_config(file)) / "final.pth", weights_only=True)["model"]


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def torchruns(count: int, processes: int, *command: str) -> list[str]:
    """Run a command under this number of torchruns that meet each other; return what each printed."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}", "--max-restarts", "1"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(count)]
    launcher += ["--nproc-per-node", str(processes), *meeting]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": str(count - 1)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    running = [subprocess.Popen([*launcher, *command], env=environment, **pipes) for _ in range(count)]
    try:
        printed = [torchrun.communicate(timeout=300)[0] for torchrun in running]
    finally:
        for torchrun in running:
            torchrun.terminate()
    for torchrun, text in zip(running, printed, strict=True):
        assert torchrun.returncode == 0, text
    return printed


def test_two_machines_train_as_one(one_machine, configured, checkout) -> None:
    cfg = configured("two_machines")
    torchruns(2, 1, str(checkout / "tools" / "train.py"), "--cfg", cfg, "--device", "cpu")
    assert_same(final_weights(cfg), one_machine)


def test_killed_processes_continue_from_the_last_checkpoint(one_machine, configured, dying, checkout) -> None:
    cfg = configured("killed")
    train_py = str(checkout / "tools" / "train.py")
    (printed,) = torchruns(1, 2, dying("SIGKILL", 1), train_py, "--cfg", cfg, "--device", "cpu")
    assert "exitcode: -9" in printed
    assert "(step 3 of 6)" in printed
    assert_same(final_weights(cfg), one_machine)
    assert len(list_checkpoints(run_folder(load_config(cfg)))) == 2
