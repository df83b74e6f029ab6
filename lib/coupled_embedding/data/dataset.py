"""Training samples: uint8 crop, joints in heatmap cells, masks. Targets are made on the device."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from coupled_embedding.data.images import Photo, read_photo_for_warp
from coupled_embedding.data.io.data_errors import BadInput, Problem, photo_problem
from coupled_embedding.data.io.worker_monitor import WorkerWatch
from coupled_embedding.data.people import usable_boxes
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.targets import Targets, build_targets
from coupled_embedding.data.transforms import (
    AffineDraw,
    Augmentation,
    most_labelled,
    person_scales,
    warp_image,
    warp_joints,
    warp_mask,
)
from coupled_embedding.utils.errors import DatasetError


class SampleKey(NamedTuple):
    """Names one training sample: the same key always gives the same sample.

    Attributes:
        epoch: seeds the augmentation together with the image.
        photo: position of the photo in the data set.
        step_images: photos in the whole optimizer step, over all processes.
    """

    epoch: int
    photo: int
    step_images: int


@dataclass(frozen=True)
class Sample:
    """One augmented photo.

    Attributes:
        image: (S, S, 3) uint8 RGB.
        joints: (M, K, 3) float32 a resolution, lowest first: x, y in cells, label; rows past
            the photo's people are 0.
        masks: (h, w) bool a resolution; False where errors are ignored.
        scales: (M,) person scales in units of S.
        image_id: of the annotation file.
        dropped_people: people above M.
        step_images: see `SampleKey`.
        skipped: photos that could not be read, in whose place this one is.
        oriented: the photo, if it has an EXIF orientation.
    """

    image: NDArray[np.uint8]
    joints: tuple[NDArray[np.float32], ...]
    masks: tuple[NDArray[np.bool_], ...]
    scales: NDArray[np.float64]
    image_id: int
    dropped_people: int
    step_images: int
    skipped: tuple[Problem, ...] = ()
    oriented: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class TrainBatch:
    """B samples as tensors; `step_images` is the optimizer step's number of photos.

    `skipped` are photos that could not be read; others stand in their places. `oriented` are those with an
    EXIF orientation.
    """

    images: Tensor  # (B, S, S, 3) uint8
    joints: tuple[Tensor, ...]  # (B, M, K, 3)
    masks: tuple[Tensor, ...]  # (B, h, w)
    scales: Tensor  # (B, M)
    image_ids: list[int]
    dropped_people: int
    step_images: int
    skipped: list[Problem] = field(default_factory=list)
    oriented: list[Problem] = field(default_factory=list)

    def to(self, device: torch.device) -> "TrainBatch":
        """Return the batch on a device."""
        return self._map(lambda x: x.to(device, non_blocking=True))

    def pin_memory(self) -> "TrainBatch":
        """Return the batch in page-locked memory (called by torch's loader)."""
        return self._map(lambda x: x.pin_memory())

    def targets(self) -> Targets:
        """Build the targets on the batch's device."""
        return build_targets(self.joints, self.masks, self.scales)

    def _map(self, move) -> "TrainBatch":  # type: ignore[no-untyped-def]
        values = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, Tensor):
                value = move(value)
            elif isinstance(value, tuple):
                value = tuple(move(x) for x in value)
            values[entry.name] = value
        return TrainBatch(**values)


