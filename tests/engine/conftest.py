"""Training commands in processes of their own, which can be signalled and killed."""

import json
import multiprocessing
import os
import runpy
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
# long enough for a busy machine; only a hang reaches it
PATIENCE = 120.0


class Command:
    """A running command: what it printed, and ways to end it."""

    def __init__(self, context: multiprocessing.context.ForkServerContext, arguments: list[str], log: Path) -> None:
        self.log = log
        log.unlink(missing_ok=True)
        values = {"ARGUMENTS": [str(CHECKOUT / arguments[0]), *arguments[1:]], "LOG": str(log)}
        self.process = context.Process(
            target=runpy.run_path,
            args=(str(Path(__file__).with_name("child.py")),),
            kwargs={"init_globals": values, "run_name": "__main__"},
        )
        self.process.start()

    @property
    def output(self) -> str:
        return self.log.read_text() if self.log.is_file() else ""

    def wait_until(self, happened: Callable[[], object], pause: float = 0.002) -> bool:
        """Wait until something is true or the process has ended; return whether it still runs."""
        turns = int(PATIENCE / max(pause, 1e-4))
        for _ in range(turns):
            if happened():
                return self.process.is_alive()
            self.process.join(pause)
            if not self.process.is_alive():
                return False
        raise AssertionError(f"nothing happened for {PATIENCE} s:\n{self.output}")

    def signal(self, number: int, whole_group: bool = False) -> None:
        assert self.process.pid
        if whole_group:
            os.killpg(self.process.pid, number)
        else:
            os.kill(self.process.pid, number)

    def kill(self) -> None:
        """End the process and its loaders as a crash of the machine would."""
        self.signal(signal.SIGKILL, whole_group=True)
        self.process.join(PATIENCE)

    def end(self) -> int:
        """Wait for the end; return the exit code."""
        self.process.join(PATIENCE)
        assert self.process.exitcode is not None, self.output
        return self.process.exitcode


@pytest.fixture(scope="session")
def forkserver() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    # a command then starts in a moment, with everything imported; optimizers import _dynamo
    preloaded = ["coupled_embedding.builders", "coupled_embedding.analysis.profiling", "torch._dynamo"]
    context.set_forkserver_preload(preloaded)
    return context


@pytest.fixture
def start(forkserver, tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """start("tools/train.py", argument, ...): the running command."""
    commands: list[Command] = []

    def begin(*arguments: str) -> Command:
        commands.append(Command(forkserver, list(arguments), tmp_path / "output.txt"))
        return commands[-1]

    yield begin
    for command in commands:
        if command.process.is_alive():
            command.kill()


@pytest.fixture
def steps_logged() -> Callable[[Path], int]:
    """steps_logged(folder): the last step in a run's metrics.jsonl."""

    def last(folder: Path) -> int:
        path = folder / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.is_file() else []
        for line in reversed(lines):
            try:
                return int(json.loads(line)["step"])
            except ValueError:
                continue  # being written
        return 0

    return last
