"""Targets against loops that follow docs/method.md 2, and against the recorded ones."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from coupled_embedding.data.gaussians import gaussian_heatmaps, joint_cells
from coupled_embedding.data.geometry import apply_affine
from coupled_embedding.data.targets import build_targets
from coupled_embedding.data.transforms import person_scales

NEAR = st.floats(-12, 40, width=32)
EDGES = st.sampled_from([-1.0, -0.999, -0.7, -0.0, 0.0, 0.999, 7.999, 8.0, 15.5, 1e9, -1e9, 1e30, -1e30])
LABELS = st.sampled_from([0.0, 1.0, 2.0])


@st.composite
def crowds(draw, people=3, joints=2):
    """Draw joints (B, M, K, 3): most near the map, some at its edge or far off."""
    shape = (2, people, joints, 1)
    places = [draw(arrays(np.float32, shape, elements=NEAR | EDGES)) for _ in range(2)]
    return np.concatenate([*places, draw(arrays(np.float32, shape, elements=LABELS))], axis=-1)


def slow_cell(joint, height, width):
    """Return the joint's cell, or None if it is unlabelled or outside."""
    x, y = math.trunc(float(joint[0])), math.trunc(float(joint[1]))
    return (x, y) if joint[2] > 0 and 0 <= x < width and 0 <= y < height else None


def slow_heatmaps(joints, height, width, sigma=2):
    """Draw (M, K, 3) joints one by one and cell by cell."""
    maps = np.zeros((joints.shape[1], height, width))
    reach = (6 * sigma + 3) // 2  # of a (6σ + 3)² window
    for person in joints:
        for k, joint in enumerate(person):
            cell = slow_cell(joint, height, width)
            if cell is None:
                continue
            for y in range(max(0, cell[1] - reach), min(height, cell[1] + reach + 1)):
                for x in range(max(0, cell[0] - reach), min(width, cell[0] + reach + 1)):
                    value = math.exp(-((x - cell[0]) ** 2 + (y - cell[1]) ** 2) / (2 * sigma**2))
                    maps[k, y, x] = max(maps[k, y, x], value)
    return maps


def heatmaps_of(joints, height, width, **options):
    return gaussian_heatmaps(*joint_cells(joints, height, width), height, width, **options)


@given(joints=crowds(), height=st.integers(1, 20), width=st.integers(1, 20))
def test_cells_equal_a_loop(joints, height, width):
    cells, visible = joint_cells(torch.from_numpy(joints), height, width)
    assert (cells.dtype, visible.dtype) == (torch.int64, torch.bool)
    for index in np.ndindex(joints.shape[:-1]):
        cell = slow_cell(joints[index], height, width)
        assert bool(visible[index]) == (cell is not None)
        assert tuple(cells[index].tolist()) == (cell or (0, 0))


@given(joints=crowds(), height=st.integers(1, 20), width=st.integers(1, 20))
def test_heatmaps_equal_a_loop(joints, height, width):
    found = heatmaps_of(torch.from_numpy(joints), height, width)
    assert (found.shape, found.dtype) == ((2, 2, height, width), torch.float32)
    assert found.is_contiguous()  # the loss would have to copy it
    expected = np.stack([slow_heatmaps(image, height, width) for image in joints])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_another_width_of_the_gaussian_equals_the_loop(sigma):
    joints = torch.tensor([[[[10.3, 12.9, 2.0]], [[14.0, 3.0, 1.0]]]])
    expected = slow_heatmaps(joints[0].numpy(), 24, 30, int(sigma))
    np.testing.assert_allclose(heatmaps_of(joints, 24, 30, sigma=sigma)[0], expected, rtol=1e-6)


def test_joints_just_left_of_the_map_count_as_its_first_cell():
    joints = torch.tensor([[-0.7, -0.999, 2.0], [-1.0, 0.0, 2.0], [0.0, -1.0, 2.0], [7.999, 3.999, 1.0]])
    cells, visible = joint_cells(joints, 4, 8)
    assert visible.tolist() == [True, False, False, True]
    assert cells.tolist() == [[0, 0], [0, 0], [0, 0], [7, 3]]


