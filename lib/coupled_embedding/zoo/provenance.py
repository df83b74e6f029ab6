"""Where scores come from: code, packages, machine, files."""

import hashlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from coupled_embedding.utils.paths import CHECKOUT

PACKAGES = (
    *("torch", "torchvision", "numpy", "opencv-python", "opencv-python-headless"),
    *("pycocotools", "munkres", "scipy", "numba"),
)


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def code_version(folder: Path = CHECKOUT) -> dict[str, str | bool]:
    """Return the git commit of a checkout and whether files differ from it; elsewhere the package's version."""
    top, commit = _git(folder, "rev-parse", "--show-toplevel"), _git(folder, "rev-parse", "HEAD")
    # a package installed somewhere inside another repository is not that repository's code
    if commit and top and Path(top).resolve() == folder.resolve():
        return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))}
    return {"version": _version("coupled-embedding") or "unknown"}


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):  # no git here
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def package_versions() -> dict[str, str]:
    """Return Python's version and those of the packages that scores depend on."""
    found = {name: known for name in PACKAGES if (known := _version(name))}
    return {"python": platform.python_version(), **found}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()} (cpu)"
