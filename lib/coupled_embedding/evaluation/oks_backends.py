"""The programs that match detections with annotated people, behind one small interface."""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coupled_embedding.data.evaluators import Evaluator
from coupled_embedding.evaluation.ground_truth import PERSON, GroundTruth
from coupled_embedding.evaluation.results import Detections
from coupled_embedding.utils.errors import UserError

OKS_BACKENDS = ("pycocotools", "fast", "crowdposetools")

_MODULES = {
    "pycocotools": ("pycocotools.coco", "pycocotools.cocoeval", "COCOeval"),
    "fast": ("faster_coco_eval", "faster_coco_eval", "COCOeval_faster"),
}


@dataclass(frozen=True)
class Curves:
    """The result of matching, -1 where no person counts.

    Attributes:
        precision: (OKS thresholds, 101 recalls, categories, area ranges).
        recall: (OKS thresholds, categories, area ranges).
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


Areas = Sequence[tuple[float, float]]  # from, to, square pixels
Backend = Callable[[Sequence[int], Areas], Curves]  # of image ids


def build_backend(
    name: str, truth: GroundTruth, detections: Detections, sigmas: ArrayLike, rules: Evaluator
) -> Backend:
    """Return the function that matches people by some rules, with the program ``"fast"``, or else ``"pycocotools"``.

    Raises:
        UserError: the program is not installed.
    """
    if name not in OKS_BACKENDS:
        raise UserError(f"unknown OKS backend '{name}'; there are {', '.join(OKS_BACKENDS)}")
    coco_module, eval_module, eval_name = _MODULES["fast" if name == "fast" else "pycocotools"]
    try:
        coco_class = import_module(coco_module).COCO
        eval_class = getattr(import_module(eval_module), eval_name)
    except ImportError as error:
        raise UserError(
            f"OKS backend '{name}' is not installed ({error}): pip install faster-coco-eval, "
            "or use the default, 'pycocotools', which gives the same scores"
        ) from error
    dataset = truth.dataset()
    true_people = _indexed(coco_class, dataset)
    people = _indexed(coco_class, {**dataset, "annotations": _annotations(detections)})

    def match(image_ids: Sequence[int], areas: Areas) -> Curves:
        with redirect_stdout(io.StringIO()):
            evaluator = eval_class(true_people, people, "keypoints")
            params = evaluator.params
            # curves depend on the order of equal scores: all programs go by the image's number
            params.imgIds, params.catIds, params.maxDets = sorted(set(image_ids)), [PERSON], [rules.max_detections]
            params.areaRng, params.areaRngLbl = [list(limits) for limits in areas], [str(limits) for limits in areas]
            params.iouThrs = np.array(rules.thresholds)
            params.kpt_oks_sigmas = np.asarray(sigmas, np.float64)
            evaluator.evaluate()
            evaluator.accumulate()
        # the last axis is that of maxDets, of length 1
        return Curves(evaluator.eval["precision"][..., 0], evaluator.eval["recall"][..., 0])

    return match


def _annotations(detections: Detections) -> list[dict[str, Any]]:
    """Return detections as numbered COCO annotations, with box and area of their joints.

    As pycocotools does on loading, but an empty list is fine, and a box that came with the
    results is dropped: pycocotools would take areas from it and move people between AP_M and AP_L.
    """
    columns = (detections.keypoints, detections.scores, detections.boxes(), detections.areas())
    names = ("image_id", "keypoints", "score", "bbox", "area")
    rows = zip(detections.image_ids, *(column.tolist() for column in columns), strict=True)
    numbered = enumerate(rows, 1)
    return [{"id": n, "category_id": PERSON, **dict(zip(names, row, strict=True))} for n, row in numbered]


def _indexed(coco_class: Any, dataset: dict[str, Any]) -> Any:
    with redirect_stdout(io.StringIO()):
        coco = coco_class()
        coco.dataset = dataset
        coco.createIndex()
    return coco


def crowdposetools_scores(truth: GroundTruth, detections: Detections, sigmas: ArrayLike) -> list[float]:
    """Score with the CrowdPose benchmark's own program, where it is installed.

    Returns:
        AP AP50 AP75 AR AR50 AR75 and AP of easy, medium and hard images (rounded to four digits
        by that program); -1 where no person counts.

    Raises:
        UserError: the program is not installed, or fails.
    """
    try:
        with redirect_stdout(io.StringIO()), _numpy_1_19():
            return _run_crowdposetools(truth, detections, sigmas)
    except Exception as error:  # whatever breaks in there, the advice is the same
        raise UserError(
            f"OKS backend 'crowdposetools' failed ({type(error).__name__}: {error}); it is not on PyPI and no longer "
            "maintained: use the default, 'pycocotools', which gives the same scores"
        ) from error


@contextmanager
def _numpy_1_19() -> Iterator[None]:
    """Give NumPy, inside the block, the names back that it removed in 1.24; crowdposetools uses them."""
    names = {kind.__name__: kind for kind in (bool, int, float, complex, object, str)}
    removed = {name: kind for name, kind in names.items() if name not in vars(np)}
    vars(np).update(removed)
    try:
        yield
    finally:
        for name in removed:
            delattr(np, name)


def _run_crowdposetools(truth: GroundTruth, detections: Detections, sigmas: ArrayLike) -> list[float]:
    coco_class = import_module("crowdposetools.coco").COCO
    eval_class = import_module("crowdposetools.cocoeval").COCOeval
    # the program reads the annotation file a second time, for the crowd indices, so it must be given a file
    with TemporaryDirectory() as folder:
        truth_file, results_file = Path(folder, "truth.json"), Path(folder, "results.json")
        truth_file.write_text(json.dumps(truth.dataset()))
        results_file.write_text(json.dumps(_annotations(detections)))
        true = coco_class(str(truth_file))
        evaluator = eval_class(true, true.loadRes(str(results_file)), "keypoints")
        evaluator.params.kpt_oks_sigmas = np.asarray(sigmas, np.float64)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
        return [float(value) for value in evaluator.stats]
