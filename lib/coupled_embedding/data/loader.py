"""Loaders: which photos go to which process at which step, and the worker processes."""

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler
from yacs.config import CfgNode

from coupled_embedding.data.augmentation import build_augmentation
from coupled_embedding.data.bad_input import BadInput
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.train_dataset import SampleKey, TrainBatch, TrainDataset, collate
from coupled_embedding.data.workers import STALLED_SECONDS
from coupled_embedding.errors import DatasetError
from coupled_embedding.keypoints import KeypointSchema


class StepPlan(Sampler[list[SampleKey]]):
    """Which photos each process trains with, batch by batch, over the whole training.

    A step takes the next ``processes · accumulate · images`` photos of the epoch's random
    order and deals them out evenly, so n processes with b images train with the photos of one
    process with n·b. An epoch's last step has what is left; too few for every process to get
    one are left out of that epoch.

    Args:
        num_images: photos in the data set.
        images: photos per process and forward pass.
        accumulate: forward passes per step.
        rank, processes: this process and their number.
        seed: of the random order.
        first_step, last_step: steps to plan: ``first_step`` to ``last_step - 1``.
    """

    def __init__(
        self,
        num_images: int,
        images: int,
        accumulate: int = 1,
        rank: int = 0,
        processes: int = 1,
        seed: int = 0,
        first_step: int = 0,
        last_step: int = 0,
    ) -> None:
        self.num_images, self.accumulate = num_images, accumulate
        self.rank, self.processes, self.seed = rank, processes, seed
        self.parts = processes * accumulate
        self.step_size = self.parts * images
        self.steps_per_epoch = num_images // self.step_size + (num_images % self.step_size >= self.parts)
        if not self.steps_per_epoch:
            raise DatasetError(
                f"{num_images} photos are too few for {processes} processes with {accumulate} forward passes a step: "
                "each needs one photo at least"
            )
        self.first_step, self.last_step = first_step, last_step

    def __len__(self) -> int:
        return (self.last_step - self.first_step) * self.accumulate

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch, order = -1, np.arange(0)
        for step in range(self.first_step, self.last_step):
            if step // self.steps_per_epoch != epoch:
                epoch = step // self.steps_per_epoch
                order = np.random.default_rng((self.seed, epoch)).permutation(self.num_images)
            start = step % self.steps_per_epoch * self.step_size
            photos = order[start : start + self.step_size]
            parts = np.array_split(photos, self.parts)
            for pass_ in range(self.accumulate):
                part = parts[pass_ * self.processes + self.rank]
                yield [SampleKey(epoch, int(index), len(photos)) for index in part]


def single_threaded(_worker: int) -> None:
    """Keep a loader process to one thread: there are as many processes as wanted."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def build_train_dataset(
    cfg: CfgNode,
    records: list[ImageRecord],
    schema: KeypointSchema,
    strides: tuple[int, ...],
    bad_input: BadInput | None = None,
) -> TrainDataset:
    """Build the training samples of a config."""
    if cfg.DATASET.ONLY_WITH_PEOPLE:
        records = [r for r in records if (r.keypoints[..., 2] > 0).any()]
    return TrainDataset(
        records,
        schema.flip_index,
        build_augmentation(cfg),
        cfg.DATASET.INPUT_SIZE,
        strides,
        cfg.DATASET.MAX_PEOPLE,
        cfg.SEED,
        cfg.AUGMENT.REDUCED_DECODE,
        bad_input,
    )


def train_batches(dataset: TrainDataset, plan: StepPlan, workers: int, pin_memory: bool) -> Iterator[TrainBatch]:
    """Load the plan's batches in worker processes.

    Raises:
        DatasetError: it names what cannot be read, or what a process was reading when it died.
    """
    loader = DataLoader(
        dataset,
        batch_sampler=plan,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        worker_init_fn=single_threaded,
        prefetch_factor=4 if workers else None,
        timeout=STALLED_SECONDS if workers else 0,
    )
    try:
        for batch in loader:
            if isinstance(batch, DatasetError):
                raise batch
            yield batch
    except RuntimeError as error:
        dataset.name_dead_worker(error)
        raise
