"""Where the time of a test goes."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch.profiler import record_function


@dataclass
class StageTimes:
    """Seconds spent in each stage of inference, and the number of images."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    images: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the block's time to a stage."""
        start = time.perf_counter()
        with record_function(stage):
            yield
        with self.lock:
            self.seconds[stage] += time.perf_counter() - start
