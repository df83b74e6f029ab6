"""An error about weights that do not fit begins with the option that differs, and lists a few tensors."""

import pytest
import torch

from coupled_embedding.builders import build_model
from coupled_embedding.config import load_config
from coupled_embedding.data.schema import load_schema
from coupled_embedding.networks.building import build_on_meta
from coupled_embedding.networks.hourglass import HourglassSettings
from coupled_embedding.networks.hrnet import HRNetSettings
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.networks.weights import load_backbone, load_network, load_strictly, transfer_weights
from coupled_embedding.utils.errors import CheckpointError

SIZES = {"width": 4, "stem_width": 8, "stem_blocks": 1, "stage_modules": (1, 1, 2), "stage_blocks": 1}


def build(head="higher", num_joints=3, tag_dim=2, head_blocks=1, feed_tags=False, with_scales=False, **sizes):
    settings = HRNetSettings(**{**SIZES, **sizes})
    return PoseNetwork(num_joints, tag_dim, settings, head, head_blocks, feed_tags=feed_tags, with_scales=with_scales)


def hourglass(num_joints=3, tag_dim=1, stacks=2, width=8):
    return PoseNetwork(num_joints, tag_dim, HourglassSettings(stacks, width, 4, 2, 4), "plain")


def refusal(network, weights):
    with pytest.raises(CheckpointError) as caught:
        load_strictly(network, weights, "file.pth")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("file.pth: does not fit this network (")
    assert len(lines) <= 12
    return lines


@pytest.mark.parametrize(
    ("theirs", "ours", "reason"),
    [
        ({"num_joints": 4}, {}, "weights for 4 joints, the data set has 3"),
        ({"tag_dim": 3}, {}, "MODEL.TAG_DIM is 3 in the file, 2 in this network"),
        ({"width": 8}, {}, "MODEL.WIDTH is 8 in the file, 4 in this network"),
        ({"head": "plain"}, {}, "MODEL.HEAD is plain in the file, higher in this network"),
        ({}, {"head": "plain"}, "MODEL.HEAD is higher in the file, plain in this network"),
        ({"head_blocks": 2}, {}, "MODEL.HEAD_BLOCKS is 2 in the file, 1 in this network"),
        ({"stem_width": 16}, {}, "MODEL.STEM_WIDTH is 16 in the file, 8 in this network"),
        ({"stem_blocks": 2}, {}, "MODEL.STEM_BLOCKS is 2 in the file, 1 in this network"),
        ({"stage_blocks": 2}, {}, "MODEL.STAGE_BLOCKS is 2 in the file, 1 in this network"),
        ({"stage_modules": (1, 2, 1)}, {}, "MODEL.STAGE_MODULES is [1, 2, 1] in the file, [1, 1, 2] in this network"),
        ({"feed_tags": True}, {}, "MODEL.FEED_TAGS is True in the file, False in this network"),
        ({"with_scales": True}, {}, "MODEL.SCALE_MAPS is True in the file, False in this network"),
        ({"num_joints": 4, "head": "plain"}, {"head": "plain"}, "weights for 4 joints, the data set has 3"),
    ],
)
def test_the_first_line_names_the_one_option_that_differs(theirs, ours, reason):
    first, *_ = refusal(build(**ours), build(**theirs).state_dict())
    assert reason in first
    assert first.count(" in this network") + first.count("the data set has") == 1


def test_several_options_are_named_joints_first():
    first, *_ = refusal(build(), build("plain", num_joints=5, tag_dim=1, width=8).state_dict())
    places = [first.index(text) for text in ("5 joints", "MODEL.HEAD", "MODEL.TAG_DIM", "MODEL.WIDTH")]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("theirs", "reason"),
    [
        ({"num_joints": 4}, "weights for 4 joints, the data set has 3"),
        ({"tag_dim": 3}, "MODEL.TAG_DIM is 3 in the file, 1 in this network"),
        ({"stacks": 3}, "MODEL.STACKS is 3 in the file, 2 in this network"),
        ({"width": 16}, "MODEL.WIDTH is 16 in the file, 8 in this network"),
    ],
)
def test_options_of_a_hourglass_are_named(theirs, reason):
    assert reason in refusal(hourglass(), hourglass(**theirs).state_dict())[0]


