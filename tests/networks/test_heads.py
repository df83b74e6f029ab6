import pytest
import torch
from torch import nn

from coupled_embedding.networks.heads import HigherHead, PlainHead, initialize_head


def convs(head):
    return [m for m in head.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]


@pytest.mark.parametrize("head_class", [PlainHead, HigherHead])
def test_every_conv_starts_from_normal_with_deviation_a_thousandth(head_class):
    torch.manual_seed(0)
    head = head_class(64, 17, 8)
    initialize_head(head)
    assert len(convs(head)) == (2 if head_class is PlainHead else 12)
    for conv in convs(head):
        assert conv.weight.std().item() == pytest.approx(1e-3, rel=0.1)
        assert abs(conv.weight.mean().item()) < 5 * 1e-3 / conv.weight.numel() ** 0.5
        assert conv.bias is None or (conv.bias == 0).all()
    for norm in (m for m in head.modules() if isinstance(m, nn.BatchNorm2d)):
        assert (norm.weight == 1).all()
        assert (norm.bias == 0).all()


@pytest.mark.parametrize("head_class", [PlainHead, HigherHead])
def test_heatmap_bias_starts_the_heatmap_convs_only(head_class):
    head = head_class(8, 3, 2)
    initialize_head(head, heatmap_bias=-3.0)
    assert all((layer.bias == -3).all() for layer in head.heatmap_layers())
    assert (head.tms_pred_layers.bias == 0).all()


def test_plain_head_is_two_linear_maps_of_the_feature():
    torch.manual_seed(1)
    head = PlainHead(4, 3, 2)
    feature = torch.randn(2, 4, 5, 6)
    with torch.no_grad():
        (heatmap,), tags, none = head(feature)
    assert none == []
    for conv, out in ((head.hms_pred_layers, heatmap), (head.tms_pred_layers, tags)):
        expected = torch.einsum("oc,bchw->bohw", conv.weight[..., 0, 0], feature) + conv.bias.view(1, -1, 1, 1)
        torch.testing.assert_close(out, expected)


def test_higher_head_feeds_feature_then_low_heatmap_to_the_transposed_conv():
    torch.manual_seed(2)
    head = HigherHead(4, 3, 2, blocks=1).eval()
    feature = torch.randn(1, 4, 4, 6)
    with torch.no_grad():
        (low, high), tags, _ = head(feature)
        enlarged = head.deconv_layers(torch.cat((feature, low), 1))
        assert low.shape == (1, 3, 4, 6)
        assert high.shape == (1, 3, 8, 12)
        assert tags.shape == (1, 6, 4, 6)
        torch.testing.assert_close(high, head.hms_pred_layers[1](head.blocks(enlarged)))
        head.deconv_layers[0].weight[4:] = 0  # the low heatmap no longer counts
        (_, without), *_ = head(feature)
    assert not torch.allclose(high, without)


def test_a_head_that_feeds_its_tags_shows_them_behind_the_low_heatmap():
    torch.manual_seed(3)
    head, without = HigherHead(4, 3, 2, blocks=1, feed_tags=True).eval(), HigherHead(4, 3, 2, blocks=1).eval()
    assert head.deconv_layers[0].weight.shape[0] == 4 + 3 + 3 * 2
    feature = torch.randn(1, 4, 4, 6)
    with torch.no_grad():
        (low, high), tags, _ = head(feature)
        enlarged = head.deconv_layers(torch.cat((feature, low, tags), 1))
        torch.testing.assert_close(high, head.hms_pred_layers[1](head.blocks(enlarged)))
        weights = head.state_dict()
        weights["deconv_layers.0.weight"] = weights["deconv_layers.0.weight"][: 4 + 3]
        without.load_state_dict(weights)
        head.deconv_layers[0].weight[4 + 3 :] = 0  # the tags no longer count
        torch.testing.assert_close(head(feature)[0][1], without(feature)[0][1])
    assert not torch.allclose(high, head(feature)[0][1])


def test_heatmap_layers_come_lowest_resolution_first():
    head = HigherHead(4, 3, 2)
    assert head.heatmap_layers() == [head.hms_pred_layers[0], head.hms_pred_layers[1]]
    assert [layer.out_channels for layer in PlainHead(4, 5, 2).heatmap_layers()] == [5]


@pytest.mark.parametrize(("head_class", "resolutions"), [(PlainHead, 1), (HigherHead, 2)])
def test_scale_maps_start_near_scale_1_and_change_nothing_else(head_class, resolutions):
    head = head_class(4, 3, 2, with_scales=True).eval()
    initialize_head(head, heatmap_bias=-3.0)
    without = head_class(4, 3, 2).eval()
    without.load_state_dict({k: v for k, v in head.state_dict().items() if not k.startswith("scale_pred_layers.")})
    feature = torch.randn(2, 4, 4, 6, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        heatmaps, tags, scale_maps = head(feature)
        expected_heatmaps, expected_tags, none = without(feature)
    assert none == []
    assert [m.shape for m in scale_maps] == [h.shape for h in heatmaps]
    assert len(scale_maps) == resolutions
    assert all(0 < m.abs().max() < 0.05 for m in scale_maps)
    assert all(torch.equal(a, b) for a, b in zip((*heatmaps, tags), (*expected_heatmaps, expected_tags), strict=True))
    assert head.output_layers()[-resolutions:] == list(head.scale_pred_layers)


def test_scales_stay_positive_and_are_linear_where_targets_narrow():
    head = HigherHead(4, 3, 2, blocks=1, with_scales=True).eval()
    with torch.no_grad():
        for layer, bias in zip(head.scale_pred_layers, (-5.0, 5.0), strict=True):
            layer.weight.zero_()
            layer.bias.fill_(bias)
        low, high = head(torch.zeros(1, 4, 2, 2))[2]
    assert ((low > -1) & (low < -0.99)).all()
    assert (high == 5).all()
