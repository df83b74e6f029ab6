import json

import numpy as np
import pytest
import torch

from coupled_embedding.builders import build_model
from coupled_embedding.config import load_config
from coupled_embedding.data.schema import load_schema
from coupled_embedding.decode.aggregate import merge_resolutions
from coupled_embedding.networks.heads import HigherHead, PlainHead
from coupled_embedding.networks.hourglass import HourglassSettings
from coupled_embedding.networks.pose_network import PoseNetwork


def network_of_config(checkout, stem):
    dataset, name = stem.split("_", 1)
    cfg = load_config(checkout / "config" / dataset / f"{name}.yaml")
    with torch.device("meta"):  # shapes without numbers: the weights come later
        return build_model(cfg, load_schema(cfg.DATASET.SCHEMA).num_joints)


@pytest.mark.reference
def test_released_checkpoints_have_our_keys_shapes_and_order(state_dict_case, checkout):
    recorded = json.loads(state_dict_case.read_text())
    network = network_of_config(checkout, state_dict_case.stem)
    own = [(name, list(value.shape)) for name, value in network.state_dict().items()]
    assert own == list(recorded["state_dict"].items())
    assert sum(p.numel() for p in network.parameters()) == recorded["parameters"]


@pytest.mark.reference
def test_forward_equals_the_recorded_maps(forward_case, checkout, fill_by_name):
    recorded = np.load(forward_case)
    network = fill_by_name(network_of_config(checkout, forward_case.stem.removeprefix("forward_")))
    with torch.no_grad():
        output = network(torch.from_numpy(recorded["image"]))
    own = {f"heatmaps_{i}": heatmap for i, heatmap in enumerate(output.heatmaps)}
    own |= {"tagmaps": output.tags, "inference_heatmaps": merge_resolutions(output)}
    assert set(own) == set(recorded.files) - {"image"}
    for name, maps in own.items():
        assert maps.shape == recorded[name].shape, name
        error = np.abs(maps.numpy() - recorded[name]).max()
        assert error <= 1e-5 * recorded[name].std(), name


