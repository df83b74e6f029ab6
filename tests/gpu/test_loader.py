"""Batches for a GPU lie in page-locked memory, and arrive as they were read."""

from collections.abc import Callable

import pytest
import torch
from runs import CPU
from yacs.config import CfgNode

from coupled_embedding.builders import build_records, build_schema, build_train_run
from coupled_embedding.data.dataset import TrainBatch
from coupled_embedding.data.test_dataset import TestDataset, build_test_loader
from coupled_embedding.utils.distributed import DistEnv, process_group

pytestmark = pytest.mark.gpu
Tiny = Callable[..., CfgNode]


def tensors(batch: TrainBatch) -> list[torch.Tensor]:
    return [batch.images, *batch.joints, *batch.masks, batch.scales]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_training_batches(tiny: Tiny, workers: str) -> None:
    def batches(env: DistEnv) -> list[TrainBatch]:
        return list(build_train_run(tiny("loader", "TRAIN.WORKERS", workers), env).open_loader(0, 4))

    with process_group("cuda") as env:
        for batch, plain in zip(batches(env), batches(CPU), strict=True):
            assert batch.image_ids == plain.image_ids
            for pinned, moved, read in zip(*map(tensors, (batch, batch.to(env.device), plain)), strict=True):
                assert pinned.is_pinned()
                assert not read.is_pinned()
                assert moved.device == env.device
                assert torch.equal(moved.cpu(), read)


@pytest.mark.parametrize("workers", [0, 2])
def test_test_batches(tiny: Tiny, workers: int) -> None:
    cfg = tiny("loader")
    dataset = TestDataset(build_records(cfg, build_schema(cfg), "test"), [[0, 1], [2, 3], [4]], 64, (2.0, 1.0))
    pinned, plain = (build_test_loader(dataset, workers, pin) for pin in (True, False))
    for batch, expected in zip(pinned, plain, strict=True):
        assert all(image.is_pinned() for image in batch.images)
        assert all(torch.equal(*images) for images in zip(batch.images, expected.images, strict=True))
