"""Loader processes that die or stall: which image were they reading?"""

import os
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.queues import Queue
from pathlib import Path
from types import FrameType

import torch
from torch.utils.data import get_worker_info
from torch.utils.data._utils.signal_handling import _set_SIGCHLD_handler

from coupled_embedding.utils.errors import DatasetError

MOST_WORKERS = 256
STALLED_SECONDS = 600  # without any batch
_DEAD = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)(.*)", re.DOTALL)


class WorkerMonitor:
    """A table in shared memory, in which each loader process notes the image that it reads.

    A process that is killed cannot say what it was reading, and torch reports its number only.
    """

    def __init__(self) -> None:
        self._table = torch.full((MOST_WORKERS, 2), -1, dtype=torch.int64).share_memory_()  # process, image

    @contextmanager
    def reading(self, image: int) -> Iterator[None]:
        """Note the image at a position of the data set until the block ends; nothing in the main process."""
        worker = get_worker_info()
        if worker is None:
            yield
            return
        row = self._table.numpy()[worker.id]
        row[:] = os.getpid(), image
        try:
            yield
        finally:
            row[1] = -1

    def raise_if_worker_died(self, error: RuntimeError, paths: Sequence[Path]) -> None:
        """Raise DatasetError if torch's loader says with this error that its processes died or stalled.

        Args:
            paths: of the images, by position.
        """
        dead = _DEAD.search(str(error))
        stalled = "DataLoader timed out" in str(error)
        if not dead and not stalled:
            return
        killed = {int(number) for number in re.findall(r"\d+", dead[1])} if dead else None
        at = [
            str(paths[image])
            for process, image in self._table.tolist()
            if 0 <= image < len(paths) and (killed is None or process in killed)
        ]
        where = f"while reading {', '.join(at)}" if at else "between two images"
        if stalled:
            raise DatasetError(f"the loader processes brought nothing for {STALLED_SECONDS} s, {where}") from error
        assert dead is not None
        how = " ".join(dead[2].split()) or "died"
        raise DatasetError(
            f"a loader process {how.rstrip('.')} {where}; is it that file, or was the memory full? "
            "(fewer TRAIN.WORKERS or TEST.WORKERS take less)"
        ) from error


def report_deaths_outside_puts() -> None:
    """Have torch report a dead loader process at once, but never while an index is put into a queue.

    Torch raises the error in a signal handler, at any line of the main thread. Inside ``Queue.put`` it can leave the
    queue's lock acquired for ever, and the program then hangs where it ends.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    _set_SIGCHLD_handler()
    raise_death = signal.getsignal(signal.SIGCHLD)
    if not callable(raise_death) or hasattr(raise_death, "outside_puts"):
        return

    def handler(number: int, frame: FrameType | None) -> None:
        caller = frame
        while caller is not None:
            if caller.f_code is Queue.put.__code__:
                threading.Timer(0.01, os.kill, (os.getpid(), number)).start()
                return
            caller = caller.f_back
        raise_death(number, frame)

    handler.outside_puts = True  # type: ignore[attr-defined]
    signal.signal(signal.SIGCHLD, handler)
