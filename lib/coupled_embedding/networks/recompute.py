"""Less memory for a training step: residual blocks keep their input alone and compute the rest again when it is needed.

Gradient checkpointing (Chen et al., *Training Deep Nets with Sublinear Memory Cost*, 2016), block by block.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from coupled_embedding.networks.hourglass import Residual
from coupled_embedding.networks.hrnet import BasicBlock, Bottleneck


class _Recomputed(nn.Module):
    """Put in front of a block's class."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(x)
        output: Tensor = checkpoint(
            super().forward, x, use_reentrant=False, context_fn=partial(_contexts, self), preserve_rng_state=False
        )
        return output


_CLASSES: dict[type, type] = {
    kind: type(f"Recomputed{kind.__name__}", (_Recomputed, kind), {}) for kind in (BasicBlock, Bottleneck, Residual)
}


def recompute_blocks(network: nn.Module) -> None:
    """Have a network's residual blocks computed a second time in the backward pass; weights and numbers stay."""
    for module in network.modules():
        module.__class__ = _CLASSES.get(type(module), type(module))


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    return nullcontext(), _statistics_kept(block)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Keep the second pass from counting its batch in the running statistics again."""
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        # without running statistics fewer tensors would be kept than in the first pass
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
