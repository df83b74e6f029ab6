"""Networks before training: parameters that stay as they are, and building without memory or initial weights."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.utils.errors import ConfigError


def freeze(network: PoseNetwork, prefixes: Sequence[str]) -> list[str]:
    """Keep the parameters whose names begin with a prefix from training; return a line that says how many.

    Running statistics of batch norms go on.

    Raises:
        ConfigError: a prefix is that of no parameter, or of all of them.
    """
    parameters = dict(network.named_parameters())
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in parameters):
            parts = sorted({".".join(name.split(".")[:2]) for name in parameters})
            raise ConfigError(f"TRAIN.FREEZE: no parameter begins with '{prefix}'; there are {', '.join(parts)}")
    frozen = [parameter for name, parameter in parameters.items() if name.startswith(tuple(prefixes))]
    if len(frozen) == len(parameters):
        raise ConfigError(f"TRAIN.FREEZE: {list(prefixes)} leaves nothing to train")
    for parameter in frozen:
        parameter.requires_grad_(False)
    counts = (sum(p.numel() for p in group) for group in (frozen, parameters.values()))
    return ["frozen: {:,} of {:,} parameters".format(*counts)] if frozen else []


def build_on_meta(build: Callable[[], PoseNetwork]) -> PoseNetwork:
    """Build a network without memory for its weights, on the meta device, in evaluation mode.

    ``load_strictly`` gives it memory once a file's weights are known to fit: a stranger's config
    of a huge network then costs nothing.
    """
    with torch.device("meta"), SkipInit():
        return build().eval()


class SkipInit(TorchFunctionMode):
    """Skips filling tensors with initial values: on the meta device torch first loads 150 MB for that."""

    FILLING = frozenset({"uniform_", "normal_", "kaiming_uniform_", "kaiming_normal_", "fill_", "zero_"})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Return the tensor as it is instead of calling a filling function."""
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in self.FILLING:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
