"""The whole way from an image to targets, with recorded parameters, against the recorded outputs."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from coupled_embedding.data.dataset import TrainDataset, collate
from coupled_embedding.data.gaussians import joint_cells
from coupled_embedding.data.images import normalize
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import load_schema
from coupled_embedding.data.transforms import AffineParams, Augmentation, warp_image, warp_joints

pytestmark = pytest.mark.reference

FLIP_INDEX = load_schema("datasets/crowdpose.yaml").flip_index


def record_of(case):
    """Return the case's image as a record whose one ignored region is the mask's zeros."""
    ignored = coco_mask.encode(np.asfortranarray((case["mask"] == 0).astype(np.uint8)))
    height, width = case["mask"].shape
    return ImageRecord(1, Path("x"), width, height, case["keypoints"], case["boxes_xywh"], (ignored,))


def params_of(case):
    x, y = case["translate_xy"].tolist()
    # these recordings were made with a float64 of NumPy's, which decides how the side is rounded
    return AffineParams(np.float64(case["scale"]), float(case["rotation"]), (x, y), bool(case["flip"]))


def batch_of(case):
    size = int(case["image_size"])
    strides = [size // int(s) for s in case["heatmap_sizes"]]
    record, params = record_of(case), params_of(case)
    image = cv2.cvtColor(warp_image(case["image_bgr"], params, size), cv2.COLOR_BGR2RGB)
    dataset = TrainDataset([record], FLIP_INDEX, Augmentation(), size, strides)
    return collate([dataset.build_sample(record, params, image, 1)])


def test_image_is_exact(train_transform_case):
    case = np.load(train_transform_case)
    found = normalize(batch_of(case).images)[0]
    # the same pixels: one gray level would be 0.017
    np.testing.assert_allclose(found, case["out_image"], rtol=0, atol=1e-6)


def test_masks_are_exact(train_transform_case):
    case = np.load(train_transform_case)
    for found, resolution in zip(batch_of(case).masks, (0, 1), strict=True):
        np.testing.assert_array_equal(found[0], case[f"out_masks_{resolution}"] > 0.5)


def test_warped_joints_are_exact(train_transform_case):
    case = np.load(train_transform_case)
    height, width = case["mask"].shape
    for resolution, size in enumerate(case["heatmap_sizes"].tolist()):
        found = warp_joints(case["keypoints"], params_of(case), (width, height), size, FLIP_INDEX)
        np.testing.assert_array_equal(found, case[f"warped_keypoints_{resolution}"])


def test_heatmaps_and_joint_indices(train_transform_case):
    case = np.load(train_transform_case)
    batch = batch_of(case)
    for resolution, heatmaps in enumerate(batch.targets().heatmaps):
        np.testing.assert_allclose(heatmaps[0], case[f"out_heatmaps_{resolution}"], rtol=0, atol=1e-6)
        size = heatmaps.shape[-1]
        cells, visible = joint_cells(batch.joints[resolution][0], size, size)
        planes = torch.arange(len(FLIP_INDEX)) * size * size
        indices = planes + cells[..., 1] * size + cells[..., 0]
        for person, expected in enumerate(case[f"out_joints_{resolution}"]):
            listed = expected[expected[:, 1] > 0, 0].tolist()
            found = indices[person][visible[person]].tolist() if person < len(indices) else []
            assert found == listed


def test_person_scales(train_transform_case):
    case = np.load(train_transform_case)
    found, expected = batch_of(case).scales[0], case["out_box_scales"]
    np.testing.assert_allclose(found, expected[: len(found)], rtol=0, atol=1e-6)
    assert not expected[len(found) :].any()
