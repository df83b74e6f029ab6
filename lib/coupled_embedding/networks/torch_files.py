"""Reading files of weights from strangers: no code runs, and a small file cannot ask for much memory.

``torch.load(weights_only=True)`` runs no code, but calls what a file names, from a list of more than weights need:
``bytearray`` with a number from the file allocates that many bytes, regardless of the file's size. So a file is
inspected before it is loaded, and its tensors after. A training state of another program holds more than tensors: its
objects, named in a list of ours, are replaced by objects that do nothing.
"""

import encodings.aliases
import io
import pickletools
import re
import shlex
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

import safetensors
import torch
from torch import Tensor

from coupled_embedding.networks.file_kinds import (
    FETCH,
    NotWeightsError,
    listed,
    refuse_other_archives,
    refuse_other_kinds,
)
from coupled_embedding.networks.hub import WEIGHTS, read_hub_config
from coupled_embedding.networks.model_file import read_safetensors
from coupled_embedding.networks.state_dict import is_own_checkpoint, network_weights
from coupled_embedding.utils.errors import CheckpointError, short_repr

# what files of weights may name: state dicts, tensors, their memory
_NAMES = re.compile(
    r"collections OrderedDict|torch Size|torch\._utils _rebuild_(parameter|tensor|tensor_v2)"
    r"|torch (Float|Double|Half|BFloat16|Long|Int|Short|Char|Byte|Bool)Storage"
)
# what training states hold besides weights: torch makes its own, which are harmless; for the others stand-ins are made
_OF_TORCH = re.compile(
    r"collections Counter|torch (device|Tensor|u?int\d+|b?float\d+|bool)"
    r"|torch\._utils _rebuild_parameter_with_state|torch\._tensor _rebuild_from_type_v2|torch\.nn\.parameter Parameter"
)
_MAPPINGS = re.compile(
    r"(yacs\.config|fvcore\.common\.config|detectron2\.config\.config) CfgNode|easydict EasyDict"
    r"|(pytorch_lightning|lightning|lightning_fabric)(\.\w+)* AttributeDict"
)
_OTHERS = re.compile(
    r"collections (deque|defaultdict)|_codecs encode|argparse Namespace|types SimpleNamespace"
    r"|numpy(\._?core\.multiarray)? (scalar|_reconstruct|dtype|ndarray|bool_?|u?int\d+|float\d+)|numpy\.dtypes \w+DType"
    r"|(__builtin__|builtins) (set|frozenset|list|dict|tuple|int|float|str|bool|complex)"
    r"|omegaconf(\.\w+)* \w+|typing Any|mmengine\.logging\.history_buffer HistoryBuffer"
    r"|pathlib(\._local)? (Pure)?(Posix|Windows)?Path|datetime (datetime|date|timedelta|timezone)"
)
_MOST_SHARED = 8  # times the file's size that its tensors may have: some share their memory
_DEEPEST = 32  # containers inside each other
_BYTE_CODECS = {f"{name}_codec" for name in ("hex", "base64", "zlib", "bz2", "quopri", "uu")}
_SUFFIXES = (".pth", ".pt", ".safetensors", ".bin")
_ZIP = b"PK\x03\x04"
_LEGACY_PICKLES = 5  # magic number, version, machine, content, keys of the tensors' memory, which follows
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY = b"\x80\x02\x8a\n" + _LEGACY_MAGIC.to_bytes(10, "little")
_PROTOCOL = 3  # of pickles, at most: names are texts of their own there


