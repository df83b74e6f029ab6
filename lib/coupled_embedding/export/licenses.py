"""The license texts that a weight file comes with."""

from pathlib import Path

from coupled_embedding.utils.errors import CheckpointError

NAMES = ("LICENSE", "NOTICE")


def licenses_of(weights: Path) -> dict[str, str]:
    """Return ``LICENSE`` and ``NOTICE``, as far as a weight file has them: in its metadata, or beside it.

    Args:
        weights: a file; ``license`` and ``notice`` in a safetensors file's metadata go before files of those names,
            with or without ``.txt`` or ``.md``, in its folder.

    Raises:
        CheckpointError: one of them cannot be read.
    """
    metadata: dict[str, str] = {}
    if weights.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(weights, "np") as file:
            metadata = file.metadata() or {}
    texts = {}
    for name in NAMES:
        if metadata.get(name.lower()):
            texts[name] = metadata[name.lower()]
            continue
        beside = [weights.with_name(name + ending) for ending in ("", ".txt", ".md")]
        if path := next((path for path in beside if path.is_file()), None):
            try:
                texts[name] = path.read_text(encoding="utf-8")
            except (OSError, UnicodeError) as error:
                raise CheckpointError(f"{path}: cannot read the model's license ({error})") from error
    return texts
