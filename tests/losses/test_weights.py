"""Losses with weights of joints, of a mask for each joint, and of tags with places, against plain loops."""

import math

import plain_losses
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coupled_embedding.builders import build_criterion
from coupled_embedding.config import load_config
from coupled_embedding.data.outputs import PoseOutput
from coupled_embedding.data.targets import Targets
from coupled_embedding.losses.criterion import PoseCriterion
from coupled_embedding.losses.embedding import EmbeddingLoss, mean_tags
from coupled_embedding.losses.heatmap import HeatmapLoss
from coupled_embedding.losses.scale_maps import ScaleMapLoss

seeds = st.integers(0, 2**31)
sizes = st.integers(1, 3)
TERMS = ("pull", "push", "coupling")


def example(seed, batch=2, people=4, joints=3, height=4, width=5, dim=4, share=0.7):
    """Random tags, cells, visibility, scales and weights in float64, some of them 0."""
    random = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.rand(*shape, generator=random, dtype=torch.float64)

    tags = 4 * rand(batch, joints, height, width, dim) - 2
    x = torch.randint(width, (batch, people, joints), generator=random)
    y = torch.randint(height, (batch, people, joints), generator=random)
    visible = rand(batch, people, joints) < share
    confidence = rand(batch, people, joints) * (rand(batch, people, joints) > 0.3)
    return tags, torch.stack((x, y), -1), visible, 1.2 * rand(batch, people), confidence


def mean(values, weights):
    """Return the weighted mean of numbers; 0 without weight."""
    total = sum(weights)
    return sum(v * w for v, w in zip(values, weights, strict=True)) / total if total else 0.0


def slow_coupling(tag, scale):
    wanted = [1 / (abs(scale - (d + 0.5) / len(tag)) + 1e-12) for d in range(len(tag))]
    product = sum(abs(t) * w for t, w in zip(tag, wanted, strict=True))
    return 1 - product / (math.hypot(*tag) * math.hypot(*wanted))


def slow_image(tags, cells, visible, scales, confidence, spatial_dims):
    """Return an image's terms, person by person and joint by joint."""
    means, people, pull, coupling = [], [], [], []
    for person in range(len(cells)):
        joints = [k for k in range(cells.shape[1]) if visible[person, k] and confidence[person, k] > 0]
        if not joints:
            continue
        own = [tags[k, cells[person, k, 1], cells[person, k, 0]].tolist() for k in joints]
        weights = [confidence[person, k].item() for k in joints]
        center = [mean(values, weights) for values in zip(*own, strict=True)]
        pull.append(mean([sum((a - b) ** 2 for a, b in zip(tag, center, strict=True)) for tag in own], weights))
        coupling.append(slow_coupling(center[: len(center) - spatial_dims], scales[person].item()))
        means.append(center)
        people.append(max(weights))
    pairs = [(i, j) for i in range(len(means)) for j in range(len(means)) if i != j]
    nearness = [math.exp(-(math.dist(means[i], means[j]) ** 2)) for i, j in pairs]
    push = 0.5 * mean(nearness, [people[i] * people[j] for i, j in pairs])
    return mean(pull, people), push, mean(coupling, people)


def slow_terms(*inputs, spatial_dims=0):
    images = [slow_image(*image, spatial_dims) for image in zip(*inputs, strict=True)]
    return [sum(values) / len(images) for values in zip(*images, strict=True)]


def values(loss, *inputs):
    return [term.item() for term in loss(*inputs).values()]


# ---- tags


