"""Losses of center maps against loops over cells and joints."""

import math

import numpy as np
import pytest
import torch

from coupled_embedding.builders import build_criterion, build_model
from coupled_embedding.config import load_config
from coupled_embedding.data.targets import build_targets
from coupled_embedding.losses.centers import center_losses
from coupled_embedding.losses.logistic import logistic_loss
from coupled_embedding.utils.errors import ConfigError


def slow_logistic(prediction, target, mask):
    total = count = 0.0
    batch, joints, height, width = prediction.shape
    for b in range(batch):
        for k in range(joints):
            for y in range(height):
                for x in range(width):
                    weight = mask[b, k, y, x] if mask.ndim == 4 else mask[b, y, x]
                    p = min(max(prediction[b, k, y, x], 1e-4), 1 - 1e-4)
                    t = target[b, k, y, x]
                    if t == 1:
                        total -= weight * (1 - p) ** 2 * math.log(p)
                        count += weight
                    else:
                        total -= weight * (1 - t) ** 4 * p**2 * math.log(1 - p)
    return total / max(count, 1)


@pytest.mark.parametrize("peaks", [0, 5])
def test_the_logistic_loss_is_that_of_a_loop_over_cells_for_both_kinds_of_masks(peaks):
    rng = np.random.default_rng(2)
    prediction, target = rng.random((2, 2, 3, 4, 5))
    prediction[0, 0, 0, :2] = 0, 1
    target.reshape(-1)[rng.choice(target.size, peaks, replace=False)] = 1
    for mask in (rng.integers(0, 2, (2, 4, 5)).astype(float), rng.random((2, 3, 4, 5))):
        found = logistic_loss(*map(torch.from_numpy, (prediction, target, mask)))
        assert found.item() == pytest.approx(slow_logistic(prediction, target, mask), rel=1e-9)


def people():
    """Joints (2, 3, 4, 3) in cells of a 12 × 16 map: some unlabelled, a person outside, absent people."""
    rng = np.random.default_rng(7)
    joints = np.zeros((2, 3, 4, 3))
    joints[..., :2] = rng.uniform(1, 11, (2, 3, 4, 2))
    joints[..., 2] = rng.integers(0, 3, (2, 3, 4))
    joints[0, 2] = 0
    joints[1, 1, :, 0] += 30
    return torch.from_numpy(joints).float()


def slow_displacement(centers, joints, scales, confidence, whole):
    total = weights = 0.0
    batch, _, height, width = centers.shape
    for b in range(batch):
        for m in range(joints.shape[1]):
            labelled = [joint for joint in joints[b, m].tolist() if joint[2] > 0]
            if not labelled or not whole[b]:
                continue
            x, y = ((min(j[axis] for j in labelled) + max(j[axis] for j in labelled)) / 2 for axis in (0, 1))
            column, row = int(x), int(y)
            if not (0 <= column < width and 0 <= row < height):
                continue
            size = max(scales[b, m].item() * max(height, width), 1)
            for k, (joint_x, joint_y, label) in enumerate(joints[b, m].tolist()):
                if label > 0:
                    said = centers[b, 1 + 2 * k : 3 + 2 * k, row, column].tolist()
                    error = abs(said[0] - (joint_x - column - 0.5)) + abs(said[1] - (joint_y - row - 0.5))
                    total += confidence[b, m, k].item() * error / size
                    weights += confidence[b, m, k].item()
    return total / max(weights, 1)