def read_weight_file(path: str | Path) -> dict[Any, Any]:
    """Read a torch or safetensors file without executing anything in it.

    What a training state of another program holds besides tensors and plain values (counters,
    NumPy's numbers, command lines) is None.

    Args:
        path: of the file, or of a folder in the Hub's layout.

    Returns:
        Its content: dicts, lists, tuples, texts, numbers and dense tensors in host memory. A model of
        `model_file` has the content of a checkpoint.

    Raises:
        CheckpointError: it is missing, damaged, of another kind, holds objects that only a program
            could make, or would grow far beyond its size; the text says what to do.
    """
    path = Path(path)
    if path.is_dir() and (config := read_hub_config(path)) is not None:
        saved = read_weight_file(path / WEIGHTS)
        # the config that users see and edit goes before the one inside the weight file
        return {"license": saved.get("license", ""), **config, "model": network_weights(saved, path / WEIGHTS)}
    if path.is_dir():
        names = sorted(file.name for file in path.glob("*") if file.suffix in _SUFFIXES)
        names.sort(key="model.safetensors".__ne__)  # the weights of a folder as Hugging Face writes it
        advice = f"give one of its files: {listed(names)}" if names else f"it has none of {', '.join(_SUFFIXES)}"
        raise CheckpointError(f"{path}: no such weight file: it is a folder; {advice}")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weight file")
    try:
        content = _read(path)
    except CheckpointError:
        raise
    except Exception as error:  # torch raises many kinds for damaged and for hostile files
        raise CheckpointError(f"{path}: not a readable weight file ({_explain(error)}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a dict of tensors, got {type(content).__name__}")
    return content


def _explain(error: Exception) -> str:
    """Return what is wrong with a file, then a closing bracket and what to do."""
    match error:
        case NotWeightsError():
            return f"{error.what}); {error.remedy}"
        case PermissionError():
            return f"{error.strerror})"
        case zipfile.BadZipFile():
            return f"cut off or damaged); {FETCH}"
        case safetensors.SafetensorError():
            return f"a damaged or cut off safetensors file, or none: {error}); fetch it again"
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip() or type(error).__name__
    advice = "it is damaged or cut off, or not made by torch.save: fetch or copy it again"
    return f"{type(error).__name__}: {text.splitlines()[0]:.300}); {advice}"


def _read(path: Path) -> Any:
    head, size = refuse_other_kinds(path), path.stat().st_size
    named = path.suffix == ".safetensors"
    is_table = head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size
    if is_table or (named and not head.startswith((_ZIP, _LEGACY))):
        return read_safetensors(path)
    foreign = _foreign_names(path, head, size)
    if named:
        raise NotWeightsError("a PyTorch file under the name of a safetensors file", f"rename it to {path.stem}.pth")
    if strange := [name for name in foreign if not any(k.fullmatch(name) for k in (_OF_TORCH, _MAPPINGS, _OTHERS))]:
        raise _objects_in(path, [name.replace(" ", ".") for name in strange])
    stand_ins: list[Any] = [_stand_in(name) for name in foreign if not _OF_TORCH.fullmatch(name)]
    plain = _PlainCopy(size)
    with torch.serialization.safe_globals(stand_ins):
        content = plain.value(torch.load(path, map_location="cpu", weights_only=True))
    if not plain.tensors and any(name.endswith("multiarray _reconstruct") for name in foreign):
        raise NotWeightsError("it holds NumPy arrays, not tensors", _command(path))
    # our files hold no objects, and without weights there is nothing to read
    if foreign and (not plain.tensors or (isinstance(content, dict) and is_own_checkpoint(content))):
        what = f"it asks for {short_repr(foreign[0])}, which weights do not need"
        raise NotWeightsError(what, "give a file of weights")
    return content


def _stand_in(name: str) -> tuple[Any, str]:
    """Return what torch is given for an object of this name (``module name``), and the name as torch has it."""
    full = name.replace("__builtin__", "builtins").replace(" ", ".")
    if _MAPPINGS.fullmatch(name):
        return OrderedDict, full
    # a defaultdict is made by a call, and its entries follow
    return (lambda *_: OrderedDict()) if name == "collections defaultdict" else _LeftOut, full


# ---- what a file names


