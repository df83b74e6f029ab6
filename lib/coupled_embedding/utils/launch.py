"""Several ranks of one command on this machine, and one answer when they fail: the error once, a right exit code."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch.distributed as dist

from coupled_embedding.utils.failures import (
    ABORTED,
    DIED,
    REPORTS,
    STOPPED,
    USER,
    Failure,
    failure_of_process,
    first_of,
    read_reports,
    summary,
)

POLL = 0.05  # seconds between two checks of the ranks
GRACE = 5.0  # seconds after the first failure in which other ranks may report their own
PATIENCE = 30.0  # seconds between SIGTERM and SIGKILL for ranks that wait for one that has failed
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_MOST_SIGNALS = 3  # the last of these kills what the others did not end


def launch(count: int, command: Sequence[str]) -> int:
    """Run a command in ``count`` processes of this machine that find torchrun's variables in their environment.

    Each of the user's errors is printed once; another exception's traceback for the rank that failed first.
    SIGTERM, SIGINT, SIGHUP and SIGQUIT are passed on to all ranks.

    Returns:
        The exit code: 0, 2 for an error of the user's, 128 and the number of a signal, else that of the rank that
        failed first.
    """
    # where the ranks of this machine connect; it ends with this process
    store = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    with tempfile.TemporaryDirectory(prefix="coupled_embedding_") as reports:
        ranks = Ranks(count, Path(reports))
        with _passing_on(ranks.signal):
            try:
                ranks.start(command, _environment(count, store.port, reports))
                failures = ranks.wait()
                return _conclude(failures, count, ranks.received)
            finally:
                ranks.end()


def _environment(count: int, port: int, reports: str) -> dict[str, str]:
    """Return the variables that all ranks share, as torchrun sets them."""
    # so that each process does not take all cores: torchrun would set 1
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    store = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    sizes = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "OMP_NUM_THREADS": threads}
    return {**os.environ, **store, **sizes, REPORTS: reports}


@contextmanager
def _passing_on(receive: Callable[[int], None]) -> Iterator[None]:
    """Hand signals to a function while the block runs; those that are ignored here stay ignored, by all ranks too."""
    heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda received, _: receive(received)) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Ranks:
    """The ``count`` processes of one command, which report failures in the folder ``reports``."""

    def __init__(self, count: int, reports: Path) -> None:
        self.count, self.reports = count, reports
        self.received: list[int] = []  # signals, in their order
        self._processes: list[subprocess.Popen] = []
        self._ended: dict[int, Failure] = {}  # by their exit code alone

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start all, each in a session of its own, so that a signal of the terminal comes from here alone."""
        call = [sys.executable, "-u", "-P", "-m", "coupled_embedding.utils.rank", *command]
        for rank in range(self.count):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            self._processes.append(subprocess.Popen(call, env={**environment, **own}, start_new_session=True))
            if self.received:  # the newest has missed it
                self._send(self.received[-1])

    def wait(self) -> list[Failure]:
        """Wait until all have ended or one has failed, and for what others have to report; return the failures."""
        while self._running() and not self._failures():
            time.sleep(POLL)
        self._wait(GRACE)
        return self._failures()

    def signal(self, number: int) -> None:
        """Pass a signal on."""
        self.received.append(number)
        self._send(signal.SIGKILL if len(self.received) >= _MOST_SIGNALS else number)

    def end(self) -> None:
        """End the ranks that still run, and what loaders of ranks that failed are left."""
        if self._running():
            if not self.received:  # a second signal would break off what the first one lets them finish
                self._send(signal.SIGTERM)
            self._wait(PATIENCE)
        for process in self._processes:
            if process.poll() != 0:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _running(self) -> list[subprocess.Popen]:
        return [process for process in self._processes if process.poll() is None]

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self._running() and time.monotonic() < end:
            time.sleep(POLL)

    def _send(self, number: int) -> None:
        for process in self._running():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    def _failures(self) -> list[Failure]:
        """Return why ranks have failed so far: their reports, else their exit codes."""
        # first who has ended, then the reports: a rank leaves its own before it ends
        for rank, process in enumerate(self._processes):
            if process.poll() and rank not in self._ended:
                self._ended[rank] = failure_of_process(rank, process.pid, process.returncode)
        return list((self._ended | read_reports(self.reports)).values())


def _conclude(failures: Sequence[Failure], count: int, received: Sequence[int]) -> int:
    """Report failures; return the exit code."""
    if not failures:
        return 0
    if any(failure.kind in (ABORTED, DIED) for failure in failures):
        print(file=sys.stderr)  # it may have left a line of progress open
    if not received:
        print(summary(failures, count), file=sys.stderr)
        return first_of(failures).exit_code
    # the end of one rank makes others fail: after a signal that says nothing
    own = [failure for failure in failures if failure.kind in (USER, STOPPED)]
    print(summary(own, count) if own else f"stopped by {signal.Signals(received[0]).name}", file=sys.stderr)
    return 2 if any(failure.kind == USER for failure in own) else 128 + received[0]
