"""Reading files of weights from strangers: no code runs, and a small file cannot ask for much memory.

``torch.load(weights_only=True)`` runs no code, but calls what a file names of a list that holds more than weights
need: ``bytearray`` with a file's number takes that many bytes, whatever the file's own size. So a file is inspected
before it is loaded, and its tensors after. A training state of another program holds more than tensors: for its
objects, which are named in a list too, torch is given others that do nothing.
"""

import encodings.aliases
import pickletools
import re
import shlex
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import safetensors.torch
import torch

from coupled_embedding.networks.file_kinds import CUT_OFF, NotWeightsError, refuse_other_archives, refuse_other_kinds
from coupled_embedding.networks.plain_content import LeftOut, PlainCopy, left_out_mapping
from coupled_embedding.networks.state_dict import is_own_checkpoint
from coupled_embedding.utils.errors import CheckpointError, short_repr

# what files of weights may name: state dicts, tensors, their memory
_NAMES = {
    "collections OrderedDict",
    "torch Size",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
    *(f"torch {kind}Storage" for kind in ("Float", "Double", "Half", "BFloat16")),
    *(f"torch {kind}Storage" for kind in ("Long", "Int", "Short", "Char", "Byte", "Bool")),
}
# what training states hold beside weights: torch makes its own, which are harmless; for the others stand-ins are made
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
_BYTE_CODECS = {f"{name}_codec" for name in ("hex", "base64", "zlib", "bz2", "quopri", "uu")}
_NAMING = {"GLOBAL", "INST"}
_ZIP = b"PK\x03\x04"
_PICKLES = tuple(bytes([0x80, protocol]) for protocol in (2, 3, 4, 5))
_LEGACY_PICKLES = 5  # magic number, version, machine, content, keys of the tensors' memory, which follows
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY = b"\x80\x02\x8a\n" + _LEGACY_MAGIC.to_bytes(10, "little")
_PROTOCOL = 3  # of pickles, at most: names are texts of their own there


def read_weight_file(path: str | Path) -> dict[Any, Any]:
    """Read a torch or safetensors file without executing anything in it.

    What a training state of another program holds beside tensors and plain values (counters,
    NumPy's numbers, command lines) is None.

    Returns:
        Its content: dicts, lists, tuples, texts, numbers and dense tensors in host memory.

    Raises:
        CheckpointError: it is missing, damaged, of another kind, holds objects that only a program
            could make, or would grow far beyond its size; the text says what to do.
    """
    path = Path(path)
    if path.is_dir():
        files = ", ".join(sorted(file.name for file in path.glob("*.pth"))[:6]) or "none"
        raise CheckpointError(f"{path}: no such weight file: it is a folder; give one of its files (.pth: {files})")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weight file")
    try:
        content = _read(path)
    except Exception as error:  # torch raises many kinds for damaged and for hostile files
        raise CheckpointError(f"{path}: not a readable weight file ({_explain(error)}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a dict of tensors, got {type(content).__name__}")
    return content


def _explain(error: Exception) -> str:
    """Return what is wrong with a file, then a closing bracket and what to do."""
    if isinstance(error, NotWeightsError):
        return f"{error.what}); {error.remedy}"
    if isinstance(error, PermissionError):
        return f"{error.strerror})"
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip() or type(error).__name__
    advice = "it is damaged or cut off, or not made by torch.save: fetch or copy it again"
    return f"{type(error).__name__}: {text.splitlines()[0]:.300}); {advice}"


