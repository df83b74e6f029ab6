"""What is wrong with each found keypoint: the error types of Ronchi and Perona (ICCV 2017).

Keypoint similarity is COCO's term of one joint, ks = exp(-d² / (2 · area · (2σ)²)). A found
joint of a matched person is

- good, where its similarity with the true joint is at least 0.85;
- a jitter, where it is at least 0.5;
- an inversion, where it lies (ks at least 0.5) on the same person's other side: a left joint on
  the right one or the reverse;
- a swap, where it lies on that joint, or its other side, of another person of the photo;
- a miss, where it lies on none of these.

Of inversion and swap the one with the larger similarity counts, the inversion where they are
equal. The true joint's own area and sigma apply throughout.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.evaluation import GroundTruth, oks_matrix
from coupled_embedding.evaluation.oks_backends import MAX_DETECTIONS

KINDS = ("good", "jitter", "inversion", "swap", "miss")
GOOD, JITTER = 0.85, 0.5
# a found person fits an annotated one if their OKS is at least this
MATCH_OKS = 0.1

Points = NDArray[np.float64]


def keypoint_similarity(squares: ArrayLike, areas: ArrayLike, sigmas: ArrayLike) -> Points:
    """Return COCO's similarity of joints at squared distances in square photo pixels; shapes broadcast."""
    variances = (2 * np.asarray(sigmas, np.float64)) ** 2
    # the same tiny number as in `oks_matrix`
    return np.exp(-np.asarray(squares) / variances / (np.asarray(areas) + np.spacing(1)) / 2)


@dataclass(frozen=True)
class PhotoErrors:
    """What is wrong in one photo.

    Attributes:
        kinds: (matched people, K) positions in `KINDS`, -1 where the true joint is not labelled.
        matched: (matched people, 2) rows of the results and of the truth.
        background: rows of the results that fit nobody who is to be found and lie in no ignored region.
        surplus: other rows of the results that were not matched: they fit somebody who is taken.
        missed: rows of the truth that were not matched.
    """

    kinds: NDArray[np.int64]
    matched: NDArray[np.int64]
    background: tuple[int, ...] = ()
    surplus: tuple[int, ...] = ()
    missed: tuple[int, ...] = ()

    def counts(self) -> NDArray[np.int64]:
        """Return (K, 5): how many of each joint are of each kind."""
        return np.stack([(self.kinds == kind).sum(0) for kind in range(len(KINDS))], 1)


def classify_joints(
    true: Points, areas: Points, person: int, found: Points, sigmas: Points, flip_index: Sequence[int]
) -> NDArray[np.int64]:
    """Return (K,) positions in `KINDS` of a found person's joints, -1 where the true one is not labelled.

    Args:
        true: (N, K, 3) all annotated people of the photo: x, y in photo pixels, label.
        areas: (N,) square photo pixels.
        person: whom the found person was matched with.
        found: (K, 2) x, y in photo pixels.
        sigmas: (K,) of the schema.
        flip_index: for each joint its other side, or itself.
    """
    sides = np.asarray(flip_index)
    same = _similarities(true, areas, found, sigmas)  # (N, K)
    # a joint without another side: crossed is same, and no inversion, as that is asked for after good and jitter
    crossed = _similarities(true[:, sides], areas, found, sigmas[sides])
    own, inversion = same[person], crossed[person]
    others = np.delete(np.maximum(same, crossed), person, 0)
    swap = others.max(0, initial=0.0)
    choices = [own >= GOOD, own >= JITTER, (inversion >= JITTER) & (inversion >= swap), swap >= JITTER]
    kinds = np.select(choices, [0, 1, 2, 3], 4)
    return np.where(true[person, :, 2] > 0, kinds, -1)


def _similarities(true: Points, areas: Points, found: Points, sigmas: Points) -> Points:
    """Return (N, K): similarity of found joints (K, 2) with each person's, 0 where not labelled."""
    squares = ((true[..., :2] - found[None, :, :2]) ** 2).sum(-1)
    return keypoint_similarity(squares, areas[:, None], sigmas) * (true[..., 2] > 0)


def match_people(similarity: Points, scores: Points, least: float = MATCH_OKS) -> list[tuple[int, int]]:
    """Pair found people with annotated ones as COCO does: the best score chooses first.

    Args:
        similarity: (N, M) OKS of annotated and found people.
        scores: (M,) of the found.
        least: OKS below which a pair is none.

    Returns:
        (found, annotated) pairs, in the order of scores.
    """
    left, pairs = similarity.copy(), []
    for found in np.argsort(-scores, kind="stable"):
        if len(left) and left[:, found].max() >= least:
            person = int(left[:, found].argmax())
            pairs.append((int(found), person))
            left[person] = -1.0
    return pairs


