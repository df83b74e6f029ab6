"""Small images with people and annotation files, made in a test's folder."""

import json

import cv2
import numpy as np
import pytest

from coupled_embedding.data.coco import load_records
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import schema_from_dict

JOINTS = 3  # joint 1 and 2 are a flip pair


@pytest.fixture
def make_records(tmp_path):
    """Write noise images and return their records; image n has n % 3 people, its own pixels and the id 100 + n."""

    def make(count, size=(40, 32), people=None):
        records = []
        for number in range(count):
            rng = np.random.default_rng((99, number))
            path = tmp_path / f"image_{number}.png"
            cv2.imwrite(str(path), rng.integers(0, 256, (size[1], size[0], 3), np.uint8))
            persons = number % 3 if people is None else people
            keypoints = rng.uniform(0, 1, (persons, JOINTS, 3)) * (*size, 0) + (0, 0, 2)
            boxes = rng.uniform(5, 20, (persons, 4))
            records.append(
                ImageRecord(100 + number, path, *size, keypoints.astype(np.float32), boxes.astype(np.float32))
            )
        return records

    return make


@pytest.fixture
def load(tmp_path):
    """Write an annotation file and read its records: with a policy for invalid data."""
    schema = schema_from_dict(
        {
            "name": "animals",
            "joints": ["nose", "left_paw", "right_paw"],
            "flip_pairs": [["left_paw", "right_paw"]],
            "skeleton": [],
            "sigmas": [0.1, 0.1, 0.1],
            "root": str(tmp_path),
            "splits": {"all": {"annotations": "all.json", "images": "images"}},
        },
        "animals.yaml",
    )

    def write_and_load(images, annotations, policy=None, image_ids=()):
        categories = [{"id": 1, "name": "animal"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (tmp_path / "all.json").write_text(json.dumps(content))
        return load_records(schema, "all", image_ids=image_ids, policy=policy)

    return write_and_load
