"""From a network and a split to figures, and the figures' files."""

import json
from collections.abc import Callable
from pathlib import Path

from coupled_embedding.analysis.error_analysis.observe import build_observe_settings, observe
from coupled_embedding.analysis.error_analysis.page import page
from coupled_embedding.analysis.error_analysis.summary import Diagnosis, diagnose
from coupled_embedding.decode.pipeline import PoseEstimator, build_estimator_settings
from coupled_embedding.engine.evaluate import TestTask
from coupled_embedding.evaluation import load_ground_truth
from coupled_embedding.prepare import annotations_of
from coupled_embedding.utils.atomic import write_whole
from coupled_embedding.utils.errors import DatasetError


def diagnose_task(task: TestTask, every: int = 1, progress: Callable[[int], object] = lambda photos: None) -> Diagnosis:
    """Run a network over every n-th photo of a split and sum up what limits it.

    Args:
        task: network, config and photos.
        every: n.
        progress: called with the number of photos just done.

    Raises:
        DatasetError: the split's annotations are not public, or a photo cannot be read and the
            task's ``bad_input`` is strict; a tolerant one leaves it out, of the truth too.
        NotFiniteError: the network put out NaN or infinity.
    """
    cfg, schema, records = task.cfg, task.schema, task.records[::every]
    annotations = annotations_of(cfg, schema, task.split)
    truth = load_ground_truth(annotations, schema, [r.image_id for r in records])
    if not truth.annotated:
        raise DatasetError(f"{truth.path}: the file has no 'annotations'; diagnose a split whose people are public")
    estimator = PoseEstimator(task.network, build_estimator_settings(cfg, schema))
    settings = build_observe_settings(cfg, schema, estimator)
    findings = observe(
        estimator, records, settings, cfg.TEST.IMAGES_PER_BATCH, cfg.TEST.WORKERS, progress, task.bad_input
    )
    if len(findings) < len(records):
        records = [record for record in records if record.image_id in findings]
        truth = load_ground_truth(annotations, schema, list(findings))
    return diagnose(findings, records, truth, schema, cfg.TEST.ENGINE, cfg.TEST.MAX_DETECTIONS)


def write_diagnosis(diagnosis: Diagnosis, task: TestTask, folder: Path) -> tuple[Path, Path]:
    """Write the page and the figures behind it into a folder; return their paths.

    Raises:
        UserError: they cannot be written.
    """
    about = {"name": task.cfg.NAME, "weights": str(task.weights), "data_set": task.schema.name, "split": task.split}
    texts = {
        "diagnosis.html": page(diagnosis, task.cfg.NAME, f"{task.weights} · {task.schema.name} {task.split}"),
        "diagnosis.json": json.dumps({**about, **diagnosis.to_dict()}, indent=1, allow_nan=False) + "\n",
    }
    for name, text in texts.items():
        write_whole(folder / name, text, "the diagnosis")
    return folder / "diagnosis.html", folder / "diagnosis.json"
