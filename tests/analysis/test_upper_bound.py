"""Annotations through targets and decode as perfect maps come back as the annotations."""

from pathlib import Path

import numpy as np
import pytest

from coupled_embedding.analysis.upper_bound import annotated_poses, decoded_poses, perfect_maps
from coupled_embedding.data.coco import load_records
from coupled_embedding.data.geometry import resize_geometry
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema, load_schema, schema_from_dict
from coupled_embedding.decode.options import DecodeOptions
from coupled_embedding.evaluation import evaluate_keypoints, poses_to_results

EVERY = 25


@pytest.fixture
def crowdpose() -> KeypointSchema:
    """CrowdPose's joints, with the recorded annotation file as its only split."""
    content = load_schema("datasets/crowdpose.yaml").to_dict()
    content["splits"] = {"val": {"annotations": "evaluation/crowdpose_val.json", "images": "images"}}
    return schema_from_dict(content, "test")


@pytest.mark.reference
def test_real_crowds_survive_the_whole_chain(reference_dir: Path, crowdpose: KeypointSchema) -> None:
    records = load_records(crowdpose, "val", str(reference_dir))[::EVERY]
    options = DecodeOptions(crowdpose.grouping_order)
    poses = {record.image_id: decoded_poses(record, 512, (4, 2), options) for record in records}
    annotations = reference_dir / "evaluation/crowdpose_val.json"
    ids = [record.image_id for record in records]
    scores = evaluate_keypoints(annotations, poses_to_results(poses), crowdpose, ids)
    exact = {record.image_id: annotated_poses(record) for record in records}
    bound = evaluate_keypoints(annotations, poses_to_results(exact), crowdpose, ids)
    assert bound.main > 0.99
    assert scores.main > 0.95


@pytest.mark.reference
def test_joints_come_back_at_sub_pixel_error(reference_dir: Path, crowdpose: KeypointSchema) -> None:
    options = DecodeOptions(crowdpose.grouping_order)
    errors = []
    for record in load_records(crowdpose, "val", str(reference_dir))[:: 4 * EVERY]:
        # input pixels per image pixel
        ratio = 512 / min(record.width, record.height)
        found = np.array([pose.keypoints for pose in decoded_poses(record, 512, (4, 2), options)])
        for person in record.keypoints:
            seen = person[:, 2] > 0
            if seen.any():
                offsets = found[:, seen, :2] - person[seen, :2]
                errors.append(ratio * np.abs(offsets).mean((1, 2)).min())
    assert len(errors) > 50
    # of input pixels; a few people's joints merge with another's
    assert np.median(errors) < 1.0


def test_an_image_without_people_has_empty_maps() -> None:
    empty = ImageRecord(1, Path("x.jpg"), 96, 64, np.zeros((0, 3, 3), np.float32), np.zeros((0, 4), np.float32))
    maps = perfect_maps(empty, resize_geometry((96, 64), 64), (4, 2))
    assert maps.heatmaps.shape == (3, 32, 64)
    assert maps.tags[0].values.shape == (16, 32, 3, 1)
    assert np.abs(maps.heatmaps).sum() == np.abs(maps.tags[0].values).sum() == 0
    assert decoded_poses(empty, 64, (4, 2), DecodeOptions((0, 1, 2))) == []
