"""What a file of weights may hold once it is read, and how far it may grow."""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from coupled_embedding.utils.errors import short_repr

_MOST_SHARED = 8  # times the file's size that its tensors may have: some share their memory
_DEEPEST = 32


class LeftOut(list):
    """Stands for an object of another program beside weights: takes what is put into it, and keeps nothing."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def _ignore(self, _: Any) -> None:
        """Take items or attributes."""

    append = extend = __setstate__ = _ignore


def left_out_mapping(*_: Any) -> OrderedDict[Any, Any]:
    """Stand for another program's kind of dict that is made by a call, whose entries follow."""
    return OrderedDict()


class PlainCopy:
    """Copies a file's content into plain containers, and counts what it grows to.

    A copy, as a hostile file can hang attributes such as ``get`` on an OrderedDict.

    Args:
        size: of the file, bytes.

    Attributes:
        tensors: how many there are so far.
    """

    def __init__(self, size: int) -> None:
        self.values_left = size  # each value that is not shared takes a byte of the file or more
        self.bytes_left = _MOST_SHARED * size
        self.tensors = 0

    def value(self, value: Any, depth: int = 0) -> Any:
        """Return a value's copy; ValueError if it is neither a tensor nor plain, or there is too much of it."""
        self.values_left -= 1
        if self.values_left < 0 or depth > _DEEPEST:
            raise ValueError("it holds containers inside each other without end")
        if isinstance(value, dict):
            if not all(type(key) in (str, int) for key in dict.keys(value)):
                raise ValueError("it holds a dict with a key that is neither text nor a whole number")
            return {key: self.value(item, depth + 1) for key, item in dict.items(value)}
        if type(value) is list or isinstance(value, tuple):  # torch.Size is a tuple
            return (list if type(value) is list else tuple)(self.value(item, depth + 1) for item in value)
        if isinstance(value, Tensor):
            return self._tensor(value)
        if value is None or isinstance(value, LeftOut | type | torch.device | torch.dtype | set):
            return None
        if type(value) in (str, int, float, bool):
            return value
        raise ValueError(f"it holds a {type(value).__name__}, which is neither a tensor nor a plain value")

    def _tensor(self, tensor: Tensor) -> Tensor:
        self.tensors += 1
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized or tensor.is_complex():
            raise ValueError("it holds a tensor that is not of dense real numbers")
        needed = tensor.numel() * tensor.element_size()
        self.bytes_left -= needed
        if needed > tensor.untyped_storage().nbytes() or self.bytes_left < 0:
            raise ValueError(f"it holds a tensor of shape {short_repr(list(tensor.shape))}, for which it is too small")
        return tensor.detach()
