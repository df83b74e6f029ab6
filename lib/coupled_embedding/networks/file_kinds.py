"""What a file that was given as weights is instead, by its first bytes, and what to do about it."""

import re
from collections.abc import Sequence
from pathlib import Path


class NotWeightsError(ValueError):
    """A file holds no weights that can be read; the text says what it is and, after a semicolon, what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")
        self.what, self.remedy = what, remedy


FETCH = "fetch the weights again, and compare the size with what the page says"
_UNPACK = "unpack it and give the weight file inside"
_OTHER_PROGRAM = "this package reads PyTorch's weights (.pth, .pt) and safetensors: export them as one of these"
_NO_WEIGHTS = "give a file of PyTorch's weights (.pth, .pt) or a safetensors file"
_SOURCE = "give the .pth file that the {} was made from"
# place, bytes, what the file is, what to do
_SIGNATURES: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras and TensorFlow write", _OTHER_PROGRAM),
    (0, b"\x08\x01\x12", "a TensorFlow SavedModel", _OTHER_PROGRAM),
    (4, b"TFL3", "a TensorFlow Lite model", _OTHER_PROGRAM),
    (0, b"GGUF", "a GGUF model", _OTHER_PROGRAM),
    (0, b"\x93NUMPY", "a NumPy array", _OTHER_PROGRAM),
    (257, b"ustar", "a tar archive, not a PyTorch file", _UNPACK),
    (0, b"\x1f\x8b", "a gzip archive, not a PyTorch file", _UNPACK),
    (0, b"BZh", "a bzip2 archive, not a PyTorch file", _UNPACK),
    (0, b"\xfd7zXZ\x00", "an xz archive, not a PyTorch file", _UNPACK),
    (0, b"7z\xbc\xaf'\x1c", "a 7z archive, not a PyTorch file", _UNPACK),
    (0, b"Rar!", "a RAR archive, not a PyTorch file", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive, not a PyTorch file", _UNPACK),
    (0, b"PK\x05\x06", "an empty zip archive", FETCH),
    (0, b"%PDF", "a PDF document", _NO_WEIGHTS),
    (0, b"\x89PNG", "a PNG image", _NO_WEIGHTS),
    (0, b"\xff\xd8\xff", "a JPEG image", _NO_WEIGHTS),
)
# the first fields of an ONNX model: its version, then a text or number
_ONNX = re.compile(rb"\x08[\x02-\x1f][\x12\x1a\x22\x28\x32\x3a\x42]")
_PAGE = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<!--")
# an ending of the names in a zip archive, what that is, what to do; the first one that is there counts
_ENTRIES = (
    ("archive_format", "a program of torch.export", _SOURCE.format("program")),
    ("serialized_exported_program.json", "a program of torch.export", _SOURCE.format("program")),
    ("data.pkl", "", ""),  # a file of torch.save
    (".npy", "an archive of NumPy arrays", _OTHER_PROGRAM),
    (".h5", "a Keras model", _OTHER_PROGRAM),
)
_TORCHSCRIPT = (
    'give the .pth file of the training; or where you trust its maker, take its weights out: python -c "import torch; '
    "torch.save(torch.jit.load('FILE', 'cpu').state_dict(), 'weights.pth')\" with its name for FILE"
)


def refuse_other_kinds(path: Path) -> bytes:
    """Return the first bytes of a file; raise NotWeightsError if it is known to be neither torch's nor safetensors.

    `refuse_other_archives` inspects zip archives, which torch's files are too.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        raise NotWeightsError("the file is empty", f"a download or a full disk left it so: {FETCH}")
    for place, signature, what, remedy in _SIGNATURES:
        if head[place:].startswith(signature):
            raise NotWeightsError(what, remedy)
    if path.suffix == ".onnx" or _ONNX.match(head):
        what = "an ONNX model, which does not keep the network's weights by name"
        raise NotWeightsError(what, _SOURCE.format("ONNX model"))
    if re.search(r"\.data-\d+-of-\d+$", path.name):
        raise NotWeightsError("a part of a TensorFlow checkpoint", _OTHER_PROGRAM)
    _refuse_text(head)
    return head


def _refuse_text(head: bytes) -> None:
    if head.startswith(b"version https://git-lfs.github.com/spec"):
        size = re.search(rb"^size (\d{1,15})$", head, re.MULTILINE)
        size_text = f" to a file of {int(size[1]):,} bytes" if size else ""
        remedy = "git has not fetched the weights: run 'git lfs install' and 'git lfs pull' where it was cloned"
        raise NotWeightsError(f"a git-LFS pointer{size_text}", f"{remedy}, or download the file itself")
    bare = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if bare.lower().startswith(_PAGE) or (bare.startswith(b"<?xml") and b"<html" in bare.lower()):
        title = re.search(rb"<title[^>]*>\s*(.{1,80}?)\s*<", bare, re.IGNORECASE | re.DOTALL)
        named = f" ({' '.join(title[1].decode('utf-8', 'replace').split())!r})" if title else ""
        remedy = "a server sent a page (a login, an error, a link's page) instead of the weights: download them again"
        raise NotWeightsError(f"an HTML page{named}", f"{remedy}, by the address of the file itself")
    text = head.decode("utf-8", "replace")
    if not any(c < " " and c not in "\t\n\r\f" for c in text) and "\ufffd" not in text[:-1]:
        raise NotWeightsError(f"text that begins with {' '.join(text[:60].split())!r}", _NO_WEIGHTS)


def refuse_other_archives(names: Sequence[str]) -> None:
    """Raise NotWeightsError unless the names of a zip archive's entries are those of a file of torch.save."""
    if any("/code/" in f"/{name}" for name in names) and any(name.endswith("constants.pkl") for name in names):
        raise NotWeightsError("a TorchScript archive: a program with its weights", _TORCHSCRIPT)
    for ending, what, remedy in _ENTRIES:
        # torch finds its own regardless of the case in which its name is written
        if any((name if what else name.lower()).endswith(ending) for name in names):
            if what:
                raise NotWeightsError(what, remedy)
            return
    raise NotWeightsError(f"a zip archive, not a PyTorch file: it holds {listed(names, 3) or 'nothing'}", _UNPACK)


def listed(names: Sequence[str], most: int = 6) -> str:
    """Return the first of some names for an error, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"{name:.60}" for name in names[:most]) + more
