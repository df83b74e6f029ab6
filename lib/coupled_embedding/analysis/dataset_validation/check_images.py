"""Read every image of a split once, in worker processes."""

import hashlib
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader, Dataset

from coupled_embedding.data.images import orientation_issue, read_file, read_image_for_warp
from coupled_embedding.data.io.data_errors import DataIssue, image_issue
from coupled_embedding.data.io.worker_monitor import STALLED_SECONDS, WorkerMonitor
from coupled_embedding.data.loader import single_threaded
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.utils.errors import DatasetError

Warnings = list[tuple[str, DataIssue]]  # kind and issue

UNREADABLE = "images that cannot be read"
# what decoders print of images that they patch up; their other warnings are harmless
_DECODER_WARNINGS = ("corrupt", "premature", "extraneous", "invalid", "bad huffman")


@dataclass(frozen=True)
class ImageState:
    """What reading an image showed: warnings, and a digest of the file's bytes, empty if they cannot be decoded."""

    warnings: Warnings
    digest: bytes = b""


class _Images(Dataset[ImageState]):
    def __init__(self, records: Sequence[ImageRecord]) -> None:
        self.records, self.monitor = records, WorkerMonitor()

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> ImageState:
        with self.monitor.reading(index):
            return _read(self.records[index])


def _read(record: ImageRecord) -> ImageState:
    """Read an image as training would, whole."""
    lines: list[str] = []
    try:
        digest = hashlib.blake2b(read_file(record.path), digest_size=16).digest()
        with _printed_by_decoders(lines):
            image = read_image_for_warp(record, 1.0)
    except DatasetError as error:
        return ImageState([(UNREADABLE, image_issue(error, record.path, record.image_id))])
    warnings: Warnings = []
    if printed := [line for line in lines if any(word in line.lower() for word in _DECODER_WARNINGS)]:
        text = f"the decoder patched the image up: {'; '.join(printed)[:200]}"
        warnings.append(("damaged images", DataIssue(str(record.path), text, image_id=record.image_id)))
    if image.orientation > 1 and record.orientation == "auto":  # else the user has decided
        warnings.append(("images with an EXIF orientation", orientation_issue(record, image)))
    return ImageState(warnings, digest)


@contextmanager
def _printed_by_decoders(lines: list[str]) -> Iterator[None]:
    """Collect what C libraries print to the error stream: libjpeg reports damage in no other way."""
    stream = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stream, 2)
            os.close(stream)
            file.seek(0)
            lines += file.read().decode("utf-8", "replace").splitlines()


def _unchanged(state: Any) -> Any:
    return state


def check_images(records: Sequence[ImageRecord], workers: int) -> Iterator[ImageState]:
    """Yield each image's state, in order; DatasetError names the image that kills a process."""
    images, workers = _Images(records), min(workers, len(records))
    timeout = STALLED_SECONDS if workers else 0
    loader = DataLoader(
        images, None, num_workers=workers, collate_fn=_unchanged, worker_init_fn=single_threaded, timeout=timeout
    )
    try:
        yield from loader
    except RuntimeError as error:
        images.monitor.raise_if_worker_died(error, [record.path for record in records])
        raise


def duplicates(records: Sequence[ImageRecord], states: Sequence[ImageState]) -> Warnings:
    """Return the images whose files have the bytes of an earlier one."""
    same: dict[bytes, list[ImageRecord]] = defaultdict(list)
    for record, state in zip(records, states, strict=True):
        if state.digest:
            same[state.digest].append(record)
    return [
        ("duplicate images", DataIssue(str(record.path), text, image_id=record.image_id))
        for first, *others in same.values()
        for record in others
        for text in [f"image {record.image_id} has the same bytes as image {first.image_id} ({first.path.name})"]
    ]
