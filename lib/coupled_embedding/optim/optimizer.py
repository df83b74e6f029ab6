"""Optimizers: torch's, and Muon, which learns more from each image of a short training."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from coupled_embedding.utils.errors import ConfigError

MOMENTUM = 0.9  # of SGD, as in the networks of Caffe's time
# coefficients of the quintic whose iteration drives singular values to about 1 (Jordan 2024)
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
# gives an orthogonal update the root mean square of a typical Adam update (Liu et al. 2025)
_ADAM_SCALE = 0.2


def parameter_groups(named: Mapping[str, nn.Parameter], prefixes: Sequence[str], factor: float) -> list[dict[str, Any]]:
    """Return an optimizer's groups: parameters whose names begin with a prefix have ``factor`` times the rate.

    Raises:
        ConfigError: a prefix is that of no parameter.
    """
    if not prefixes:
        return [{"params": list(named.values())}]
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in named):
            parts = sorted({".".join(name.split(".")[:2]) for name in named})
            raise ConfigError(f"TRAIN.LR_PREFIXES: no parameter begins with '{prefix}'; there are {', '.join(parts)}")
    chosen = [name for name in named if name.startswith(tuple(prefixes))]
    others = [parameter for name, parameter in named.items() if name not in chosen]
    return [{"params": [named[name] for name in chosen], "lr_factor": factor}, {"params": others, "lr_factor": 1.0}]


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all groups, times each one's factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_factor", 1.0)


def torch_optimizer(
    name: str, groups: list[dict[str, Any]], lr: float, weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """Return Adam (``"adam"``), RMSprop (``"rmsprop"``) or SGD with momentum 0.9 (``"sgd"``)."""
    if name == "rmsprop":  # torch has no fused one
        return torch.optim.RMSprop(groups, lr, weight_decay=weight_decay)
    if name == "sgd":
        return torch.optim.SGD(groups, lr, momentum=MOMENTUM, weight_decay=weight_decay, fused=True)
    return torch.optim.Adam(groups, lr, weight_decay=weight_decay, fused=True)


class Muon(torch.optim.Optimizer):
    """Momentum whose update of each weight matrix is orthogonalised; Adam for everything else.

    A convolution's weight counts as a matrix of its first axis by all the rest. Its update
    is the nearest (semi-)orthogonal matrix to the momentum, found by Newton-Schulz iterations
    and scaled so that Adam's learning rates fit (K. Jordan et al., "Muon", 2024; J. Liu et
    al., "Muon is scalable for LLM training", 2025, for the scale).

    Args:
        matrices: weights of two or more dimensions.
        others: biases, norms, first and last layers: updated by Adam with betas 0.9, 0.999.
        lr: learning rate of both.
        momentum: of the matrices.
        weight_decay: decoupled for the matrices (lr · weight_decay · weight is subtracted),
            Adam's L2 term for the others.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        groups = [
            {"params": list(matrices), "orthogonal": True},
            # "fused" makes a resumed state's step counts follow the parameters to their device
            {"params": list(others), "orthogonal": False, "fused": True},
        ]
        # informs GradScaler that `found_inf` is honored, so that it need not wait for the device
        self._step_supports_amp_scaling = True
        super().__init__(
            [group for group in groups if group["params"]],
            {"lr": lr, "momentum": momentum, "weight_decay": weight_decay},
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient.

        Where the attribute ``found_inf`` (a 0-d tensor) is 1, nothing changes, as with torch's fused optimizers.
        """
        loss = None
        bad = getattr(self, "found_inf", None)
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if group["orthogonal"]:
                self._orthogonal_step(parameters, group, bad)
            else:
                self._adam_step(parameters, group, bad)
        return loss

    def _orthogonal_step(self, parameters: list[nn.Parameter], group: dict[str, Any], bad: Tensor | None) -> None:
        # a factor of 0 keeps a value exactly, as long as what it multiplies is finite
        keep: Tensor | float = 1.0 if bad is None else 1 - bad
        by_shape: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
        for parameter in parameters:
            assert parameter.grad is not None
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            gradient = parameter.grad if bad is None else torch.where(bad > 0, 0.0, parameter.grad)
            state["momentum"].lerp_(gradient, (1 - group["momentum"]) * keep)
            update = gradient.lerp(state["momentum"], group["momentum"]).reshape(len(parameter), -1)  # Nesterov's
            by_shape[update.shape[0], update.shape[1]].append((parameter, update))
        for shape, members in by_shape.items():
            # one batched product for all layers of a shape
            updates = orthogonalised(torch.stack([update for _, update in members]))
            step = group["lr"] * _ADAM_SCALE * max(shape) ** 0.5
            for (parameter, _), update in zip(members, updates, strict=True):
                if group["weight_decay"]:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"] * keep)
                parameter.sub_(update.reshape(parameter.shape) * keep, alpha=step)

    def _adam_step(self, parameters: list[nn.Parameter], group: dict[str, Any], bad: Tensor | None) -> None:
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), device=parameter.device)
                state["first"], state["second"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in parameters]
        adam(
            list(parameters),
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["first"] for state in states],
            [state["second"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
            fused=group["fused"],
            found_inf=bad,
        )


def orthogonalised(matrices: Tensor) -> Tensor:
    """Return (N, r, c) matrices with their singular values, but those near 0, driven to about 0.7 to 1.2.

    Works on the (r, r) Gram matrix, which is small compared with a convolution's weight: the
    iteration X ← (a + b·XXᵀ + c·(XXᵀ)²)·X only ever multiplies X from the left.
    """
    if matrices.shape[-2] > matrices.shape[-1]:
        return orthogonalised(matrices.mT).mT
    a, b, c = _QUINTIC
    unit = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    gram = unit @ unit.mT
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    product = identity
    for iteration in range(_ITERATIONS):
        factor = a * identity + b * gram + c * (gram @ gram)
        product = factor @ product
        if iteration < _ITERATIONS - 1:
            gram = factor @ gram @ factor
    return product @ unit


def step_if_finite(optimizer: torch.optim.Optimizer, is_finite: Tensor) -> None:
    """Update the weights if ``is_finite`` (0-d bool); a GPU need not be waited for to know.

    Args:
        optimizer: for one that is neither fused nor `Muon` (RMSprop), the device is waited for.
        is_finite: on the weights' device; where false, weights and moments stay as they are.
    """
    if is_finite.device.type == "cpu" or not getattr(optimizer, "_step_supports_amp_scaling", False):
        if is_finite:
            optimizer.step()
        return
    optimizer.found_inf = (~is_finite).float()  # type: ignore[attr-defined]
    try:
        optimizer.step()
    finally:
        del optimizer.found_inf  # type: ignore[attr-defined]
