"""Images in bins, by how crowded they are: label, such as "0.2–0.4" or "3–4", -> image ids."""

from collections.abc import Sequence
from itertools import pairwise

from coupled_embedding.data.crowd_index import crowd_index
from coupled_embedding.data.records import ImageRecord

_CROWD_EDGES = (0.2, 0.4, 0.6, 0.8)  # CrowdPose's bands end at 0.2 and 0.8
_PEOPLE_EDGES = (2, 3, 5, 7, 10, 15)

Bins = dict[str, list[int]]


def num_people(record: ImageRecord) -> int:
    """Return how many people of an image have a labelled joint."""
    return int((record.keypoints[..., 2] > 0).any(1).sum())


def crowd_index_of(record: ImageRecord) -> float:
    """Return the annotation file's crowd index, else CrowdPose's formula of the labelled people."""
    index = record.crowd_index
    return crowd_index(record.keypoints, record.boxes) if index is None else index


def bins_by_crowd_index(records: Sequence[ImageRecord]) -> Bins:
    """Sort images that have people by crowd index; bins without images are left out."""
    labels = [f"{low:g}–{high:g}" for low, high in pairwise((0.0, *_CROWD_EDGES, 1.0))]
    return _bins(records, [crowd_index_of(record) for record in records], _CROWD_EDGES, labels)


def bins_by_people(records: Sequence[ImageRecord]) -> Bins:
    """Sort images that have people by their number; bins without images are left out."""
    labels = [f"{low}" if high == low + 1 else f"{low}–{high - 1}" for low, high in pairwise((1, *_PEOPLE_EDGES))]
    return _bins(records, [num_people(record) for record in records], _PEOPLE_EDGES, [*labels, f"{_PEOPLE_EDGES[-1]}+"])


def _bins(
    records: Sequence[ImageRecord], values: Sequence[float], edges: Sequence[float], labels: Sequence[str]
) -> Bins:
    bins: Bins = {label: [] for label in labels}
    for record, value in zip(records, values, strict=True):
        if num_people(record):
            bins[labels[sum(value >= edge for edge in edges)]].append(record.image_id)
    return {label: ids for label, ids in bins.items() if ids}
