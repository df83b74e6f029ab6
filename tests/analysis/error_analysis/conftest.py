"""A few people of five joints in large images, as records and as an annotation file."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from coupled_embedding.data.coco import load_records
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema, schema_from_dict
from coupled_embedding.evaluation import GroundTruth, load_ground_truth

JOINTS = ["neck", "left_hand", "right_hand", "left_foot", "right_foot"]
# of a person whose box is 60 × 100 pixels at (0, 0)
BODY = np.array([[30, 10], [5, 50], [55, 50], [15, 95], [45, 95]], np.float64)


def person(x: float, y: float, image_id: int = 1, size: float = 1.0, **fields: object) -> dict[str, object]:
    """Return an annotation; ``labels`` says which joints have one."""
    labels = fields.pop("labels", [2] * 5)
    joints = np.c_[BODY * size + (x, y), labels]
    joints[joints[:, 2] == 0] = 0
    box = [x, y, 60 * size, 100 * size]
    return {"image_id": image_id, "category_id": 1, "bbox": box, "keypoints": joints.ravel().tolist(), **fields}


@pytest.fixture
def schema() -> KeypointSchema:
    return make_schema()


def make_schema(evaluator: str = "crowdpose") -> KeypointSchema:
    content = {
        "name": "five",
        "joints": JOINTS,
        "flip_pairs": [["left_hand", "right_hand"], ["left_foot", "right_foot"]],
        "skeleton": [],
        "sigmas": [0.08, 0.06, 0.06, 0.09, 0.09],
        "evaluator": evaluator,
        "splits": {"all": {"annotations": "people.json", "images": "."}},
    }
    return schema_from_dict(content, "test")


DistEnv = tuple[list[ImageRecord], GroundTruth, KeypointSchema]


@pytest.fixture
def crowd(tmp_path: Path) -> Callable[..., DistEnv]:
    """crowd([annotation, ...], images=2): crowd_of of 256 × 256 pixels, numbered from 1."""

    def build(people: Sequence[dict[str, object]], images: int = 1, evaluator: str = "crowdpose") -> DistEnv:
        numbered = [{"id": number, **someone} for number, someone in enumerate(people, 1)]
        crowd_of = [{"id": i, "file_name": f"{i}.jpg", "width": 256, "height": 256} for i in range(1, images + 1)]
        (tmp_path / "people.json").write_text(json.dumps({"images": crowd_of, "annotations": numbered}))
        schema = make_schema(evaluator)
        return load_records(schema, "all", str(tmp_path)), load_ground_truth(tmp_path / "people.json", schema), schema

    build.person = person  # type: ignore[attr-defined]
    return build