def test_another_backbone_is_named_alone():
    first, *_ = refusal(hourglass(), build().state_dict())
    assert "MODEL.BACKBONE is hrnet in the file, hourglass in this network" in first
    assert "MODEL.WIDTH" not in first


def test_a_long_list_is_cut_with_how_many_more(tiny_network):
    lines = refusal(build(), build(width=8).state_dict())
    count = int(lines[0].split("(")[1].split()[0])
    assert len(lines) == 12
    assert lines[-1] == f"  ... and {count - 10} more"


def test_a_released_file_of_other_joints_names_the_config_that_fits(tmp_path):
    theirs, ours = (
        load_config("config/coco/ce_hrnet_w32_512.yaml"),
        load_config("config/crowdpose/ce_hrnet_w32_512.yaml"),
    )
    torch.save({"model": build_model(theirs, 17).state_dict()}, tmp_path / "coco.pth")
    schema = load_schema(ours.DATASET.SCHEMA)
    with pytest.raises(CheckpointError) as caught:
        load_network(build_on_meta(lambda: build_model(ours, schema.num_joints)), tmp_path / "coco.pth", schema)
    first = str(caught.value).splitlines()[0]
    assert "weights for 17 joints, the data set has 14" in first
    assert "config/coco/ce_hrnet_w32_512.yaml has the network that fits" in first
    assert "MODEL.INIT_FROM" in first


def test_a_network_that_no_config_has_names_none():
    assert "config/" not in refusal(build(), build(width=8, num_joints=17).state_dict())[0]


def test_a_backbone_of_another_width_is_named(tmp_path):
    torch.save(build(width=8).backbone.state_dict(), tmp_path / "w8.pth")
    with pytest.raises(CheckpointError, match=r"w8\.pth: .*MODEL\.WIDTH is 8 in the file, 4 in this network"):
        load_backbone(build(), tmp_path / "w8.pth")


def test_files_for_another_option_are_named_as_such(tmp_path):
    network = build()
    backbone = {**network.backbone.state_dict(), "classifier.weight": torch.ones(2)}
    assert "MODEL.PRETRAINED takes it" in refusal(network, backbone)[0]
    torch.save({"model": network.state_dict()}, tmp_path / "whole.pth")
    with pytest.raises(CheckpointError, match=r"whole\.pth: is a whole network, not a backbone; MODEL\.INIT_FROM"):
        load_backbone(network, tmp_path / "whole.pth")


def test_names_of_another_program_are_reported_with_the_command_that_converts_them():
    weights = {"conv1.weight": torch.ones(8, 3, 3, 3), "final_layers.0.weight": torch.ones(34, 4, 1, 1)}
    first, *_ = refusal(build(num_joints=14), weights)
    assert "weights for 17 joints" in first
    assert "python tools/convert.py file.pth --out" in first


def test_numbers_that_are_not_finite_are_the_only_reason_given():
    network = build()
    weights = {**network.state_dict(), "backbone.conv1.weight": torch.full((8, 3, 3, 3), float("nan"))}
    lines = refusal(network, weights)
    assert "it holds numbers that are not finite" in lines[0]
    assert lines[1:] == ["  not finite: backbone.conv1.weight, as after a training that diverged"]


# ---- start weights


@pytest.mark.parametrize(
    ("theirs", "reason"),
    [
        ({"tag_dim": 3}, "MODEL.TAG_DIM is 3 in the file, 2 in this network"),
        ({"width": 8}, "MODEL.WIDTH is 8 in the file, 4 in this network"),
        ({"head": "plain"}, "MODEL.HEAD is plain in the file, higher in this network"),
    ],
)
def test_start_weights_of_other_joints_are_refused_for_what_differs_beside(theirs, reason):
    source, target = build(num_joints=2, **theirs), build()
    with pytest.raises(CheckpointError) as caught:
        transfer_weights(target, source.state_dict(), ("a", "b"), ("a", "b", "c"), "file.pth")
    first = str(caught.value).splitlines()[0]
    assert reason in first
    assert "the data set has" not in first


def test_a_schema_that_is_not_the_start_weights_is_named():
    with pytest.raises(CheckpointError, match=r"file\.pth: .*weights for 4 joints, and MODEL\.INIT_SCHEMA, .* has 2"):
        transfer_weights(build(), build(num_joints=4).state_dict(), ("a", "b"), ("a", "b", "c"), "file.pth")
