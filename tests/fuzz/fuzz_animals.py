"""A small valid data set: its schema, annotations and results."""

from pathlib import Path
from typing import Any

from coupled_embedding.data.schema import KeypointSchema, schema_from_dict

JOINTS = ["nose", "left_paw", "right_paw"]


def small_schema(folder: Path, evaluator: str = "coco") -> KeypointSchema:
    """Return the schema of a data set of animals that lies in ``folder``."""
    content = {
        "name": "animals",
        "joints": JOINTS,
        "flip_pairs": [["left_paw", "right_paw"]],
        "skeleton": [],
        "sigmas": [0.1, 0.1, 0.1],
        "evaluator": evaluator,
        "root": str(folder),
        "splits": {"all": {"annotations": "hostile.json", "images": "images"}},
    }
    return schema_from_dict(content, "animals.yaml")


def annotations() -> dict[str, Any]:
    """Return an annotation file's content."""
    people = [
        {
            "id": n,
            "image_id": 1 + n % 2,
            "category_id": 1,
            "iscrowd": int(n == 3),
            "num_keypoints": 2,
            "area": 99.5,
            "keypoints": [1, 2, 2, 3.5, 4, 1, 0, 0, 0],
            "bbox": [1, 2, 8, 9.5],
            "segmentation": {"size": [10, 20], "counts": [50, 50, 100]} if n == 3 else [[0, 0, 4, 0, 4, 4, 0, 4]],
        }
        for n in range(4)
    ]
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 20, "height": 10, "crowdIndex": 0.4 * n} for n in (1, 2)]
    categories = [{"id": 1, "name": "cat", "keypoints": JOINTS, "skeleton": []}]
    return {"images": images, "annotations": people, "categories": categories}


def results() -> list[dict[str, Any]]:
    """Return a results file's content."""
    person = {"image_id": 1, "category_id": 1, "keypoints": [1, 2, 0.9, 3.5, 4, 0.5, 0, 0, 0], "score": 0.75}
    return [person, {**person, "image_id": 2, "score": 0.25}]
