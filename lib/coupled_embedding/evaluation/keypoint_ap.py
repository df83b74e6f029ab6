"""Average precision and recall of detected poses, by the rules of COCO and of CrowdPose; PCK where a schema says so."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from coupled_embedding.data.evaluators import ALL_AREAS, EVALUATORS, Evaluator
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.evaluation.ground_truth import GroundTruth, load_ground_truth
from coupled_embedding.evaluation.oks_backends import (
    OKS_BACKENDS,
    Backend,
    Curves,
    build_backend,
    crowdposetools_scores,
)
from coupled_embedding.evaluation.pck import pck_scores
from coupled_embedding.evaluation.results import Detections, checked_detections
from coupled_embedding.evaluation.scores import Scores
from coupled_embedding.utils.errors import DatasetError, UserError

_REASONS = {
    "easy": "no person counts in images of a crowd index below 0.2",
    "medium": "no person counts in images of a crowd index from 0.2 to 0.8",
    "hard": "no person counts in images of a crowd index from 0.8",
}


def evaluate_keypoints(
    annotation_file: str | Path,
    results: Sequence[dict[str, Any]],
    schema: KeypointSchema,
    image_ids: Sequence[int] | None = None,
    backend: str = "pycocotools",
    source: str = "results",
) -> Scores:
    """Score results against an annotation file: `load_ground_truth`, then `score_results`, with their errors.

    Args:
        annotation_file: COCO-format annotations.
        image_ids: score only these images and the results that belong to them; None: all.
        results, schema, backend: as of `score_results`.
    """
    return score_results(load_ground_truth(Path(annotation_file), schema, image_ids), results, schema, backend, source)


def score_results(
    truth: GroundTruth,
    results: Sequence[dict[str, Any]],
    schema: KeypointSchema,
    backend: str = "pycocotools",
    source: str = "results",
) -> Scores:
    """Score results by the benchmark rules that the schema names (docs/method.md, section 6).

    Both rules take 20 people per image and the schema's sigmas. COCO's give AP AP50 AP75 AP_M
    AP_L AR AR50 AR75 AR_M AR_L; CrowdPose's AP AP50 AP75 AR AR50 AR75 AP_easy AP_medium AP_hard
    (crowd index below 0.2, below 0.8, the rest) with areas of 0.53 · width · height of the box. Evaluators with a
    ``normalizer`` count right joints instead: see `pck.pck_scores`.

    Args:
        truth: the annotated people.
        results: detections, as `poses_to_results` or `read_results` return them; unchanged.
        schema: names joints, sigmas and rules.
        backend: "pycocotools", the yardstick; "fast" (faster-coco-eval: equal except for rounding in
            the 16th digit); "crowdposetools" (CrowdPose's own program, where installed).

    Returns:
        Scores in [0, 1]. People without detections score 0; no people at all, NaN.

    Raises:
        DatasetError: a result is malformed or not of this data set, or the file has no annotations.
        UserError: the rules are unknown; or the backend is, is not installed or does not fit the rules.
    """
    if backend not in OKS_BACKENDS:
        raise UserError(f"unknown OKS backend '{backend}'; there are {', '.join(OKS_BACKENDS)}")
    if backend == "crowdposetools" and schema.evaluator != "crowdpose":
        raise UserError(f"OKS backend 'crowdposetools' scores by CrowdPose's rules, not '{schema.evaluator}'")
    rules = _rules(schema)
    if not truth.annotated:
        raise DatasetError(
            f"{truth.path}: the file has no 'annotations' (the benchmark does not publish those of its test images): "
            "nothing can be scored here; write the results file and send it to the benchmark's server"
        )
    detections = filter_detections(results, truth, schema, source)
    if rules.normalizer:
        return pck_scores(truth, detections, schema, rules, source)
    # that program cannot read empty lists; such scores are 0 or NaN in any program
    if backend == "crowdposetools" and detections.image_ids and truth.image_ids:
        values = _from_crowdposetools(crowdposetools_scores(truth, detections, schema.sigmas))
    else:
        values = _values(rules, build_backend(backend, truth, detections, schema.sigmas, rules), truth.images)
    return Scores(values, why_undefined(values, truth, rules))


def why_undefined(
    values: Mapping[str, float], truth: GroundTruth, rules: Evaluator = EVALUATORS["coco"]
) -> dict[str, str]:
    """Return for each score that is NaN why it is."""
    undefined = [name for name, value in values.items() if math.isnan(value)]
    general = truth.reason_undefined() if undefined else ""
    if all(index is None for index in truth.images.values()):
        general = general or "the annotation file has no crowdIndex"
    return {name: general or _reason(name.rpartition("_")[2], rules) for name in undefined}


def _reason(subset: str, rules: Evaluator) -> str:
    if subset in ("M", "L"):
        return f"no person that counts has an area {rules.area_limits(subset)} pixels"
    return _REASONS.get(subset, "no person counts")


def _rules(schema: KeypointSchema) -> Evaluator:
    if schema.evaluator not in EVALUATORS:
        known = ", ".join(EVALUATORS)
        raise UserError(f"schema '{schema.name}': unknown evaluator '{schema.evaluator}'; there are {known}")
    return EVALUATORS[schema.evaluator]


def _values(rules: Evaluator, match: Backend, images: dict[int, float | None]) -> dict[str, float]:
    curves = match(list(images), rules.areas)
    values = {name: _score(name, curves, rules.thresholds) for name in rules.scores}
    for band, ids in crowd_bands(images).items() if rules.bands else ():
        values[f"AP_{band}"] = _ap(match, ids, rules)
    return values


def _score(name: str, curves: Curves, thresholds: Sequence[float]) -> float:
    """Return a score by name, see `Evaluator.scores`."""
    stem, _, area = name.partition("_")
    values = (curves.precision if stem.startswith("AP") else curves.recall)[..., ("", "M", "L").index(area)]
    if stem[2:]:
        values = values[np.isclose(thresholds, int(stem[2:]) / 100)]
    counted = values[values > -1]
    return float(np.mean(counted)) if counted.size else math.nan


def _ap(match: Backend, image_ids: Sequence[int], rules: Evaluator) -> float:
    return _score("AP", match(image_ids, ALL_AREAS), rules.thresholds) if image_ids else math.nan


def ap_of_groups(
    truth: GroundTruth,
    results: Sequence[dict[str, Any]],
    schema: KeypointSchema,
    groups: Sequence[Sequence[int]],
    backend: str = "pycocotools",
) -> list[float]:
    """Return the AP of each group of images, NaN for one without people; else as `score_results`.

    Args:
        groups: image ids of each.
        backend: "fast"; any other is "pycocotools".

    Raises:
        DatasetError: a result is malformed or not of this data set.
    """
    rules = _rules(schema)
    match = build_backend(backend, truth, filter_detections(results, truth, schema), schema.sigmas, rules)
    return [_ap(match, ids, rules) for ids in groups]


def crowd_bands(crowd_indices: dict[int, float | None]) -> dict[str, list[int]]:
    """Sort image ids into CrowdPose's bands; an image without a crowd index is in none."""
    bands: dict[str, list[int]] = {"easy": [], "medium": [], "hard": []}
    for image_id, crowd_index in crowd_indices.items():
        if crowd_index is not None:
            bands["easy" if crowd_index < 0.2 else "medium" if crowd_index < 0.8 else "hard"].append(image_id)
    return bands


def filter_detections(
    results: Sequence[dict[str, Any]], truth: GroundTruth, schema: KeypointSchema, source: str = "results"
) -> Detections:
    """Return the detections in the chosen images; DatasetError for those that belong to another file."""
    detections = checked_detections(results, schema, source)
    for index, (image_id, category_id) in enumerate(zip(detections.image_ids, detections.category_ids, strict=True)):
        if image_id not in truth.known_ids:
            raise DatasetError(f"{source}: entry {index}: {truth.path} has no image of id {image_id}")
        if truth.categories.listed and category_id not in truth.categories.people:
            ids = ", ".join(map(str, truth.categories.people))
            raise DatasetError(
                f"{source}: entry {index}: category_id {category_id} is none of the people's "
                f"categories of {truth.path}, which are: {ids}"
            )
    return detections if len(truth.images) == len(truth.known_ids) else detections.of_images(truth.images)


def _from_crowdposetools(stats: Sequence[float]) -> dict[str, float]:
    names = [*EVALUATORS["crowdpose"].scores, *(f"AP_{band}" for band in crowd_bands({}))]
    return {name: math.nan if value < 0 else value for name, value in zip(names, stats, strict=True)}