@given(seeds, sizes, st.integers(0, 5), st.integers(1, 4), st.integers(0, 2), st.floats(0, 1))
@settings(max_examples=80, deadline=None)
def test_weighted_terms_equal_loops(seed, batch, people, joints, spatial_dims, share):
    inputs = example(seed, batch, people, joints, share=share)
    expected = slow_terms(*inputs, spatial_dims=spatial_dims)
    found = EmbeddingLoss(spatial_dims)(*inputs)
    assert tuple(found) == TERMS
    assert [term.item() for term in found.values()] == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_weights_of_two_people_by_hand():
    tags = torch.zeros(1, 2, 1, 4, 2)
    tags[0, :, 0, 0] = torch.tensor([[1.0, 0.0], [4.0, 0.0]])  # person 0: 1/3 of the weight at 1, 2/3 at 4: mean 3
    tags[0, 0, 0, 3] = torch.tensor([3.0, 1.0])  # person 1: one joint
    cells = torch.tensor([[[[0, 0], [0, 0]], [[3, 0], [0, 0]]]])
    visible = torch.tensor([[[True, True], [True, False]]])
    confidence = torch.tensor([[[0.4, 0.8], [0.2, 1.0]]])  # the last one's joint is not visible
    pull, push, coupling = values(EmbeddingLoss(), tags, cells, visible, torch.tensor([[0.5, 0.75]]), confidence)
    assert pull == pytest.approx((0.8 * (4 / 3 + 2 / 3) + 0.2 * 0) / 1.0)
    assert push == pytest.approx(0.5 * math.exp(-1))
    tag = 1 - 1 / math.sqrt(10)  # of (3, 1) with the second bin alone
    assert coupling == pytest.approx(0.8 * (1 - math.sqrt(0.5)) + 0.2 * tag, rel=1e-5)


