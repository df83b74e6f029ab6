"""Average precision and recall of found people, by the rules of COCO and of CrowdPose."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.evaluation.ground_truth import GroundTruth, load_ground_truth
from coupled_embedding.evaluation.oks_backends import ENGINES, Curves, build_engine, crowdposetools_scores
from coupled_embedding.evaluation.results import FoundPeople, found_people
from coupled_embedding.utils.errors import DatasetError, UserError


@dataclass(frozen=True)
class Scores:
    """What a benchmark says of a set of results.

    Attributes:
        values: name -> score in [0, 1], in the order in which the benchmark prints them; NaN
            where nobody is to be found, so that nothing can be scored (COCO's tools say -1).
        reasons: name -> why a score is NaN.
    """

    values: dict[str, float]
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def main(self) -> float:
        """The score by which methods are compared: AP."""
        return self.values["AP"]

    def to_dict(self) -> dict[str, float | None]:
        """Return the scores for a JSON file, which knows no NaN: None instead."""
        return {name: None if math.isnan(value) else value for name, value in self.values.items()}

    def table(self) -> str:
        """Return a Markdown table of one row, in percent as papers print them; n/a for NaN, with the reason below."""
        cells = ["n/a" if math.isnan(value) else f"{100 * value:.1f}" for value in self.values.values()]
        widths = [max(len(name), len(cell), 3) for name, cell in zip(self.values, cells)]
        rows = [list(self.values), ["-" * (width - 1) + ":" for width in widths], cells]
        lines = (" | ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows)
        table = "\n".join(f"| {line} |" for line in lines)
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.reasons.items():
            by_reason.setdefault(reason, []).append(name)
        notes = [f"n/a: {', '.join(names)}: {reason}" for reason, names in by_reason.items()]
        return "\n".join([table, *([""] if notes else []), *notes])


@dataclass(frozen=True)
class _Score:
    """One number of a benchmark: which curve, at which OKS (None: mean of all ten), of which area range."""

    name: str
    curve: Literal["precision", "recall"]
    oks: float | None = None
    area: int = 0

    def of(self, curves: Curves) -> float:
        values: NDArray[np.float64] = getattr(curves, self.curve)[..., self.area]
        if self.oks is not None:
            values = values[self.oks == _OKS_THRESHOLDS]
        counted = values[values > -1]
        return float(np.mean(counted)) if counted.size else math.nan


_OKS_THRESHOLDS = np.linspace(0.5, 0.95, 10)
# square pixels: all, medium, large. COCO's keypoints leave out small people
_AREA_RANGES = ((0.0, 1e5**2), (32.0**2, 96.0**2), (96.0**2, 1e5**2))
_ALL_AREAS = _AREA_RANGES[:1]
_PRECISIONS = (_Score("AP", "precision"), _Score("AP50", "precision", 0.5), _Score("AP75", "precision", 0.75))
_RECALLS = (_Score("AR", "recall"), _Score("AR50", "recall", 0.5), _Score("AR75", "recall", 0.75))
_COCO_SCORES = (
    *_PRECISIONS,
    _Score("AP_M", "precision", area=1),
    _Score("AP_L", "precision", area=2),
    *_RECALLS,
    _Score("AR_M", "recall", area=1),
    _Score("AR_L", "recall", area=2),
)
_CROWDPOSE_SCORES = (*_PRECISIONS, *_RECALLS)
_BANDS = ("easy", "medium", "hard")
_REASONS = {
    "M": "nobody to be found has an area from 32² to 96² pixels",
    "L": "nobody to be found has an area above 96² pixels",
    "easy": "nobody to be found in images of a crowd index below 0.2",
    "medium": "nobody to be found in images of a crowd index from 0.2 to 0.8",
    "hard": "nobody to be found in images of a crowd index from 0.8",
}


def evaluate_keypoints(
    annotation_file: str | Path,
    results: Sequence[dict[str, Any]],
    schema: KeypointSchema,
    image_ids: Sequence[int] | None = None,
    engine: str = "pycocotools",
) -> Scores:
    """Score results by the benchmark rules that the schema names (METHOD.md 6).

    Both rules take 20 people per image and the schema's sigmas. COCO's give AP AP50 AP75 AP_M
    AP_L AR AR50 AR75 AR_M AR_L; CrowdPose's AP AP50 AP75 AR AR50 AR75 AP_easy AP_medium AP_hard
    (crowd index below 0.2, below 0.8, the rest) with areas of 0.53 · width · height of the box.
    Fields that a file of one's own lacks are filled as `load_ground_truth` says.

    Args:
        annotation_file: COCO-format annotations.
        results: found people, as `poses_to_results` or `read_results` return them; unchanged.
        schema: names joints, sigmas and rules.
        image_ids: score only these images and the results that belong to them; None: all.
        engine: "pycocotools", the yardstick; "fast" (faster-coco-eval: equal but for rounding in
            the 16th digit); "crowdposetools" (CrowdPose's own program, where installed).

    Returns:
        Scores in [0, 1]. People without detections score 0; no people at all, NaN.

    Raises:
        DatasetError: a file or result is malformed, or a result's image or category is not in
            the annotation file.
        UserError: the engine is unknown, not installed or does not fit the rules.
    """
    return score_results(load_ground_truth(Path(annotation_file), schema, image_ids), results, schema, engine)


def score_results(
    truth: GroundTruth, results: Sequence[dict[str, Any]], schema: KeypointSchema, engine: str = "pycocotools"
) -> Scores:
    """Score results against people that `load_ground_truth` has read; else as `evaluate_keypoints`.

    Raises:
        DatasetError: a result is malformed or not of this data set, or nobody is annotated.
        UserError: the engine is unknown, not installed or does not fit the rules.
    """
    if engine not in ENGINES:
        raise UserError(f"unknown evaluation engine '{engine}'; there are {', '.join(ENGINES)}")
    if engine == "crowdposetools" and schema.evaluator != "crowdpose":
        raise UserError(f"evaluation engine 'crowdposetools' scores by CrowdPose's rules, not '{schema.evaluator}'")
    if not truth.annotated:
        raise DatasetError(
            f"{truth.path}: the file has no 'annotations' (the benchmark keeps those of its test images to itself): "
            "nothing can be scored here; write the results file and send it to the benchmark's server"
        )
    counted = _counted(found_people(results, schema, "results"), truth)
    scores = _scores(truth, counted, schema, engine)
    missing = [name for name, value in scores.values.items() if math.isnan(value)]
    nobody = truth.why_nothing_is_found() if missing else ""
    return replace(scores, reasons={name: nobody or _REASONS[name.rpartition("_")[2]] for name in missing})


def _scores(truth: GroundTruth, counted: FoundPeople, schema: KeypointSchema, engine: str) -> Scores:
    # that program cannot read empty lists; such scores are 0 or NaN whoever computes them
    if engine == "crowdposetools" and counted.image_ids and truth.image_ids:
        return _from_crowdposetools(crowdposetools_scores(truth, counted, schema.sigmas))
    match = build_engine("fast" if engine == "fast" else "pycocotools", truth, counted, schema.sigmas)
    if schema.evaluator == "coco":
        curves = match(list(truth.images), _AREA_RANGES)
        return Scores({score.name: score.of(curves) for score in _COCO_SCORES})
    if schema.evaluator != "crowdpose":
        raise UserError(f"no rules to score by: evaluator '{schema.evaluator}' of schema '{schema.name}'")
    curves = match(list(truth.images), _ALL_AREAS)
    values = {score.name: score.of(curves) for score in _CROWDPOSE_SCORES}
    for band, ids in crowd_bands(truth.images).items():
        values[f"AP_{band}"] = _PRECISIONS[0].of(match(ids, _ALL_AREAS)) if ids else math.nan
    return Scores(values)


def ap_of_groups(
    truth: GroundTruth,
    results: Sequence[dict[str, Any]],
    schema: KeypointSchema,
    groups: Sequence[Sequence[int]],
    engine: str = "pycocotools",
) -> list[float]:
    """Return the AP of each group of images, NaN for one without people; else as `score_results`.

    Args:
        groups: image ids of each.
        engine: "fast", or else "pycocotools".

    Raises:
        DatasetError: a result is malformed or not of this data set.
    """
    counted = _counted(found_people(results, schema, "results"), truth)
    match = build_engine("fast" if engine == "fast" else "pycocotools", truth, counted, schema.sigmas)
    return [_PRECISIONS[0].of(match(ids, _ALL_AREAS)) if ids else math.nan for ids in groups]


def crowd_bands(crowd_indices: dict[int, float | None]) -> dict[str, list[int]]:
    """Sort image ids into CrowdPose's bands; an image without a crowd index is in none."""
    bands: dict[str, list[int]] = {name: [] for name in _BANDS}
    for image_id, crowd_index in crowd_indices.items():
        if crowd_index is not None:
            bands["easy" if crowd_index < 0.2 else "medium" if crowd_index < 0.8 else "hard"].append(image_id)
    return bands


def _counted(found: FoundPeople, truth: GroundTruth) -> FoundPeople:
    """Return the people of the chosen images; DatasetError for those that belong to another file."""
    for index, (image_id, category_id) in enumerate(zip(found.image_ids, found.category_ids, strict=True)):
        if image_id not in truth.known_ids:
            raise DatasetError(f"results: entry {index}: {truth.path} has no image of id {image_id}")
        if truth.categories.listed and category_id not in truth.categories.people:
            ids = ", ".join(map(str, truth.categories.people))
            raise DatasetError(
                f"results: entry {index}: category_id {category_id} is none of the people's "
                f"categories of {truth.path}, which are: {ids}"
            )
    return found if len(truth.images) == len(truth.known_ids) else found.of_images(truth.images)


def _from_crowdposetools(stats: Sequence[float]) -> Scores:
    names = [score.name for score in _CROWDPOSE_SCORES] + [f"AP_{band}" for band in _BANDS]
    return Scores({name: math.nan if value < 0 else value for name, value in zip(names, stats, strict=True)})
