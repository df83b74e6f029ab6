"""What a training costs: floating-point operations of a network, hours on given GPUs."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from coupled_embedding.builders import RunInfo

# images of the benchmarks' splits, as their authors publish them
IMAGES = {
    "coco": {"train2017": 118_287, "val2017": 5_000, "test-dev2017": 20_288},
    "crowdpose": {"train": 10_000, "val": 2_000, "trainval": 12_000, "test": 8_000},
}
# of them, those with an annotation of a person, which DATASET.TRAIN_IMAGES annotated trains on; CrowdPose: all
ANNOTATED = {"train2017": 64_115}
PASSES = 3  # a training step: forward, and about twice as much backward


@dataclass(frozen=True)
class Gpus:
    """GPUs that a training is planned for."""

    name: str
    count: int
    tflops: float  # peak of each in 10^12 operations per second, in bf16 or fp16, dense
    use: float  # share of the peak that a training reaches; assumed, not measured
    tf32: float = 0.0  # peak of float32's multiplications as TF32, which PyTorch lets convolutions use


# peaks by their maker's data sheets; many small convolutions keep HRNet far below
ASSUMED = (Gpus("A100", 8, 312, 0.15, 156), Gpus("H100 or H200", 8, 989, 0.10, 495))


def forward_gflop(network: nn.Module, size: int) -> float:
    """Return 10^9 operations of one S·S image's forward pass: a multiplication and an addition are two.

    The network is on the meta device, see `build_on_meta`; ``size`` is S in pixels.
    """
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, size, size))
    return counter.get_total_flops() / 1e9


def training_images(info: RunInfo) -> int:
    """Return how many images a training sees: those of its split times epochs; 0 where their number is unknown."""
    chosen = info.options["DATASET.TRAIN_IMAGES"] if info.dataset == "coco" else "all"
    count = {"all": IMAGES.get(info.dataset, {}), "annotated": ANNOTATED}.get(chosen, {}).get(info.train, 0)
    return count * int(info.options["TRAIN.EPOCHS"])


def training_hours(images: int, gflop: float, gpus: Gpus, precision: str = "bf16") -> float:
    """Return hours of a training, estimated from operations; validation is not counted."""
    peak = gpus.tf32 if precision == "fp32" else gpus.tflops
    return images * PASSES * gflop / (gpus.count * peak * 1000 * gpus.use) / 3600
