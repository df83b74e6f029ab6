"""Steps with a loss or gradient that is not finite: kept out of the weights, reported, counted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from coupled_embedding.utils.distributed import DistEnv, gather


@dataclass(frozen=True)
class NonFiniteStep:
    """An optimizer step that changed no weight because its gradient was not finite.

    Attributes:
        step: counted from 1.
        terms: losses that were not finite, on any rank; empty if only the gradient was.
        image_ids: the step's images, of all ranks.
    """

    step: int
    terms: tuple[str, ...]
    image_ids: tuple[int, ...]

    def __str__(self) -> str:
        what = ", ".join([*(f"loss/{term}" for term in self.terms), "the gradient"])
        listed = ", ".join(map(str, self.image_ids[:20])) + (", ..." if len(self.image_ids) > 20 else "")
        return f"step {self.step}: {what} not finite, step skipped (images {listed})"


@dataclass(frozen=True)
class _Watched:
    step: int
    names: tuple[str, ...]
    image_ids: tuple[int, ...]
    flags: Tensor  # (losses + 1,) bool on the device: of each loss, then of the gradient


def nan_if_nonfinite(loss: Tensor) -> Tensor:
    """Return a loss whose gradient is NaN where the loss is not finite.

    A gradient is summed over ranks, so every rank then sees that the step is bad, even if the loss's
    own slope would have been finite.
    """
    return loss * torch.where(loss.detach().isfinite(), 1.0, float("nan"))


class NonFiniteGuard:
    """Records every step without waiting for the device, and checks the records once in a while.

    On a GPU that is at log steps, and after a bad step (or where none is allowed) at every step for the
    rest of the epoch; on a CPU at every step. The gradient decides, as it is the same on all ranks; the
    optimizer has then left weights and moments alone (see `step_if_finite`).

    Args:
        env: this rank.
        limit: bad steps of an epoch before the run stops.
        models: whose running statistics the forward pass of a bad step may have spoiled.
    """

    def __init__(self, env: DistEnv, limit: int, models: Iterable[nn.Module]) -> None:
        self.env, self.limit = env, limit
        self.statistics = [b for model in models for b in model.buffers() if b.is_floating_point()]
        self.valid = [b.clone() for b in self.statistics]
        self.window: list[_Watched] = []
        self.count = self.overflows = self.good = 0
        self.start_epoch()

    def start_epoch(self) -> None:
        """Reset the count, if the last epoch had any good step: short epochs must not hide a dead run."""
        if self.good:
            self.count = self.overflows = self.good = 0
        self.check_every_step = self.env.device.type == "cpu" or not self.limit

    @property
    def is_over_limit(self) -> bool:
        """Whether the run has to stop."""
        return self.count > self.limit

    def record(self, step: int, losses: Mapping[str, Tensor], norm: Tensor, image_ids: Sequence[int]) -> None:
        """Record a step's losses by name and its gradient norm; nothing is transferred."""
        values = torch.stack(list(losses.values()))
        flags = ~torch.cat([values, norm.detach()[None].to(values)]).isfinite()
        self.window.append(_Watched(step, tuple(losses), tuple(image_ids), flags))

    def check(self, scaler: torch.amp.GradScaler | None = None) -> list[NonFiniteStep]:
        """Check the steps since the last check; all ranks do so after the same step.

        Args:
            scaler: of fp16. An overflow of the gradient alone is its everyday business, and not bad as long as
                the scale can still be reduced.

        Returns:
            The bad steps, the same on every rank.
        """
        flags = torch.stack([watched.flags for watched in self.window]).tolist() if self.window else []
        mine = [
            (watched.step, [name for name, bad in zip(watched.names, row, strict=False) if bad], watched.image_ids)
            for watched, row in zip(self.window, flags, strict=True)
            if row[-1]
        ]
        self.good += len(self.window) - len(mine)
        self.window = []
        if not mine:
            self._copy(self.statistics, self.valid)
            return []
        steps = [_joined(parts) for parts in zip(*gather(mine, self.env), strict=True)]
        if scaler is not None and scaler.is_enabled() and scaler.get_scale() >= 1:
            self.overflows += sum(not step.terms for step in steps)
            steps = [step for step in steps if step.terms]
        if steps:
            # even where they are finite, a forward pass that was not may have made them huge
            self.check_every_step = True
            self.count += len(steps)
            self._copy(self.valid, self.statistics)
        else:
            self._copy(self.statistics, self.valid)
        return steps

    @staticmethod
    def _copy(source: list[Tensor], target: list[Tensor]) -> None:
        if source:  # hourglasses have none
            torch._foreach_copy_(target, source)


def _joined(parts: Sequence[tuple[int, list[str], tuple[int, ...]]]) -> NonFiniteStep:
    """Return one step as all ranks saw it."""
    terms = dict.fromkeys(name for _, names, _ in parts for name in names)
    return NonFiniteStep(parts[0][0], tuple(terms), tuple(i for part in parts for i in part[2]))
