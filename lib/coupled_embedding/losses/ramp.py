"""Weights that change over a training."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Ramp:
    """A weight's factor by step: ``factor`` until ``start``, then linearly to 1 at ``end``."""

    start: int = 0
    end: int = 0
    factor: float = 1.0

    def __call__(self, step: int) -> float:
        """Return the factor at a step."""
        if step >= self.end:
            return 1.0
        if step < self.start:
            return self.factor
        return self.factor + (1 - self.factor) * (step - self.start) / (self.end - self.start)
