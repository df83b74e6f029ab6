"""The separable head: its branches and what they see, MoveNet's heatmaps, the start of its weights."""

import numpy as np
import pytest
import torch
from torch import nn

from coupled_embedding.networks.heads import initialize_head
from coupled_embedding.networks.hrnet import initialize_backbone
from coupled_embedding.networks.mobilenet_fpn import MobileNetFPNSettings, movenet_heatmaps
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.networks.separable_head import SeparableHead
from coupled_embedding.networks.torch_files import read_weight_file
from coupled_embedding.networks.weights import load_backbone

WIDTH, TAG_WIDTH = 12, 5


def feature_of(width=WIDTH, seed=0):
    return torch.randn(2, width, 6, 8, generator=torch.Generator().manual_seed(seed)).requires_grad_()


@pytest.mark.parametrize("tag_width", [0, TAG_WIDTH])
@pytest.mark.parametrize("tag_dim", [1, 4])
def test_maps_have_a_joints_and_a_tags_channels(tag_width, tag_dim):
    heatmaps, tags, scales = SeparableHead(WIDTH, 3, tag_dim, tag_width)(feature_of())
    assert [h.shape for h in heatmaps] == [(2, 3, 6, 8)]
    assert tags.shape == (2, 3 * tag_dim, 6, 8)
    assert scales == []


@pytest.mark.parametrize(
    ("tag_width", "heatmap_channels", "tag_channels"),
    [(0, range(WIDTH), range(WIDTH)), (TAG_WIDTH, range(WIDTH - TAG_WIDTH), range(WIDTH - TAG_WIDTH, WIDTH))],
)
def test_each_branch_sees_its_own_channels(tag_width, heatmap_channels, tag_channels):
    torch.manual_seed(0)
    head, feature = SeparableHead(WIDTH, 3, 2, tag_width), feature_of()
    (heatmap,), tags, _ = head(feature)
    for maps, channels in ((heatmap, heatmap_channels), (tags, tag_channels)):
        (gradient,) = torch.autograd.grad(maps.square().sum(), feature, retain_graph=True)
        assert gradient.abs().sum((0, 2, 3)).nonzero().flatten().tolist() == list(channels)


def test_a_cell_sees_its_neighbors_once():
    torch.manual_seed(0)
    head, feature = SeparableHead(4, 2, 1), feature_of(4)
    (heatmap,), *_ = head(feature)
    (gradient,) = torch.autograd.grad(heatmap[0, :, 3, 4].sum(), feature)
    rows, columns = gradient.abs().sum((0, 1)).nonzero().T.tolist()
    assert (min(rows), max(rows), min(columns), max(columns)) == (2, 4, 3, 5)


def test_only_the_layers_that_output_maps_start_near_zero():
    torch.manual_seed(0)
    head = SeparableHead(WIDTH, 30, 8, TAG_WIDTH)
    hidden = {name: value.clone() for name, value in head.state_dict().items() if "hidden" in name}
    initialize_head(head, heatmap_bias=-3.0)
    assert head.output_layers() == [head.hms_pred_layers, head.tms_pred_layers]
    for layer in head.output_layers():
        assert layer.weight.std().item() == pytest.approx(1e-3, rel=0.1)
    assert (head.hms_pred_layers.bias == -3).all()
    assert (head.tms_pred_layers.bias == 0).all()
    assert all(torch.equal(head.state_dict()[name], value) for name, value in hidden.items())
    assert min(value.std() for name, value in hidden.items() if name.endswith("weight")) > 0.02


# ---- MoveNet MultiPose's branch


@pytest.fixture(scope="module")
def weights_file(real_dir):
    return real_dir / "mobilenet_fpn_movenet_multipose.safetensors"


def separable(tag_width=0):
    torch.manual_seed(0)
    return PoseNetwork(17, 2, MobileNetFPNSettings(tag_width=tag_width), "separable").eval()


@pytest.mark.reference
@pytest.mark.parametrize("tag_width", [0, 8])
def test_converted_weights_give_the_recorded_heatmaps(weights_file, real_dir, tag_width):
    network, weights = separable(tag_width), read_weight_file(weights_file)
    load_backbone(network, weights_file, coco_joints=True)
    names = movenet_heatmaps(weights)
    last = {name.removeprefix("hms_pred_layers."): weights[other] for name, other in names.items() if "pred" in name}
    network.head.hms_pred_layers.load_state_dict(last)
    recorded = np.load(real_dir / "mobilenet_fpn_recorded.npz")
    with torch.inference_mode():
        (heatmap,) = network(torch.from_numpy(recorded["input"])).heatmaps
    assert heatmap.shape == recorded["kpt_heatmap"].shape
    assert np.abs(heatmap.numpy() - recorded["kpt_heatmap"]).max() <= 1e-4


@pytest.mark.reference
def test_the_branch_goes_to_cocos_joints_but_for_the_layer_that_outputs_logits(weights_file):
    weights, network, other = read_weight_file(weights_file), separable(), separable()
    before = {name: value.clone() for name, value in network.head.state_dict().items()}
    left = load_backbone(network, weights_file, coco_joints=True)
    changed = {name for name, value in network.head.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"hms_hidden_layers.{name}" for name in ("0.weight", "1.weight", "1.bias")}
    torch.testing.assert_close(network.head.hms_hidden_layers[0].weight, weights["conv128.weight"].float())
    # joints of another data set take nothing of it
    all_heads = load_backbone(other, weights_file)
    assert all(torch.equal(value, before[name]) for name, value in other.head.state_dict().items())
    assert set(all_heads) - set(left) == {"conv128.weight", "conv129.weight", "conv129.bias"}
    assert {"conv131.weight", "conv131.bias", "conv119.weight"} <= set(left)
    # nor does another head
    plain = PoseNetwork(17, 2, MobileNetFPNSettings(), "plain")
    assert load_backbone(plain, weights_file, coco_joints=True) == all_heads


def test_a_file_without_the_branch_has_no_names_of_it():
    names = ["conv128.weight", "conv129.weight", "conv129.bias", "conv131.weight", "conv131.bias"]
    weights = {name: torch.zeros(1) for name in names}
    assert sorted(movenet_heatmaps(weights).values()) == sorted(names)
    del weights["conv129.bias"]
    assert movenet_heatmaps(weights) == {}


# ---- the start of grouped convolutions


# channels that see few others vary: the more of them, the nearer the mean
@pytest.mark.parametrize(("channels", "groups"), [(256, 1), (512, 16), (16384, 16384)])
def test_a_stack_of_convolutions_keeps_its_variance(channels, groups):
    torch.manual_seed(0)
    sizes = {"padding": 1, "padding_mode": "circular", "groups": groups, "bias": False}
    layers = nn.ModuleList(nn.Conv2d(channels, channels, 3, **sizes) for _ in range(3))
    initialize_backbone(layers)
    x = torch.randn(1, channels, 6, 6)
    with torch.inference_mode():
        for layer in layers:
            x = layer(x.relu())
            assert (x**2).mean().item() == pytest.approx(1, rel=0.35)
