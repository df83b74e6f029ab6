"""Where the project's files are: one rule for every path in a config or schema."""

from pathlib import Path

from coupled_embedding.errors import UserError

CHECKOUT = Path(__file__).resolve().parents[2]


def resolve(path: str | Path) -> Path:
    """Return ``path`` as given if it exists or is absolute, else as seen from the checkout.

    Configs name files such as ``datasets/coco.yaml`` relative to the top of the checkout, so
    that commands work from any working directory.
    """
    path = Path(path).expanduser()
    try:
        found = path.exists()
    except (OSError, ValueError) as error:  # a name too long, or with a NUL byte
        raise UserError(f"{str(path)[:200]!r} cannot be a path: {error}") from error
    return path if found or path.is_absolute() else CHECKOUT / path
