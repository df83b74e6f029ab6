"""What is wrong with each detected keypoint, after Ronchi and Perona (ICCV 2017); see docs/error_analysis.md.

A joint of a matched detection is good, where its keypoint similarity with the annotated joint, COCO's
ks = exp(-d² / (2 · area · (2σ)²)), is at least 0.85; else a jitter, where it is at least 0.5; else an inversion, where
it is at least 0.5 with the same person's other side, or a swap, where it is with either side of another person,
whichever similarity is larger, the inversion where they are equal; else a miss. Area and σ are the annotated joint's.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coupled_embedding.analysis.plot_style import BLUE, ORANGE, RED, SKY, SOFT
from coupled_embedding.data.evaluators import EVALUATORS
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.evaluation import GroundTruth, oks_matrix

KIND_COLORS = {"good": BLUE, "jitter": SKY, "inversion": ORANGE, "swap": RED, "miss": SOFT}
KINDS = tuple(KIND_COLORS)
GOOD, JITTER = 0.85, 0.5
MATCH_OKS = 0.1  # a detection fits an annotated person if their OKS is at least this

Points = NDArray[np.float64]
Results = Sequence[dict[str, Any]]


def keypoint_similarity(squares: ArrayLike, areas: ArrayLike, sigmas: ArrayLike) -> Points:
    """Return COCO's similarity of joints at squared distances in square image pixels; shapes broadcast."""
    variances = (2 * np.asarray(sigmas, np.float64)) ** 2
    # the same tiny number as in `oks_matrix`
    return np.exp(-np.asarray(squares) / variances / (np.asarray(areas) + np.spacing(1)) / 2)


@dataclass(frozen=True)
class ImageErrors:
    """What is wrong in one image, by rows of the results and of the ground truth."""

    kinds: NDArray[np.int64]  # (matched people, K) positions in `KINDS`, -1 where the annotated joint is not labelled
    matched: NDArray[np.int64]  # (matched people, 2) rows of the results and of the ground truth
    background: tuple[int, ...] = ()  # results that fit no person who counts and are in no ignored region
    surplus: tuple[int, ...] = ()  # other results that were not matched: they fit a person who is taken
    missed: tuple[int, ...] = ()  # people who count and were not matched
    oks: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))  # (matched people,) of each pair

    def counts(self) -> NDArray[np.int64]:
        """Return (K, 5): how many of each joint are of each kind."""
        return np.stack([(self.kinds == kind).sum(0) for kind in range(len(KINDS))], 1)


@dataclass(frozen=True)
class KeypointErrors:
    """The errors of a split, by image id, and how to undo them: results with other joints or people."""

    ground_truth: GroundTruth
    results: Results
    images: dict[int, ImageErrors]

    def repaired(self, kinds: Collection[str]) -> list[dict[str, Any]]:
        """Return the results with the joints of some kinds moved to the annotated places; scores stay."""
        wanted = [KINDS.index(kind) for kind in kinds]
        results = list(self.results)
        for image in self.images.values():
            for (row, person), joint_kinds in zip(image.matched, image.kinds, strict=True):
                chosen = np.isin(joint_kinds, wanted)
                joints = np.array(results[row]["keypoints"], np.float64).reshape(-1, 3)
                joints[chosen, :2] = self.ground_truth.keypoints[person].reshape(-1, 3)[chosen, :2]
                results[row] = {**results[row], "keypoints": joints.reshape(-1).tolist()}
        return results

    def without_background(self) -> list[dict[str, Any]]:
        """Return the results without the detections that fit no person."""
        dropped = {row for image in self.images.values() for row in image.background}
        return [result for row, result in enumerate(self.results) if row not in dropped]

    def without_missed(self) -> GroundTruth:
        """Return the ground truth with the missed people as people who do not count."""
        counts = self.ground_truth.num_keypoints.copy()
        counts[[row for image in self.images.values() for row in image.missed]] = 0
        return replace(self.ground_truth, num_keypoints=counts)


def find_errors(ground_truth: GroundTruth, results: Results, schema: KeypointSchema) -> KeypointErrors:
    """Match a split's detections with the annotated people and classify each joint.

    In each image the 20 detections of the best scores are matched, at an OKS of 0.1 or more, with the people that the
    benchmark counts (no crowd, ``num_keypoints`` above 0).
    """
    people, detections = rows_by_image(ground_truth.image_ids), rows_by_image(r["image_id"] for r in results)
    images = {
        image_id: image_errors(ground_truth, people.get(image_id, ()), results, detections.get(image_id, ()), schema)
        for image_id in ground_truth.images
    }
    return KeypointErrors(ground_truth, results, images)


def rows_by_image(image_ids: Iterable[int]) -> dict[int, list[int]]:
    """Return the positions of each image id in a column of them."""
    rows: dict[int, list[int]] = defaultdict(list)
    for row, image_id in enumerate(image_ids):
        rows[image_id].append(row)
    return dict(rows)


