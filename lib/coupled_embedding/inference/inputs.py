"""Photos as network inputs, in batches of like-shaped ones (METHOD.md 5.1)."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from coupled_embedding.data.images import read_photo
from coupled_embedding.data.loader import each_batch, prepare_worker
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.errors import DatasetError
from coupled_embedding.geometry import TestGeometry, fit_geometry


@dataclass(frozen=True)
class InputBatch:
    """B photos whose inputs have one size.

    Attributes:
        images: a scale factor each: (B, H, W, 3) uint8 RGB.
        geometries: of each photo.
        indices: positions of the photos in the list of records.
    """

    images: tuple[Tensor, ...]
    geometries: tuple[TestGeometry, ...]
    indices: tuple[int, ...]

    def pin_memory(self) -> "InputBatch":
        """Return the batch in page-locked memory (called by torch's loader)."""
        return InputBatch(tuple(image.pin_memory() for image in self.images), self.geometries, self.indices)


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


class InputDataset(Dataset[InputBatch | DatasetError]):
    """One item is one batch of like-shaped photos."""

    def __init__(
        self, records: Sequence[ImageRecord], batches: Sequence[Sequence[int]], input_size: int, scales: Sequence[float]
    ) -> None:
        self.records, self.batches = records, batches
        self.input_size, self.scales = input_size, tuple(scales)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> InputBatch | DatasetError:
        """Return the batch, or the error for the main process to raise with a clean text."""
        indices = self.batches[number]
        records = [self.records[index] for index in indices]
        geometries = [fit_geometry((r.width, r.height), self.input_size) for r in records]
        try:
            photos = [read_photo(record) for record in records]
        except DatasetError as error:
            return error
        images = []
        for factor in self.scales:
            warped = [warp_to_input(p, g, factor) for p, g in zip(photos, geometries, strict=True)]
            images.append(torch.from_numpy(np.stack(warped)))
        return InputBatch(tuple(images), tuple(geometries), tuple(indices))


def _only(items: list[InputBatch | DatasetError]) -> InputBatch | DatasetError:
    return items[0]


def input_batches(dataset: InputDataset, workers: int, pin_memory: bool) -> Iterator[InputBatch]:
    """Load the batches in worker processes; DatasetError names what cannot be read."""
    loader = DataLoader(
        dataset,
        batch_size=1,
        collate_fn=_only,
        num_workers=min(workers, len(dataset)),
        pin_memory=pin_memory,
        worker_init_fn=prepare_worker,
        generator=torch.Generator(),  # a test leaves the random state of a training alone
    )
    yield from each_batch(loader)