def test_joints_beyond_the_right_and_lower_edge_are_invisible():
    _, visible = joint_cells(torch.tensor([[8.0, 0.0, 2.0], [0.0, 4.0, 2.0], [7.9, 3.9, 0.0]]), 4, 8)
    assert visible.tolist() == [False, False, False]


def test_the_window_is_fifteen_cells_wide():
    (row,) = heatmaps_of(torch.tensor([[[[20.0, 0.0, 2.0]]]]), 1, 41)[0, 0]
    assert row.nonzero().flatten().tolist() == list(range(13, 28))
    assert row[20] == 1
    assert row[27] == pytest.approx(math.exp(-49 / 8))


def test_joints_and_images_do_not_mix():
    joints = torch.zeros(2, 1, 2, 3)
    joints[1, 0, 1] = torch.tensor([3.0, 2.0, 2.0])
    heatmaps = heatmaps_of(joints, 6, 6)
    assert heatmaps.amax((2, 3)).tolist() == [[0, 0], [0, 1]]


def test_a_batch_gets_each_resolutions_own_cells_and_the_lowests_for_tags():
    joints = torch.tensor([[[[3.6, 1.2, 2.0], [9.0, 1.0, 2.0]]]])
    masks = [torch.ones(1, 8, 8, dtype=torch.bool), torch.zeros(1, 16, 16, dtype=torch.bool)]
    scales = torch.tensor([[0.25]])
    targets = build_targets([joints, 2 * joints], masks, scales)
    assert [tuple(h.shape) for h in targets.heatmaps] == [(1, 2, 8, 8), (1, 2, 16, 16)]
    assert targets.heatmaps[0][0, 0, 1, 3] == 1
    assert targets.heatmaps[1][0, 0, 2, 7] == 1
    assert targets.cells.tolist() == [[[[3, 1], [0, 0]]]]
    assert targets.visible.tolist() == [[[True, False]]]
    assert targets.scales is scales
    assert all(found is given_ for found, given_ in zip(targets.masks, masks, strict=True))
    # the second joint is right of either map: 9 ≥ 8 and 18 ≥ 16
    assert targets.heatmaps[1][0, 1].max() == 0


def test_nobody_gives_empty_maps():
    targets = build_targets([torch.zeros(1, 30, 17, 3)], [torch.ones(1, 8, 8)], torch.zeros(1, 30))
    assert targets.heatmaps[0].shape == (1, 17, 8, 8)
    assert not targets.heatmaps[0].any()
    assert not targets.visible.any()


def encoded(joints, size, people=30):
    """Write docs/method.md 2's joint indices (k·h·w + y·w + x, 1), a person's visible joints first."""
    cells, visible = joint_cells(torch.from_numpy(joints), size, size)
    table = np.zeros((people, joints.shape[1], 2), np.int64)
    for n in range(len(joints)):
        found = [k * size * size + y * size + x for k, (x, y) in enumerate(cells[n].tolist()) if visible[n, k]]
        table[n, : len(found)] = [(index, 1) for index in found]
    return table


@pytest.mark.reference
@pytest.mark.parametrize("size", [32, 64])
def test_targets_equal_the_recorded(targets_case, size):
    recorded = np.load(targets_case)
    joints = recorded[f"joints_{size}"]
    found = heatmaps_of(torch.from_numpy(joints)[None], size, size)[0]
    np.testing.assert_allclose(found, recorded[f"heatmaps_{size}"], rtol=0, atol=1e-7)
    np.testing.assert_array_equal(encoded(joints, size), recorded[f"encoded_{size}"])


@pytest.mark.reference
def test_box_scales_equal_the_recorded(targets_case):
    recorded = np.load(targets_case)
    boxes, matrix = recorded["boxes_xywh"], recorded["box_matrix"]
    count = len(boxes)
    np.testing.assert_allclose(person_scales(boxes, matrix, 512), recorded["box_scales"][:count], rtol=1e-6)
    assert not recorded["box_scales"][count:].any()
    share = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])  # (x, y), (x, y+h), (x+w, y), (x+w, y+h)
    corners = boxes[:, None, :2] + boxes[:, None, 2:] * share
    np.testing.assert_allclose(apply_affine(matrix, corners), recorded["boxes_corners"], rtol=1e-6, atol=1e-4)
