"""What a training costs: floating-point operations of a network, hours on given GPUs."""

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode
from yacs.config import CfgNode

from coupled_embedding.networks.pose_network import build_network
from coupled_embedding.prepare import schema_of

# photos of the benchmarks' splits, as their authors publish them
PHOTOS = {
    ("coco", "train2017"): 118_287,
    ("coco", "val2017"): 5_000,
    ("coco", "test-dev2017"): 20_288,
    ("crowdpose", "train"): 10_000,
    ("crowdpose", "val"): 2_000,
    ("crowdpose", "trainval"): 12_000,
    ("crowdpose", "test"): 8_000,
}
# of them, those with an annotation of a person, which DATASET.TRAIN_IMAGES annotated trains on; CrowdPose: all
ANNOTATED = {("coco", "train2017"): 64_115}
PASSES = 3  # a training step: forward, and about twice as much backward


@dataclass(frozen=True)
class Gpus:
    """GPUs that a training is planned for.

    Attributes:
        name: of one.
        count: how many.
        tflops: peak of one in 10^12 operations a second, in bf16 or fp16, dense.
        use: share of the peak that a training reaches; assumed, not measured.
        tf32: the peak of float32's multiplications as TF32, which PyTorch lets convolutions use.
    """

    name: str
    count: int
    tflops: float
    use: float
    tf32: float = 0.0

    def peak(self, precision: str) -> float:
        """Return the peak of one in a precision of TRAIN.PRECISION."""
        return self.tf32 if precision == "fp32" else self.tflops


# peaks by their maker's data sheets; many small convolutions keep HRNet far below
ASSUMED = (Gpus("A100", 8, 312, 0.15, 156), Gpus("H100 or H200", 8, 989, 0.10, 495))


def forward_gflop(cfg: CfgNode) -> float:
    """Return 10^9 operations (a multiplication and an addition are two) of one S·S photo's forward pass."""
    size = cfg.DATASET.INPUT_SIZE
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        build_network(cfg, schema_of(cfg).num_joints)(torch.empty(1, 3, size, size))
    return counter.get_total_flops() / 1e9


def training_photos(cfg: CfgNode) -> int:
    """Return images a training looks at: those of its split times epochs; 0 where their number is not known."""
    split, chosen = (schema_of(cfg).name, cfg.DATASET.TRAIN), cfg.DATASET.TRAIN_IMAGES
    count = PHOTOS.get(split, 0) if chosen == "all" or split[0] != "coco" else 0
    return (ANNOTATED.get(split, count) if chosen == "annotated" else count) * int(cfg.TRAIN.EPOCHS)


def training_hours(photos: int, gflop: float, gpus: Gpus, precision: str = "bf16") -> float:
    """Return hours of a training, estimated from operations; validation is not counted."""
    return photos * PASSES * gflop / (gpus.count * gpus.peak(precision) * 1000 * gpus.use) / 3600
