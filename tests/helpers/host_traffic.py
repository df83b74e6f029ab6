"""What makes a host wait for its device, detected without a device.

`HostTraffic` counts the operations that need a device's values on the host, or that copy between
the two. `fake_cuda` makes tensors that claim to be on a GPU and hold no values, so that an operation
that needs a value fails whatever is counted.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# a value of the tensor decides what the host does next, or the shape of the result
READS = (
    "_local_scalar_dense",  # .item(), float(tensor), bool(tensor), if tensor; .tolist() of a device's tensor
    "is_nonzero",
    "equal",
    "nonzero",  # also x[mask], torch.where(mask), argwhere
    "masked_select",
    "unique_dim",
    "unique_consecutive",
    "_unique",
    "_unique2",
    "bincount",
    "repeat_interleave",  # with a tensor of repeats
)
INDEXED = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index")
COPIES = ("_to_copy", "copy_", "_copy_from")


class HostTraffic(TorchDispatchMode):
    """Counts watched operations by name in `seen`.

    - reads: the names in `READS`, and ``"index with a mask"``;
    - ``"download"``: a copy from a device to the host for which torch waits;
    - ``"blocking upload"``: a copy from the host to a device for which torch waits, also that
      of a list of indices. (From page-locked memory or with ``non_blocking`` it does not.)
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "aten":  # not the queries of a tensor's device
            with self:  # without autograd (inference) composite operations arrive whole; their parts are what counts
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        name = func._schema.name.removeprefix("aten::")
        for word in _traffic(name, args, kwargs):
            self.seen[word] += 1
        return func(*args, **kwargs)


def _traffic(name: str, args: Any, kwargs: dict[str, Any]) -> Iterator[str]:
    if name in READS:
        yield name
    if name in INDEXED:
        indices = [i for i in tree_leaves(args[1]) if isinstance(i, Tensor)]
        if any(i.dtype in (torch.bool, torch.uint8) for i in indices):
            yield "index with a mask"
        if args[0].device.type != "cpu" and any(i.device.type == "cpu" for i in indices):
            yield "blocking upload"
    if name in COPIES:
        source, target, waits = _route(name, args, kwargs)
        if source != "cpu" and target == "cpu" and waits:
            yield "download"
        if source == "cpu" and target != "cpu" and waits:
            yield "blocking upload"


def _route(name: str, args: Any, kwargs: dict[str, Any]) -> tuple[str, str, bool]:
    """Return where a copy comes from, where it goes, and whether torch waits for it."""
    if name == "_to_copy":
        target = kwargs.get("device") or args[0].device
        return args[0].device.type, torch.device(target).type, not kwargs.get("non_blocking", False)
    non_blocking = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
    return args[1].device.type, args[0].device.type, not non_blocking


@contextmanager
def fake_cuda() -> Iterator[torch.device]:
    """Yield the device of tensors without values, which are made and computed inside the block."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield torch.device("cuda", 0)
