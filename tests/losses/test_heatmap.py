import math

import plain_losses
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from coupled_embedding.losses.heatmap import (
    HeatmapLoss,
    at_least_float32,
    bin_centers,
    focal_confidence,
    focal_weight,
    predicted_scales,
    width_exponent,
)

seeds = st.integers(0, 2**31)
sizes = st.integers(1, 4)


def scale_adapted_target(target, scales, beta):
    return target ** width_exponent(scales, tuple(target.shape[-2:]), beta)


def doubles(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- docs/method.md 3, a number at a time


def slow_scale(tag):
    weighted = sum((d + 0.5) / len(tag) * abs(t) for d, t in enumerate(tag))
    return weighted / max(sum(abs(t) for t in tag), 1e-12)


def slow_target(target, scale, beta):
    if scale == 0:
        return 1.0 if target == 1 else 0.0
    return target ** ((beta / scale) ** 2)


def slow_weight(prediction, target):
    q = (1 - math.log(target)) ** -0.01 if target > 0 else 0.0
    return q * abs(1 - prediction) + (1 - q) * abs(prediction)


def example(seed, batch, joints, height, width, dim, resolutions):
    """Heatmaps, targets and masks of each resolution, and tags with cells that are all zero."""
    shapes = [(batch, joints, height * 2**r, width * 2**r) for r in range(resolutions)]
    heatmaps = [doubles(seed + r, *shape) for r, shape in enumerate(shapes)]
    targets = []
    for r, shape in enumerate(shapes):
        target = doubles(seed + 10 + r, *shape).sigmoid()
        target[doubles(seed + 20 + r, *shape) > 0.8] = 0.0
        target[doubles(seed + 30 + r, *shape) > 1.2] = 1.0
        targets.append(target)
    masks = [(doubles(seed + 40 + r, batch, *shape[2:]) > -0.5).double() for r, shape in enumerate(shapes)]
    tags = doubles(seed + 50, batch, joints, height, width, dim)
    tags[doubles(seed + 51, batch, joints, height, width) > 0.7] = 0.0
    return heatmaps, targets, masks, tags


# ---- the parts


@pytest.mark.parametrize("dim", [1, 2, 8])
def test_bin_centers_are_the_middles_of_equal_bins(dim):
    assert bin_centers(dim, torch.zeros(1)).tolist() == pytest.approx([(d + 0.5) / dim for d in range(dim)])


@given(seeds, st.integers(1, 9), st.sampled_from([1e-9, 1.0, 1e9]))
@settings(max_examples=40, deadline=None)
def test_predicted_scales_equal_the_formula(seed, dim, size):
    tags = size * doubles(seed, 1, 2, 2, 3, dim)
    tags[0, 0, 0, 0] = 0
    scales = predicted_scales(tags)
    expected = [slow_scale(tag) for tag in tags.view(-1, dim).tolist()]
    assert scales.flatten().tolist() == pytest.approx(expected, rel=1e-12)
    assert scales[0, 0, 0, 0] == 0


def test_predicted_scales_ignore_sign_and_length():
    tags = doubles(3, 1, 1, 2, 2, 8)
    signs = torch.tensor([1.0, -1.0] * 4)
    torch.testing.assert_close(predicted_scales(tags * signs * 100), predicted_scales(tags))
    one_hot = torch.eye(8)[None, None, None]
    torch.testing.assert_close(predicted_scales(one_hot)[0, 0, 0], bin_centers(8, one_hot))


def test_a_tag_too_small_to_normalize_stands_for_no_scale():
    tiny = torch.full((1, 1, 1, 1, 4), 1e-20)
    assert 0 <= predicted_scales(tiny).item() < 1e-6


def test_predicted_scales_carry_no_gradient():
    tags = torch.randn(1, 1, 2, 2, 4, requires_grad=True)
    assert not predicted_scales(tags).requires_grad
    assert not scale_adapted_target(torch.rand(1, 1, 2, 2), tags.sum(-1).abs(), 0.4).requires_grad


@given(
    st.floats(0, 1),
    st.one_of(st.just(0.0), st.floats(1e-3, 1)),
    st.sampled_from([0.4, 0.55]),
)
@settings(max_examples=100, deadline=None)
def test_scale_adapted_target_equals_the_formula(target, scale, beta):
    maps = [torch.tensor([[[[v]]]], dtype=torch.float64) for v in (target, scale)]
    value = scale_adapted_target(*maps, beta).item()
    assert value == pytest.approx(slow_target(target, scale, beta), rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scale_0_leaves_only_the_ones(dtype):
    target = torch.tensor([0.0, 1e-30, 0.5, 1 - 1e-7, 1.0], dtype=dtype).view(1, 1, 1, 5)
    assert scale_adapted_target(target, torch.zeros_like(target), 0.4).flatten().tolist() == [0, 0, 0, 0, 1]


def test_scale_adapted_target_is_the_gaussian_of_the_wanted_width():
    offsets = torch.arange(-6, 7, dtype=torch.float64)
    gaussian = torch.exp(-(offsets**2) / (2 * 2.0**2))[None, None, None]
    for scale in (0.1, 0.4, 0.9):
        adapted = scale_adapted_target(gaussian, torch.full_like(gaussian, scale), 0.4)
        width = 2 * scale / 0.4
        torch.testing.assert_close(adapted[0, 0, 0], torch.exp(-(offsets**2) / (2 * width**2)))


def test_scales_are_upsampled_bilinearly_to_the_target():
    target, scales = doubles(0, 2, 3, 8, 12).sigmoid(), doubles(1, 2, 3, 4, 6).sigmoid()
    large = F.interpolate(scales, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(scale_adapted_target(target, scales, 0.4), target ** (0.4 / large) ** 2)


@given(st.floats(-2, 2), st.one_of(st.sampled_from([0.0, 1.0, 1e-300]), st.floats(0, 1)))
@settings(max_examples=100, deadline=None)
def test_focal_weight_equals_the_formula(prediction, target):
    prediction_, target_ = (torch.tensor(v, dtype=torch.float64) for v in (prediction, target))
    weight = focal_weight(prediction_, focal_confidence(target_))
    assert weight.item() == pytest.approx(slow_weight(prediction, target), rel=1e-12)


def test_focal_weight_where_a_float32_power_underflows():
    target = scale_adapted_target(torch.full((1, 1, 1, 1), 0.9), torch.full((1, 1, 1, 1), 1e-3), 0.4)
    assert target.item() == 0
    assert focal_weight(torch.tensor(0.3), focal_confidence(target)).item() == pytest.approx(0.3)


# ---- the loss


@given(seeds, sizes, sizes, sizes, sizes, sizes, st.integers(1, 2), st.booleans(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_loss_and_gradients_equal_the_plain_ones(seed, batch, joints, height, width, dim, resolutions, adapted, focal):
    inputs = example(seed, batch, joints, height, width, dim, resolutions)
    loss, gradients = value_and_gradients(HeatmapLoss(0.55, adapted, focal), *inputs)

    def plain(*maps):
        return plain_losses.heatmap_loss(*maps, 0.55 if adapted else None, focal)

    expected, expected_gradients = value_and_gradients(plain, *inputs)
    assert loss == pytest.approx(expected, rel=1e-9)
    for own, wanted in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("focal", [True, False])
def test_gradient_of_the_heatmaps_is_exact_and_flows_through_the_weight(focal):
    heatmaps, targets, masks, tags = example(7, 2, 2, 3, 3, 4, 2)
    for heatmap in heatmaps:
        heatmap.requires_grad_()
    criterion = HeatmapLoss(0.4, True, focal)
    assert torch.autograd.gradcheck(lambda *h: criterion(h, targets, masks, tags), tuple(heatmaps))


def test_no_gradient_reaches_the_tags():
    heatmaps, targets, masks, tags = example(8, 1, 2, 3, 3, 4, 2)
    heatmaps[0].requires_grad_()
    tags.requires_grad_()
    HeatmapLoss()(heatmaps, targets, masks, tags).backward()
    assert tags.grad is None
    assert heatmaps[0].grad.abs().sum() > 0


def value_and_gradients(criterion, heatmaps, targets, masks, tags, factor=1.0):
    leaves = [h.detach().requires_grad_() for h in heatmaps]
    loss = criterion(leaves, targets, masks, tags)
    return loss.item(), torch.autograd.grad(factor * loss, leaves)


@pytest.mark.parametrize("focal", [True, False])
@pytest.mark.parametrize("adapted", [True, False])
def test_the_layout_in_memory_does_not_matter(focal, adapted):
    heatmaps, targets, masks, tags = example(11, 2, 3, 4, 5, 4, 2)
    criterion = HeatmapLoss(0.4, adapted, focal)
    value, gradients = value_and_gradients(criterion, heatmaps, targets, masks, tags)
    last = [[m.contiguous(memory_format=torch.channels_last) for m in maps] for maps in (heatmaps, targets)]
    strided = tags.permute(0, 1, 4, 2, 3).contiguous().permute(0, 1, 3, 4, 2)  # as the network outputs them
    for inputs in ((last[0], targets, masks, strided), (heatmaps, last[1], masks, strided), (*last, masks, tags)):
        other, other_gradients = value_and_gradients(criterion, *inputs)
        assert other == pytest.approx(value, rel=1e-12)
        for own, wanted in zip(other_gradients, gradients, strict=True):
            torch.testing.assert_close(own, wanted)


def test_gradients_scale_with_the_loss():
    inputs = example(12, 2, 3, 4, 5, 4, 2)
    _, once = value_and_gradients(HeatmapLoss(), *inputs)
    _, thrice = value_and_gradients(HeatmapLoss(), *inputs, factor=3.0)
    for own, wanted in zip(thrice, once, strict=True):
        torch.testing.assert_close(own, 3 * wanted)


@pytest.mark.gpu
@pytest.mark.parametrize("focal", [True, False])
@pytest.mark.parametrize("adapted", [True, False])
def test_a_gpu_gives_the_same_numbers(focal, adapted):
    inputs = example(13, 2, 3, 4, 5, 4, 2)
    criterion = HeatmapLoss(0.4, adapted, focal)
    value, gradients = value_and_gradients(criterion, *inputs)
    heatmaps, targets, masks = ([m.cuda() for m in maps] for maps in inputs[:3])
    other, other_gradients = value_and_gradients(criterion, heatmaps, targets, masks, inputs[3].cuda())
    assert other == pytest.approx(value, rel=1e-9)
    for own, wanted in zip(other_gradients, gradients, strict=True):
        torch.testing.assert_close(own.cpu(), wanted)


def test_masked_cells_count_in_the_mean_but_have_neither_loss_nor_gradient():
    heatmap = torch.ones(1, 1, 2, 2, requires_grad=True)
    mask = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    loss = HeatmapLoss(focal=False, scale_adapted=False)(
        [heatmap], [torch.zeros(1, 1, 2, 2)], [mask], torch.ones(1, 1, 2, 2, 8)
    )
    loss.backward()
    assert loss.item() == 0.25
    assert heatmap.grad.flatten().tolist() == [0.5, 0, 0, 0]


def test_without_adaptation_the_tags_do_not_matter():
    heatmaps, targets, masks, tags = example(9, 1, 2, 3, 3, 4, 2)
    fixed, adapted = HeatmapLoss(scale_adapted=False), HeatmapLoss(scale_adapted=True)
    assert fixed(heatmaps, targets, masks, tags) == fixed(heatmaps, targets, masks, tags.flip(-1))
    assert adapted(heatmaps, targets, masks, tags) != adapted(heatmaps, targets, masks, tags.flip(-1))


def test_a_different_number_of_resolutions_is_an_error():
    heatmaps, targets, masks, tags = example(1, 1, 1, 2, 2, 2, 2)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        HeatmapLoss()(heatmaps, targets[:1], masks, tags)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_are_lifted_before_anything_else(dtype):
    heatmaps, targets, masks, tags = example(4, 1, 2, 3, 3, 8, 2)
    heatmaps, tags = [h.to(dtype) for h in heatmaps], tags.to(dtype)
    loss = HeatmapLoss()(heatmaps, targets, masks, tags)
    lifted = HeatmapLoss()([h.float() for h in heatmaps], targets, masks, tags.float())
    assert loss.dtype == torch.float32
    assert loss == lifted


def test_at_least_float32_keeps_doubles():
    dtypes = [at_least_float32(torch.ones(1, dtype=d)).dtype for d in (torch.float16, torch.float32, torch.float64)]
    assert dtypes == [torch.float32, torch.float32, torch.float64]
