"""Photos as network inputs, in batches of like-shaped ones (METHOD.md 5.1)."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from coupled_embedding.data.geometry import TestGeometry, fit_geometry
from coupled_embedding.data.images import read_photo
from coupled_embedding.data.io.data_errors import BadInput, Problem, photo_problem
from coupled_embedding.data.io.worker_monitor import STALLED_SECONDS, WorkerWatch
from coupled_embedding.data.loader import each_batch, prepare_worker
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.utils.errors import DatasetError

# a photo this much longer than wide, laid out with its short side at full size, fills any memory
LONGEST = 32


@dataclass(frozen=True)
class InputBatch:
    """B photos whose inputs have one size.

    Attributes:
        images: a scale factor each: (B, H, W, 3) uint8 RGB.
        geometries: of each photo.
        indices: positions of the photos in the list of records.
        skipped: position of each photo that could not be read -> why; its image is black.
    """

    images: tuple[Tensor, ...]
    geometries: tuple[TestGeometry, ...]
    indices: tuple[int, ...]
    skipped: dict[int, Problem] = field(default_factory=dict)

    def pin_memory(self) -> "InputBatch":
        """Return the batch in page-locked memory (called by torch's loader)."""
        return replace(self, images=tuple(image.pin_memory() for image in self.images))


def warp_to_input(image: NDArray[np.uint8], geometry: TestGeometry, factor: float = 1.0) -> NDArray[np.uint8]:
    """Lay a BGR photo (h, w, 3) into the input of a scale factor; RGB (H, W, 3), black border."""
    warped = cv2.warpAffine(image, geometry.to_input(factor), geometry.size(factor), flags=cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(warped, cv2.COLOR_BGR2RGB), np.uint8)


def like_shaped_batches(sizes: Sequence[tuple[int, int]], limit: int) -> list[list[int]]:
    """Group positions of equal size into batches of at most ``limit``, in order of appearance."""
    by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, size in enumerate(sizes):
        by_size[size].append(index)
    return [indices[start : start + limit] for indices in by_size.values() for start in range(0, len(indices), limit)]


def shape_problem(size: tuple[int, int]) -> str:
    """Return why a photo of (width, height) is too long to test; empty: it is not."""
    if max(size) <= LONGEST * min(size):
        return ""
    return f"the photo is {size[0]}×{size[1]} pixels; testing takes photos up to {LONGEST} times as long as wide"


def testable(records: Sequence[ImageRecord], bad_input: BadInput) -> list[ImageRecord]:
    """Return the records whose shape can be tested; BadInputError of the first other one unless tolerant."""
    usable = []
    for record in records:
        if too_long := shape_problem((record.width, record.height)):
            bad_input.meet(Problem(str(record.path), too_long, image_id=record.image_id))
        else:
            usable.append(record)
    return usable


class InputDataset(Dataset[InputBatch | DatasetError]):
    """One item is one batch of like-shaped photos.

    Args:
        records: the photos.
        batches: positions of each batch's photos.
        input_size: S, pixels.
        scales: scale factors.
        bad_input: what happens to photos that cannot be read; None: they are errors. With a
            tolerant one the batch says which they are.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        batches: Sequence[Sequence[int]],
        input_size: int,
        scales: Sequence[float],
        bad_input: BadInput | None = None,
    ) -> None:
        self.records, self.batches = records, batches
        self.input_size, self.scales = input_size, tuple(scales)
        self.bad_input = bad_input or BadInput()
        self.watch = WorkerWatch()

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> InputBatch | DatasetError:
        """Return the batch, or the error for the main process to raise with a clean text."""
        indices = self.batches[number]
        geometries = [fit_geometry((self.records[i].width, self.records[i].height), self.input_size) for i in indices]
        skipped: dict[int, Problem] = {}
        try:
            photos = [self._photo(index, skipped) for index in indices]
        except DatasetError as error:
            return error
        images = []
        for factor in self.scales:
            warped = [warp_to_input(p, g, factor) for p, g in zip(photos, geometries, strict=True)]
            images.append(torch.from_numpy(np.stack(warped)))
        return InputBatch(tuple(images), tuple(geometries), tuple(indices), skipped)

    def _photo(self, index: int, skipped: dict[int, Problem]) -> NDArray[np.uint8]:
        record = self.records[index]
        try:
            with self.watch.reading(index):
                return read_photo(record)
        except DatasetError as error:
            skipped[index] = photo_problem(error, record.path, record.image_id)
            self.bad_input.judge(skipped[index])
            return np.zeros((1, 1, 3), np.uint8)

    def name_dead_worker(self, error: RuntimeError) -> None:
        """Raise DatasetError with the photo's file if this error tells of loader processes that died."""
        self.watch.explain(error, [record.path for record in self.records])


def _only(items: list[InputBatch | DatasetError]) -> InputBatch | DatasetError:
    return items[0]


def input_batches(dataset: InputDataset, workers: int, pin_memory: bool) -> Iterator[InputBatch]:
    """Load the batches in worker processes.

    Raises:
        DatasetError: it names what cannot be read, or what a process was reading when it died.
    """
    loader = DataLoader(
        dataset,
        batch_size=1,
        collate_fn=_only,
        num_workers=min(workers, len(dataset)),
        pin_memory=pin_memory,
        worker_init_fn=prepare_worker,
        generator=torch.Generator(),  # a test leaves the random state of a training alone
        timeout=STALLED_SECONDS if min(workers, len(dataset)) else 0,
    )
    yield from each_batch(loader, dataset.name_dead_worker)
