"""Center maps of a network: MoveNet MultiPose's converted heads, and where they start without them."""

import numpy as np
import pytest
import torch

from coupled_embedding.builders import build_model
from coupled_embedding.config import load_config
from coupled_embedding.networks.centers import movenet_centers
from coupled_embedding.networks.mobilenet_fpn import MobileNetFPNSettings
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.networks.weights import load_backbone, transfer_weights


@pytest.fixture(scope="module")
def recorded(real_dir):
    return np.load(real_dir / "mobilenet_fpn_recorded.npz")


@pytest.mark.reference
@pytest.mark.parametrize("tag_width", [0, 8])
def test_converted_heads_give_what_was_recorded(real_dir, recorded, tag_width):
    network = PoseNetwork(
        17, 1, MobileNetFPNSettings(tag_width=tag_width), "separable", centers=True, logistic=True
    ).eval()
    left = load_backbone(network, real_dir / "mobilenet_fpn_movenet_multipose.safetensors", coco_joints=True)
    # boxes, and the places in cells
    assert {name.partition(".")[0] for name in left} == {
        f"conv{number}" for number in (120, 121, 123, 124, 125, 127, 136, 137, 139)
    }
    with torch.inference_mode():
        output = network(torch.from_numpy(recorded["input"]))
    center, regressed = (torch.from_numpy(recorded[name]) for name in ("center", "kpt_regress"))
    torch.testing.assert_close(output.centers[:, :1], center.sigmoid(), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        output.heatmaps[0], torch.from_numpy(recorded["kpt_heatmap"]).sigmoid(), rtol=0, atol=1e-5
    )
    # its displacements are y before x, from a cell's corner
    torch.testing.assert_close(output.centers[:, 1::2], regressed[:, 1::2] - 0.5, rtol=0, atol=1e-4)
    torch.testing.assert_close(output.centers[:, 2::2], regressed[:, 0::2] - 0.5, rtol=0, atol=1e-4)


@pytest.mark.reference
def test_kernels_of_a_converted_pyramid_are_alike_in_size(real_dir):
    network = PoseNetwork(17, 1, MobileNetFPNSettings())
    load_backbone(network, real_dir / "mobilenet_fpn_movenet_multipose.safetensors")
    for smooth in network.backbone.pyramid.smooth:
        depthwise, pointwise = (smooth[layer].weight.square().mean().sqrt().item() for layer in (0, 1))
        assert 0.25 < depthwise / pointwise < 4  # in the file up to 5,000


def test_other_files_have_no_such_heads():
    assert movenet_centers({"conv116.weight": torch.zeros(24, 1, 3, 3)}) == ({}, [])


SMALL = ["MODEL.WIDTH", "8", "MODEL.STEM_WIDTH", "8"]


def test_a_network_without_center_maps_starts_one_that_has_them():
    torch.manual_seed(0)
    cfg = load_config("config/synthetic/centers_small.yaml", SMALL)
    without = build_model(load_config("config/synthetic/centers_small.yaml", [*SMALL, "MODEL.CENTERS", "False"]), 3)
    network = build_model(cfg, 4)
    before = network.center_head.displacement_layer.weight.clone()
    new = transfer_weights(network, without.state_dict(), ["a", "b", "c"], ["c", "a", "d", "b"], "f")
    assert new == ["d", "center_head"]
    assert torch.equal(network.center_head.displacement_layer.weight, before)
    torch.testing.assert_close(
        network.head.hms_pred_layers.weight[[1, 3, 0]], without.head.hms_pred_layers.weight, rtol=0, atol=0
    )


def test_displacements_of_shared_joints_are_taken_by_name():
    torch.manual_seed(0)
    cfg = load_config("config/synthetic/centers_small.yaml", SMALL)
    one, other = build_model(cfg, 3), build_model(cfg, 2)
    assert transfer_weights(other, one.state_dict(), ["a", "b", "c"], ["c", "a"], "f") == []
    theirs = one.center_head.displacement_layer.weight.unflatten(0, (3, 2))
    assert torch.equal(other.center_head.displacement_layer.weight.unflatten(0, (2, 2)), theirs[[2, 0]])