def _foreign_names(path: Path, head: bytes, size: int) -> list[str]:
    """Return what a file names beyond tensors; ValueError if it unpacks to more than its size, or is damaged."""
    if head.startswith(_LEGACY):
        with path.open("rb") as file:
            return [name for _ in range(_LEGACY_PICKLES) for name in _check_pickle(file)]
    if not head.startswith(_ZIP):
        what = "a plain pickle, not" if re.match(rb"\x80[\x02-\x05]", head) else "it does not begin like"
        raise NotWeightsError(f"{what} a file of torch.save", "give a .pth or safetensors file of the weights")
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        refuse_other_archives([entry.filename for entry in entries])
        # weights are stored as they are; packed or overlapping entries could unpack to any size
        if any(entry.compress_type for entry in entries) or sum(entry.file_size for entry in entries) > size:
            raise ValueError("it is packed, or unpacks to more than its own size")
        # torch itself verifies no checksums; where all are 0, the file was saved without them
        if not any(entry.CRC for entry in entries):
            for entry in entries:
                del entry.CRC
        elif part := archive.testzip():
            what = f"the checksum of its part {part:.200} is wrong"
            raise NotWeightsError(what, "it is damaged: fetch or copy it again")
        # torch finds an entry regardless of the case in which its name is written
        pickles = [io.BytesIO(archive.read(entry)) for entry in entries if entry.filename.lower().endswith("data.pkl")]
    return [name for file in pickles for name in _check_pickle(file)]


def _check_pickle(file: IO[bytes]) -> list[str]:
    """Return the names in a pickle that weights do not need, each once; ValueError for a huge number."""
    foreign: dict[str, None] = {}
    codecs = set()
    for operation, argument, _ in pickletools.genops(file):
        if isinstance(argument, str) and len(argument) < 20:
            codecs.add(encodings.normalize_encoding(argument).lower())
        if operation.name in ("GLOBAL", "INST") and not _NAMES.fullmatch(str(argument)):
            foreign[str(argument)] = None
        if operation.name == "STACK_GLOBAL" or (operation.name == "PROTO" and argument and argument > _PROTOCOL):
            raise NotWeightsError("its pickle is of protocol 4 or later", "save it again without pickle_protocol")
        # keys of many digits can be made to collide, and a dict of them to take the square of their number
        if isinstance(argument, int) and not -(2**63) <= argument < 2**63 and argument != _LEGACY_MAGIC:
            raise ValueError("it holds a whole number of more than 64 bits")
    # torch itself calls this one, and codecs from bytes to bytes can be nested: each doubles what it is given
    if "_codecs encode" in foreign and _BYTE_CODECS & {encodings.aliases.aliases.get(name, name) for name in codecs}:
        raise ValueError("it asks for '_codecs.encode' with another code than that of texts")
    return list(foreign)


def _objects_in(path: Path, names: list[str]) -> NotWeightsError:
    """Return the error for a file that holds objects of a program, by their names."""
    if modules := [name for name in names if name.startswith("torch.nn.modules.")]:
        of_class = short_repr(next((name for name in names if not name.startswith("torch.")), modules[0]))
        what = f"it holds a whole pickled network, of {of_class} and others, which only its program can make"
        weights = "give the file of its state_dict"
    else:
        what = (
            f"it asks for {short_repr(names[0])}, an object that weights do not need and that only a program can make"
        )
        weights = "give the weights-only file of the same training (such as best, model_best or final_state .pth)"
    return NotWeightsError(what, f"{weights}; or, {_command(path)}")


def _command(path: Path) -> str:
    """Return how to write the weights alone of a file with objects or NumPy arrays."""
    code = (
        f"import torch; c = torch.load({str(path)!r}, 'cpu', weights_only=False); "
        "c = c.get('state_dict', c.get('model', c)) if isinstance(c, dict) else c; "
        "c = c if isinstance(c, dict) else c.state_dict(); "
        "torch.save({k: torch.as_tensor(v) for k, v in c.items() if hasattr(v, 'dtype')}, 'weights.pth')"
    )
    quoted = f'"{code}"' if not set(code) & set('"$`\\!') else shlex.quote(code)
    return f"where you trust its maker, write its weights alone as tensors: python -c {quoted}"


# ---- what a file holds


class _LeftOut(list):
    """Replaces an object of another program besides weights: takes what is put into it, and keeps nothing."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def _ignore(self, _: Any) -> None:
        """Take items or attributes."""

    append = extend = __setstate__ = _ignore


class _PlainCopy:
    """Copies a file's content into plain containers, and counts its tensors and what it grows to.

    A copy, as a hostile file can hang attributes such as ``get`` on an OrderedDict.
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
        if value is None or isinstance(value, _LeftOut | type | torch.device | torch.dtype | set):
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
