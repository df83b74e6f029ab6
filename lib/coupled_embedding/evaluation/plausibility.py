"""What looks wrong with annotations and results that are scored: wrong units, people whom no score counts."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from coupled_embedding.data.audit import warnings
from coupled_embedding.data.coco import load_records
from coupled_embedding.data.io.data_errors import DataErrorPolicy
from coupled_embedding.data.schema import KeypointSchema, Split
from coupled_embedding.utils.errors import DatasetError


def file_warnings(path: Path, schema: KeypointSchema) -> list[str]:
    """Return `warnings` of an annotation file alone, as far as its entries can be read."""
    policy = DataErrorPolicy(skip=True)
    alone = replace(schema, splits={"alone": Split(str(path.absolute()), ".")})
    with suppress(DatasetError):
        records = load_records(alone, "alone", policy=policy)
        return policy.warnings + warnings(records, schema)
    return []


def results_warnings(results: Sequence[Mapping[str, Any]], path: Path, schema: KeypointSchema) -> list[str]:
    """Return what looks wrong with the coordinates of results (COCO's format) for an annotation file's images."""
    alone = replace(schema, splits={"alone": Split(str(path.absolute()), ".")})
    sizes: dict[int, tuple[int, int]] = {}
    with suppress(DatasetError):
        sizes = {
            r.image_id: (r.width, r.height) for r in load_records(alone, "alone", policy=DataErrorPolicy(skip=True))
        }
    poses = [r for r in results if r["image_id"] in sizes]
    if not poses:
        return []
    points = np.array([r["keypoints"] for r in poses], np.float64).reshape(len(poses), -1, 3)[..., :2]
    limits = np.array([sizes[r["image_id"]] for r in poses])[:, None]
    placed = (points != 0).any(-1)
    if (points[placed] <= 1).all() and (limits > 8).all():
        return ["all keypoints of the results lie between 0 and 1: coordinates must be in pixels of the image"]
    away = ~(((points >= 0) & (points <= limits)).all(-1) & placed).any(1)
    if away.mean() > 0.5:
        return [
            f"{int(away.sum())} of {len(poses)} results have no keypoint inside their image: coordinates must be in "
            "pixels of the image, not of a network's input"
        ]
    return []