def _read(path: Path) -> Any:
    refuse_other_kinds(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(len(_LEGACY))
    if path.suffix == ".safetensors" or (head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size):
        try:
            return safetensors.torch.load_file(path)
        except safetensors.SafetensorError as error:
            raise NotWeightsError(
                f"a damaged or cut off safetensors file, or none: {error}", "fetch it again"
            ) from error
    foreign = _foreign_names(path, head, size)
    strange = [name for name in foreign if not any(k.fullmatch(name) for k in (_OF_TORCH, _MAPPINGS, _OTHERS))]
    if strange:
        raise _objects_in(path, [name.replace(" ", ".") for name in strange])
    stand_ins: list[Any] = [_stand_in(name) for name in foreign if not _OF_TORCH.fullmatch(name)]
    plain = PlainCopy(size)
    with torch.serialization.safe_globals(stand_ins):
        content = plain.value(torch.load(path, map_location="cpu", weights_only=True))
    # our files hold no objects, and without weights there is nothing to read
    if foreign and (not plain.tensors or (isinstance(content, dict) and is_own_checkpoint(content))):
        raise NotWeightsError(
            f"it asks for {short_repr(foreign[0])}, which weights do not need", "give a file of weights"
        )
    return content


def _stand_in(name: str) -> tuple[Any, str]:
    """Return what torch is given for an object of this name (``module name``), and the name as torch has it."""
    full = name.replace("__builtin__", "builtins").replace(" ", ".")
    if _MAPPINGS.fullmatch(name):
        return OrderedDict, full
    return left_out_mapping if name == "collections defaultdict" else LeftOut, full


# ---- what a file names


def _foreign_names(path: Path, head: bytes, size: int) -> list[str]:
    """Return what a file names beyond tensors; ValueError if it unpacks to more than its size."""
    if head == _LEGACY:
        with path.open("rb") as file:
            return [name for _ in range(_LEGACY_PICKLES) for name in _check_pickle(file)]
    if not head.startswith(_ZIP):
        what = "a plain pickle, not" if head.startswith(_PICKLES) else "it does not begin like"
        raise NotWeightsError(f"{what} a file of torch.save", "give a .pth or safetensors file of the weights")
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise CUT_OFF from error
    foreign = []
    with archive:
        entries = archive.infolist()
        refuse_other_archives([entry.filename for entry in entries])
        # weights are stored as they are; packed or overlapping entries could unpack to any size
        if sum(entry.file_size for entry in entries) > size:
            raise ValueError("unpacks to more than its own size")
        # torch finds an entry in whatever case its name is written
        for entry in (entry for entry in entries if entry.filename.lower().endswith("data.pkl")):
            with archive.open(entry) as file:
                foreign += _check_pickle(file)
    return foreign


def _check_pickle(file: IO[bytes]) -> list[str]:
    """Return the names in a pickle that weights do not need, each once; ValueError for a huge number."""
    foreign: dict[str, None] = {}
    codecs = set()
    for operation, argument, _ in pickletools.genops(file):
        if isinstance(argument, str) and len(argument) < 20:
            codecs.add(encodings.normalize_encoding(argument).lower())
        if operation.name in _NAMING and argument not in _NAMES:
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


def _objects_in(path: Path, names: Sequence[str]) -> NotWeightsError:
    """Return the error for a file that holds objects of a program, by their names."""
    code = (
        f"import torch; c = torch.load({str(path)!r}, 'cpu', weights_only=False); "
        "c = c.get('state_dict', c.get('model', c)) if isinstance(c, dict) else c; "
        "torch.save(c if isinstance(c, dict) else c.state_dict(), 'weights.pth')"
    )
    quoted = f'"{code}"' if not set(code) & set('"$`\\!') else shlex.quote(code)
    take_out = f"where you trust its maker, write its weights alone: python -c {quoted}"
    modules = [name for name in names if name.startswith("torch.nn.modules.")]
    if modules:
        of_class = short_repr(next((name for name in names if not name.startswith("torch.")), modules[0]))
        what = f"it holds a whole pickled network, of {of_class} and others, which only its program can make"
        return NotWeightsError(what, f"give the file of its state_dict; or, {take_out}")
    what = f"it asks for {short_repr(names[0])}, an object that weights do not need and that only a program can make"
    weights = "give the weights-only file of the same training (such as best, model_best or final_state .pth)"
    return NotWeightsError(what, f"{weights}; or, {take_out}")
