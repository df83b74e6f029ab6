"""Photos sorted by how crowded they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from coupled_embedding.data.records import ImageRecord
from synthetic_crowd import crowd_index

# CrowdPose's bands end at 0.2 and 0.8
_CROWD_EDGES = (0.2, 0.4, 0.6, 0.8)
_PEOPLE_EDGES = (2, 3, 5, 7, 10, 15)


@dataclass(frozen=True)
class PhotoBin:
    """Some photos of a data set.

    Attributes:
        label: of the bin, such as "0.2–0.4" or "3–4".
        image_ids: of the photos.
    """

    label: str
    image_ids: tuple[int, ...]


def people_of(record: ImageRecord) -> int:
    """Return how many people of a photo have a labelled joint."""
    return int((record.keypoints[..., 2] > 0).any(1).sum())


def crowd_index_of(record: ImageRecord) -> float:
    """Return the annotation file's crowd index, else CrowdPose's formula of the labelled people."""
    if record.crowd_index is not None:
        return record.crowd_index
    return crowd_index(record.keypoints, record.boxes)


def bins_by_crowd_index(records: Sequence[ImageRecord]) -> list[PhotoBin]:
    """Sort photos that have people by crowd index; bins without photos are left out."""
    ends = (0.0, *_CROWD_EDGES, 1.0)
    labels = [f"{low:g}–{high:g}" for low, high in pairwise(ends)]
    return _bins(records, [crowd_index_of(record) for record in records], _CROWD_EDGES, labels)


def bins_by_people(records: Sequence[ImageRecord]) -> list[PhotoBin]:
    """Sort photos that have people by their number; bins without photos are left out."""
    starts = (1, *_PEOPLE_EDGES)
    ranges = pairwise(starts)
    labels = [f"{low}" if high == low + 1 else f"{low}–{high - 1}" for low, high in ranges] + [f"{starts[-1]}+"]
    return _bins(records, [people_of(record) for record in records], _PEOPLE_EDGES, labels)


def _bins(
    records: Sequence[ImageRecord], values: Sequence[float], edges: Sequence[float], labels: Sequence[str]
) -> list[PhotoBin]:
    """Sort by the edges that a value has reached."""
    sorted_ids: list[list[int]] = [[] for _ in labels]
    for record, value in zip(records, values, strict=True):
        if people_of(record):
            sorted_ids[sum(value >= edge for edge in edges)].append(record.image_id)
    return [PhotoBin(label, tuple(ids)) for label, ids in zip(labels, sorted_ids) if ids]
