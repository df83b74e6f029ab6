"""Reading torch files from strangers: no code runs, and a small file cannot ask for much memory.

``torch.load(weights_only=True)`` runs no code, but calls what a file names of a list that holds
more than weights need: ``bytearray`` with a file's number takes that many bytes, whatever the
file's own size. So a file is looked through before it is loaded, and its tensors after.
"""

import pickletools
import zipfile
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from coupled_embedding.errors import CheckpointError, shown

# what files of weights may name: state dicts, tensors, their memory
_NAMES = {
    "collections OrderedDict",
    "torch Size",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
    *(
        f"torch {kind}Storage"
        for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
    ),
}
_NAMING = {"GLOBAL", "INST"}
_ZIP = b"PK\x03\x04"
_LEGACY_PICKLES = 5  # magic number, version, machine, content, keys of the tensors' memory, which follows
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MOST_SHARED = 8  # times the file's size that its tensors may have: some share their memory
_DEEPEST = 32


def read_weight_file(path: str | Path) -> dict[Any, Any]:
    """Read a torch file without executing anything in it.

    Returns:
        Its content: dicts, lists, tuples, texts, numbers and dense tensors in host memory.

    Raises:
        CheckpointError: it is missing, damaged, holds more than tensors and plain values, or
            would grow far beyond its size.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weight file")
    try:
        _look_through(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        size = path.stat().st_size
        content = _Plain(size).value(content, 0)
    except Exception as error:  # torch raises many kinds for damaged and for hostile files
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{path}: not a readable weight file ({type(error).__name__}: {reason:.300})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a dict of tensors, got {type(content).__name__}")
    return content


def _look_through(path: Path) -> None:
    """Raise ValueError for a file that asks for more than tensors, or unpacks to more than its size."""
    with path.open("rb") as file:
        if file.read(len(_ZIP)) != _ZIP:
            file.seek(0)
            for _ in range(_LEGACY_PICKLES):
                _check_pickle(file)
            return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        # weights are stored as they are; packed or overlapping entries could unpack to any size
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ValueError("unpacks to more than its own size")
        for entry in entries:
            # torch finds an entry in whatever case its name is written
            if entry.filename.lower().endswith("data.pkl"):
                with archive.open(entry) as file:
                    _check_pickle(file)


def _check_pickle(file: IO[bytes]) -> None:
    for operation, argument, _ in pickletools.genops(file):
        if operation.name in _NAMING and argument not in _NAMES:
            raise ValueError(f"it asks for {shown(argument)}, which weights do not need")
        # keys of many digits can be made to collide, and a dict of them to take the square of their number
        if isinstance(argument, int) and not -(2**63) <= argument < 2**63 and argument != _LEGACY_MAGIC:
            raise ValueError("it holds a whole number of more than 64 bits")


class _Plain:
    """Copies a file's content into plain containers, and counts what it grows to.

    A copy, as a hostile file can hang attributes such as ``get`` on an OrderedDict.
    """

    def __init__(self, size: int) -> None:
        self.values_left = size  # each value that is not shared takes a byte of the file or more
        self.bytes_left = _MOST_SHARED * size

    def value(self, value: Any, depth: int) -> Any:
        self.values_left -= 1
        if self.values_left < 0 or depth > _DEEPEST:
            raise ValueError("it holds containers inside each other without end")
        if isinstance(value, dict):
            items = dict.items(value)
            if not all(type(key) in (str, int) for key, _ in items):
                raise ValueError("it holds a dict with a key that is neither text nor a whole number")
            return {key: self.value(item, depth + 1) for key, item in items}
        if type(value) is list:
            return [self.value(item, depth + 1) for item in value]
        if isinstance(value, tuple):  # and torch.Size
            return tuple(self.value(item, depth + 1) for item in value)
        if isinstance(value, Tensor):
            return self.tensor(value)
        if value is None or type(value) in (str, int, float, bool):
            return value
        raise ValueError(f"it holds a {type(value).__name__}, which is neither a tensor nor a plain value")

    def tensor(self, tensor: Tensor) -> Tensor:
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized or tensor.is_complex():
            raise ValueError("it holds a tensor that is not of dense real numbers")
        needed = tensor.numel() * tensor.element_size()
        self.bytes_left -= needed
        if needed > tensor.untyped_storage().nbytes() or self.bytes_left < 0:
            raise ValueError(f"it holds a tensor of shape {shown(list(tensor.shape))}, for which it is too small")
        return tensor.detach()
