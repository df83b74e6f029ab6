"""Where the project's files are: one rule for every path in a config or schema."""

from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2]


def resolve(path: str | Path) -> Path:
    """Return ``path`` as given if it exists or is absolute, else as seen from the checkout.

    Configs name files such as ``datasets/coco.yaml`` relative to the top of the checkout, so
    that commands work from any working directory.
    """
    path = Path(path).expanduser()
    if path.is_absolute() or path.exists():
        return path
    return _CHECKOUT / path
