"""What an evaluation leaves in a folder: results, scores, drawn images."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from coupled_embedding.data.images import read_record_image
from coupled_embedding.data.outputs import Pose
from coupled_embedding.data.people import box_areas
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.engine.evaluate import EvalJob, EvalResult, PosesByImage
from coupled_embedding.evaluation import image_quality, results_file_name, write_results, write_submission
from coupled_embedding.utils.atomic import atomic_write
from coupled_embedding.visualize import MIN_DRAWN_SCORE, draw_poses, filter_poses, save_image, side_by_side


def write_result(result: EvalResult, job: EvalJob, folder: Path) -> Path:
    """Write results and scores into a folder; return the path of the results file, or of what its server takes."""
    path = folder / results_file_name(job.schema, job.split, job.name)
    if result.scores is None and job.schema.name == "coco":
        return write_submission(path, result.results, job.schema, result.poses.keys())
    write_results(path, result.results)
    if result.scores:
        scores = json.dumps(result.scores.to_dict(), indent=2) + "\n"
        atomic_write(folder / f"scores_{job.schema.name}_{job.split}.json", scores, "the scores")
    return path


def write_overlays(poses: PosesByImage, job: EvalJob, folder: Path) -> list[Path]:
    """Draw ground truth next to predictions for the best, the worst and the most crowded images that can be read.

    Returns:
        The paths: ``best_1.jpg`` and so on.
    """
    records = [record for record in job.records if record.image_id not in job.policy.unreadable]
    quality = {r.image_id: _quality(r, poses[r.image_id], job.schema) for r in records}
    scored = [r for r in records if quality[r.image_id] is not None]
    by_quality = sorted(scored, key=lambda r: quality[r.image_id] or 0.0)
    crowded = sorted(scored, key=lambda r: (-(r.crowd_index or 0.0), -len(r.keypoints)))
    count = job.options.overlays
    chosen = {"best": by_quality[::-1][:count], "worst": by_quality[:count], "crowded": crowded[:count]}
    paths = []
    for kind, kind_records in chosen.items():
        for place, record in enumerate(kind_records, 1):
            paths.append(folder / f"{kind}_{place}.jpg")
            label = f"predicted (OKS {quality[record.image_id]:.2f})"
            save_image(paths[-1], _overlay(record, poses[record.image_id], job.schema, label))
    return paths


def _quality(record: ImageRecord, poses: Sequence[Pose], schema: KeypointSchema) -> float | None:
    return image_quality(record.keypoints, box_areas(record.boxes), poses, np.asarray(schema.sigmas))


def _overlay(record: ImageRecord, poses: Sequence[Pose], schema: KeypointSchema, label: str) -> np.ndarray:
    image = read_record_image(record)
    drawn = draw_poses(image, filter_poses(poses), schema, min_score=MIN_DRAWN_SCORE)
    return side_by_side(
        [draw_poses(image, record.keypoints, schema), drawn], [f"{record.path.name}: ground truth", label]
    )
