"""What a split holds, in numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from coupled_embedding.data.io.entries import AnnotationEntry
from coupled_embedding.data.records import ImageRecord
from synthetic_crowd.labels import crowd_index


@dataclass
class Statistics:
    """Counts and distributions of a split; "labelled" people have at least one labelled joint.

    Attributes:
        photos: that the annotation file lists soundly.
        people, labelled_people: that training meets.
        crowds: annotations with iscrowd 1.
        joints: (K, 2) labelled joints by joint: hidden, seen.
        people_per_photo: labelled ones.
        scales: of labelled people: sqrt(box area) over the photo's short side, which is METHOD.md
            §2's scale without augmentation, whatever the input size.
        crowd_indices: of photos with labelled people: the file's, else CrowdPose's formula.
        computed_crowd_indices: how many of them the file lacks.
        joints_per_person: labelled joints of labelled people.
    """

    joints: np.ndarray
    photos: int = 0
    people: int = 0
    labelled_people: int = 0
    crowds: int = 0
    people_per_photo: list[int] = field(default_factory=list)
    scales: list[float] = field(default_factory=list)
    crowd_indices: list[float] = field(default_factory=list)
    computed_crowd_indices: int = 0
    joints_per_person: list[int] = field(default_factory=list)

    def add(self, record: ImageRecord, entries: Sequence[tuple[Any, AnnotationEntry]]) -> None:
        """Count a photo with its annotations."""
        labels = record.keypoints[..., 2]
        counts = (labels > 0).sum(1)
        labelled = counts > 0
        self.photos += 1
        self.people += len(labels)
        self.labelled_people += int(labelled.sum())
        self.crowds += sum(isinstance(raw, dict) and raw.get("iscrowd") in (1, True) for raw, _ in entries)
        self.joints += np.stack([(labels == 1).sum(0), (labels == 2).sum(0)], 1)
        self.people_per_photo.append(int(labelled.sum()))
        areas = record.boxes[labelled, 2].astype(np.float64) * record.boxes[labelled, 3]
        self.scales += (np.sqrt(areas) / min(record.width, record.height)).tolist()
        self.joints_per_person += counts[labelled].tolist()
        if labelled.any():
            known = record.crowd_index is not None
            self.computed_crowd_indices += not known
            index = record.crowd_index if known else crowd_index(record.keypoints, record.boxes)
            self.crowd_indices.append(float(index or 0.0))
