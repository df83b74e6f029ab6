"""Non-finite losses and gradients: kept out of the weights, told with terms and photos, counted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from coupled_embedding.losses.criterion import LossTerms
from coupled_embedding.utils.distributed import World, gather

TERMS = tuple(field.name for field in fields(LossTerms))


@dataclass(frozen=True)
class BadStep:
    """An optimizer step that changed no weight because its gradient was not finite.

    Attributes:
        step: which, counted from 1.
        terms: losses that were not finite, on any process; empty if only the gradient was.
        image_ids: the step's photos, of all processes.
    """

    step: int
    terms: tuple[str, ...]
    image_ids: tuple[int, ...]

    def __str__(self) -> str:
        what = ", ".join([*(f"loss/{term}" for term in self.terms), "the gradient"])
        shown = ", ".join(map(str, self.image_ids[:20])) + (", ..." if len(self.image_ids) > 20 else "")
        return f"step {self.step}: {what} not finite, step skipped (photos {shown})"


@dataclass(frozen=True)
class _Watched:
    step: int
    image_ids: tuple[int, ...]
    flags: Tensor  # (terms + 1,) bool on the device: each term's, then the gradient's


def spoil_if_not_finite(loss: Tensor) -> Tensor:
    """Return a loss whose gradient is NaN where the loss is not finite.

    A gradient is summed over processes, so every process then sees that the step is bad,
    even if the loss's own slope would have been finite.
    """
    return loss * torch.where(loss.detach().isfinite(), 1.0, float("nan"))


class StepGuard:
    """Watches every step without waiting for the device, and looks at what it saw at times.

    On a GPU that is at log steps, and after a bad step (or where none is allowed) at every step
    for the rest of the epoch; on a CPU at every step. The gradient decides, as it is the same on all processes;
    the optimizer has then left weights and moments alone (see `step_unless`).

    Args:
        world: this process among all.
        limit: bad steps of an epoch before the run stops.
        networks: whose running statistics a bad step's forward pass may have spoiled.
    """

    def __init__(self, world: World, limit: int, networks: Iterable[nn.Module]) -> None:
        self.world, self.limit = world, limit
        self.statistics = [b for n in networks for b in n.buffers() if b.is_floating_point()]
        self.sound = [b.clone() for b in self.statistics]
        self.window: list[_Watched] = []
        self.count = self.overflows = self.good = 0
        self.restart()

    def restart(self) -> None:
        """Start an epoch's count, if the last one had any good step: short epochs must not hide a dead run."""
        if self.good:
            self.count = self.overflows = self.good = 0
        self.watchful = self.world.device.type == "cpu" or not self.limit

    @property
    def is_over_limit(self) -> bool:
        """Whether the run has to stop."""
        return self.count > self.limit

    def watch(self, step: int, losses: Tensor, norm: Tensor, image_ids: Sequence[int]) -> None:
        """Remember a step's losses (terms,) and gradient norm; nothing is transferred."""
        flags = ~torch.cat([losses, norm.detach()[None].to(losses)]).isfinite()
        self.window.append(_Watched(step, tuple(image_ids), flags))

    def settle(self, scaler: torch.amp.GradScaler | None = None) -> list[BadStep]:
        """Look at the steps since the last look: all processes at the same step.

        Args:
            scaler: of fp16; an overflow of the gradient alone is its everyday business, and no
                bad step as long as it has room to scale losses less.

        Returns:
            The bad ones, the same on every process.
        """
        flags = torch.stack([watched.flags for watched in self.window]).tolist() if self.window else []
        mine = [
            (watched.step, tuple(name for name, is_bad in zip(TERMS, row, strict=False) if is_bad), watched.image_ids)
            for watched, row in zip(self.window, flags, strict=True)
            if row[-1]
        ]
        self.good += len(self.window) - len(mine)
        self.window = []
        if not mine:
            self._copy(self.statistics, self.sound)
            return []
        steps = [_joined(parts) for parts in zip(*gather(mine, self.world), strict=True)]
        if scaler is not None and scaler.is_enabled() and scaler.get_scale() >= 1:
            self.overflows += sum(not step.terms for step in steps)
            steps = [step for step in steps if step.terms]
        if steps:
            # even where they are finite, a forward pass that was not may have made them huge
            self.watchful = True
            self.count += len(steps)
            self._copy(self.sound, self.statistics)
        else:
            self._copy(self.statistics, self.sound)
        return steps

    @staticmethod
    def _copy(source: list[Tensor], target: list[Tensor]) -> None:
        if source:  # hourglasses have none
            torch._foreach_copy_(target, source)


def _joined(parts: Sequence[tuple[int, tuple[str, ...], tuple[int, ...]]]) -> BadStep:
    """Return one step as all processes saw it."""
    terms = [name for name in TERMS if any(name in part[1] for part in parts)]
    return BadStep(parts[0][0], tuple(terms), tuple(i for part in parts for i in part[2]))
