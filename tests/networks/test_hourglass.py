import pytest
import torch
from torch import nn
from torch.nn import functional as F

from coupled_embedding.builders import build_model
from coupled_embedding.config import load_config
from coupled_embedding.networks.hourglass import Conv, Hourglass, HourglassSettings, StackedHourglass
from coupled_embedding.networks.pose_network import PoseNetwork

SMALL = HourglassSettings(stacks=3, width=8, growth=4, depth=2, stem_width=4)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network_of(num_joints=3, tag_dim=2, **options):
    torch.manual_seed(0)
    return PoseNetwork(num_joints, tag_dim, SMALL, "plain", **options).eval()


def test_an_hourglass_is_a_conv_beside_a_smaller_hourglass():
    torch.manual_seed(1)
    hourglass, x = Hourglass(1, 4, 3), random(1, 4, 6, 8)
    with torch.no_grad():
        low = hourglass.low3(hourglass.low2(hourglass.low1(F.max_pool2d(x, 2))))
        expected = hourglass.up1(x) + low.repeat_interleave(2, 2).repeat_interleave(2, 3)
        torch.testing.assert_close(hourglass(x), expected)
    assert hourglass.low2.conv.weight.shape[:2] == (7, 7)


def test_convs_rectify_unless_switched_off():
    x = random(1, 3, 5, 5)
    conv, bare = Conv(3, 4), Conv(3, 4, relu=False)
    bare.load_state_dict(conv.state_dict())
    with torch.no_grad():
        assert (bare(x) < 0).any()
        assert torch.equal(conv(x), bare(x).clamp_min(0))


@pytest.mark.parametrize("size", [(64, 64), (32, 96), (96, 160)])
def test_every_stack_outputs_maps_at_stride_4(size):
    network = network_of()
    with torch.no_grad():
        output = network(random(2, 3, *size))
    assert network.strides == (4,)
    stages = [*output.aux_outputs, output]
    assert len(stages) == 3
    for stage in stages:
        assert [h.shape for h in stage.heatmaps] == [(2, 3, size[0] // 4, size[1] // 4)]
        assert stage.tags.shape == (2, 3, size[0] // 4, size[1] // 4, 2)


def test_heatmaps_come_first_then_tags_then_spare_channels():
    network = network_of(3, 2)
    assert network.backbone.outs[0].conv.out_channels == 3 * (1 + 2 + 2)
    with torch.no_grad():
        output, maps = (network(random(1, 3, 32, 32)), network.backbone(random(1, 3, 32, 32)))
    torch.testing.assert_close(output.heatmaps[0], maps[-1][:, :3])
    for joint in range(3):
        for dim in range(2):
            torch.testing.assert_close(output.tags[:, joint, :, :, dim], maps[-1][:, 3 + 2 * joint + dim])


def test_every_stack_sees_what_the_one_before_made_of_the_image():
    network, image = network_of(), random(1, 3, 32, 32)
    with torch.no_grad():
        before = network.backbone(image)
        network.backbone.outs[1].conv.bias += 1
        after = network.backbone(image)
    assert torch.equal(after[0], before[0])
    torch.testing.assert_close(after[1], before[1] + 1)
    assert not torch.allclose(after[2], before[2], atol=1e-4)


def test_every_parameter_gets_a_gradient_from_the_stages_together():
    network = network_of().train()
    output = network(random(2, 3, 64, 64))
    sum((stage.tags**2).sum() + (stage.heatmaps[0] ** 2).sum() for stage in (*output.aux_outputs, output)).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_maps_do_not_grow_from_stack_to_stack_at_the_start():
    torch.manual_seed(0)
    network = StackedHourglass(HourglassSettings(width=32, growth=16, stem_width=8), 20)
    with torch.no_grad():
        spreads = [float(maps.std()) for maps in network(torch.rand(1, 3, 128, 128))]
    assert max(spreads) < 3 * min(spreads)


def test_heatmap_bias_starts_the_heatmaps_of_every_stack():
    for out in network_of(heatmap_bias=-2.0).backbone.outs:
        assert (out.conv.bias[:3] == -2).all()
        assert not (out.conv.bias[3:] == -2).any()


def test_the_higher_head_is_refused():
    with pytest.raises(ValueError, match="head must be 'plain', got 'higher'"):
        PoseNetwork(3, 2, SMALL, "higher")


def test_build_model_reads_every_size_of_the_config():
    overrides = ["MODEL.BACKBONE", "hourglass", "MODEL.HEAD", "plain", "MODEL.STACKS", "2", "MODEL.WIDTH", "6"]
    overrides += ["MODEL.STEM_WIDTH", "5", "MODEL.HOURGLASS_DEPTH", "3", "MODEL.HOURGLASS_GROWTH", "7"]
    network = build_model(load_config(None, [*overrides, "MODEL.TAG_DIM", "3"]), 5)
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes["backbone.pre.0.conv.weight"] == (5, 3, 7, 7)
    assert shapes["backbone.pre.4.conv.weight"] == (6, 10, 3, 3)
    assert shapes["backbone.features.1.0.low2.low2.low2.conv.weight"] == (27, 27, 3, 3)
    assert shapes["backbone.outs.1.conv.weight"] == (30, 6, 1, 1)
    assert "backbone.outs.2.conv.weight" not in shapes
    ends = [network.backbone.pre[0].conv, *(out.conv for out in network.backbone.outs)]
    assert network.input_and_output_layers() == ends
    assert all(isinstance(layer, nn.Conv2d) for layer in ends)
