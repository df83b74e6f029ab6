import pytest
import torch

from coupled_embedding.networks.weights import transfer_weights
from coupled_embedding.utils.errors import CheckpointError

SOURCE = ("nose", "left", "right", "tail")
TARGET = ("head", "right", "left")  # shares two joints, in another order
SHARED = {1: 2, 2: 1}  # of the target -> of the source
TAG_DIM = 3


@pytest.fixture(params=["plain", "higher"])
def networks(request, tiny_network, fill_by_name):
    source = fill_by_name(tiny_network(len(SOURCE), TAG_DIM, request.param))
    return source, tiny_network(len(TARGET), TAG_DIM, request.param, seed=5)


def copy_of(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_joints_that_only_the_target_has_are_reported(networks):
    source, target = networks
    assert transfer_weights(target, source.state_dict(), SOURCE, TARGET, "f") == ["head"]


def test_backbone_and_shared_layers_are_taken_whole(networks):
    source, target = networks
    transfer_weights(target, source.state_dict(), SOURCE, TARGET, "f")
    by_joint = ("head.hms_pred_layers", "head.tms_pred_layers", "head.deconv_layers.0.")
    whole = [name for name in target.state_dict() if not name.startswith(by_joint)]
    assert len(whole) > 100
    assert all(torch.equal(target.state_dict()[name], source.state_dict()[name]) for name in whole)


def test_shared_joints_keep_their_heatmap_and_tag_channels_by_name(networks):
    source, target = networks
    fresh, given = copy_of(target), source.state_dict()
    transfer_weights(target, given, SOURCE, TARGET, "f")
    own = target.state_dict()
    names = [name for name in own if name.startswith(("head.hms_pred_layers", "head.tms_pred_layers"))]
    assert len(names) == (4 if "head.hms_pred_layers.weight" in own else 6)
    for name in names:
        channels = TAG_DIM if "tms" in name else 1
        for joint in range(len(TARGET)):
            mine = slice(joint * channels, (joint + 1) * channels)
            if joint in SHARED:
                theirs = slice(SHARED[joint] * channels, (SHARED[joint] + 1) * channels)
                assert torch.equal(own[name][mine], given[name][theirs]), (name, joint)
            else:
                assert torch.equal(own[name][mine], fresh[name][mine]), (name, joint)


def test_low_heatmaps_keep_their_input_channels_of_the_transposed_conv(networks):
    source, target = networks
    name = "head.deconv_layers.0.weight"
    if name not in target.state_dict():
        assert not any("deconv" in key for key in source.state_dict())
        return
    fresh, given = copy_of(target)[name], source.state_dict()[name]
    transfer_weights(target, source.state_dict(), SOURCE, TARGET, "f")
    own = target.state_dict()[name]
    width = len(own) - len(TARGET)
    assert torch.equal(own[:width], given[:width])
    assert torch.equal(own[width + 0], fresh[width + 0])
    assert torch.equal(own[width + 1], given[width + 2])
    assert torch.equal(own[width + 2], given[width + 1])


def test_a_shared_joint_puts_out_what_it_put_out_before(networks):
    source, target = networks
    transfer_weights(target, source.state_dict(), SOURCE, TARGET, "f")
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        before, after = source(image), target(image)
    for mine, theirs in SHARED.items():
        torch.testing.assert_close(after.heatmaps[0][:, mine], before.heatmaps[0][:, theirs])
        torch.testing.assert_close(after.tags[:, mine], before.tags[:, theirs])


def test_the_same_joints_carry_everything_over(networks, tiny_network):
    source, _ = networks
    head = "higher" if len(source.strides) == 2 else "plain"
    target = tiny_network(len(SOURCE), TAG_DIM, head, seed=9)
    assert transfer_weights(target, source.state_dict(), SOURCE, SOURCE, "f") == []
    assert all(torch.equal(v, source.state_dict()[k]) for k, v in target.state_dict().items())


def test_another_tag_dimension_is_an_error_that_names_the_layer(networks, tiny_network):
    source, _ = networks
    head = "higher" if len(source.strides) == 2 else "plain"
    target = tiny_network(len(TARGET), TAG_DIM + 2, head)
    with pytest.raises(CheckpointError, match=r"f: head\.tms_pred_layers\.weight has 12 channels, not 4 joints"):
        transfer_weights(target, source.state_dict(), SOURCE, TARGET, "f")


def test_channels_that_fit_by_chance_are_an_error(tiny_network):
    # K·D is 12 in both: copied as they lie, channels would land on other joints and dimensions
    source, target = tiny_network(4, 3, "plain"), tiny_network(3, 4, "plain")
    with pytest.raises(CheckpointError, match="TAG_DIM"):
        transfer_weights(target, source.state_dict(), ("nose", "left", "right", "tail"), ("head", "right", "left"), "f")


def test_a_file_of_other_joints_than_named_is_an_error(tiny_network):
    source, target = tiny_network(4, 2, "plain"), tiny_network(4, 2, "plain")
    with pytest.raises(CheckpointError, match="INIT_SCHEMA"):
        transfer_weights(target, source.state_dict(), ("a", "b"), ("w", "x", "y", "z"), "f")


def test_a_missing_or_unknown_key_is_an_error(networks):
    source, target = networks
    weights = copy_of(source)
    weights["head.more"] = weights.pop("head.tms_pred_layers.bias")
    with pytest.raises(CheckpointError) as error:
        transfer_weights(target, weights, SOURCE, TARGET, "f")
    assert "missing: head.tms_pred_layers.bias" in str(error.value)
    assert "not in this network: head.more" in str(error.value)


def test_joint_names_that_are_not_those_of_the_file_are_an_error(networks):
    source, target = networks
    with pytest.raises(CheckpointError, match=r"head\.hms_pred_layers"):
        transfer_weights(target, source.state_dict(), SOURCE[:3], TARGET, "f")


def test_fed_tags_keep_their_input_channels_of_the_transposed_conv(tiny_network, fill_by_name):
    source = fill_by_name(tiny_network(len(SOURCE), TAG_DIM, "higher", feed_tags=True))
    target = tiny_network(len(TARGET), TAG_DIM, "higher", seed=5, feed_tags=True)
    name = "head.deconv_layers.0.weight"
    fresh, given = copy_of(target)[name], source.state_dict()[name]
    assert transfer_weights(target, source.state_dict(), SOURCE, TARGET, "f") == ["head"]
    own, width = target.state_dict()[name], given.shape[1]
    assert torch.equal(own[:width], given[:width])

    def channels(joint, joints):
        first = width + joints + joint * TAG_DIM
        return [width + joint, *range(first, first + TAG_DIM)]

    for joint in range(len(TARGET)):
        mine = channels(joint, len(TARGET))
        theirs = given[channels(SHARED[joint], len(SOURCE))] if joint in SHARED else fresh[mine]
        assert torch.equal(own[mine], theirs)


def test_weights_of_a_head_that_feeds_its_tags_do_not_fit_one_that_does_not(tiny_network):
    source = tiny_network(len(SOURCE), TAG_DIM, "higher", feed_tags=True)
    with pytest.raises(CheckpointError, match=r"shape: head\.deconv_layers\.0\.weight"):
        transfer_weights(tiny_network(len(TARGET), TAG_DIM), source.state_dict(), SOURCE, TARGET, "f")


def test_scale_maps_keep_their_channels_by_name(tiny_network, fill_by_name):
    source = fill_by_name(tiny_network(len(SOURCE), TAG_DIM, with_scales=True))
    target = tiny_network(len(TARGET), TAG_DIM, seed=5, with_scales=True)
    transfer_weights(target, source.state_dict(), SOURCE, TARGET, "f")
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        before, after = source(image).scale_maps, target(image).scale_maps
    for mine, theirs in SHARED.items():
        torch.testing.assert_close(after[0][:, mine], before[0][:, theirs])


def test_weights_without_scale_maps_do_not_fit_a_network_that_has_them(tiny_network):
    source = tiny_network(len(SOURCE), TAG_DIM)
    with pytest.raises(CheckpointError, match=r"missing: head\.scale_pred_layers\.0\.weight"):
        transfer_weights(tiny_network(len(TARGET), TAG_DIM, with_scales=True), source.state_dict(), SOURCE, TARGET, "f")
