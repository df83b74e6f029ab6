"""Which device computes, in which precision, and why not another."""

import re
from collections.abc import Iterable
from pathlib import Path

import torch

from coupled_embedding.utils.errors import UserError

_DRIVER = Path("/proc/driver/nvidia/version")
BF16_UNITS, FP16_UNITS = (8, 0), (7, 0)  # compute capabilities from which on a GPU has them


def choose_device(name: str, local_rank: int, ranks: int) -> torch.device:
    """Return the device of a rank.

    Args:
        name: ``"cpu"``, ``"cuda"``, or empty: a GPU, or the CPU for a single rank without one.
        local_rank: among the ranks of this machine.
        ranks: of all machines.

    Raises:
        UserError: there is no usable GPU for this rank; the text says why.
    """
    if name not in ("", "cpu", "cuda"):
        raise UserError(f"--device {name}: allowed are cpu and cuda")
    if name == "cpu" or (not name and ranks == 1 and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        asked = "--device cuda" if name else f"{ranks} ranks"
        raise UserError(f"{asked}: no usable GPU on this machine: {why_no_gpu()}; use --device cpu for the CPU")
    if local_rank >= torch.cuda.device_count():
        raise UserError(
            f"not every rank of this machine has a GPU of its own: torch sees {torch.cuda.device_count()}; start no "
            "more ranks than that, or use --device cpu"
        )
    device = torch.device("cuda", local_rank)
    capability, built_for = torch.cuda.get_device_capability(device), torch.cuda.get_arch_list()
    if not torch.version.hip and not has_kernels(capability, built_for):
        raise UserError(
            f"torch {torch.__version__} has no kernels for {torch.cuda.get_device_name(device)} (sm_{capability[0]}"
            f"{capability[1]}), only for {', '.join(built_for)}; install a torch built for an older CUDA "
            "(https://pytorch.org/get-started), or use --device cpu"
        )
    return device


def why_no_gpu(driver: Path = _DRIVER) -> str:
    """Return what torch was built for and which driver there is; ``driver`` is the kernel module's own file."""
    if torch.version.hip:
        return f"torch {torch.__version__} was built for ROCm {torch.version.hip}, and finds no GPU of that kind"
    if not torch.version.cuda:
        return f"torch {torch.__version__} was built without CUDA"
    built = f"torch {torch.__version__} was built for CUDA {torch.version.cuda}"
    try:
        version = re.search(r"\d+\.[\d.]+", driver.read_text())
    except OSError:
        return f"{built}, and no NVIDIA driver is loaded"
    return (
        f"{built}, and the NVIDIA driver is {version[0] if version else 'unknown'}: it may be too old for that CUDA "
        "(nvidia-smi prints the newest that it supports), or CUDA_VISIBLE_DEVICES hides the GPUs"
    )


def has_kernels(capability: tuple[int, int], built_for: Iterable[str]) -> bool:
    """Whether a GPU of this compute capability runs kernels built for architectures such as ``"sm_90"``.

    Machine code runs on its own major version, from its own minor version on; ``"compute_90"`` on anything newer, but
    ``"compute_90a"`` on its own version only.
    """
    for name in built_for:
        kind, _, digits = name.partition("_")
        major, minor = divmod(int(re.sub(r"\D", "", digits)), 10)
        if ((kind == "compute" and digits.isdigit()) or major == capability[0]) and (major, minor) <= capability:
            return True
    return False


def choose_precision(name: str, option: str, device: torch.device) -> str:
    """Return ``"fp32"``, ``"bf16"`` or ``"fp16"``, of which ``"auto"`` is the fastest that is safe on a device.

    Raises:
        UserError: bf16 is asked for on a GPU without units for it; ``option`` names what to change.
    """
    if device.type != "cuda" or name not in ("auto", "bf16"):
        return "bf16" if name == "auto" else name
    capability = torch.cuda.get_device_capability(device)
    if capability >= BF16_UNITS:
        return "bf16"
    other = "fp16" if capability >= FP16_UNITS else "fp32"
    if name == "auto":
        return other
    raise UserError(
        f"{option}: {torch.cuda.get_device_name(device)} computes bf16 without hardware, slower than fp32; give auto "
        f"(there: {other}), fp16 or fp32"
    )
