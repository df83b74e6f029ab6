"""Time the training loader against the released one, side by side in one process.

python benchmarks/data.py [--quick] [--json PATH]

Times are of one CPU core, per sample. "worker": the work of a loader process, which here leaves
the targets to the device; "with targets": the targets are computed as well, on the CPU.
"""

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import plain_data
import torch
from common import ROOT, Record, arguments, record, report
from torch import Tensor

from coupled_embedding.data.dataset import SampleKey, TrainBatch, TrainDataset, collate
from coupled_embedding.data.loader import single_threaded
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import load_schema
from coupled_embedding.data.transforms import Augmentation
from coupled_embedding.utils.errors import DatasetError

SIZE, STRIDES = 512, (4, 2)
BATCH = 10


@dataclass(frozen=True)
class Case:
    """Images of one kind."""

    width: int
    height: int
    people: int
    ignored: bool = False

    def __str__(self) -> str:
        return f"{self.width}x{self.height}, {self.people} people" + (", ignored regions" if self.ignored else "")


def made_up_image(width: int, height: int, random: np.random.Generator) -> np.ndarray:
    """Return noise of several sizes of grain: as a JPEG about as many bytes as an image of the size."""
    image = np.full((height, width, 3), 128, np.float32)
    for grain in (4, 16, 64):
        noise = random.normal(0, 30, (height // grain + 2, width // grain + 2, 3)).astype(np.float32)
        image += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image, 0, 255).astype(np.uint8)


def made_up_records(case: Case, folder: Path, joints: int) -> list[ImageRecord]:
    """Write a batch of images and return their records."""
    random = np.random.default_rng(0)
    size = np.array([case.width, case.height])
    records = []
    for number in range(BATCH):
        path = folder / f"{case.width}_{number}.jpg"
        if not path.exists():
            image = made_up_image(case.width, case.height, random)
            cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 87])
        extent = random.uniform(0.1, 0.4, (case.people, 1)) * size.min()
        centers = random.uniform(0.1, 0.9, (case.people, 2)) * size
        places = centers[:, None] + extent[:, None] * random.uniform(-0.5, 0.5, (case.people, joints, 2))
        labels = 2.0 * (random.random((case.people, joints, 1)) < 0.75)
        boxes = np.concatenate([centers - extent / 2, extent, extent], 1).astype(np.float32)
        ignored = tuple([[*b[:2], b[0] + b[2], b[1], *(b[:2] + b[2:])]] for b in boxes[:3].tolist())
        records.append(
            ImageRecord(
                number,
                path,
                case.width,
                case.height,
                np.concatenate([places, labels], 2).astype(np.float32),
                boxes,
                ignored if case.ignored else (),
            )
        )
    return records


def checked(batch: TrainBatch | DatasetError) -> TrainBatch:
    """Return the batch, or raise the error that was returned in its place."""
    if isinstance(batch, DatasetError):
        raise batch
    return batch


def nbytes(values: Iterable[Tensor | Iterable[Tensor]]) -> int:
    """Return the bytes of tensors and lists of tensors."""
    return sum(v.nbytes if isinstance(v, Tensor) else nbytes(v) for v in values)


def per_sample(timed: Record) -> Record:
    """Return a batch's record per sample."""
    return replace(timed, ours_ms=round(timed.ours_ms / BATCH, 3), baseline_ms=round(timed.baseline_ms / BATCH, 3))


def measure(case: Case, folder: Path, runs: int) -> tuple[list[Record], str]:
    """Time both on the same images and sampled parameters; return the records and a line of other numbers."""
    schema = load_schema(ROOT / "datasets/crowdpose.yaml")
    records = made_up_records(case, folder, schema.num_joints)
    dataset = TrainDataset(records, schema.flip_index, Augmentation(), SIZE, STRIDES)
    keys = [SampleKey(0, image, BATCH) for image in range(BATCH)]

    def ours() -> TrainBatch:
        return checked(collate([dataset[key] for key in keys]))

    def plain() -> list[Tensor | list[Tensor]]:
        samples = []
        for key in keys:
            random = np.random.default_rng((dataset.seed, key.epoch, key.image))
            params = dataset.augmentation.sample(random, (case.width, case.height))
            samples.append(plain_data.sample(records[key.image], params, SIZE, STRIDES, schema.flip_index))
        return plain_data.batch(samples)

    batch, other = ours(), plain()
    targets = batch.targets()
    difference = largest(torch.sub, targets.heatmaps, other[1])
    pixels = largest(lambda a, b: a.float() - b, [batch.images], [denormalized(other[0])])
    unequal_masks = sum(int((a != b).sum()) for a, b in zip(batch.masks, other[2], strict=True))
    scales = float((batch.scales - other[4][:, : batch.scales.shape[1]]).abs().max())
    sizes = nbytes([batch.images, batch.joints, batch.masks, batch.scales]), nbytes(other)
    file_size = sum(r.path.stat().st_size for r in records) / len(records)
    text = (
        f"{case}, {file_size / 1000:.0f} kB a file: {sizes[0] / BATCH / 1e6:.2f} MB a sample cross to the main process "
        f"(released: {sizes[1] / BATCH / 1e6:.2f} MB); largest difference of pixels {pixels:.0f} of 255, of scales "
        f"{scales:.0e}; unequal mask cells: {unequal_masks}"
    )
    both = {"worker": ours, "with targets": lambda: ours().targets()}
    return [per_sample(record(f"{case}, {n}", f, plain, runs, difference)) for n, f in both.items()], text


def denormalized(images: Tensor) -> Tensor:
    """Return normalized images (B, 3, S, S) as values 0..255, (B, S, S, 3)."""
    return ((images * plain_data.STD + plain_data.MEAN) * 255).round().permute(0, 2, 3, 1)


def largest(difference: Callable[[Tensor, Tensor], Tensor], ours: Iterable[Tensor], plain: Iterable[Tensor]) -> float:
    """Return the largest absolute difference over several tensors."""
    return max(float(difference(a, b).abs().max()) for a, b in zip(ours, plain, strict=True))


def main() -> None:
    """Measure and print."""
    args = arguments(__doc__)
    single_threaded(0)
    cases = [Case(640, 480, n) for n in (2, 10, 30)]
    cases += [Case(640, 480, 10, ignored=True), Case(1280, 720, 10), Case(4000, 3000, 10)]
    if args.quick:
        cases = [Case(640, 480, 2), Case(640, 480, 10)]
    with tempfile.TemporaryDirectory() as folder:
        measured = [measure(case, Path(folder), runs=2 if args.quick else 7) for case in cases]
    report([r for records, _ in measured for r in records], args.json)
    print("\n" + "\n".join(text for _, text in measured))


if __name__ == "__main__":
    main()
