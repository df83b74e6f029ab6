"""Spatial transformer: the inverse map undoes the map, it starts as the identity, its parallel branch is constant."""

import copy

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from coupled_embedding.builders import build_criterion, build_model, build_optimizer
from coupled_embedding.config import load_config
from coupled_embedding.data.gaussians import gaussian_heatmaps
from coupled_embedding.data.targets import Targets
from coupled_embedding.networks.folding import fold_batch_norm
from coupled_embedding.networks.hourglass import HourglassSettings
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.networks.recompute import recompute_blocks
from coupled_embedding.networks.spatial_transformer import TransformedPoseNetwork, inverse, resample
from coupled_embedding.networks.weights import transfer_weights
from coupled_embedding.utils.errors import ConfigError

SMALL = HourglassSettings(stacks=2, width=8, growth=0, depth=2, stem_width=4, block="residual")
NUMBERS = st.floats(-1.5, 1.5)
OPTIONS = [
    "MODEL.BACKBONE", "hourglass", "MODEL.HEAD", "plain", "MODEL.HOURGLASS_BLOCK", "residual", "MODEL.WIDTH", "8",
    "MODEL.HOURGLASS_GROWTH", "0", "MODEL.HOURGLASS_DEPTH", "2", "MODEL.STACKS", "2", "MODEL.STEM_WIDTH", "4",
    "MODEL.TAG_DIM", "0", "LOSS.SCALE_ADAPTED", "False", "LOSS.FOCAL", "False", "MODEL.SPATIAL_TRANSFORMER", "True",
]  # fmt: skip
MOVED = ((0.8, 0.1, 0.2), (-0.1, 0.9, -0.1))


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network_of(kind=TransformedPoseNetwork, **options):
    torch.manual_seed(0)
    return kind(3, 0, SMALL, "plain", **options)


def move(network, theta=MOVED):
    network.localisation.theta.bias.data.copy_(torch.tensor(theta).flatten())
    return network


def as_square(theta):
    """(3, 3) in homogeneous coordinates."""
    return torch.cat((theta[0], torch.tensor([[0.0, 0.0, 1.0]], dtype=theta.dtype)))


def targets_of(joints, side=16):
    """Of one image with people's joints [[(x, y) or None, ...], ...]."""
    cells = torch.tensor([[[joint or (0, 0) for joint in person] for person in joints]])
    visible = torch.tensor([[[joint is not None for joint in person] for person in joints]])
    heatmaps = gaussian_heatmaps(cells, visible, side, side)
    return Targets((heatmaps,), (torch.ones(1, side, side),), cells, visible, torch.full(visible.shape[:2], 0.3))


@settings(deadline=None)
@given(st.lists(NUMBERS, min_size=6, max_size=6))
def test_a_map_after_its_inverse_is_the_identity(numbers):
    theta = torch.tensor(numbers, dtype=torch.float64).view(1, 2, 3)
    assume(abs(torch.linalg.det(theta[0, :, :2])) > 0.01)
    product = as_square(inverse(theta)) @ as_square(theta)
    torch.testing.assert_close(product, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize("theta", [((0, 0, 0), (0, 0, 0)), ((1, 1, 0.5), (1, 1, 0)), ((1, 0, 0), (0, -1e-9, 0))])
def test_the_inverse_of_a_collapsed_map_is_finite(theta):
    theta = torch.tensor([theta], dtype=torch.float32, requires_grad=True)
    found = inverse(theta)
    found.sum().backward()
    assert found.isfinite().all()
    assert theta.grad.isfinite().all()


@settings(max_examples=25, deadline=None)
@given(st.floats(-0.7, 0.7), st.floats(0.8, 1.25), st.floats(-0.15, 0.15), st.floats(-0.15, 0.15))
def test_heatmaps_come_back_where_they_were(angle, scale, x, y):
    angle = torch.tensor(angle)
    rotation = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos())).view(2, 2) * scale
    theta = torch.cat((rotation, torch.tensor([[x], [y]])), 1)[None]
    cells = torch.tensor([[[[30, 34]], [[36, 28]]]])  # near the middle: no map takes them beyond the edge
    heatmaps = gaussian_heatmaps(cells, torch.ones(1, 2, 1, dtype=torch.bool), 64, 64, sigma=4.0)
    there = resample(heatmaps, theta)
    back = resample(there, inverse(theta))
    assert (back - heatmaps).abs().max() < 0.12  # two bilinear samplings of a Gaussian
    for own, other in zip(back[0], heatmaps[0], strict=True):
        for axis in (0, 1):
            places, other_places = (m.sum(axis) / m.sum() for m in (own, other))
            assert (places - other_places).dot(torch.arange(64.0)).abs() < 0.1


def test_a_resampled_place_shows_what_the_map_takes_it_to():
    maps = random(1, 1, 4, 8)
    # halves in x, flips y, and moves by a cell of 2/8 to the right
    found = resample(maps, torch.tensor([[[1.0, 0, 2 / 8], [0, -1.0, 0]]]))
    torch.testing.assert_close(found[0, 0, :, :-1], maps[0, 0].flip(0)[:, 1:])
    assert (found[0, 0, :, -1] == 0).all()


