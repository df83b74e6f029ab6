"""SIGTERM and Ctrl-C: stop after the present step, on which all ranks agree."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
import torch.distributed as dist

from coupled_embedding.utils.distributed import TIMEOUT, DistEnv
from coupled_embedding.utils.errors import StoppedBySignal

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# a terminal and torchrun both pass on one Ctrl-C: a second signal so soon is the same one
_SAME_SIGNAL = 3.0  # seconds


class StopSignal:
    """Listens to SIGTERM and SIGINT while its block runs.

    The first signal is kept for `requested`; a second one, three seconds later or more, does what it does
    anywhere else.

    Args:
        env: this rank.
    """

    def __init__(self, env: DistEnv) -> None:
        self.env = env
        self.received = 0
        self._since = 0.0
        self._interruptible = False
        self._before: dict[signal.Signals, object] = {}
        # on the host, in a group of its own: a GPU has nothing to wait for
        group = dist.new_group(backend="gloo", timeout=TIMEOUT) if env.world_size > 1 else None
        self._group = group if isinstance(group, dist.ProcessGroup) else None
        self._answer = torch.zeros((), dtype=torch.int64)
        self._question: dist.Work | None = None

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}

    def requested(self, now: bool = False) -> int:
        """Return the signal to stop for, or 0: the same on every rank that asks after the same step.

        Args:
            now: wait for the other ranks. Else several ranks learn of a signal one step later, so that none waits.
        """
        if self._group is None:
            return self.received
        earlier = self._wait()
        self._answer = torch.tensor(self.received)
        self._question = dist.all_reduce(self._answer, dist.ReduceOp.MAX, group=self._group, async_op=True)
        return max(earlier, self._wait()) if now else earlier

    def _wait(self) -> int:
        if self._question is not None:
            self._question.wait()
            self._question = None
        return int(self._answer)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Run a block that may be broken off anywhere, as everything worth keeping is saved.

        Raises:
            StoppedBySignal: a signal came, or had come.
        """
        self._interruptible = True
        try:
            if self.received:
                raise StoppedBySignal(self.received)
            yield
        finally:
            self._interruptible = False

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self._interruptible:
            raise StoppedBySignal(number)
        if not self.received:
            self.received, self._since = number, time.monotonic()
            if self.env.is_rank0:
                # not print: a signal may come in the midst of one
                os.write(2, f"\n{signal.Signals(number).name}: saving after this step\n".encode())
        elif time.monotonic() - self._since >= _SAME_SIGNAL:
            self.__exit__()
            os.kill(os.getpid(), number)
