import pytest
import torch
from torch import nn

from coupled_embedding.networks.hrnet import (
    BasicBlock,
    Bottleneck,
    ExchangeModule,
    HRNet,
    HRNetSettings,
    check_input_size,
    initialize_backbone,
)


@pytest.mark.parametrize("width", [1, 4, 18])
def test_feature_is_at_stride_4_with_the_width_asked_for(width):
    settings = HRNetSettings(width=width, stem_width=8, stem_blocks=2, stage_modules=(1, 1, 1), stage_blocks=1)
    network = HRNet(settings).eval()
    with torch.no_grad():
        assert network(torch.randn(2, 3, 32, 64)).shape == (2, width, 8, 16)


def test_default_sizes_are_those_of_w32():
    settings = HRNetSettings()
    assert (settings.width, settings.stem_width, settings.stem_blocks) == (32, 64, 4)
    assert (settings.stage_modules, settings.stage_blocks) == ((1, 4, 3), 4)


def silence(module):
    """Make every batch norm output zero, so that only shortcuts are left."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    return module.eval()


@pytest.mark.parametrize("block", [BasicBlock(8), Bottleneck(8, 2)])
def test_a_block_adds_to_its_input_before_the_last_relu(block):
    x = torch.randn(1, 8, 4, 4)
    torch.testing.assert_close(silence(block)(x), x.clamp_min(0))


def test_bottleneck_projects_its_shortcut_when_the_width_changes():
    assert Bottleneck(8, 4).eval()(torch.randn(1, 8, 4, 4)).shape == (1, 16, 4, 4)
    assert Bottleneck(16, 4).downsample is None


def test_fusion_sums_all_branches_and_enlarges_with_nearest_neighbor():
    module = ExchangeModule([1, 2], blocks=1, outputs=1)
    silence(module.branches)
    path = module.fuse_layers[0][1]
    with torch.no_grad():
        path[0].weight.copy_(torch.tensor([1.0, 10.0]).view(1, 2, 1, 1))
    path.eval()
    path[1].eps = 0.0
    high = torch.arange(16.0).view(1, 1, 4, 4)
    low = torch.arange(8.0).view(1, 2, 2, 2)
    (fused,) = module([high, low])
    expected = high + (low[:, :1] + 10 * low[:, 1:]).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(fused, expected)


@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_exchange_keeps_each_branch_at_its_size(outputs):
    module = ExchangeModule([2, 4, 8], blocks=1, outputs=outputs).eval()
    features = [torch.randn(1, 2 * 2**i, 8 >> i, 16 >> i) for i in range(3)]
    with torch.no_grad():
        fused = module([f.clone() for f in features])
    assert [f.shape for f in fused] == [f.shape for f in features[:outputs]]


def test_every_branch_of_the_last_stage_reaches_the_feature():
    settings = HRNetSettings(width=2, stem_width=4, stem_blocks=1, stage_modules=(1, 1, 1), stage_blocks=1)
    torch.manual_seed(0)
    network = HRNet(settings)
    network(torch.randn(2, 3, 64, 64)).square().sum().backward()
    for branch in network.stage4[0].branches:
        assert branch[0].conv1.weight.grad.abs().sum() > 0


def test_backbone_starts_he_normal():
    torch.manual_seed(0)
    network = HRNet(HRNetSettings(width=16, stem_width=32, stem_blocks=1, stage_modules=(1, 1, 1)))
    initialize_backbone(network)
    conv = network.conv2  # 32 channels out, 3×3
    assert conv.weight.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.05)
    assert all((m.weight == 1).all() and (m.bias == 0).all() for m in network.modules() if hasattr(m, "running_var"))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (512, 672), (640, 32)])
def test_multiples_of_32_pass(height, width):
    assert check_input_size(torch.empty(1, 3, height, width)) is None


@pytest.mark.parametrize(("height", "width"), [(31, 32), (32, 31), (32, 48)])
def test_other_sizes_fail(height, width):
    with pytest.raises(ValueError, match=f"{width}×{height}"):
        check_input_size(torch.empty(1, 3, height, width))