@pytest.mark.parametrize(("head", "strides"), [("plain", (4,)), ("higher", (4, 2)), ("separable", (4,))])
@pytest.mark.parametrize("tag_dim", [1, 2, 5, 8])
def test_output_shapes_for_any_tag_dimension(tiny_network, head, strides, tag_dim):
    network = tiny_network(3, tag_dim, head)
    with torch.no_grad():
        output = network(torch.randn(2, 3, 64, 96))
    assert network.strides == strides
    assert [h.shape for h in output.heatmaps] == [(2, 3, 64 // s, 96 // s) for s in strides]
    assert output.tags.shape == (2, 3, 16, 24, tag_dim)


@pytest.mark.parametrize("head", ["plain", "higher", "separable"])
def test_tag_channel_k_times_d_plus_d_is_dimension_d_of_joint_k(tiny_network, head):
    num_joints, tag_dim = 3, 4
    network = tiny_network(num_joints, tag_dim, head)
    with torch.no_grad():
        network.head.tms_pred_layers.weight.zero_()
        network.head.tms_pred_layers.bias.copy_(torch.arange(float(num_joints * tag_dim)))
        tags = network(torch.randn(1, 3, 32, 32)).tags
    expected = torch.arange(float(num_joints * tag_dim)).view(num_joints, 1, 1, tag_dim)
    torch.testing.assert_close(tags[0], expected.expand(tags.shape[1:]))


@pytest.mark.parametrize("head", ["plain", "higher", "separable"])
def test_a_batch_gives_what_its_images_give_alone(tiny_network, fill_by_name, head):
    network = fill_by_name(tiny_network(head=head))
    images = torch.randn(3, 3, 64, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        together = network(images)
        alone = [network(image[None]) for image in images]
    for resolution, heatmaps in enumerate(together.heatmaps):
        single = torch.cat([maps.heatmaps[resolution] for maps in alone])
        torch.testing.assert_close(heatmaps, single, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together.tags, torch.cat([maps.tags for maps in alone]), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together.tags[0], together.tags[1], atol=1e-3)


@pytest.mark.parametrize("head", ["plain", "higher", "separable"])
def test_every_parameter_gets_a_gradient(tiny_network, fill_by_name, head):
    network = fill_by_name(tiny_network(head=head)).train()
    output = network(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2)))
    loss = (output.tags**2).sum() + sum((h**2).sum() for h in output.heatmaps)
    loss.backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


@pytest.mark.parametrize(("height", "width"), [(33, 64), (64, 48), (16, 32)])
def test_sides_that_are_no_multiple_of_32_are_refused(tiny_network, height, width):
    with pytest.raises(ValueError, match=rf"multiples of 32 pixels, got {width}×{height}"):
        tiny_network()(torch.zeros(1, 3, height, width))


def test_unknown_head_is_refused(tiny):
    with pytest.raises(ValueError, match="no head 'tall'"):
        PoseNetwork(3, 2, tiny, "tall")


def test_the_separable_head_has_no_scale_maps(tiny):
    with pytest.raises(ValueError, match="no head 'separable' with scale maps"):
        PoseNetwork(3, 2, tiny, "separable", with_scales=True)


def test_hourglasses_have_no_separable_head():
    with pytest.raises(ValueError, match="head must be 'plain', got 'separable'"):
        PoseNetwork(3, 1, HourglassSettings(), "separable")


def test_hourglasses_have_no_scale_maps():
    with pytest.raises(ValueError, match="stages output no scale maps"):
        PoseNetwork(3, 1, HourglassSettings(), "plain", with_scales=True)


@pytest.mark.parametrize("head", ["plain", "higher"])
def test_scale_maps_are_an_option_of_both_heads(head):
    options = ["MODEL.WIDTH", "4", "MODEL.STEM_WIDTH", "8", "MODEL.STAGE_MODULES", "[1, 1, 1]"]
    options += ["MODEL.STAGE_BLOCKS", "1", "MODEL.HEAD", head, "LOSS.SCALE_ADAPTED", "False"]
    with torch.device("meta"):
        maps = [
            build_model(load_config(None, [*options, "MODEL.SCALE_MAPS", on]), 5)(torch.empty(1, 3, 64, 32))
            for on in ("True", "False")
        ]
    assert [m.shape for m in maps[0].scale_maps] == [h.shape for h in maps[0].heatmaps]
    assert maps[1].scale_maps == ()


def test_build_model_reads_every_size_of_the_config(checkout):
    overrides = ["MODEL.WIDTH", "6", "MODEL.STEM_WIDTH", "10", "MODEL.STEM_BLOCKS", "2", "MODEL.TAG_DIM", "3"]
    overrides += ["MODEL.STAGE_MODULES", "[1, 2, 1]", "MODEL.STAGE_BLOCKS", "1", "MODEL.HEAD_BLOCKS", "2"]
    cfg = load_config(None, [*overrides, "MODEL.HEATMAP_BIAS", "-2.0"])
    network = build_model(cfg, 5)
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes["backbone.conv1.weight"] == (10, 3, 3, 3)
    assert shapes["head.hms_pred_layers.1.weight"] == (5, 6, 1, 1)
    assert shapes["head.tms_pred_layers.weight"] == (15, 6, 1, 1)
    backbone = network.backbone
    assert (len(backbone.layer1), len(backbone.stage2), len(backbone.stage3), len(backbone.stage4)) == (2, 1, 2, 1)
    assert len(backbone.stage2[0].branches[0]) == 1
    assert isinstance(network.head, HigherHead)
    assert len(network.head.blocks) == 2
    assert all((layer.bias == -2).all() for layer in network.head.heatmap_layers())
    assert isinstance(build_model(load_config(None, [*overrides, "MODEL.HEAD", "plain"]), 5).head, PlainHead)
