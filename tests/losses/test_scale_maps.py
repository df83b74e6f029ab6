"""Learned scale maps, by the formulas of Luo et al. (CVPR 2021), a number at a time."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coupled_embedding.losses.heatmap import focal_weight
from coupled_embedding.losses.scale_maps import ScaleMapLoss, growth

seeds = st.integers(0, 2**31)
sizes = st.integers(1, 3)


def doubles(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def example(seed, batch=2, joints=2, height=2, width=3, resolutions=2):
    """Heatmaps, targets with zeros and ones, masks and scale maps of each resolution."""
    shapes = [(batch, joints, height * 2**r, width * 2**r) for r in range(resolutions)]
    heatmaps = [doubles(seed + r, *shape) for r, shape in enumerate(shapes)]
    targets = []
    for r, shape in enumerate(shapes):
        target = doubles(seed + 10 + r, *shape).sigmoid()
        target[doubles(seed + 20 + r, *shape) > 0.5] = 0.0
        target[doubles(seed + 30 + r, *shape) > 1.2] = 1.0
        targets.append(target)
    masks = [(doubles(seed + 40 + r, batch, *shape[2:]) > -0.5).double() for r, shape in enumerate(shapes)]
    scale_maps = [doubles(seed + 50 + r, *shape).clamp_min(-0.99) for r, shape in enumerate(shapes)]
    return heatmaps, targets, masks, scale_maps


def slow_target(h, s):
    if h == 0:
        return 0.0
    return h / 2 * (1 + (1 + math.log(h) * (1 / s - 1)) ** 2)


def slow_loss(heatmaps, targets, masks, scale_maps, weighted, penalty_weight):
    total = 0.0
    for heatmap, target, mask, scale_map in zip(heatmaps, targets, masks, scale_maps, strict=True):
        errors = penalties = 0.0
        for b, k, y, x in torch.cartesian_prod(*(torch.arange(n) for n in heatmap.shape)).tolist():
            p, h, s = heatmap[b, k, y, x].item(), target[b, k, y, x].item(), 1 / (1 + scale_map[b, k, y, x].item())
            adapted = slow_target(h, s)
            weight = adapted**0.01 * abs(1 - p) + abs(p) * (1 - adapted**0.01) if weighted else 1.0
            errors += mask[b, y, x].item() * weight * (p - adapted) ** 2
            penalties += (1 / s - 1) ** 2 if h > 0 else 0.0
        total += (errors + penalty_weight * penalties) / heatmap.numel()
    return total


@given(seeds, sizes, sizes, sizes, sizes, st.integers(1, 2), st.booleans(), st.sampled_from([0.0, 1.0, 2.5]))
@settings(max_examples=30, deadline=None)
def test_loss_equals_slow_loops(seed, batch, joints, height, width, resolutions, weighted, penalty_weight):
    inputs = example(seed, batch, joints, height, width, resolutions)
    loss = ScaleMapLoss(weighted, penalty_weight)(*inputs)
    assert loss.item() == pytest.approx(slow_loss(*inputs, weighted, penalty_weight), rel=1e-9)


@pytest.mark.parametrize("weighted", [True, False])
def test_gradients_are_the_slow_loss_s_finite_differences(weighted):
    heatmaps, targets, masks, scale_maps = example(3, 1, 2, 2, 2)
    leaves = [maps.requires_grad_() for maps in (*heatmaps, *scale_maps)]
    loss = ScaleMapLoss(weighted)(heatmaps, targets, masks, scale_maps)
    step = 1e-6
    for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves), strict=True):
        values = leaf.data.view(-1)
        for i in range(len(values)):
            start, sides = values[i].item(), []
            for moved in (start + step, start - step):
                values[i] = moved
                sides.append(slow_loss(heatmaps, targets, masks, scale_maps, weighted, 1.0))
            values[i] = start
            assert gradient.view(-1)[i].item() == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-5, abs=1e-8)


def test_both_heatmaps_and_scale_maps_learn_and_cells_without_a_target_leave_scales_alone():
    heatmaps, targets, masks, scale_maps = example(5)
    leaves = [maps.requires_grad_() for maps in (*heatmaps, *scale_maps)]
    ScaleMapLoss()(heatmaps, targets, masks, scale_maps).backward()
    assert all(leaf.grad.isfinite().all() and leaf.grad.abs().sum() > 0 for leaf in leaves)
    for scale_map, target in zip(scale_maps, targets, strict=True):
        assert (scale_map.grad[target == 0] == 0).all()
        assert (scale_map.grad[(target > 0) & (target < 1)] != 0).all()


@pytest.mark.parametrize("weighted", [True, False])
def test_scale_1_is_the_weighted_loss_of_the_plain_target(weighted):
    heatmaps, targets, masks, scale_maps = example(7)
    loss = ScaleMapLoss(weighted)(heatmaps, targets, masks, [torch.zeros_like(maps) for maps in scale_maps])
    expected = torch.zeros((), dtype=torch.float64)
    for p, h, mask in zip(heatmaps, targets, masks, strict=True):
        weight = focal_weight(p, h**0.01) if weighted else 1.0
        expected += (mask[:, None] * weight * (p - h) ** 2).mean()
    torch.testing.assert_close(loss, expected)


@given(st.floats(1e-3, 1), st.floats(-0.2, 0.2))
@settings(max_examples=100, deadline=None)
def test_the_adapted_target_is_the_power_up_to_the_second_order(h, inverse):
    adapted = h * growth(*(torch.tensor(value, dtype=torch.float64) for value in (h, inverse))).item()
    exponent = abs(math.log(h) * inverse)
    # the remainder of the exponential's series
    assert abs(adapted - h ** (1 + inverse)) <= h * exponent**3 / 6 * math.exp(exponent) + 1e-15


def test_a_larger_scale_widens_the_target():
    gaussian = torch.exp(-(torch.arange(-6.0, 7) ** 2) / 8)
    wide, narrow = (gaussian * growth(gaussian, torch.full_like(gaussian, inverse)) for inverse in (-0.2, 0.2))
    edges = torch.arange(13) != 6
    assert (wide[edges] > gaussian[edges]).all()
    assert (narrow[edges] < gaussian[edges]).all()
    assert wide[6] == narrow[6] == 1


def test_masked_cells_count_in_the_mean_but_have_no_error():
    heatmap = torch.ones(1, 1, 2, 2, requires_grad=True)
    mask = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    loss = ScaleMapLoss(weighted=False)([heatmap], [torch.zeros(1, 1, 2, 2)], [mask], [torch.ones(1, 1, 2, 2)])
    loss.backward()
    assert loss.item() == 0.25
    assert heatmap.grad.flatten().tolist() == [0.5, 0, 0, 0]


def test_the_penalty_counts_labelled_cells_also_where_masked():
    target = torch.tensor([0.0, 0.5, 1.0, 0.0]).view(1, 1, 2, 2)
    scale_map = torch.full((1, 1, 2, 2), 3.0)
    loss = ScaleMapLoss(penalty_weight=2.0)([target], [target], [torch.zeros(1, 2, 2)], [scale_map])
    assert loss.item() == 2 * (9 + 9) / 4


def test_gradients_are_finite_far_from_a_joint_and_far_from_scale_1():
    target = torch.tensor([0.0, 1e-38, 1e-6, 1.0]).view(1, 1, 2, 2)
    for inverse in (-1.0, -0.5, 0.0, 30.0):
        heatmap, scale_map = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), inverse)
        leaves = [maps.requires_grad_() for maps in (heatmap, scale_map)]
        ScaleMapLoss()([heatmap], [target], [torch.ones(1, 2, 2)], [scale_map]).backward()
        assert all(leaf.grad.isfinite().all() for leaf in leaves)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_are_lifted_before_anything_else(dtype):
    heatmaps, targets, masks, scale_maps = example(9)
    heatmaps, scale_maps = ([m.to(dtype) for m in maps] for maps in (heatmaps, scale_maps))
    loss = ScaleMapLoss()(heatmaps, targets, masks, scale_maps)
    assert loss.dtype == torch.float32
    assert loss == ScaleMapLoss()([m.float() for m in heatmaps], targets, masks, [m.float() for m in scale_maps])


def test_a_network_without_scale_maps_is_an_error():
    heatmaps, targets, masks, _ = example(1)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        ScaleMapLoss()(heatmaps, targets, masks, ())
