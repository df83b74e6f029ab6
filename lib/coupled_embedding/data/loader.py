"""Which images each rank trains with, and the loader processes that read them."""

import atexit
import os
import shutil
import signal
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler

from coupled_embedding.data.dataset import SampleKey, TrainBatch, TrainDataset, collate
from coupled_embedding.data.io.worker_monitor import STALLED_SECONDS, report_deaths_outside_puts
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.utils.errors import DatasetError

# seconds that a loader process asked to end stays: the main process may have several passes and a large file to go
_GRACE = 600


class StepBatchSampler(Sampler[list[SampleKey]]):
    """The images that a rank trains with, batch by batch, over the whole training.

    A step takes the next ``ranks · accumulate · images`` images of the epoch's random order and shards them evenly,
    first over its forward passes and then over the ranks, so each pass of n ranks with b images holds the images of one
    rank's with n·b. What an epoch has left at its end makes no step, as in the released program, unless it is all that
    there is or ``drop_last`` is off; too few for every rank to get one in every pass are left out in any case.

    Args:
        num_images: images in the data set.
        images: images per rank and forward pass.
        accumulate: forward passes per step.
        rank, ranks: this rank and their number.
        seed: of the random order.
        first_step, last_step: steps to plan: ``first_step`` to ``last_step - 1``.
        drop_last: whether an epoch's last, partial step is left out.
        weights: (num_images,) how often each image is in an epoch, on average; None: once.

    Raises:
        DatasetError: there are fewer images than ranks times passes.

    >>> ranks = [StepBatchSampler(7, images=2, rank=rank, ranks=4, last_step=1) for rank in range(4)]
    >>> [len(batch) for sampler in ranks for batch in sampler]
    [2, 2, 2, 1]
    """

    def __init__(
        self,
        num_images: int,
        images: int,
        accumulate: int = 1,
        rank: int = 0,
        ranks: int = 1,
        seed: int = 0,
        first_step: int = 0,
        last_step: int = 0,
        drop_last: bool = False,
        weights: NDArray[np.floating] | None = None,
    ) -> None:
        self.images, self.accumulate, self.weights = images, accumulate, weights
        # the small number is for sums of shares such as 0.1, which end just below a whole number
        self.num_images = num_images if weights is None else int(weights.sum() + 1e-6)
        self.rank, self.ranks, self.seed = rank, ranks, seed
        self.parts = ranks * accumulate
        self.step_size = self.parts * images
        self.steps_per_epoch, left = divmod(self.num_images, self.step_size)
        if left >= self.parts and not (drop_last and self.steps_per_epoch):
            self.steps_per_epoch += 1
        if not self.steps_per_epoch:
            sizes = f"{ranks} ranks with {accumulate} forward passes a step"
            raise DatasetError(f"{self.num_images} images are too few for {sizes}: each needs one image at least")
        self.first_step, self.last_step = first_step, last_step

    def __len__(self) -> int:
        return (self.last_step - self.first_step) * self.accumulate

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch, order, copies = -1, np.arange(0), np.arange(0)
        for step in range(self.first_step, self.last_step):
            if step // self.steps_per_epoch != epoch:
                epoch = step // self.steps_per_epoch
                order, copies = self._order(epoch)
            start = step % self.steps_per_epoch * self.step_size
            places = np.arange(start, min(start + self.step_size, len(order)))
            for together in np.array_split(places, self.accumulate):
                part = np.array_split(together, self.ranks)[self.rank]
                yield [SampleKey(epoch, int(order[i]), len(places), int(copies[i])) for i in part]

    def _order(self, epoch: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return an epoch's images, and how often each was there before."""
        rng = np.random.default_rng((self.seed, epoch))
        if self.weights is None:
            return rng.permutation(self.num_images), np.zeros(self.num_images, np.intp)
        # along a random order, an image is taken each time that the sum of the weights passes a whole number
        order = rng.permutation(len(self.weights))
        passed = np.floor(np.cumsum(self.weights[order]) + 1e-6).astype(np.intp)
        times = np.diff(passed, prepend=0)
        taken, copies = np.repeat(order, times), np.concatenate([np.arange(n) for n in times])
        shuffled = rng.permutation(len(taken))
        return taken[shuffled], copies[shuffled]


def training_records(records: list[ImageRecord], which: str) -> list[ImageRecord]:
    """Return the images to train on.

    Args:
        which: ``"annotated"``: with at least one annotation of a person or a crowd region, as in the released
            program; ``"labelled"``: with at least one labelled joint; ``"all"``.
    """
    if which == "all":
        return records
    if which == "annotated":
        return [r for r in records if r.annotations or len(r.keypoints)]
    return [r for r in records if (r.keypoints[..., 2] > 0).any()]


def train_batches(
    dataset: TrainDataset, sampler: StepBatchSampler, workers: int, pin_memory: bool, local_ranks: int = 1
) -> Generator[TrainBatch]:
    """Load a sampler's batches in worker processes.

    Args:
        dataset: of the samples.
        sampler: the batches of this rank.
        workers: processes of this rank; 0: this one.
        pin_memory: copy batches to page-locked memory.
        local_ranks: ranks on this machine.

    Raises:
        DatasetError: as `read_batches`; or the machine has too little shared memory for the batches in flight.
    """
    prefetch = 4 if workers else None
    if prefetch:
        check_shared_memory(local_ranks * workers * prefetch * sampler.images * dataset.sample_bytes)
    return read_batches(
        dataset, workers, pin_memory, batch_sampler=sampler, collate_fn=collate, prefetch_factor=prefetch
    )


def check_shared_memory(needed: int, folder: str = "/dev/shm") -> None:
    """Raise DatasetError if loader processes cannot hand over that many bytes, where the kernel would kill them."""
    if not os.path.isdir(folder):
        return
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DatasetError(
            f"{folder}: {free / 1e6:.0f} MB of shared memory are free, and the loader processes of this machine need "
            f"{needed / 1e6:.0f} MB; give the container more (docker run --shm-size 8g, or --ipc host), or use fewer "
            "TRAIN.WORKERS"
        )


def read_batches(dataset: Any, workers: int, pin_memory: bool, **options: Any) -> Generator[Any]:
    """Yield a data set's batches from worker processes, which end with the generator.

    Args:
        dataset: with ``raise_if_worker_died(error)``.
        options: of torch's loader: how items become batches.

    Raises:
        DatasetError: it was in a batch's place, as it names what cannot be read; or a process died or stalled.
    """
    loader = DataLoader(
        dataset,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=prepare_worker,
        generator=torch.Generator(),  # or every new loader would change the random state of the training
        timeout=STALLED_SECONDS if workers else 0,
        **options,
    )
    report_deaths_outside_puts()
    batches, kill = None, partial(_kill, [])
    try:
        batches = iter(loader)  # its processes begin to read, and may die, before it returns
        kill = partial(_kill, list(getattr(batches, "_workers", ())))
        atexit.register(kill)  # multiprocessing would send a signal that they ignore, and wait
        for batch in batches:
            if isinstance(batch, DatasetError):
                raise batch
            yield batch
    except RuntimeError as error:
        dataset.raise_if_worker_died(error)
        raise
    finally:
        # an error's traceback would keep it alive, and with it its processes
        del batches
        kill()
        atexit.unregister(kill)


def _kill(workers: Sequence[Any]) -> None:
    """Kill what torch asked to end and did not end: our own loader processes ignore SIGTERM."""
    for worker in workers:
        if worker.is_alive():
            worker.kill()


def prepare_worker(worker: int) -> None:
    """Keep a loader process to one thread, and alive until the main process ends.

    Ctrl-C and Slurm signal all processes; the main one still needs images for its last step. A worker whose main
    process has gone ends by itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE))
    single_threaded(worker)


def single_threaded(_worker: int) -> None:
    """Keep a process to one thread; several processes share the cores."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
