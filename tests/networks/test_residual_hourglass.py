"""Stacked hourglasses of residuals: published sizes, and what training options make of them."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from coupled_embedding.builders import build_model, build_optimizer
from coupled_embedding.config import load_config
from coupled_embedding.networks.folding import fold_batch_norm
from coupled_embedding.networks.hourglass import HourglassSettings, Residual
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.networks.recompute import recompute_blocks

SMALL = HourglassSettings(stacks=2, width=8, growth=0, depth=2, stem_width=4, block="residual")
OPTIONS = ["MODEL.BACKBONE", "hourglass", "MODEL.HEAD", "plain", "MODEL.HOURGLASS_BLOCK", "residual"]


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network_of(num_joints=3, tag_dim=1, settings=SMALL):
    torch.manual_seed(0)
    return PoseNetwork(num_joints, tag_dim, settings, "plain").eval()


def parameters_of(stacks: int) -> int:
    with torch.device("meta"):
        backbone = HourglassSettings(stacks, 256, 0, 4, 64, "residual").build(16)
    return sum(parameter.numel() for parameter in backbone.parameters())


def test_sizes_are_the_published_ones():
    # pytorch-pose's README: 25.59 and 6.73 million. Its stem is wider than the authors' (64, 256, 256 channels in place
    # of 64, 128, 128), which makes 160,512 parameters
    two, eight = parameters_of(2), parameters_of(8)
    assert (eight + 160_512) / 1e6 == pytest.approx(25.59, abs=0.005)
    assert (two + 160_512) / 1e6 == pytest.approx(6.73, abs=0.005)
    # in figures of its own: 14 residuals of 214,528, two 1x1 convs, and what goes to the next stack
    a_stack = 14 * 214_528 + (65_792 + 512) + (256 * 16 + 16) + 65_792 + (16 * 256 + 256)
    assert eight - two == 6 * a_stack


@pytest.mark.parametrize(("inputs", "outputs"), [(4, 4), (4, 10)])
def test_a_residual_normalizes_before_its_convs(inputs, outputs, fill_by_name):
    block, x = fill_by_name(Residual(inputs, outputs)), random(2, inputs, 5, 6)

    def normalized(norm, x):
        mean, variance, weight, bias = (
            v[:, None, None] for v in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        )
        return ((x - mean) / (variance + 1e-5).sqrt() * weight + bias).clamp_min(0)

    with torch.no_grad():
        out = F.conv2d(normalized(block.bn1, x), block.conv1.weight, block.conv1.bias)
        out = F.conv2d(normalized(block.bn2, out), block.conv2.weight, block.conv2.bias, padding=1)
        out = F.conv2d(normalized(block.bn3, out), block.conv3.weight, block.conv3.bias)
        out = out + (x if inputs == outputs else F.conv2d(x, block.shortcut.weight, block.shortcut.bias))
        torch.testing.assert_close(block(x), out)


@pytest.mark.parametrize("size", [(64, 64), (32, 96)])
def test_every_stack_outputs_maps_at_stride_4(size):
    network = network_of()
    with torch.no_grad():
        output = network(random(2, 3, *size))
    assert network.strides == (4,)
    for stage in (*output.aux_outputs, output):
        assert [h.shape for h in stage.heatmaps] == [(2, 3, size[0] // 4, size[1] // 4)]
        assert stage.tags.shape == (2, 3, size[0] // 4, size[1] // 4, 1)
    assert network.backbone.output_layers()[0].out_channels == 3 * 2  # no spare channels


def test_every_parameter_gets_a_gradient():
    network = network_of().train()
    output = network(random(2, 3, 64, 64))
    sum((stage.tags**2).sum() + (stage.heatmaps[0] ** 2).sum() for stage in (*output.aux_outputs, output)).backward()
    # a bias before a batch norm has none but for rounding
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert [name for name in without if not name.endswith("bias")] == []


def test_folding_is_exact_and_leaves_the_norms_that_follow_sums(fill_by_name):
    network, image = fill_by_name(network_of()), random(1, 3, 64, 64)
    folded = fold_batch_norm(network)
    left = [name for name, m in folded.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert left
    assert {name.rsplit(".", 1)[1] for name in left} == {"bn1"}
    with torch.no_grad():
        expected, found = network(image), folded(image)
    for own, other in ((found.heatmaps[0], expected.heatmaps[0]), (found.tags, expected.tags)):
        assert (own - other).abs().max() <= 1e-5 * other.std()


def test_recomputing_keeps_outputs_gradients_and_statistics():
    network = network_of().train()
    other = copy.deepcopy(network)
    recompute_blocks(other)
    assert "RecomputedResidual" in {type(module).__name__ for module in other.modules()}
    tensors = []
    for own in (network, other):
        output = own(random(2, 3, 64, 64))
        (output.heatmaps[0] ** 2).sum().backward()
        gradients = {name: p.grad for name, p in own.named_parameters() if p.grad is not None}
        tensors.append({"maps": output.heatmaps[0], **gradients, **dict(own.named_buffers())})
    assert tensors[0].keys() == tensors[1].keys()
    for name, tensor in tensors[0].items():
        assert torch.equal(tensor, tensors[1][name]), name


def test_build_model_reads_the_block_and_muon_its_ends():
    sizes = ["MODEL.STACKS", "2", "MODEL.WIDTH", "8", "MODEL.STEM_WIDTH", "4", "MODEL.HOURGLASS_DEPTH", "1"]
    cfg = load_config(None, [*OPTIONS, *sizes, "MODEL.HOURGLASS_GROWTH", "0", "TRAIN.OPTIMIZER", "muon"])
    network = build_model(cfg, 3)
    assert network.backbone.features[1][0].low2.conv2.weight.shape == (4, 4, 3, 3)
    _, others = (group["params"] for group in build_optimizer(cfg, network).param_groups)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    left = {names[id(p)] for p in others if p.ndim == 4}
    assert left == {"backbone.pre.0.weight", *(f"backbone.outs.{i}.conv.weight" for i in range(2))}
