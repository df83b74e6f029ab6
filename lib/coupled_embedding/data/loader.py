"""Loaders: which photos go to which process at which step, and the worker processes."""

import atexit
import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterator
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler
from yacs.config import CfgNode

from coupled_embedding.data.dataset import SampleKey, TrainBatch, TrainDataset, collate
from coupled_embedding.data.io.data_errors import BadInput
from coupled_embedding.data.io.worker_monitor import STALLED_SECONDS
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.data.transforms import build_augmentation
from coupled_embedding.utils.errors import DatasetError


class StepPlan(Sampler[list[SampleKey]]):
    """Which photos each process trains with, batch by batch, over the whole training.

    A step takes the next ``processes · accumulate · images`` photos of the epoch's random
    order and deals them out evenly, first to its forward passes and then to the processes, so
    each pass of n processes with b images holds the photos of one process's with n·b. What an
    epoch has left at its end makes no step, as in the released program, unless it is all that
    there is or ``drop_last`` is off; too few for every process to get one in every pass are left
    out in any case.

    Args:
        num_images: photos in the data set.
        images: photos per process and forward pass.
        accumulate: forward passes per step.
        rank, processes: this process and their number.
        seed: of the random order.
        first_step, last_step: steps to plan: ``first_step`` to ``last_step - 1``.
        drop_last: whether an epoch's last, partial step is left out.

    Raises:
        DatasetError: there are fewer photos than processes times passes.
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
        drop_last: bool = False,
    ) -> None:
        self.num_images, self.accumulate = num_images, accumulate
        self.rank, self.processes, self.seed = rank, processes, seed
        self.parts = processes * accumulate
        self.step_size = self.parts * images
        self.steps_per_epoch, left = divmod(num_images, self.step_size)
        if left >= self.parts and not (drop_last and self.steps_per_epoch):
            self.steps_per_epoch += 1
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
            for together in np.array_split(photos, self.accumulate):
                part = np.array_split(together, self.processes)[self.rank]
                yield [SampleKey(epoch, int(index), len(photos)) for index in part]


# a loader process that is asked to end stays so long: the main one may have several passes and a large file to go
_GRACE = 600  # seconds


def prepare_worker(worker: int) -> None:
    """Keep a loader process to one thread, and alive until the main one ends.

    Ctrl-C and Slurm signal all processes; the main one still needs photos for its last step.
    A worker whose main process has gone ends by itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE))
    single_threaded(worker)


@atexit.register
def _end_workers() -> None:
    """Kill the loader processes that are left at the end, where multiprocessing would send SIGTERM and wait."""
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def single_threaded(_worker: int) -> None:
    """Keep a process to one thread: there are as many processes as wanted."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def training_records(records: list[ImageRecord], which: str) -> list[ImageRecord]:
    """Return the photos to train on.

    Args:
        which: ``"annotated"``: with at least one annotation of a person or a crowd region, as the
            released program has it; ``"labelled"``: with at least one labelled joint; ``"all"``.
    """
    if which == "all":
        return records
    if which == "annotated":
        return [r for r in records if r.annotations or len(r.keypoints)]
    return [r for r in records if (r.keypoints[..., 2] > 0).any()]


def build_train_dataset(
    cfg: CfgNode,
    records: list[ImageRecord],
    schema: KeypointSchema,
    strides: tuple[int, ...],
    bad_input: BadInput | None = None,
) -> TrainDataset:
    """Build the training samples of a config."""
    return TrainDataset(
        training_records(records, cfg.DATASET.TRAIN_IMAGES),
        schema.flip_index,
        build_augmentation(cfg),
        cfg.DATASET.INPUT_SIZE,
        strides,
        cfg.DATASET.MAX_PEOPLE,
        cfg.SEED,
        cfg.AUGMENT.REDUCED_DECODE,
        bad_input,
    )


def train_batches(dataset: TrainDataset, plan: StepPlan, workers: int, pin_memory: bool) -> Generator[TrainBatch]:
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
        worker_init_fn=prepare_worker,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator(),  # or every new loader would change the random state of the training
        timeout=STALLED_SECONDS if workers else 0,
    )
    yield from each_batch(loader, dataset.name_dead_worker)


def each_batch(loader: DataLoader[Any], explain: Callable[[RuntimeError], None]) -> Generator[Any]:
    """Yield a loader's batches; its processes end with the generator.

    Args:
        explain: raises DatasetError if this error tells of a loader process that died or stalled.

    Raises:
        DatasetError: it stood in a batch's place, or a process died.
    """
    batches = iter(loader)
    try:
        for batch in batches:
            if isinstance(batch, DatasetError):
                raise batch
            yield batch
    except RuntimeError as error:
        explain(error)
        raise
    finally:
        # an error's traceback would keep it alive, and with it its processes
        del batches
