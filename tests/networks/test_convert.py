import json

import pytest
import torch

from coupled_embedding.config import load_config
from coupled_embedding.networks.convert import config_of_released, convert_weights, released_weights, splits_of_released
from coupled_embedding.networks.hourglass import HourglassSettings
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.networks.weights import load_strictly
from coupled_embedding.utils.errors import CheckpointError

JOINTS = 3


def higherhrnet_weights(network):
    """Our tensors as HigherHRNet's program names and joins them."""
    released, own = {}, network.state_dict()
    higher = "head.deconv_layers.0.weight" in own
    for kind in ("weight", "bias"):
        low = own[f"head.hms_pred_layers{'.0' if higher else ''}.{kind}"]
        released[f"final_layers.0.{kind}"] = torch.cat((low, own[f"head.tms_pred_layers.{kind}"]))
        if higher:
            released[f"final_layers.1.{kind}"] = own[f"head.hms_pred_layers.1.{kind}"]
    for name, tensor in own.items():
        if name.startswith("backbone."):
            released[name.removeprefix("backbone.")] = tensor
        elif name.startswith("head.deconv_layers."):
            released["deconv_layers.0.0." + name.removeprefix("head.deconv_layers.")] = tensor
        elif name.startswith("head.blocks."):
            number, rest = name.removeprefix("head.blocks.").split(".", 1)
            released[f"deconv_layers.0.{int(number) + 1}.0.{rest}"] = tensor
    return released


def mmpose_content(released):
    heads = ("final_layers.", "deconv_layers.")
    named = {("keypoint_head." if n.startswith(heads) else "backbone.") + n: t for n, t in released.items()}
    return {"meta": {"epoch": 300}, "state_dict": named}


@pytest.fixture(params=["plain", "higher"])
def network(request, tiny_network, fill_by_name):
    return fill_by_name(tiny_network(JOINTS, 1, request.param, feed_tags=request.param == "higher"))


def assert_equal_maps(network, weights):
    other = PoseNetwork(JOINTS, 1, *OPTIONS[type(network.head).__name__]).eval()
    load_strictly(other, weights, "f")
    image = torch.randn(1, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, theirs = network(image), other(image)
    assert all(torch.equal(a, b) for a, b in zip((*ours.heatmaps, ours.tags), (*theirs.heatmaps, theirs.tags)))


OPTIONS = {}


@pytest.fixture(autouse=True)
def sizes(tiny):
    OPTIONS["PlainHead"] = (tiny, "plain", 1)
    OPTIONS["HigherHead"] = (tiny, "higher", 1, 0.0, True)
    OPTIONS["SplitHead"] = (HourglassSettings(2, 8, 4, 2, 4), "plain")


@pytest.mark.parametrize("layout", ["bare", "model", "state_dict", "module", "mmpose"])
def test_higherhrnet_gives_the_same_maps_under_our_names(network, layout):
    released = higherhrnet_weights(network)
    content = {
        "bare": released,
        "model": {"model": released},
        "state_dict": {"state_dict": released, "epoch": 3},
        "module": {f"module.{name}": tensor for name, tensor in released.items()},
        "mmpose": mmpose_content(released),
    }[layout]
    assert_equal_maps(network, convert_weights(released_weights(content, "f"), JOINTS))


def test_the_hourglass_gives_the_same_maps_under_our_names(tiny):
    network = PoseNetwork(JOINTS, 1, *OPTIONS["SplitHead"]).eval()
    released = {name.removeprefix("backbone."): tensor for name, tensor in network.state_dict().items()}
    assert_equal_maps(network, convert_weights(released_weights({"state_dict": released}, "f"), JOINTS))


def test_coupled_embeddings_own_checkpoints_keep_their_names(network):
    weights = network.state_dict()
    assert_equal_maps(network, convert_weights(released_weights({"model": weights}, "f"), JOINTS))


def test_unknown_and_missing_tensors_are_listed(tiny_network):
    network = tiny_network(JOINTS, 1, "higher", feed_tags=True)
    released = higherhrnet_weights(network)
    del released["conv2.weight"], released["deconv_layers.0.1.0.bn1.bias"]
    released |= {"deconv_layers.1.0.0.weight": torch.ones(1), "incre_modules.0.weight": torch.ones(1)}
    with pytest.raises(CheckpointError) as error:
        load_strictly(network, convert_weights(released, JOINTS), "f")
    listed = set(str(error.value).splitlines()[1:])
    assert listed == {
        "  missing: backbone.conv2.weight [8, 8, 3, 3]",
        "  missing: head.blocks.0.bn1.bias [4]",
        "  not in this network: deconv_layers.1.0.0.weight",
        "  not in this network: backbone.incre_modules.0.weight",
    }


def test_another_number_of_joints_is_a_misshapen_head(tiny_network):
    network = tiny_network(JOINTS + 1, 1, "plain")
    weights = convert_weights(higherhrnet_weights(tiny_network(JOINTS, 1, "plain")), JOINTS + 1)
    with pytest.raises(CheckpointError, match=r"shape: head\.tms_pred_layers\.weight is \[2, 4, 1, 1\] in the file"):
        load_strictly(network, weights, "f")


def test_a_file_with_both_kinds_of_names_is_refused(network):
    released = higherhrnet_weights(network)
    content = mmpose_content(released)
    content["state_dict"]["conv1.weight"] = released["conv1.weight"]
    with pytest.raises(CheckpointError, match=r"f\.pth: holds tensors with and without the prefixes"):
        released_weights(content, "f.pth")


@pytest.mark.parametrize("content", [{"state_dict": {"a": 1.0}}, {"state_dict": 3}, {"epoch": 3}])
def test_content_without_tensors_is_refused(content):
    with pytest.raises(CheckpointError, match="expected the network's tensors"):
        released_weights(content, "f")


def test_weights_of_no_published_experiment_need_a_config(network):
    for weights in (higherhrnet_weights(network), {"fc.weight": torch.ones(3)}):
        with pytest.raises(CheckpointError, match="cannot tell which network this is of, by its tensors; give --cfg"):
            config_of_released(weights, "f")


@pytest.mark.reference
def test_the_config_of_every_released_network_is_found(state_dict_case):
    shapes = json.loads(state_dict_case.read_text())["state_dict"]
    weights = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    dataset, name = state_dict_case.stem.split("_", 1)
    config = config_of_released(weights, "f")
    assert config == f"config/{dataset}/{name}.yaml"
    # the released CrowdPose weights are of trainval, whatever our configs train on
    options = load_config(config, splits_of_released(config)).DATASET
    expected = ("trainval", "") if dataset == "crowdpose" else ("train2017", "val2017")
    assert expected == (options.TRAIN, options.VAL)