def counted_detections(results: Results, rows: Iterable[int], schema: KeypointSchema) -> list[int]:
    """Return those of an image's rows of the results that the benchmark counts, best first."""
    most = EVALUATORS[schema.evaluator].max_detections
    return sorted(rows, key=lambda row: -results[row]["score"])[:most]


def image_errors(
    ground_truth: GroundTruth, people: Iterable[int], results: Results, detected: Iterable[int], schema: KeypointSchema
) -> ImageErrors:
    """Return the errors in one image, given its rows of the ground truth and of the results."""
    people, detections = list(people), counted_detections(results, detected, schema)
    sigmas = np.asarray(schema.sigmas, np.float64)
    true = ground_truth.keypoints[people].reshape(len(people), len(sigmas), 3)
    areas = ground_truth.areas[people]
    joints = np.array([results[row]["keypoints"] for row in detections], np.float64).reshape(-1, len(sigmas), 3)
    scores = np.array([results[row]["score"] for row in detections], np.float64)
    counts = (ground_truth.crowds[people] == 0) & (ground_truth.num_keypoints[people] > 0)
    similarity = np.where(counts[:, None], oks_matrix(true, areas, joints, sigmas), -1.0)
    pairs = match_people(similarity, scores)
    kinds = [classify_joints(true, areas, p, joints[d, :, :2], sigmas, schema.flip_index) for d, p in pairs]
    fits = similarity.max(0, initial=-1.0) >= MATCH_OKS
    free = sorted(set(range(len(detections))) - {d for d, _ in pairs})
    missed = sorted(set(np.flatnonzero(counts).tolist()) - {p for _, p in pairs})
    ignored = ground_truth.boxes[people][~counts]
    return ImageErrors(
        np.array(kinds, np.int64).reshape(-1, len(sigmas)),
        np.array([(detections[d], people[p]) for d, p in pairs], np.int64).reshape(-1, 2),
        tuple(detections[d] for d in free if not fits[d] and not _is_inside(joints[d], ignored)),
        tuple(detections[d] for d in free if fits[d]),
        tuple(people[p] for p in missed),
        np.array([similarity[p, d] for d, p in pairs], np.float64),
    )


def match_people(similarity: Points, scores: Points) -> list[tuple[int, int]]:
    """Pair detections with annotated people as COCO does: the best score chooses first.

    Args:
        similarity: (N, M) OKS of annotated people and detections; below `MATCH_OKS` there is no pair.
        scores: (M,) of the detections, in whose order the (detection, person) pairs are returned.
    """
    left, pairs = similarity.copy(), []
    for detection in np.argsort(-scores, kind="stable"):
        if len(left) and left[:, detection].max() >= MATCH_OKS:
            person = int(left[:, detection].argmax())
            pairs.append((int(detection), person))
            left[person] = -1.0
    return pairs


def classify_joints(
    true: Points, areas: Points, person: int, detected: Points, sigmas: Points, flip_index: Sequence[int]
) -> NDArray[np.int64]:
    """Return (K,) positions in `KINDS` of a detection's joints, -1 where the annotated one is not labelled.

    Args:
        true: (N, K, 3) all annotated people of the image: x, y in image pixels, label; areas: (N,) square pixels.
        person: the row of ``true`` that the detection was matched with.
        detected: (K, 2) x, y in image pixels.
        sigmas, flip_index: (K,) of the schema.
    """
    sides = np.asarray(flip_index)
    same = _similarities(true, areas, detected, sigmas)  # (N, K)
    crossed = _similarities(true[:, sides], areas, detected, sigmas[sides])
    # for a joint without another side crossed equals same, which is not an inversion: good and jitter come first
    own, inversion = same[person], crossed[person]
    swap = np.delete(np.maximum(same, crossed), person, 0).max(0, initial=0.0)
    choices = [own >= GOOD, own >= JITTER, (inversion >= JITTER) & (inversion >= swap), swap >= JITTER]
    return np.where(true[person, :, 2] > 0, np.select(choices, [0, 1, 2, 3], 4), -1)


def _similarities(true: Points, areas: Points, detected: Points, sigmas: Points) -> Points:
    """Return (N, K): similarity of detected joints (K, 2) with each person's, 0 where not labelled."""
    squares = ((true[..., :2] - detected[None]) ** 2).sum(-1)
    return keypoint_similarity(squares, areas[:, None], sigmas) * (true[..., 2] > 0)


def _is_inside(joints: Points, boxes: Points) -> bool:
    """Whether the middle of a person's joints is inside one of the boxes (x, y, width, height)."""
    placed = joints[joints[:, 2] > 0, :2] if (joints[:, 2] > 0).any() else joints[:, :2]
    middle = (placed.min(0) + placed.max(0)) / 2
    return bool(((middle >= boxes[:, :2]) & (middle <= boxes[:, :2] + boxes[:, 2:])).all(1).any())
