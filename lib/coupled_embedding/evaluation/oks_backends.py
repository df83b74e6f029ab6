"""The programs that match found people with annotated ones, behind one small interface."""

import io
import json
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coupled_embedding.evaluation.ground_truth import PERSON, GroundTruth
from coupled_embedding.evaluation.results import FoundPeople
from coupled_embedding.utils.errors import UserError

ENGINES = ("pycocotools", "fast", "crowdposetools")

MAX_DETECTIONS = 20  # people per image, in both benchmarks
_MODULES = {
    "pycocotools": ("pycocotools.coco", "pycocotools.cocoeval", "COCOeval"),
    "fast": ("faster_coco_eval", "faster_coco_eval", "COCOeval_faster"),
}


@dataclass(frozen=True)
class Curves:
    """What matching gives, -1 where nobody is to be found.

    Attributes:
        precision: (10 OKS thresholds, 101 recalls, categories, area ranges).
        recall: (10 OKS thresholds, categories, area ranges).
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


# image ids, area ranges in square pixels -> curves
Engine = Callable[[Sequence[int], Sequence[tuple[float, float]]], Curves]


def build_engine(name: str, truth: GroundTruth, found: FoundPeople, sigmas: ArrayLike) -> Engine:
    """Make the function that matches people, with the program ``pycocotools`` or ``fast``.

    Raises:
        UserError: the program is not installed.
    """
    coco_module, eval_module, eval_name = _MODULES[name]
    try:
        coco_class = import_module(coco_module).COCO
        eval_class = getattr(import_module(eval_module), eval_name)
    except ImportError as error:
        raise UserError(
            f"evaluation engine '{name}' is not installed ({error}): pip install faster-coco-eval, "
            "or use the default engine 'pycocotools', which gives the same scores"
        ) from error
    dataset = truth.dataset()
    true_people = _indexed(coco_class, dataset)
    people = _indexed(coco_class, {**dataset, "annotations": detections(found)})

    def match(image_ids: Sequence[int], area_ranges: Sequence[tuple[float, float]]) -> Curves:
        with redirect_stdout(io.StringIO()):
            evaluator = eval_class(true_people, people, "keypoints")
            _choose(evaluator.params, image_ids, area_ranges)
            evaluator.params.kpt_oks_sigmas = np.asarray(sigmas, np.float64)
            evaluator.evaluate()
            evaluator.accumulate()
        # the last axis is that of maxDets, of length 1
        return Curves(evaluator.eval["precision"][..., 0], evaluator.eval["recall"][..., 0])

    return match


def _choose(params: Any, image_ids: Sequence[int], area_ranges: Sequence[tuple[float, float]]) -> None:
    # curves depend on the order of equal scores: all programs go by the image's number
    params.imgIds = sorted(set(image_ids))
    params.catIds = [PERSON]
    params.maxDets = [MAX_DETECTIONS]
    params.areaRng = [list(limits) for limits in area_ranges]
    params.areaRngLbl = [str(limits) for limits in area_ranges]


def detections(found: FoundPeople) -> list[dict[str, Any]]:
    """Return found people as numbered COCO annotations, with box and area of their joints.

    As pycocotools does on loading, but an empty list is fine, and a box that came with the
    results is dropped: pycocotools would take areas from it and move people between AP_M and AP_L.
    """
    columns = (found.keypoints, found.scores, found.boxes(), found.areas())
    names = ("id", "category_id", "image_id", "keypoints", "score", "bbox", "area")
    rows = zip(found.image_ids, *(column.tolist() for column in columns), strict=True)
    return [dict(zip(names, (number, PERSON, *row), strict=True)) for number, row in enumerate(rows, 1)]


def _indexed(coco_class: Any, dataset: dict[str, Any]) -> Any:
    with redirect_stdout(io.StringIO()):
        coco = coco_class()
        coco.dataset = dataset
        coco.createIndex()
    return coco


def crowdposetools_scores(truth: GroundTruth, found: FoundPeople, sigmas: ArrayLike) -> list[float]:
    """Score with the CrowdPose benchmark's own program, where somebody has installed it.

    Returns:
        AP AP50 AP75 AR AR50 AR75 and AP of easy, medium and hard images (rounded to four digits
        by that program); -1 where there is nobody to be found.

    Raises:
        UserError: it is not installed, or does not run with this NumPy.
    """
    try:
        with redirect_stdout(io.StringIO()):
            return _run_crowdposetools(truth, found, sigmas)
    # whatever breaks in there, the advice is the same: on NumPy 1.24 or newer it dies of np.float
    except Exception as error:
        raise UserError(
            f"evaluation engine 'crowdposetools' failed ({type(error).__name__}: {error}); it is not on PyPI and "
            "does not run with NumPy 1.24 or newer: use the default engine 'pycocotools', which gives the same scores"
        ) from error


def _run_crowdposetools(truth: GroundTruth, found: FoundPeople, sigmas: ArrayLike) -> list[float]:
    coco_class = import_module("crowdposetools.coco").COCO
    eval_class = import_module("crowdposetools.cocoeval").COCOeval
    # it reads the annotation file a second time, for the crowd indices, so it must be given a file
    with TemporaryDirectory() as folder:
        truth_file, results_file = Path(folder, "truth.json"), Path(folder, "results.json")
        truth_file.write_text(json.dumps(truth.dataset()))
        results_file.write_text(json.dumps(detections(found)))
        true = coco_class(str(truth_file))
        evaluator = eval_class(true, true.loadRes(str(results_file)), "keypoints")
        evaluator.params.kpt_oks_sigmas = np.asarray(sigmas, np.float64)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
        return [float(value) for value in evaluator.stats]
