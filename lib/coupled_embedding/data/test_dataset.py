"""Images as network inputs, in batches of equal shape (docs/method.md 5.1)."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from coupled_embedding.data.geometry import ResizeGeometry, region_geometry, resize_geometry
from coupled_embedding.data.images import DecodedImage, orientation_issue, read_image_for_warp
from coupled_embedding.data.io.data_errors import DataErrorPolicy, DataIssue, image_issue
from coupled_embedding.data.io.worker_monitor import WorkerMonitor
from coupled_embedding.data.loader import read_batches
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.utils.errors import DatasetError

# an image this much longer than wide, with its short side at full size, fills any memory
MAX_ASPECT = 32


@dataclass(frozen=True)
class TestBatch:
    """B images whose inputs have one size.

    Attributes:
        images: for each scale factor (B, H, W, 3) uint8 RGB.
        geometries: of each image.
        indices: positions of the images in the list of records.
        skipped: position of each image that could not be read -> why; its pixels are black.
        oriented: the images with an EXIF orientation.
    """

    __test__ = False  # not a test class for pytest
    images: tuple[Tensor, ...]
    geometries: tuple[ResizeGeometry, ...]
    indices: tuple[int, ...]
    skipped: dict[int, DataIssue] = field(default_factory=dict)
    oriented: tuple[DataIssue, ...] = ()

    def pin_memory(self) -> "TestBatch":
        """Return the batch in page-locked memory (called by torch's loader)."""
        return replace(self, images=tuple(image.pin_memory() for image in self.images))


def input_geometry(record: ImageRecord, input_size: int) -> ResizeGeometry:
    """Return how a record's image, or the region of a crop, becomes the network's input."""
    if record.region:
        return region_geometry(record.region, input_size)
    return resize_geometry((record.width, record.height), input_size)


def warp_to_input(
    image: NDArray[np.uint8], geometry: ResizeGeometry, factor: float = 1.0, reduction: int = 1
) -> NDArray[np.uint8]:
    """Warp a BGR image (h, w, 3), decoded ``reduction`` times smaller, to the input of a scale factor.

    Returns:
        RGB (H, W, 3), black border.
    """
    warped = cv2.warpAffine(image, geometry.to_input(factor, reduction), geometry.size(factor), flags=cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(warped, cv2.COLOR_BGR2RGB), np.uint8)


def batch_limit(size: tuple[int, int], limit: int, side: int) -> int:
    """Return how many inputs of (width, height) a batch may have; arguments as for `group_by_shape`."""
    return min(limit, max(1, limit * 2 * side**2 // (size[0] * size[1])))


def group_by_shape(sizes: Sequence[tuple[int, int]], limit: int, side: int) -> list[list[int]]:
    """Group positions of equal size into batches, in order of appearance.

    Args:
        sizes: (width, height) of inputs.
        limit: images of a batch; fewer of a size with more pixels than twice a square's, so that long images do not
            take more memory than others.
        side: of that square, pixels.
    """
    by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, size in enumerate(sizes):
        by_size[size].append(index)
    batches = []
    for size, indices in by_size.items():
        count = batch_limit(size, limit, side)
        batches += [indices[start : start + count] for start in range(0, len(indices), count)]
    return batches


def aspect_error(size: tuple[int, int]) -> str:
    """Return why an image of (width, height) is too long to test; empty: it is not."""
    if max(size) <= MAX_ASPECT * min(size):
        return ""
    return f"the image is {size[0]}×{size[1]} pixels; testing takes images up to {MAX_ASPECT} times as long as wide"


def drop_extreme_aspect(records: Sequence[ImageRecord], policy: DataErrorPolicy) -> list[ImageRecord]:
    """Return the records whose shape can be tested; raise DataError for another one, unless it is skipped.

    Crops are square, whatever their image's shape.
    """
    usable = []
    for record in records:
        if not record.region and (too_long := aspect_error((record.width, record.height))):
            policy.handle(DataIssue(str(record.path), too_long, image_id=record.image_id))
        else:
            usable.append(record)
    return usable


class TestDataset(Dataset[TestBatch | DatasetError]):
    """One item is one batch of images of equal shape.

    Args:
        records: the images, or crops of them.
        batches: positions of each batch's images.
        input_size: S, pixels.
        scales: scale factors.
        policy: what happens to images that cannot be read; None: they are errors. Where they are skipped, the
            batch says which they are.
    """

    __test__ = False

    def __init__(
        self,
        records: Sequence[ImageRecord],
        batches: Sequence[Sequence[int]],
        input_size: int,
        scales: Sequence[float],
        policy: DataErrorPolicy | None = None,
    ) -> None:
        self.records, self.batches = records, batches
        self.input_size, self.scales = input_size, tuple(scales)
        self.policy = policy or DataErrorPolicy()
        self.monitor = WorkerMonitor()

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> TestBatch | DatasetError:
        """Return the batch, or the error for the main process to raise with a clean text."""
        indices = self.batches[number]
        records = [self.records[i] for i in indices]
        geometries = [input_geometry(record, self.input_size) for record in records]
        skipped: dict[int, DataIssue] = {}
        oriented: list[DataIssue] = []
        try:
            sources = [self._image(index, skipped, oriented) for index in indices]
        except DatasetError as error:
            return error
        images = []
        for factor in self.scales:
            warped = [
                warp_to_input(source.pixels, geometry, factor, source.reduction)
                for source, geometry in zip(sources, geometries, strict=True)
            ]
            images.append(torch.from_numpy(np.stack(warped)))
        return TestBatch(tuple(images), tuple(geometries), tuple(indices), skipped, tuple(oriented))

    def _image(self, index: int, skipped: dict[int, DataIssue], oriented: list[DataIssue]) -> DecodedImage:
        record = self.records[index]
        # as in training; whole images are read as the released program does
        shrink = record.region[2] / (self.input_size * max(self.scales)) if record.region else 1.0
        try:
            with self.monitor.reading(index):
                decoded = read_image_for_warp(record, shrink)
        except DatasetError as error:
            skipped[index] = image_issue(error, record.path, record.image_id)
            self.policy.raise_if_strict(skipped[index])
            return DecodedImage(np.zeros((1, 1, 3), np.uint8))
        oriented += [orientation_issue(record, decoded)] if decoded.orientation > 1 else []
        return decoded

    def raise_if_worker_died(self, error: RuntimeError) -> None:
        """Raise DatasetError with the image's file if this error says that loader processes died."""
        self.monitor.raise_if_worker_died(error, [record.path for record in self.records])


def build_test_loader(dataset: TestDataset, workers: int, pin_memory: bool) -> Iterator[TestBatch]:
    """Load the batches in worker processes; errors as `loader.read_batches`."""
    return read_batches(dataset, min(workers, len(dataset)), pin_memory, batch_size=None)
