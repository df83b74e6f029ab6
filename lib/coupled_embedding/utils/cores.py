"""How many of the machine's cores are free for this process."""

import os
import time
from pathlib import Path

import torch

_STAT = Path("/proc/stat")


def free_cores(seconds: float = 0.3, stat: Path = _STAT) -> int:
    """Return how many cores other programs leave idle, at least 1; all of them where the system does not say.

    Args:
        seconds: for which to watch, while this process sleeps.
        stat: the kernel's counters.
    """
    cores = os.cpu_count() or 1
    try:
        before = _idle_and_total(stat)
        time.sleep(seconds)
        idle, total = (after - earlier for after, earlier in zip(_idle_and_total(stat), before, strict=True))
    except (OSError, ValueError, IndexError):
        return cores
    return max(1, round(cores * idle / total)) if total else cores


def limit_threads() -> str:
    """Leave busy cores to other programs; return what to print, empty if nothing changed.

    Two threads that compute a layer wait for each other, and one that shares its core with another program lets both
    wait: one thread on a free core is then faster than two. OMP_NUM_THREADS and one thread stay as they are.
    """
    threads = torch.get_num_threads()
    if threads == 1 or "OMP_NUM_THREADS" in os.environ:
        return ""
    free = free_cores()
    if free >= threads:
        return ""
    torch.set_num_threads(free)
    return (
        f"{free} of {threads} CPU threads, as other programs keep the other cores busy; give TRAIN.THREADS {threads} "
        "for all of them"
    )


def _idle_and_total(stat: Path) -> tuple[int, int]:
    """Return the ticks of all cores since the start: those idle or waiting for a disk, and all."""
    # cpu user nice system idle iowait irq softirq steal
    ticks = [int(field) for field in stat.read_text().split("\n", 1)[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)
