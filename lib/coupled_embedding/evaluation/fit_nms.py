"""Results files through a suppression of poses, and the suppression's parameters fitted on a validation split."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Generic, TypeVar

import numpy as np

from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.evaluation.ground_truth import GroundTruth
from coupled_embedding.evaluation.keypoint_ap import score_results
from coupled_embedding.evaluation.pose_nms import OksNMS, ParametricNMS, PoseNMS
from coupled_embedding.evaluation.results import Detections, checked_detections
from coupled_embedding.utils.errors import UserError

STEPS = (4.0, 2.0, 1.4)  # ratios of neighboring values, coarse to fine
_MOST_ROUNDS = 4  # of a step
AnyNMS = TypeVar("AnyNMS", ParametricNMS, OksNMS)


def suppress_results(
    results: Sequence[dict[str, Any]], schema: KeypointSchema, nms: PoseNMS, source: str = "results"
) -> list[dict[str, Any]]:
    """Suppress poses of COCO results, of one or of several files, image by image in the order of their first poses.

    An image's poses are compared whatever their categories.

    Args:
        results: entries of COCO's format; unchanged.
        schema: names the joints.
        nms: what stays.
        source: names the results in errors.

    Returns:
        Entries of the poses that stay, best first in each image, with their other fields but ``bbox`` and ``area``,
        which may hold no longer.

    Raises:
        DatasetError: an entry is malformed.
    """
    return _suppress(results, checked_detections(results, schema, source), nms)


def _suppress(results: Sequence[dict[str, Any]], detections: Detections, nms: PoseNMS) -> list[dict[str, Any]]:
    size = detections.keypoints.shape[1]
    people = detections.keypoints.reshape(-1, size // 3, 3)
    by_image: dict[int, list[int]] = defaultdict(list)
    for row, image_id in enumerate(detections.image_ids):
        by_image[image_id].append(row)
    left = []
    for rows in by_image.values():
        kept = nms.apply(people[rows], detections.scores[rows])
        poses = kept.keypoints.reshape(-1, size).tolist()
        for row, keypoints, score in zip(kept.rows.tolist(), poses, kept.scores.tolist(), strict=True):
            same = {key: value for key, value in results[rows[row]].items() if key not in ("bbox", "area")}
            left.append(same | {"keypoints": keypoints, "score": score})
    return left


@dataclass(frozen=True)
class Fit(Generic[AnyNMS]):
    """A fitted suppression.

    Attributes:
        nms: the best that was tried.
        unsuppressed: AP of the results as they are.
        before, after: AP with the parameters that the fit started from, and with those of ``nms``.
        tried: how many suppressions were scored.
    """

    nms: AnyNMS
    unsuppressed: float
    before: float
    after: float
    tried: int


def fit_nms(
    nms: AnyNMS,
    results: Sequence[dict[str, Any]],
    truth: GroundTruth,
    schema: KeypointSchema,
    backend: str = "pycocotools",
    source: str = "results",
    steps: Sequence[float] = STEPS,
    progress: Callable[[float], object] = lambda ap: None,
) -> Fit[AnyNMS]:
    """Fit a suppression's parameters to the AP of results, two at a time, as RMPE does.

    A pair of parameters is tried at 5 × 5 values around the present ones, each a ``step`` from the next, and moves to
    the best; pairs take turns until none moves, then the steps become finer. Equal scores leave the parameters as they
    are, so that the same results give the same parameters.

    Args:
        nms: its parameters are the start.
        results: of the split, in COCO's format.
        truth: the split's people.
        schema: names joints and rules.
        backend: that computes the AP: see `score_results`.
        source: names the results in errors.
        steps: ratios of neighboring values, coarse to fine.
        progress: called with the best AP so far after each that was tried.

    Raises:
        DatasetError: a result is malformed or not of this data set.
        UserError: no AP can be computed, as no person counts.
    """
    unsuppressed = score_results(truth, results, schema, backend, source)
    if np.isnan(unsuppressed.main):
        raise UserError(f"{truth.path}: nothing can be fitted: {next(iter(unsuppressed.reasons.values()))}")
    detections = checked_detections(results, schema, source)
    known: dict[AnyNMS, float] = {}

    def score(candidate: AnyNMS) -> float:
        if candidate not in known:
            left = _suppress(results, detections, candidate)
            known[candidate] = score_results(truth, left, schema, backend, source).main
            progress(max(known.values()))
        return known[candidate]

    best, before = nms, score(nms)
    for step in steps:
        for _ in range(_MOST_ROUNDS):
            moved = best
            for pair in nms.PAIRS:
                moved = max(_around(moved, pair, step), key=score)  # the first of equals: the present one
            if moved == best:
                break
            best = moved
    return Fit(best, unsuppressed.main, before, score(best), len(known))


def _around(nms: AnyNMS, pair: tuple[str, str], step: float) -> list[AnyNMS]:
    """Return a suppression and its neighbors in two parameters, as far as their values are allowed."""
    neighbors = [nms]
    for powers in product((0, -2, -1, 1, 2), repeat=2):
        # six digits, so that steps up and down again lead to where they started
        moved = (float(f"{getattr(nms, name) * step**power:.6g}") for name, power in zip(pair, powers, strict=True))
        values: dict[str, Any] = dict(zip(pair, moved, strict=True))
        try:
            neighbors.append(replace(nms, **values))
        except ValueError:
            continue
    return neighbors