@pytest.mark.parametrize("partly", [False, True])
def test_displacements_are_compared_at_each_centers_cell(partly):
    rng = np.random.default_rng(3)
    joints, masks = people(), torch.ones(2, 12, 16)
    scales = torch.from_numpy(rng.uniform(0.05, 0.6, (2, 3))).float()
    confidence = torch.from_numpy(rng.random((2, 3, 4))).float()
    # the second image is of a data set that labels fewer joints
    annotated = torch.tensor([[True] * 4, [True, True, False, True]]) if partly else None
    targets = build_targets(
        [joints], [masks], scales, confidence=confidence, annotated=annotated, with_centers=True
    ).centers
    centers = torch.from_numpy(rng.normal(size=(2, 9, 12, 16))).float()
    centers[:, 0] = centers[:, 0].sigmoid()
    losses = center_losses(centers, targets)
    whole = [True, not partly]
    expected = slow_displacement(centers, joints, scales, confidence, whole)
    assert losses["displacement"].item() == pytest.approx(expected, rel=1e-5)
    mask = torch.ones(2, 1, 12, 16)
    mask[1] = float(whole[1])
    heatmap = slow_logistic(centers[:, :1].double().numpy(), targets.heatmap.numpy(), mask.numpy())
    assert losses["center_heatmap"].item() == pytest.approx(heatmap, rel=1e-5)
    assert (targets.heatmap == 1).sum().item() == sum(
        bool(whole[b]) and bool((joints[b, m, :, 2] > 0).any()) and joints[b, m, 0, 0] < 16
        for b in range(2)
        for m in range(3)
    )


OPTIONS = ["MODEL.WIDTH", "8", "MODEL.STEM_WIDTH", "8"]


def test_the_criterion_adds_centers_and_every_parameter_learns():
    more = ["LOSS.DISPLACEMENT_WEIGHT", "0.5", "MODEL.HEATMAPS", "logistic"]
    cfg = load_config("config/synthetic/centers_small.yaml", [*OPTIONS, *more])
    network = build_model(cfg, 4)
    output = network(torch.rand(2, 3, 64, 64))
    assert output.centers.shape == (2, 9, 16, 16)
    assert 0 < output.heatmaps[0].min() < output.heatmaps[0].max() < 1
    assert output.centers[:, 0].mean().item() == pytest.approx(0.1, abs=0.01)
    targets = build_targets([people()], [torch.ones(2, 16, 16)], torch.full((2, 3), 0.3), with_centers=True)
    losses = build_criterion(cfg)(output, targets)
    assert losses.keys() == {"total", "heatmap", "center_heatmap", "displacement"}
    expected = center_losses(output.centers, targets.centers)
    torch.testing.assert_close(losses["displacement"], 0.5 * expected["displacement"])
    torch.testing.assert_close(losses["center_heatmap"], expected["center_heatmap"])
    torch.testing.assert_close(
        losses["heatmap"], logistic_loss(output.heatmaps[0], targets.heatmaps[0], targets.masks[0])
    )
    losses["total"].backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["MODEL.CENTERS", "False", "TEST.GROUPING", "centers"], "'centers' needs MODEL.CENTERS"),
        (["TEST.GROUPING", "tags"], "'tags' needs tags"),
        (["TEST.SCALES", "[1.0, 0.5]", "TEST.POSE_NMS", "none"], "need TEST.POSE_NMS to merge them"),
        (["MODEL.TAG_DIM", "8", "LOSS.ANNOTATED_WIDTHS", "False", "LOSS.SCALE_ADAPTED", "True",
          "MODEL.HEATMAPS", "logistic"], "logistic is invalid with LOSS.SCALE_ADAPTED"),
        (["MODEL.PAF", "True", "MODEL.PAF_STAGES", "2"], "PAF_STAGES: 2 is invalid with MODEL.CENTERS"),
        (["MODEL.SPATIAL_TRANSFORMER", "True"], "MODEL.CENTERS False"),
        (["MODEL.BACKBONE", "hourglass"], "MODEL.CENTERS: True is invalid with MODEL.BACKBONE hourglass"),
        (["TEST.CENTER_THRESHOLD", "1.5"], "TEST.CENTER_THRESHOLD"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_named(options, text):
    with pytest.raises(ConfigError, match=text):
        load_config("config/synthetic/centers_small.yaml", options)