class TrainDataset(Dataset[Sample | DatasetError]):
    """Augmented samples of photos.

    Args:
        records: the photos.
        flip_index: for each joint, the joint that it becomes in a mirror.
        augmentation: ranges of the random draw.
        input_size: S, pixels.
        strides: input pixels per heatmap cell, one a resolution, lowest resolution first.
        max_people: M.
        seed: the same (seed, epoch, photo) gives the same sample, whatever the process.
        reduced_decode: decode JPEGs smaller where the draw at least halves them: faster, and
            smoother than the released program's pixels. Joints, masks and scales stay the same.
        bad_input: what happens to photos that cannot be read; None: they are errors. A tolerant
            one has the next readable photo of the data set take the place, so that every step
            has its number of photos, whatever the processes, and the same key the same sample.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        flip_index: Sequence[int],
        augmentation: Augmentation,
        input_size: int,
        strides: Sequence[int],
        max_people: int = 30,
        seed: int = 0,
        reduced_decode: bool = True,
        bad_input: BadInput | None = None,
    ) -> None:
        self.records = list(records)
        self.flip_index = tuple(flip_index)
        self.augmentation = augmentation
        self.input_size = input_size
        self.strides = tuple(strides)
        self.max_people = max_people
        self.seed = seed
        self.reduced_decode = reduced_decode
        self.bad_input = bad_input or BadInput()
        self.watch = WorkerWatch()

    def __len__(self) -> int:
        return len(self.records)

    def name_dead_worker(self, error: RuntimeError) -> None:
        """Raise DatasetError with the photo's file if this error tells of loader processes that died."""
        self.watch.explain(error, [record.path for record in self.records])

    def __getitem__(self, key: SampleKey) -> Sample | DatasetError:
        """Return the sample, or the error for the main process to raise with a clean text."""
        try:
            return self.sample(key)
        except DatasetError as error:
            return error

    def sample(self, key: SampleKey) -> Sample:
        """Draw, warp and return one sample.

        Raises:
            DatasetError: it names the photo's file; or, if broken photos are tolerated, no photo
                of the data set can be read.
        """
        skipped: list[Problem] = []
        count = len(self.records)
        for photo in range(key.photo, key.photo + count):
            record = self.records[photo % count]
            try:
                with self.watch.reading(photo % count):
                    sample = self._sample_of(record, key)
            except DatasetError as error:
                skipped.append(photo_problem(error, record.path, record.image_id))
                self.bad_input.judge(skipped[-1])
                continue
            return replace(sample, skipped=tuple(skipped)) if skipped else sample
        raise DatasetError(f"none of the {count} photos can be read; {skipped[0]}")

    def _sample_of(self, record: ImageRecord, key: SampleKey) -> Sample:
        size = (record.width, record.height)
        # by the key, not the record: a photo that stands in for another is not drawn as at its own place
        rng = np.random.default_rng((self.seed, key.epoch, key.photo))
        draw = self.augmentation.draw(rng, size)
        shrink = draw.side(size) / self.input_size if self.reduced_decode else 1.0
        photo = read_photo_for_warp(record, shrink)
        # colours after the warp: fewer pixels
        warped = cv2.cvtColor(warp_image(photo.pixels, draw, self.input_size, size, photo.reduction), cv2.COLOR_BGR2RGB)
        warped = self.augmentation.jitter_color(rng, np.asarray(warped, np.uint8))
        sample = self.assemble(record, draw, warped, key.step_images)
        return replace(sample, oriented=(orientation_notice(record, photo),)) if photo.orientation > 1 else sample

    def assemble(self, record: ImageRecord, draw: AffineDraw, image: NDArray[np.uint8], step_images: int) -> Sample:
        """Build the sample of a warped RGB image from its record and draw."""
        size = (record.width, record.height)
        kept = most_labelled(record.keypoints, self.max_people)
        count = len(kept)
        mask = record.valid_mask()
        joints, masks = [], []
        for stride in self.strides:
            cells = self.input_size // stride
            padded = np.zeros((self.max_people, len(self.flip_index), 3), np.float32)
            gap = 1 / stride if self.augmentation.exact_flip else 1.0
            padded[:count] = warp_joints(record.keypoints[kept], draw, size, cells, self.flip_index, gap)
            joints.append(padded)
            masks.append(warp_mask(mask, draw, cells))
        scales = np.zeros(self.max_people)
        boxes = usable_boxes(record.boxes[kept], record.keypoints[kept])
        scales[:count] = person_scales(boxes, draw.matrix(size, self.input_size), self.input_size)
        dropped = len(record.keypoints) - count
        return Sample(image, tuple(joints), tuple(masks), scales, record.image_id, dropped, step_images)


def orientation_notice(record: ImageRecord, photo: Photo) -> Problem:
    """Say how a photo with an EXIF orientation was read."""
    how = "turned upright" if photo.turned else "read as stored, whose size the annotations have"
    text = f"EXIF orientation {photo.orientation}: {how} (DATASET.ORIENTATION stored or upright chooses)"
    return Problem(str(record.path), text, "orientation", record.image_id)


def _people_rows(sample: Sample) -> int:
    labelled = (sample.joints[0][..., 2] > 0).any(1) | (sample.scales > 0)
    return int(labelled.nonzero()[0].max(initial=-1)) + 1


def _rows(sample: Sample, people: int) -> list[NDArray[np.float32]]:
    return [joints[:people] for joints in sample.joints]


def collate(samples: Sequence[Sample | DatasetError]) -> TrainBatch | DatasetError:
    """Stack samples to a batch; the first error, if any, takes the batch's place."""
    good: list[Sample] = []
    for sample in samples:
        if isinstance(sample, DatasetError):
            return sample
        good.append(sample)
    # rows past the batch's largest crowd are empty in every sample
    people = max(1, *(_people_rows(s) for s in good))
    return TrainBatch(
        images=torch.from_numpy(np.stack([s.image for s in good])),
        joints=tuple(torch.from_numpy(np.stack(j)) for j in zip(*(_rows(s, people) for s in good), strict=True)),
        masks=tuple(torch.from_numpy(np.stack(m)) for m in zip(*(s.masks for s in good), strict=True)),
        scales=torch.from_numpy(np.stack([s.scales[:people] for s in good])),
        image_ids=[s.image_id for s in good],
        dropped_people=sum(s.dropped_people for s in good),
        step_images=good[0].step_images,
        skipped=[problem for s in good for problem in s.skipped],
        oriented=[problem for s in good for problem in s.oriented],
    )