@dataclass(frozen=True)
class Errors:
    """The errors of a split: by photo, and how to undo them.

    Attributes:
        truth: the annotated people.
        results: the found people, in COCO's results format.
        photos: image id -> what is wrong there.
    """

    truth: GroundTruth
    results: Sequence[dict[str, Any]]
    photos: dict[int, PhotoErrors] = field(default_factory=dict)

    def repaired(self, kinds: Collection[str]) -> list[dict[str, Any]]:
        """Return the results with the joints of some kinds moved to their true places; scores stay."""
        wanted = [KINDS.index(kind) for kind in kinds]
        results = list(self.results)
        for photo in self.photos.values():
            for (row, person), joint_kinds in zip(photo.matched, photo.kinds, strict=True):
                chosen = np.isin(joint_kinds, wanted)
                joints = np.array(results[row]["keypoints"], np.float64).reshape(-1, 3)
                joints[chosen, :2] = self.truth.keypoints[person].reshape(-1, 3)[chosen, :2]
                results[row] = {**results[row], "keypoints": joints.reshape(-1).tolist()}
        return results

    def without_background(self) -> list[dict[str, Any]]:
        """Return the results without the people who fit nobody."""
        dropped = {row for photo in self.photos.values() for row in photo.background}
        return [result for row, result in enumerate(self.results) if row not in dropped]

    def without_missed(self) -> GroundTruth:
        """Return the truth with those whom nobody found as people who need not be found."""
        counts = self.truth.num_keypoints.copy()
        counts[[row for photo in self.photos.values() for row in photo.missed]] = 0
        return replace(self.truth, num_keypoints=counts)


def find_errors(truth: GroundTruth, results: Sequence[dict[str, Any]], schema: KeypointSchema) -> Errors:
    """Match a split's found people with the annotated ones and say what is wrong with each joint.

    In each photo the 20 people of the best scores are matched, at an OKS of 0.1 or more, with
    the people that the benchmark counts (no crowd, ``num_keypoints`` above 0).
    """
    people, found = _rows(truth.image_ids), _rows([result["image_id"] for result in results])
    photos = {}
    for image_id in truth.images:
        by_score = sorted(found.get(image_id, []), key=lambda row: -results[row]["score"])[:MAX_DETECTIONS]
        photos[image_id] = _photo_errors(truth, people.get(image_id, []), results, by_score, schema)
    return Errors(truth, results, photos)


def _rows(image_ids: Sequence[int]) -> dict[int, list[int]]:
    rows: dict[int, list[int]] = {}
    for row, image_id in enumerate(image_ids):
        rows.setdefault(image_id, []).append(row)
    return rows


def _photo_errors(
    truth: GroundTruth, people: list[int], results: Sequence[dict[str, Any]], found: list[int], schema: KeypointSchema
) -> PhotoErrors:
    sigmas = np.asarray(schema.sigmas, np.float64)
    true = truth.keypoints[people].reshape(len(people), len(sigmas), 3)
    areas = truth.areas[people]
    joints = np.array([results[row]["keypoints"] for row in found], np.float64).reshape(len(found), len(sigmas), 3)
    scores = np.array([results[row]["score"] for row in found], np.float64)
    counts = (truth.crowds[people] == 0) & (truth.num_keypoints[people] > 0)
    similarity = np.where(counts[:, None], oks_matrix(true, areas, joints, sigmas), -1.0)
    pairs = match_people(similarity, scores)
    kinds = [classify_joints(true, areas, p, joints[f, :, :2], sigmas, schema.flip_index) for f, p in pairs]
    fits = similarity.max(0, initial=-1.0) >= MATCH_OKS
    free = sorted(set(range(len(found))) - {f for f, _ in pairs})
    ignored = truth.boxes[people][~counts]
    missed = sorted(set(np.flatnonzero(counts).tolist()) - {p for _, p in pairs})
    return PhotoErrors(
        np.array(kinds, np.int64).reshape(-1, len(sigmas)),
        np.array([(found[f], people[p]) for f, p in pairs], np.int64).reshape(-1, 2),
        tuple(found[f] for f in free if not fits[f] and not _lies_in(joints[f], ignored)),
        tuple(found[f] for f in free if fits[f]),
        tuple(people[p] for p in missed),
    )


def _lies_in(joints: Points, boxes: Points) -> bool:
    """Whether the middle of a person's joints is inside one of the boxes (x, y, width, height)."""
    placed = joints[joints[:, 2] > 0, :2] if (joints[:, 2] > 0).any() else joints[:, :2]
    middle = (placed.min(0) + placed.max(0)) / 2
    return bool(((middle >= boxes[:, :2]) & (middle <= boxes[:, :2] + boxes[:, 2:])).all(1).any())
