"""Every photo of a split, read once in worker processes."""

import hashlib
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader, Dataset

from coupled_embedding.data.dataset import orientation_notice
from coupled_embedding.data.images import read_file, read_photo_for_warp
from coupled_embedding.data.io.data_errors import Problem, photo_problem
from coupled_embedding.data.io.worker_monitor import STALLED_SECONDS, WorkerWatch
from coupled_embedding.data.loader import single_threaded
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.utils.errors import DatasetError

# what decoders print of pictures that they patch up; their other warnings are harmless
_COMPLAINTS = ("corrupt", "premature", "extraneous", "invalid", "bad huffman")


@dataclass(frozen=True)
class PhotoState:
    """What reading a photo showed.

    Attributes:
        problem: why it cannot be read, or None.
        complaint: what the decoder said of it; empty: nothing.
        digest: of the file's bytes.
        oriented: how its EXIF orientation is read, or None if it has none.
    """

    problem: Problem | None
    complaint: str = ""
    digest: bytes = b""
    oriented: Problem | None = None


class _Photos(Dataset[PhotoState]):
    def __init__(self, records: Sequence[ImageRecord]) -> None:
        self.records = records
        self.watch = WorkerWatch()

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> PhotoState:
        with self.watch.reading(index):
            return photo_state(self.records[index])


def photo_state(record: ImageRecord) -> PhotoState:
    """Read a photo as training would, whole."""
    lines: list[str] = []
    try:
        digest = hashlib.blake2b(read_file(record.path), digest_size=16).digest()
        with _printed_by_decoders(lines):
            photo = read_photo_for_warp(record, 1.0)
    except DatasetError as error:
        return PhotoState(photo_problem(error, record.path, record.image_id))
    told = [line for line in lines if any(word in line.lower() for word in _COMPLAINTS)]
    oriented = orientation_notice(record, photo) if photo.orientation > 1 else None
    return PhotoState(None, "; ".join(told)[:200], digest, oriented)


@contextmanager
def _printed_by_decoders(lines: list[str]) -> Iterator[None]:
    """Collect what C libraries print to the error stream: libjpeg has no other way to tell of damage."""
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


def _as_it_is(state: Any) -> Any:
    return state


def read_photos(records: Sequence[ImageRecord], workers: int) -> Iterator[PhotoState]:
    """Yield each photo's state, in order; DatasetError names the photo that kills a process."""
    photos = _Photos(records)
    loader = DataLoader(
        photos,
        batch_size=None,
        num_workers=min(workers, len(records)),
        collate_fn=_as_it_is,
        worker_init_fn=single_threaded,
        timeout=STALLED_SECONDS if min(workers, len(records)) else 0,
    )
    try:
        yield from loader
    except RuntimeError as error:
        photos.watch.explain(error, [record.path for record in records])
        raise


def photo_findings(records: Sequence[ImageRecord], states: Sequence[PhotoState]) -> Iterator[tuple[str, Problem]]:
    """Yield kind and finding of photos that can be read."""
    same: dict[bytes, list[ImageRecord]] = defaultdict(list)
    for record, state in zip(records, states, strict=True):
        if state.complaint:
            text = f"the decoder patched it up: {state.complaint}"
            yield "damaged photos", Problem(str(record.path), text, image_id=record.image_id)
        if state.oriented:
            yield "photos with an EXIF orientation", state.oriented
        if state.digest:
            same[state.digest].append(record)
    for first, *others in same.values():
        for record in others:
            text = f"image {record.image_id} has the same bytes as image {first.image_id} ({first.path.name})"
            yield "photos that are there twice", Problem(str(record.path), text, image_id=record.image_id)
