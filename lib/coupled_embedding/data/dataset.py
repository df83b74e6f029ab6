"""Training samples: uint8 crop, joints in heatmap cells, masks. Targets are built on the device."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from coupled_embedding.data.copy_paste import CopyPaste
from coupled_embedding.data.gaussians import SIGMA
from coupled_embedding.data.images import orientation_issue, read_image_for_warp
from coupled_embedding.data.io.data_errors import DataErrorPolicy, DataIssue, image_issue
from coupled_embedding.data.io.worker_monitor import WorkerMonitor
from coupled_embedding.data.pafs import PafTargets
from coupled_embedding.data.people import usable_boxes
from coupled_embedding.data.person_crops import Region
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.targets import Targets, build_targets
from coupled_embedding.data.transforms import (
    AffineParams,
    Augmentation,
    person_scales,
    top_labelled,
    warp_image,
    warp_joints,
    warp_mask,
)
from coupled_embedding.utils.errors import DatasetError


class SampleKey(NamedTuple):
    """Names one training sample: the same key always gives the same sample.

    Attributes:
        epoch: seeds the augmentation together with the image.
        image: position of the image in the data set.
        step_images: images in the whole optimizer step, over all ranks.
        copy: how often the image was in the epoch before.
    """

    epoch: int
    image: int
    step_images: int
    copy: int = 0


@dataclass(frozen=True)
class Sample:
    """One augmented image.

    Attributes:
        image: (S, S, 3) uint8 RGB.
        joints: (M, K, 3) float32 a resolution, lowest first: x, y in cells, label; rows beyond the people are 0.
        masks: (h, w) bool a resolution; False where errors are ignored.
        scales: (M,) person scales in units of S.
        image_id: of the annotation file.
        dropped_people: people above M.
        step_images: see `SampleKey`.
        skipped: images that could not be read, in whose place this one is.
        oriented: this image, if it has an EXIF orientation.
        confidence: (M, K) float32, weights of the joints; None: all 1.
        annotated: (K,) bool, the joints that the image's data set labels; None: all.
    """

    image: NDArray[np.uint8]
    joints: tuple[NDArray[np.float32], ...]
    masks: tuple[NDArray[np.bool_], ...]
    scales: NDArray[np.float64]
    image_id: int
    dropped_people: int
    step_images: int
    skipped: tuple[DataIssue, ...] = ()
    oriented: tuple[DataIssue, ...] = ()
    confidence: NDArray[np.float32] | None = None
    annotated: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class TrainBatch:
    """B samples as tensors; see `Sample`. `step_images` is the optimizer step's number of images."""

    images: Tensor  # (B, S, S, 3) uint8
    joints: tuple[Tensor, ...]  # (B, M, K, 3)
    masks: tuple[Tensor, ...]  # (B, h, w)
    scales: Tensor  # (B, M)
    image_ids: list[int]
    dropped_people: int
    step_images: int
    skipped: list[DataIssue] = field(default_factory=list)
    oriented: list[DataIssue] = field(default_factory=list)
    confidence: Tensor | None = None  # (B, M, K)
    annotated: Tensor | None = None  # (B, K)

    def to(self, device: torch.device) -> "TrainBatch":
        """Return the batch on a device."""
        return self._map(lambda x: x.to(device, non_blocking=True))

    def pin_memory(self) -> "TrainBatch":
        """Return the batch in page-locked memory (called by torch's loader)."""
        return self._map(lambda x: x.pin_memory())

    def targets(
        self, beta: float = 0.0, sigma: float = SIGMA, paf: PafTargets | None = None, with_centers: bool = False
    ) -> Targets:
        """Build the targets on the batch's device; arguments as for `build_targets`."""
        return build_targets(
            self.joints,
            self.masks,
            self.scales,
            sigma,
            confidence=self.confidence,
            annotated=self.annotated,
            beta=beta,
            paf=paf,
            with_centers=with_centers,
        )

    def _map(self, move: Callable[[Tensor], Tensor]) -> "TrainBatch":
        joints, masks = (tuple(move(x) for x in tensors) for tensors in (self.joints, self.masks))
        confidence, annotated = (None if x is None else move(x) for x in (self.confidence, self.annotated))
        moved = replace(self, images=move(self.images), joints=joints, masks=masks, scales=move(self.scales))
        return replace(moved, confidence=confidence, annotated=annotated)


