"""A data set's images with their annotated people and, as they become known, the predicted ones and their errors."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.analysis.error_analysis.crowding import crowd_index_of, num_people
from coupled_embedding.analysis.error_analysis.keypoint_errors import (
    KINDS,
    ImageErrors,
    counted_detections,
    image_errors,
    rows_by_image,
)
from coupled_embedding.browse.predictions import Predictions
from coupled_embedding.browse.selection import ImageFigures
from coupled_embedding.data.outputs import Pose
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.evaluation import GroundTruth, poses_to_results
from coupled_embedding.utils.errors import DatasetError, UserError

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predicted:
    """The detections of an image that count, best first: (M, K, 3) x, y, score; (M,) scores; and what is wrong."""

    keypoints: NDArray[np.float64]
    scores: NDArray[np.float64]
    errors: ImageErrors | None  # rows of the detections above and of the ground truth; None: nothing is annotated


class Collection:
    """The images of a split. One thread at a time may predict; any may read.

    Of an image are kept its figures and the detections that the benchmark counts, 20 people.

    Args:
        records: the images, one at least.
        truth: of the same images.
        schema: joints and rules.
        predictions: of the images; None: there are none.
        max_detections: people per image, best first, as TEST.MAX_DETECTIONS; 0: all.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        truth: GroundTruth,
        schema: KeypointSchema,
        predictions: Predictions | None = None,
        max_detections: int = 0,
    ) -> None:
        if not records:
            raise DatasetError(f"{truth.path}: no images to show")
        self.records = {record.image_id: record for record in records}
        self.truth, self.schema, self.max_detections = truth, schema, max_detections
        self._people = rows_by_image(truth.image_ids)
        self.figures = {
            r.image_id: ImageFigures(r.image_id, r.path.name, num_people(r), crowd_index_of(r)) for r in records
        }
        self.predictions = predictions
        self._predicted: dict[int, Predicted] = {}
        self._batch_of: dict[int, int] = {}
        if predictions:
            self._batch_of = {i: number for number, batch in enumerate(predictions.batches) for i in batch}
            for image_id, problem in predictions.failed.items():
                self._set_problem(image_id, problem)
        self._waiting = dict.fromkeys(self._batch_of.values())

    # ---- predictions

    def predict_next(self) -> bool:
        """Predict the next batch that is not predicted yet; False: there is none."""
        if not self._waiting:
            return False
        self._predict(next(iter(self._waiting)))
        return True

    def predict(self, image_id: int) -> Predicted:
        """Return an image's predictions, which may take a while.

        Raises:
            DatasetError: it has none, as the text says.
        """
        if self._batch_of.get(image_id) in self._waiting:
            self._predict(self._batch_of[image_id])
        if image_id not in self._predicted:
            raise DatasetError(self.figures[image_id].problem or "there are no predictions: give weights or results")
        return self._predicted[image_id]

    def _predict(self, number: int) -> None:
        assert self.predictions
        batch = self.predictions.batches[number]
        try:
            for image_id, poses in self.predictions.poses(number).items():
                if isinstance(poses, str):
                    self._set_problem(image_id, poses)
                else:
                    self._set_poses(image_id, poses)
        except Exception as error:
            # one batch must not end the thread that predicts the others
            if not isinstance(error, UserError):
                _LOG.exception("images %s", batch)
            text = str(error) if isinstance(error, UserError) else "prediction failed; the terminal says why"
            for image_id in (one for one in batch if one not in self._predicted):
                self._set_problem(image_id, text)
        self._waiting.pop(number, None)

    def _set_problem(self, image_id: int, problem: str) -> None:
        self.figures[image_id] = replace(self.figures[image_id], predicted=True, problem=problem)

    def _set_poses(self, image_id: int, poses: Sequence[Pose]) -> None:
        results = poses_to_results({image_id: poses}, self.truth.categories.result, self.max_detections)
        results = [results[row] for row in counted_detections(results, range(len(results)), self.schema)]
        errors = None
        if self.truth.annotated:
            people = self._people.get(image_id, ())
            errors = image_errors(self.truth, people, results, range(len(results)), self.schema)
        figures = replace(self.figures[image_id], predicted=True)
        if errors:
            figures = replace(figures, oks=_mean_oks(errors), errors=_counts(errors))
        self.figures[image_id] = figures
        keypoints = np.array([result["keypoints"] for result in results], np.float64)
        self._predicted[image_id] = Predicted(
            keypoints.reshape(-1, self.schema.num_joints, 3), np.array([result["score"] for result in results]), errors
        )

    # ---- an image for the page

    def describe(self, image_id: int) -> dict[str, Any]:
        """Return an image's annotated people, as plain values."""
        record, truth = self.records[image_id], self.truth
        people = []
        for row in self._people.get(image_id, ()):
            joints = truth.keypoints[row].reshape(-1, 3)
            counts = bool(truth.crowds[row] == 0 and truth.num_keypoints[row] > 0)
            people.append({"counts": counts, "bbox": _rounded(truth.boxes[row]), "keypoints": self._named(joints)})
        about = {"id": image_id, "file": record.path.name, "image_size": [record.width, record.height]}
        return {**about, "crowd_index": self.figures[image_id].crowd_index, "truth": people}

    def describe_predictions(self, image_id: int) -> list[dict[str, Any]]:
        """Return an image's detections, best first, as plain values.

        Each has ``verdict``: matched, background, surplus, ignored (in an ignored region) or none (nothing is
        annotated); a matched one the ``person`` (a place in `describe`), the ``oks``, and the ``errors`` of its joints.
        """
        predicted = self.predict(image_id)
        people = [
            {"score": round(float(score), 4), "keypoints": self._named(joints), **self._verdict(row, predicted.errors)}
            for row, (joints, score) in enumerate(zip(predicted.keypoints, predicted.scores, strict=True))
        ]
        errors, rows = predicted.errors, self._people.get(image_id, ())
        for (row, person), oks, kinds in zip(errors.matched, errors.oks, errors.kinds, strict=True) if errors else ():
            named = {name: KINDS[kind] for name, kind in zip(self.schema.joints, kinds, strict=True) if kind >= 0}
            match = {"verdict": "matched", "person": rows.index(person), "oks": round(float(oks), 4), "errors": named}
            people[row] |= match
        return people

    def _verdict(self, row: int, errors: ImageErrors | None) -> dict[str, str]:
        if errors is None:
            return {"verdict": "none"}
        verdict = "background" if row in errors.background else "surplus" if row in errors.surplus else "ignored"
        return {"verdict": verdict}

    def _named(self, joints: NDArray[np.float64]) -> dict[str, list[float] | None]:
        """Return joints (K, 3) by name, None where there is none: no label or score, at (0, 0)."""
        named = zip(self.schema.joints, joints, strict=True)
        return {name: _rounded(joint) if joint[2] > 0 and joint[:2].any() else None for name, joint in named}


def _mean_oks(errors: ImageErrors) -> float | None:
    people = len(errors.matched) + len(errors.missed)
    return float(errors.oks.sum()) / people if people else None


def _counts(errors: ImageErrors) -> dict[str, int]:
    people = {"missed": len(errors.missed), "background": len(errors.background), "surplus": len(errors.surplus)}
    return dict(zip(KINDS, errors.counts().sum(0).tolist(), strict=True)) | people


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 2) for value in values]