def test_it_starts_as_the_network_alone_and_takes_its_weights():
    alone, image = network_of(PoseNetwork).eval(), random(2, 3, 64, 64)
    network = network_of().eval()
    nn.init.normal_(network.backbone.outs[0].conv.weight)
    joints = ["a", "b", "c"]
    assert transfer_weights(network, alone.state_dict(), joints, joints, "single.pth") == ["localisation"]
    with torch.no_grad():
        expected, found = alone(image), network(image)
    assert len(found.aux_outputs) == 1
    for own, other in ((found, expected), (found.aux_outputs[0], expected.aux_outputs[0])):
        torch.testing.assert_close(own.heatmaps[0], other.heatmaps[0], rtol=0, atol=1e-5)
    assert found.parallel is None


def test_the_network_sees_the_crop_and_its_heatmaps_are_taken_back():
    network, image = move(network_of().eval()), random(1, 3, 64, 64)
    theta = torch.tensor([MOVED])
    with torch.no_grad():
        inner = network(resample(image, theta), transformed=False).heatmaps[0]
        torch.testing.assert_close(network(image).heatmaps[0], resample(inner, inverse(theta)))


def test_the_parallel_branch_teaches_the_crop_alone_and_only_in_training():
    network = move(network_of(parallel=True)).train()
    network.localisation.theta.weight.data.normal_(std=1e-3)
    expected = copy.deepcopy(network)
    expected.parallel = False
    image = random(2, 3, 64, 64)
    output = network(image)
    expected(image)
    (output.parallel**2).sum().backward()
    taught = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert taught
    assert {name.partition(".")[0] for name in taught} == {"localisation"}
    # batch statistics count the crop once
    for (name, own), other in zip(network.named_buffers(), expected.buffers(), strict=True):
        assert torch.equal(own, other), name
    assert network.eval()(image).parallel is None


def test_its_loss_wants_the_first_person_in_the_middle():
    cfg = load_config(None, [*OPTIONS, "LOSS.PARALLEL_WEIGHT", "0.5"])
    criterion, network = build_criterion(cfg), build_model(cfg, 3).train()
    output = network(random(1, 3, 64, 64))
    # a box of 4 x 6 cells at (1, 2), whose middle (3, 5) goes to (7, 7): 4 to the right and 2 down
    targets = targets_of([[(1, 2), (5, 8), None], [(15, 15), (14, 14), (15, 14)]])
    wanted = gaussian_heatmaps(
        torch.tensor([[[[5, 4], [9, 10], [0, 0]]]]), torch.tensor([[[True, True, False]]]), 16, 16
    )
    losses = criterion(output, targets)
    assert list(losses) == ["total", "heatmap", "parallel"]
    torch.testing.assert_close(losses["parallel"], 0.5 * ((output.parallel - wanted) ** 2).mean())
    torch.testing.assert_close(losses["total"], losses["heatmap"] + losses["parallel"])
    nothing = targets_of([[None, None, None]])
    assert criterion(output, nothing)["parallel"].item() == 0


def test_a_person_wider_than_the_map_has_a_finite_loss():
    cfg = load_config(None, [*OPTIONS, "LOSS.PARALLEL_WEIGHT", "1"])
    output = build_model(cfg, 3).train()(random(1, 3, 64, 64))
    assert build_criterion(cfg)(output, targets_of([[(0, 0), (15, 15), (0, 15)]]))["parallel"].isfinite()


def test_training_moves_the_crop():
    cfg = load_config(None, [*OPTIONS, "LOSS.PARALLEL_WEIGHT", "1", "TRAIN.LR", "1e-3"])
    network = build_model(cfg, 3).train()
    optimizer, criterion = build_optimizer(cfg, network), build_criterion(cfg)
    for seed in range(2):
        losses = criterion(network(random(1, 3, 64, 64, seed=seed)), targets_of([[(2, 2), (5, 7), (3, 4)]]))
        losses["total"].backward()
        optimizer.step()
    assert (network.localisation.theta.bias.detach() - torch.tensor([1.0, 0, 0, 0, 1, 0])).abs().min() > 0


def test_it_can_be_folded_and_lists_its_ends(fill_by_name):
    network = fill_by_name(network_of())
    move(network).localisation.theta.weight.data.mul_(1e-3)
    image = random(1, 3, 64, 64)
    with torch.no_grad():
        expected, found = network(image).heatmaps[0], fold_batch_norm(network)(image).heatmaps[0]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=float(1e-4 * expected.std()))
    ends = network.input_and_output_layers()
    assert ends[0] is network.localisation.features[0]
    assert len(ends) == 4


def test_tags_are_refused():
    with pytest.raises(ValueError, match="tag_dim must be 0"):
        TransformedPoseNetwork(3, 1, SMALL, "plain")
    with pytest.raises(ConfigError, match=r"MODEL.SPATIAL_TRANSFORMER: True is for heatmaps alone"):
        load_config(None, ["MODEL.SPATIAL_TRANSFORMER", "True"])


def test_the_parallel_branch_needs_the_transformer():
    with pytest.raises(ConfigError, match=r"LOSS.PARALLEL_WEIGHT: needs MODEL.SPATIAL_TRANSFORMER True"):
        load_config(None, ["LOSS.PARALLEL_WEIGHT", "1"])


def test_the_parallel_branch_may_be_recomputed():
    network = move(network_of(parallel=True)).train()
    other, image = copy.deepcopy(network), random(2, 3, 64, 64)
    recompute_blocks(other)
    for own in (network, other):
        output = own(image)
        (output.parallel**2 + output.heatmaps[0] ** 2).sum().backward()
    for (name, parameter), same in zip(network.named_parameters(), other.parameters(), strict=True):
        if parameter.grad is not None:
            assert torch.equal(parameter.grad, same.grad), name
    for (name, buffer), same in zip(network.named_buffers(), other.buffers(), strict=True):
        assert torch.equal(buffer, same), name