class TrainDataset(Dataset[Sample | DatasetError]):
    """Augmented samples.

    Args:
        records: the images.
        flip_index: for each joint, its partner in a flipped image.
        augmentation: ranges of the random parameters.
        input_size: S, pixels.
        strides: input pixels per heatmap cell, one a resolution, lowest resolution first.
        max_people: M.
        seed: the same (seed, epoch, image) gives the same sample, on any rank.
        reduced_decode: decode JPEGs smaller where the crop at least halves them: faster, and smoother than the
            released program's pixels. Joints, masks and scales stay the same.
        policy: what happens to images that cannot be read; None: they are errors. Where they are skipped, the next
            readable image of the data set takes the place, so that every step has its number of images on every
            rank, and the same key gives the same sample.
        copy_paste: puts further people into an image before the warp; None: nothing does.
        weights: (N,) how often each image is in an epoch, on average; None: once.
        propose_region: draws the region that a crop of a person is seen in; None: it is the record's.
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
        policy: DataErrorPolicy | None = None,
        copy_paste: CopyPaste | None = None,
        weights: NDArray[np.floating] | None = None,
        propose_region: Callable[[np.random.Generator, ImageRecord], Region] | None = None,
    ) -> None:
        self.copy_paste, self.weights, self.propose_region = copy_paste, weights, propose_region
        self.records, self.flip_index = list(records), tuple(flip_index)
        self.augmentation, self.reduced_decode, self.seed = augmentation, reduced_decode, seed
        self.input_size, self.strides, self.max_people = input_size, tuple(strides), max_people
        self.policy = policy or DataErrorPolicy()
        self.monitor = WorkerMonitor()

    def __len__(self) -> int:
        return len(self.records)

    @property
    def sample_bytes(self) -> int:
        """Memory of a sample's image and masks; joints take little."""
        return 3 * self.input_size**2 + sum((self.input_size // stride) ** 2 for stride in self.strides)

    def raise_if_worker_died(self, error: RuntimeError) -> None:
        """Raise DatasetError with the image's file if this error says that loader processes died."""
        self.monitor.raise_if_worker_died(error, [record.path for record in self.records])

    def __getitem__(self, key: SampleKey) -> Sample | DatasetError:
        """Return the sample, or the error for the main process to raise with a clean text."""
        try:
            return self.sample(key)
        except DatasetError as error:
            return error

    def sample(self, key: SampleKey) -> Sample:
        """Return one sample.

        Raises:
            DatasetError: it names the image's file; or, if invalid images are skipped, no image of the data set
                can be read.
        """
        skipped: list[DataIssue] = []
        count = len(self.records)
        for number in range(key.image, key.image + count):
            record = self.records[number % count]
            try:
                with self.monitor.reading(number % count):
                    sample = self._augmented(record, key)
            except DatasetError as error:
                skipped.append(image_issue(error, record.path, record.image_id))
                self.policy.raise_if_strict(skipped[-1])
                continue
            return replace(sample, skipped=tuple(skipped)) if skipped else sample
        raise DatasetError(f"none of the {count} images can be read; {skipped[0]}")

    def _augmented(self, record: ImageRecord, key: SampleKey) -> Sample:
        size = (record.width, record.height)
        # by the key, not the record: an image in the place of another is augmented as the other one
        rng = np.random.default_rng((self.seed, key.epoch, key.image, *([key.copy] if key.copy else [])))
        region = self.propose_region(rng, record) if record.region and self.propose_region else record.region
        params = self.augmentation.sample(rng, size, region)
        shrink = params.side(size) / self.input_size if self.reduced_decode else 1.0
        decoded = read_image_for_warp(record, shrink)
        pixels = decoded.pixels
        if self.copy_paste:
            record, pixels = self.copy_paste(rng, record, pixels, decoded.reduction)
        pixels = self.augmentation.jitter_color(rng, pixels)  # before the warp, whose border stays black
        warped = warp_image(pixels, params, self.input_size, size, decoded.reduction)
        warped = np.asarray(cv2.cvtColor(warped, cv2.COLOR_BGR2RGB), np.uint8)
        sample = self.build_sample(record, params, warped, key.step_images)
        return replace(sample, oriented=(orientation_issue(record, decoded),)) if decoded.orientation > 1 else sample

    def build_sample(
        self, record: ImageRecord, params: AffineParams, image: NDArray[np.uint8], step_images: int
    ) -> Sample:
        """Build the sample of a warped RGB image (S, S, 3) from its record and the sampled parameters."""
        size = (record.width, record.height)
        kept, mask = top_labelled(record.keypoints, self.max_people), record.valid_mask()
        count = len(kept)
        joints, masks = [], []
        for stride in self.strides:
            cells = self.input_size // stride
            padded = np.zeros((self.max_people, len(self.flip_index), 3), np.float32)
            gap = 1 / stride if self.augmentation.exact_flip else 1.0
            padded[:count] = warp_joints(record.keypoints[kept], params, size, cells, self.flip_index, gap)
            joints.append(padded)
            masks.append(warp_mask(mask, params, cells))
        boxes = usable_boxes(record.boxes[kept], record.keypoints[kept])
        scales = np.zeros(self.max_people)
        scales[:count] = person_scales(boxes, params.matrix(size, self.input_size), self.input_size)
        dropped = len(record.keypoints) - count
        sample = Sample(image, tuple(joints), tuple(masks), scales, record.image_id, dropped, step_images)
        if record.confidence is None and record.annotated is None:
            return sample
        order = list(self.flip_index) if params.flip else slice(None)
        confidence = np.zeros((self.max_people, len(self.flip_index)), np.float32)
        confidence[:count] = 1 if record.confidence is None else record.confidence[kept][:, order]
        annotated = None if record.annotated is None else record.annotated[order]
        return replace(sample, confidence=confidence, annotated=annotated)


def collate(samples: Sequence[Sample | DatasetError]) -> TrainBatch | DatasetError:
    """Stack samples to a batch; the first error, if any, takes the batch's place."""
    good: list[Sample] = []
    for sample in samples:
        if isinstance(sample, DatasetError):
            return sample
        good.append(sample)
    # rows beyond the batch's largest crowd are empty in every sample
    filled = np.any([(s.joints[0][..., 2] > 0).any(1) | (s.scales > 0) for s in good], 0)
    people = int(filled.nonzero()[0].max(initial=0)) + 1

    def stack(arrays: Iterable[NDArray[Any]]) -> Tensor:
        return torch.from_numpy(np.stack(list(arrays)))

    def stack_any(arrays: list[NDArray[Any] | None], default: NDArray[Any]) -> Tensor | None:
        given = any(array is not None for array in arrays)
        return stack(default if array is None else array for array in arrays) if given else None

    joints = good[0].joints[0].shape[1]
    confidence = [None if s.confidence is None else s.confidence[:people] for s in good]
    return TrainBatch(
        confidence=stack_any(confidence, np.ones((people, joints), np.float32)),
        annotated=stack_any([s.annotated for s in good], np.ones(joints, np.bool_)),
        images=stack(s.image for s in good),
        joints=tuple(stack(j[:people] for j in joints) for joints in zip(*(s.joints for s in good), strict=True)),
        masks=tuple(map(stack, zip(*(s.masks for s in good), strict=True))),
        scales=stack(s.scales[:people] for s in good),
        image_ids=[s.image_id for s in good],
        dropped_people=sum(s.dropped_people for s in good),
        step_images=good[0].step_images,
        skipped=[issue for s in good for issue in s.skipped],
        oriented=[issue for s in good for issue in s.oriented],
    )
