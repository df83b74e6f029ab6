"""Where tests find what the repository does not carry."""

import os
from pathlib import Path

import pytest

_CHECKOUT = Path(__file__).resolve().parents[1]


def _shared_folder(variable: str, name: str) -> Path:
    folder = Path(os.environ.get(variable) or _CHECKOUT.parent / "shared" / name)
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing; set {variable} to the folder")
    return folder


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """The recorded numbers of the method's released program."""
    return _shared_folder("CE_REFERENCE", "reference")


@pytest.fixture(scope="session")
def photos_dir() -> Path:
    """Real photos with annotations."""
    return _shared_folder("CE_PHOTOS", "photos")
