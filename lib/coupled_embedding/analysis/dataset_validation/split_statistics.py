"""Counts and distributions of a split."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from coupled_embedding.data.crowd_index import crowd_index
from coupled_embedding.data.io.entries import AnnotationEntry
from coupled_embedding.data.records import ImageRecord


class SplitStatistics:
    """Counts and distributions of a split; "labelled" people have at least one of the K joints labelled.

    Attributes:
        images: number of valid ones in the annotation file.
        people, labelled_people: that training uses.
        crowds: annotations with iscrowd 1.
        joints: (K, 2) labelled joints by joint: hidden, seen.
        people_per_image: labelled ones; joints_per_person: labelled joints of labelled people.
        scales: of labelled people: sqrt(box area) over the image's short side, which is the scale of docs/method.md,
            section 2, without augmentation, regardless of the input size.
        crowd_indices: of images with labelled people: the file's, else CrowdPose's formula.
        computed_crowd_indices: how many of them the file lacks.
    """

    def __init__(self, num_joints: int) -> None:
        self.images = self.people = self.labelled_people = self.crowds = self.computed_crowd_indices = 0
        self.joints = np.zeros((num_joints, 2), np.int64)
        self.people_per_image: list[int] = []
        self.joints_per_person: list[int] = []
        self.scales: list[float] = []
        self.crowd_indices: list[float] = []

    def add(self, record: ImageRecord, entries: Sequence[tuple[Any, AnnotationEntry]]) -> None:
        """Count an image with its annotations, as in the file and as read."""
        labels = record.keypoints[..., 2]
        counts = (labels > 0).sum(1)
        labelled = counts > 0
        self.images += 1
        self.people += len(labels)
        self.labelled_people += int(labelled.sum())
        self.crowds += sum(isinstance(raw, dict) and raw.get("iscrowd") in (1, True) for raw, _ in entries)
        self.joints += np.stack([(labels == 1).sum(0), (labels == 2).sum(0)], 1)
        self.people_per_image.append(int(labelled.sum()))
        self.joints_per_person += counts[labelled].tolist()
        areas = record.boxes[labelled, 2].astype(np.float64) * record.boxes[labelled, 3]
        self.scales += (np.sqrt(areas) / min(record.width, record.height)).tolist()
        if labelled.any():
            index = record.crowd_index
            self.computed_crowd_indices += index is None
            self.crowd_indices.append(crowd_index(record.keypoints, record.boxes) if index is None else float(index))
