"""Leeds Sports Pose, extended: the split that its schema states, crops of its people, their scores."""

import json

import numpy as np
import pytest

from coupled_embedding.data.coco import load_records, split_annotations
from coupled_embedding.data.geometry import apply_affine
from coupled_embedding.data.outputs import Pose
from coupled_embedding.data.person_crops import person_crops
from coupled_embedding.data.schema import load_schema
from coupled_embedding.data.test_dataset import TestDataset, input_geometry
from coupled_embedding.evaluation import evaluate_keypoints, poses_to_results

SCHEMA = load_schema("datasets/lsp_single.yaml")


@pytest.fixture(scope="module")
def root(real_dir, tmp_path_factory):
    """A folder with the files of both splits."""
    folder = tmp_path_factory.mktemp("lsp")
    for name, part in zip(("train", "test"), split_annotations(real_dir / "lspet.json", 7, 500), strict=True):
        (folder / f"lspet_{name}.json").write_text(json.dumps(part))
    (folder / "lspet.zip").symlink_to(real_dir / "lspet.zip")
    return folder


def test_the_joints_are_those_of_the_schema_for_whole_images():
    whole = load_schema("datasets/lsp.yaml")
    names = ("joints", "flip_pairs", "skeleton", "sigmas", "grouping_order", "colors")
    assert [getattr(SCHEMA, name) for name in names] == [getattr(whole, name) for name in names]
    assert (SCHEMA.evaluator, SCHEMA.held_out) == ("pck", ("test",))


def test_every_image_is_one_persons_and_the_crop_holds_the_joints(root):
    train, test = (load_records(SCHEMA, split, str(root)) for split in ("train", "test"))
    assert (len(train), len(test)) == (3042, 500)
    crops = person_crops(train + test)
    assert len(crops) == 3542
    inside = []
    for crop in crops:
        geometry = input_geometry(crop, 128)
        joints = crop.keypoints[0][crop.keypoints[0, :, 2] > 0]
        places = apply_affine(geometry.to_input(), joints[:, :2])
        inside.append(((places >= 0) & (places < 128)).all())
    assert np.mean(inside) > 0.995


def test_a_tested_crop_is_of_the_image_in_the_zip_file(root):
    crops = person_crops(load_records(SCHEMA, "test", str(root))[:4])
    batch = TestDataset(crops, [[0, 1, 2, 3]], 64, (1.0,))[0]
    assert batch.images[0].shape == (4, 64, 64, 3)
    assert all(image.float().std() > 10 for image in batch.images[0])


def test_the_annotations_themselves_score_all_points_and_swapped_sides_few(root):
    records = load_records(SCHEMA, "test", str(root))
    scores = []
    for order in (slice(None), list(SCHEMA.flip_index)):
        poses = {
            crop.image_id: [Pose(crop.keypoints[0][order].astype(float), 1.0, source=crop.source)]
            for crop in person_crops(records)
        }
        scores.append(evaluate_keypoints(root / "lspet_test.json", poses_to_results(poses), SCHEMA))
    assert set(scores[0].values.values()) == {1.0}
    assert scores[1].values["Head"] == 1.0
    assert scores[1].main < 0.6
    assert scores[0].notes == ("22 of 500 people do not count: their size (torso) is not annotated",)
