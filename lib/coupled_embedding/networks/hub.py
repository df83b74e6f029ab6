"""Models in the layout of the Hugging Face Hub: a folder with config.json and model.safetensors, here or on the Hub.

Nothing of a repository is executed: config.json is plain values, which are checked like a checkpoint's, and weights are
safetensors alone.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coupled_embedding.utils.errors import CheckpointError, UserError

CONFIG, WEIGHTS, CARD, LICENSE = "config.json", "model.safetensors", "README.md", "LICENSE"
INSTALL = "pip install 'coupled-embedding[hub]', or pip install huggingface_hub"
_FIELDS = ("format", "config", "schema", "metrics")  # of config.json
_FORMAT = "coupled_embedding/"
_PREFIX = "hf://"
_FILES = (".pth", ".pt", ".bin", ".safetensors", ".onnx")  # what no model on the Hub is named like
_NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def hub_config(content: Mapping[str, Any]) -> str:
    """Return config.json for a checkpoint's content."""
    return json.dumps({name: content[name] for name in _FIELDS}, indent=2) + "\n"


def read_hub_config(folder: Path) -> dict[str, Any] | None:
    """Return what config.json of a folder says; None: there is none, or it is another program's.

    Raises:
        CheckpointError: it is damaged, or has an unknown field.
    """
    file = folder / CONFIG
    if not file.is_file() or not (folder / WEIGHTS).is_file():
        return None
    text = file.read_text(encoding="utf-8", errors="replace")
    if _FORMAT not in text:
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: not JSON ({error!s:.200}); it is damaged: fetch it again") from error
    if not isinstance(content, dict) or not str(content.get("format")).startswith(_FORMAT):
        return None
    if unknown := content.keys() - set(_FIELDS):
        raise CheckpointError(f"{file}: unknown field {', '.join(sorted(unknown)):.200}; allowed: {', '.join(_FIELDS)}")
    return content


def hub_name(source: str | Path) -> tuple[str, str | None] | None:
    """Return (owner/name, revision or None) if a source names a model on the Hub; None: it is a path.

    ``hf://owner/name`` always is one; ``owner/name`` where there is neither such a path nor a folder ``owner``, so that
    a mistyped path leads nowhere. ``@revision`` may follow.
    """
    text = str(source)
    match = _NAME.fullmatch(text.removeprefix(_PREFIX))
    if text.startswith(_PREFIX) and match is None:
        raise CheckpointError(f"{text:.200}: expected {_PREFIX}OWNER/NAME, or {_PREFIX}OWNER/NAME@REVISION")
    if match is None or isinstance(source, Path):
        return None
    is_path = Path(text).suffix in _FILES or text.startswith(".") or Path(text).exists() or Path(text).parent.exists()
    if is_path and not text.startswith(_PREFIX):
        return None
    return match["repo"], match["revision"]


def fetch(repo: str, revision: str | None) -> Path:
    """Download a model of the Hub, or find it in the cache; return its folder.

    Raises:
        UserError: huggingface_hub is not installed.
        CheckpointError: there is no such model, no connection, or it is not in this layout.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
    except ImportError as error:
        raise UserError(f"{repo}: a model on the Hugging Face Hub needs huggingface_hub: {INSTALL}") from error
    try:
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=[CONFIG, WEIGHTS, CARD, LICENSE]))
    except Exception as error:  # HTTP libraries' own among them
        match error:
            case GatedRepoError():
                reason = "its owner grants access on request: ask on its page, then run: hf auth login"
            case RepositoryNotFoundError():
                reason = "there is no such model, or it is private: check the name, or run: hf auth login"
            case RevisionNotFoundError():
                reason = f"it has no revision '{revision}'"
            case _:
                reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(
            f"{repo}: no such file or folder here, and the Hugging Face Hub does not give it ({reason!s:.400})"
        ) from error
    if read_hub_config(folder) is None:
        raise CheckpointError(f"{repo}: is on the Hugging Face Hub, but has no {CONFIG} and {WEIGHTS} of this package")
    return folder