@given(seeds, st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_whole_weights_are_none_bit_for_bit(seed, share):
    tags, cells, visible, scales, _ = example(seed, share=share)
    for kind in (torch.float64, torch.float32, torch.bfloat16):
        results = []
        for confidence in (None, torch.ones(visible.shape)):
            leaf = tags.to(kind, copy=True).requires_grad_()
            terms = list(EmbeddingLoss()(leaf, cells, visible, scales, confidence).values())
            sum(terms).backward()
            results.append([*terms, leaf.grad])
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_joints_of_weight_zero_do_not_matter_at_all(seed):
    tags, cells, visible, scales, confidence = example(seed)
    hidden = visible & (confidence > 0)
    expected = values(EmbeddingLoss(), tags, cells, hidden, scales, confidence)
    elsewhere = torch.where(hidden[..., None], cells, (cells + 1) % 4)
    assert values(EmbeddingLoss(), tags, elsewhere, visible, scales, confidence) == expected
    leaf = tags.clone().requires_grad_()
    sum(EmbeddingLoss()(leaf, cells, visible, scales, confidence).values()).backward()
    reached = torch.zeros(tags.shape[:-1], dtype=torch.bool)
    for b, m, k in hidden.nonzero().tolist():
        reached[b, k, cells[b, m, k, 1], cells[b, m, k, 0]] = True
    assert (leaf.grad[~reached] == 0).all()


@given(seeds, st.floats(0.1, 1))
@settings(max_examples=30, deadline=None)
def test_only_the_ratios_of_an_images_weights_count(seed, factor):
    tags, cells, visible, scales, confidence = example(seed)
    shrunk = confidence * torch.tensor([1.0, factor])[:, None, None]
    expected = values(EmbeddingLoss(), tags, cells, visible, scales, confidence)
    assert values(EmbeddingLoss(), tags, cells, visible, scales, shrunk) == pytest.approx(expected, rel=1e-9)


def test_without_any_weight_terms_and_gradients_are_zero():
    tags, cells, visible, scales, confidence = example(0)
    tags.requires_grad_()
    terms = EmbeddingLoss()(tags, cells, visible, scales, 0 * confidence)
    assert [term.item() for term in terms.values()] == [0, 0, 0]
    sum(terms.values()).backward()
    assert (tags.grad == 0).all()


@pytest.mark.parametrize("term", TERMS)
def test_weighted_gradients_are_exact(term):
    tags, cells, visible, scales, confidence = example(7, dim=3)
    confidence[0, 0] = 0
    tags.requires_grad_()
    assert torch.autograd.gradcheck(lambda t: EmbeddingLoss(1)(t, cells, visible, scales, confidence)[term], (tags,))


def test_mean_tags_are_weighted():
    joint_tags = torch.tensor([[[[2.0, 4.0], [4.0, 0.0]], [[1.0, 1.0], [5.0, 5.0]]]])
    weight = torch.tensor([[[0.75, 0.25], [0.0, 0.0]]])
    assert mean_tags(joint_tags, weight).tolist() == [[[2.5, 3.0], [0.0, 0.0]]]


# ---- places


def with_places(seed, spatial_dims=2, batch=2, joints=3, size=4, people=3, dim=4):
    """Random maps and targets whose tags have ``spatial_dims`` further dimensions."""
    tags, cells, visible, scales, confidence = example(seed, batch, people, joints, size, size, dim + spatial_dims)
    random = torch.Generator().manual_seed(seed + 1)
    heatmaps, targets = (torch.rand(batch, joints, size, size, generator=random, dtype=torch.float64) for _ in range(2))
    masks = torch.ones(batch, size, size)
    output = PoseOutput((heatmaps,), tags)
    return output, Targets((targets,), (masks,), cells, visible, scales, confidence)


def test_places_have_no_part_in_coupling_and_widths_but_in_pull_and_push():
    output, targets = with_places(3)
    criterion = PoseCriterion(HeatmapLoss(), spatial_dims=2)
    leaf = output.tags.clone().requires_grad_()
    terms = criterion.terms(PoseOutput(output.heatmaps, leaf), targets)
    for name, sees in (("coupling", False), ("pull", True), ("push", True)):
        (gradient,) = torch.autograd.grad(terms[name], leaf, retain_graph=True)
        assert bool(gradient[..., -2:].abs().sum() > 0) == sees, name
        assert gradient[..., :-2].abs().sum() > 0, name
    moved = output.tags.clone()
    moved[..., -2:] += 3 * torch.rand(moved[..., -2:].shape, dtype=torch.float64)
    others = criterion.terms(PoseOutput(output.heatmaps, moved), targets)
    same = {name: torch.equal(terms[name], others[name]) for name in terms}
    assert same == {"heatmap": True, "pull": False, "push": False, "coupling": True}


def test_scales_are_those_of_the_tags_without_places():
    output, targets = with_places(4)
    bare = PoseOutput(output.heatmaps, output.tags[..., :-2])
    with_, without = PoseCriterion(HeatmapLoss(), spatial_dims=2), PoseCriterion(HeatmapLoss())
    terms, expected = with_.terms(output, targets), without.terms(bare, targets)
    assert torch.equal(terms["heatmap"], expected["heatmap"])
    assert terms["coupling"].item() == pytest.approx(expected["coupling"].item(), rel=1e-12)
    # and all dimensions count where none are places
    assert not torch.equal(without.terms(output, targets)["heatmap"], terms["heatmap"])


def test_a_criterion_passes_the_weights_on():
    output, targets = with_places(5, spatial_dims=0)
    terms = PoseCriterion(HeatmapLoss()).terms(output, targets)
    inputs = output.tags, targets.cells, targets.visible, targets.scales, targets.confidence
    assert [terms[name].item() for name in TERMS] == pytest.approx(slow_terms(*inputs), rel=1e-9)


def test_build_criterion_takes_places_from_the_network():
    dims = [
        build_criterion(load_config(None, ["MODEL.SPATIAL_TAGS", units])).embedding_loss.spatial_dims
        for units in ("0.0", "0.25")
    ]
    assert dims == [0, 2]


# ---- masks of each joint


def maps(seed, batch, joints, height, width, resolutions):
    """Heatmaps, targets and masks (B, K, h, w) in [0, 1] of each resolution, and tags."""
    random = torch.Generator().manual_seed(seed)
    shapes = [(batch, joints, height * 2**r, width * 2**r) for r in range(resolutions)]
    kind = {"generator": random, "dtype": torch.float64}
    heatmaps = [2 * torch.rand(*shape, **kind) - 0.5 for shape in shapes]
    targets = [torch.rand(*shape, **kind) * (torch.rand(*shape, **kind) > 0.4) for shape in shapes]
    masks = [torch.rand(*shape, **kind) * (torch.rand(*shape, **kind) > 0.3) for shape in shapes]
    return heatmaps, targets, masks, 2 * torch.rand(batch, joints, height, width, 3, **kind) - 1


def by_joint(loss, heatmaps, targets, masks, extra):
    """Return the mean over joints of a loss that sees one joint, and its mask, alone."""
    joints = heatmaps[0].shape[1]
    losses = []
    for k in range(joints):
        one = slice(k, k + 1)
        more = [e[:, one] for e in extra] if isinstance(extra, list) else extra[:, one]
        losses.append(loss([h[:, one] for h in heatmaps], [t[:, one] for t in targets], [m[:, k] for m in masks], more))
    return sum(losses) / joints


@given(seeds, sizes, sizes, sizes, sizes, st.integers(1, 2), st.booleans(), st.booleans())
@settings(max_examples=30, deadline=None)
def test_heatmap_loss_weighs_each_joints_cells(seed, batch, joints, height, width, resolutions, adapted, focal):
    heatmaps, targets, masks, tags = maps(seed, batch, joints, height, width, resolutions)

    def slow(heatmaps, targets, masks, tags):
        return plain_losses.heatmap_loss(heatmaps, targets, masks, tags, 0.4 if adapted else None, focal)

    found = HeatmapLoss(0.4, adapted, focal)(heatmaps, targets, masks, tags)
    assert found.item() == pytest.approx(by_joint(slow, heatmaps, targets, masks, tags).item(), rel=1e-9, abs=1e-12)


@given(seeds, sizes, sizes, sizes, sizes, st.integers(1, 2), st.booleans())
@settings(max_examples=30, deadline=None)
def test_scale_map_loss_weighs_each_joints_cells(seed, batch, joints, height, width, resolutions, weighted):
    heatmaps, targets, masks, _ = maps(seed, batch, joints, height, width, resolutions)
    scale_maps = [torch.rand(h.shape, dtype=torch.float64) - 0.5 for h in heatmaps]
    loss = ScaleMapLoss(weighted)
    # tests/losses/test_scale_maps.py compares it with loops for the masks (B, h, w) of one joint
    found = loss(heatmaps, targets, masks, scale_maps)
    assert found.item() == pytest.approx(by_joint(loss, heatmaps, targets, masks, scale_maps).item(), rel=1e-9)


@pytest.mark.parametrize("loss", [HeatmapLoss(), HeatmapLoss(scale_adapted=False), ScaleMapLoss()])
def test_masks_that_agree_on_all_joints_are_one_mask(loss):
    heatmaps, targets, masks, tags = maps(6, 2, 3, 3, 4, 2)
    extra = [0.3 * h for h in heatmaps] if isinstance(loss, ScaleMapLoss) else tags
    one = [mask[:, 0] for mask in masks]
    wide = [mask[:, None].expand(-1, 3, -1, -1) for mask in one]
    results = []
    for chosen in (one, wide):
        leaves = [h.clone().requires_grad_() for h in heatmaps]
        value = loss(leaves, targets, chosen, extra)
        value.backward()
        results.append([value, *(leaf.grad for leaf in leaves)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("focal", [False, True])
def test_gradients_of_weighted_heatmaps_are_exact(focal):
    heatmaps, targets, masks, tags = maps(8, 1, 2, 2, 3, 1)
    leaf = heatmaps[0].requires_grad_()
    loss = HeatmapLoss(focal=focal)
    assert torch.autograd.gradcheck(lambda h: loss([h], targets, masks, tags), (leaf,))
    (gradient,) = torch.autograd.grad(loss([leaf], targets, masks, tags), leaf)
    assert (gradient[masks[0] == 0] == 0).all()
    assert (gradient[masks[0] > 0] != 0).any()
