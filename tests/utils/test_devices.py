"""Which device and precision a rank gets, and what the errors say; a GPU is described by what torch would report."""

import pytest
import torch

from coupled_embedding.utils.devices import choose_device, choose_precision, has_kernels, why_no_gpu
from coupled_embedding.utils.errors import UserError

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch):
    """gpu(capability, built_for, count): torch as it is on a machine with such GPUs."""

    def describe(capability: tuple[int, int] = (9, 0), built_for: tuple[str, ...] = ("sm_90",), count: int = 1) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(built_for))

    return describe


def test_one_rank_takes_a_gpu_where_there_is_one(gpu) -> None:
    gpu(count=0)
    assert choose_device("", 0, 1) == CPU
    gpu(count=2)
    assert choose_device("", 1, 2) == torch.device("cuda", 1)
    assert choose_device("cpu", 0, 8) == CPU


@pytest.mark.parametrize(("name", "asked"), [("", "8 ranks"), ("cuda", "--device cuda")])
def test_several_ranks_without_a_usable_gpu_are_an_error(gpu, name, asked) -> None:
    gpu(count=0)
    with pytest.raises(UserError) as caught:
        choose_device(name, 0, 8)
    text = str(caught.value)
    assert text.startswith(f"{asked}: no usable GPU on this machine: torch {torch.__version__} was built ")
    assert text.endswith("; use --device cpu for the CPU")


def test_the_reason_names_torch_and_driver(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    built = f"torch {torch.__version__} was built for CUDA 13.0, and "
    assert why_no_gpu(tmp_path / "none") == built + "no NVIDIA driver is loaded"
    driver = tmp_path / "version"
    driver.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n")
    assert why_no_gpu(driver).startswith(built + "the NVIDIA driver is 535.104.05: it may be too old for that CUDA")
    driver.write_text("something else")
    assert why_no_gpu(driver).startswith(built + "the NVIDIA driver is unknown")
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert why_no_gpu(driver) == f"torch {torch.__version__} was built for ROCm 6.4, and finds no GPU of that kind"
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert why_no_gpu(driver) == f"torch {torch.__version__} was built without CUDA"


def test_a_rank_without_a_gpu_of_its_own_is_an_error(gpu) -> None:
    gpu(count=2)
    with pytest.raises(UserError, match="torch sees 2; start no more ranks than that"):
        choose_device("", 2, 4)


@pytest.mark.parametrize(
    ("capability", "built_for", "runs"),
    [
        ((7, 0), ("sm_75", "sm_80", "sm_90", "compute_120"), False),  # a V100 with a wheel for CUDA 13
        ((7, 5), ("sm_75", "sm_80"), True),
        ((8, 6), ("sm_75", "sm_80", "sm_90"), True),  # of the same major version
        ((8, 0), ("sm_86",), False),
        ((12, 1), ("sm_90", "compute_90"), True),  # compiled when it is loaded
        ((9, 0), ("sm_90a",), True),
        ((9, 0), (), False),
        ((12, 0), ("compute_90a",), False),
    ],
)
def test_kernels_run_on_their_own_generation_and_portable_code_on_later_ones(capability, built_for, runs) -> None:
    assert has_kernels(capability, built_for) is runs


def test_names_of_rocms_architectures_are_not_read(gpu, monkeypatch) -> None:
    gpu((9, 4), ("gfx90a", "gfx942"))
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert choose_device("", 0, 1) == GPU


def test_a_gpu_without_kernels_is_an_error(gpu) -> None:
    gpu((7, 0), ("sm_75", "sm_80"))
    with pytest.raises(UserError, match=r"no kernels for Some GPU \(sm_70\), only for sm_75, sm_80; install a torch"):
        choose_device("", 0, 1)


@pytest.mark.parametrize(("capability", "chosen"), [((6, 1), "fp32"), ((7, 5), "fp16"), ((8, 0), "bf16")])
def test_auto_takes_the_fastest_precision_with_hardware(gpu, capability, chosen) -> None:
    gpu(capability)
    assert choose_precision("auto", "TRAIN.PRECISION", GPU) == chosen
    for name in ("fp32", "fp16"):
        assert choose_precision(name, "TRAIN.PRECISION", GPU) == name
    if chosen == "bf16":
        assert choose_precision("bf16", "TRAIN.PRECISION", GPU) == "bf16"
    else:
        with pytest.raises(UserError, match=rf"TRAIN\.PRECISION: Some GPU computes bf16 .* auto \(there: {chosen}\)"):
            choose_precision("bf16", "TRAIN.PRECISION", GPU)


def test_a_cpu_computes_in_what_is_asked_for() -> None:
    assert [choose_precision(name, "X", CPU) for name in ("auto", "bf16", "fp16", "fp32")] == [
        "bf16",
        "bf16",
        "fp16",
        "fp32",
    ]
