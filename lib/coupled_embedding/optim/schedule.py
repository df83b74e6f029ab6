"""Learning rate by iteration (docs/method.md 4)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Schedule:
    """The rate of iteration i, counted from 0.

    A linear warm-up multiplies the rate by ``ratio + (1 − ratio)·i/(warmup − 1)`` below
    ``warmup``. Then either steps, times ``gamma`` from each milestone on, or, if
    ``cosine_end`` is set, a half cosine from ``cosine_start`` to 0 at ``cosine_end``.

    Attributes:
        base: the rate after warm-up.
        warmup: iterations of warm-up.
        ratio: share of the rate at iteration 0.
        milestones: iterations.
        gamma: factor of each milestone.
        cosine_start, cosine_end: iterations; ``cosine_end`` 0: steps instead.
    """

    base: float
    warmup: int = 0
    ratio: float = 0.001
    milestones: Sequence[int] = field(default_factory=tuple)
    gamma: float = 0.1
    cosine_start: int = 0
    cosine_end: int = 0

    def __call__(self, iteration: int) -> float:
        """Return the rate that an iteration trains with."""
        rate = self.base * self.gamma ** sum(iteration >= m for m in self.milestones)
        if self.cosine_end and iteration > self.cosine_start:
            part = (iteration - self.cosine_start) / max(1, self.cosine_end - self.cosine_start)
            rate *= 0.5 * (1 + math.cos(math.pi * min(1.0, part)))
        if iteration < self.warmup:
            rate *= self.ratio + (1 - self.ratio) * iteration / max(1, self.warmup - 1)
        return rate
