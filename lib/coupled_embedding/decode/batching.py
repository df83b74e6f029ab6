"""Images of any shapes through an inference pipeline: in batches of equal shape, results in the images' order."""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

import torch
from torch import Tensor

from coupled_embedding.data.geometry import ResizeGeometry
from coupled_embedding.data.outputs import Pose
from coupled_embedding.data.test_dataset import TestBatch, batch_limit
from coupled_embedding.decode.aggregate import MergedMaps
from coupled_embedding.decode.pipeline import PipelineOptions
from coupled_embedding.decode.stage_times import StageTimes


class Pipeline(Protocol):
    """A model in any form with its decode: what a predictor runs.

    Attributes:
        options: how the model is run on inputs and its output decoded.
        threads: that decode batches while the model goes on.
        needs_compiling: whether the decode is compiled at a machine's first call.
    """

    options: PipelineOptions
    threads: int
    needs_compiling: bool

    def forward(self, images: Sequence[Tensor], base_size: tuple[int, int]) -> MergedMaps:
        """Return merged maps; see `InferencePipeline.forward`."""

    def pool(self) -> ThreadPoolExecutor:
        """Return threads to decode in."""

    def start(self, batch: TestBatch, pool: ThreadPoolExecutor, times: StageTimes) -> Future[list[list[Pose]]]:
        """Run the model on a batch, and begin to decode its output in a thread of `pool`; times gets both stages."""


@dataclass(frozen=True)
class ImageInput:
    """An image as the network takes it.

    Attributes:
        scales: for each scale factor (H, W, 3) uint8 RGB.
        geometry: of the resizing.
        seconds: that reading and resizing took.
    """

    scales: tuple[Tensor, ...]
    geometry: ResizeGeometry
    seconds: float = 0.0


@dataclass(frozen=True)
class Detected:
    """What was found in an image, in decode's order, and the seconds of its stages."""

    poses: list[Pose]
    time: dict[str, float]


Numbered = tuple[int, ImageInput]
_Batch = tuple[list[Numbered], Future[list[list[Pose]]], StageTimes]


@dataclass
class _Queue:
    """Images that wait for others of their shape; batches are those of `test_dataset.group_by_shape`."""

    side: int
    limit: int
    window: int  # images after which one waits no longer; 0: it waits until the end
    waiting: dict[tuple[int, int], list[Numbered]] = field(default_factory=lambda: defaultdict(list))

    def add(self, number: int, image: ImageInput) -> Iterator[list[Numbered]]:
        """Yield the batches that are due with this image."""
        size = image.geometry.base_size
        self.waiting[size].append((number, image))
        if len(self.waiting[size]) >= batch_limit(size, self.limit, self.side):
            yield self.waiting.pop(size)
        while self.window and self.waiting:
            oldest = min(self.waiting, key=lambda shape: self.waiting[shape][0][0])
            if self.waiting[oldest][0][0] > number - self.window + 1:
                break
            yield self.waiting.pop(oldest)

    def rest(self) -> Iterator[list[Numbered]]:
        """Yield what still waits."""
        while self.waiting:
            yield self.waiting.pop(next(iter(self.waiting)))


def predict_in_order(
    pipeline: Pipeline, images: Iterable[ImageInput], side: int, limit: int, window: int = 0, depth: int = 0
) -> Iterator[Detected]:
    """Yield what is found in each image, in order.

    Args:
        pipeline: model and decode.
        images: taken one by one, as batches need them.
        side: S: short side of the inputs in pixels.
        limit: images of a batch.
        window: images that are read ahead of the next result, at most, to fill a batch; 0: any number.
        depth: batches that are decoded while the network goes on; 0: none, each result comes at once.

    Raises:
        UserError: an image does not fit the device's memory.
        NonFiniteError: the network outputs NaN or infinity.
    """
    queue, pending, done, due = _Queue(side, limit, window), deque[_Batch](), dict[int, Detected](), 0
    with pipeline.pool() as pool:
        for number, image in enumerate(chain(images, [None])):
            batches = queue.rest() if image is None else queue.add(number, image)
            for batch in batches:
                pending.append(_start(pipeline, batch, pool))
                if len(pending) > depth:
                    done |= _finish(*pending.popleft())
            while image is None and pending:
                done |= _finish(*pending.popleft())
            while due in done:
                yield done.pop(due)
                due += 1


def _start(pipeline: Pipeline, batch: list[Numbered], pool: ThreadPoolExecutor) -> _Batch:
    times = StageTimes()
    scales = tuple(torch.stack(images) for images in zip(*(image.scales for _, image in batch), strict=True))
    geometries, numbers = tuple(image.geometry for _, image in batch), tuple(number for number, _ in batch)
    return batch, pipeline.start(TestBatch(scales, geometries, numbers), pool, times), times


def _finish(batch: list[Numbered], future: Future[list[list[Pose]]], times: StageTimes) -> dict[int, Detected]:
    found = future.result()
    shares = {stage: times.seconds[stage] / len(batch) for stage in ("network", "decode")}
    return {
        number: Detected(poses, {"load": image.seconds, **shares})
        for (number, image), poses in zip(batch, found, strict=True)
    }
