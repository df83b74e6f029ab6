"""MobileNetV2 with a feature pyramid: converted weights give the recorded features; it trains like any other."""

import json

import numpy as np
import pytest
import torch
from runs import train_config
from torch import nn

from coupled_embedding.builders import build_model
from coupled_embedding.config import load_config
from coupled_embedding.data.images import normalize
from coupled_embedding.networks.folding import fold_batch_norm
from coupled_embedding.networks.mobilenet_fpn import ChannelBias, MobileNetFPNSettings, SamePaddedConv2d
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.networks.weights import load_backbone
from coupled_embedding.utils.errors import CheckpointError

SMALL = ("MODEL.BACKBONE", "mobilenet_fpn", "MODEL.MOBILENET_FACTOR", "0.25")


@pytest.fixture(scope="module")
def weights_file(real_dir):
    return real_dir / "mobilenet_fpn_movenet_multipose.safetensors"


@pytest.fixture(scope="module")
def converted(weights_file):
    """A network with the converted trunk and pyramid, and the names of what it left out."""
    torch.manual_seed(0)
    network = PoseNetwork(17, 2, MobileNetFPNSettings(), "plain").eval()
    return network, load_backbone(network, weights_file)


@pytest.mark.reference
def test_converted_weights_give_the_recorded_features(converted, real_dir):
    network, _ = converted
    recorded = np.load(real_dir / "mobilenet_fpn_recorded.npz")
    with torch.inference_mode():
        features = network.backbone(torch.from_numpy(recorded["input"])).numpy()
    assert features.shape == recorded["feature"].shape
    assert np.abs(features - recorded["feature"]).max() <= 1e-4


@pytest.mark.reference
def test_only_the_heads_of_the_file_are_left_out(converted, real_dir):
    layers = json.loads((real_dir / "mobilenet_fpn_layers.json").read_text())["layers"]
    order = [layer["id"] for layer in layers]
    heads = {layer["id"] for layer in layers if order.index(layer["id"]) > order.index("relu115")}
    network, left = converted
    assert left
    assert {name.partition(".")[0] for name in left} <= heads
    assert sum(p.numel() for p in network.backbone.parameters()) == 4_698_920


@pytest.mark.reference
@pytest.mark.parametrize(("settings", "text"), [({"factor": 1.0}, "shape: "), ({"batch_norm": True}, "missing: ")])
def test_weights_of_another_size_are_refused(weights_file, settings, text):
    network = PoseNetwork(3, 2, MobileNetFPNSettings(**settings), "plain")
    with pytest.raises(CheckpointError, match=text):
        load_backbone(network, weights_file)


@pytest.mark.parametrize("same", [False, True])
def test_padding_of_stride_two_is_where_it_is_wanted(same):
    backbone = MobileNetFPNSettings(0.25, same_padding=same).build()
    strided = [layer for layer in backbone.modules() if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2)]
    assert len(strided) == 5
    for conv in strided:
        assert isinstance(conv, SamePaddedConv2d) == same
        nn.init.ones_(conv.weight)
        image = torch.zeros(1, conv.in_channels, 4, 4)
        image[:, :, 0, 0] = 1  # seen by the first cell either way
        image[:, :, 3, 3] = 2  # and this one by the last
        once = conv(image)[0, 0]
        # the second row belongs to the first cell alone with "same", and to two if all sides are padded
        image = torch.zeros_like(image)
        image[:, :, 1, 0] = 1
        rows = conv(image)[0, 0, :, 0]
        assert once.shape == (2, 2)
        assert (rows > 0).tolist() == [True, not same]


@pytest.mark.parametrize("head", ["plain", "higher"])
@pytest.mark.parametrize("norm", ["bias", "batch"])
def test_it_trains_and_tests_like_any_other(tiny_crowd, tmp_path, head, norm):
    options = [*SMALL, "MODEL.HEAD", head, "MODEL.MOBILENET_NORM", norm, "MODEL.MOBILENET_PADDING", "even"]
    options += ["MODEL.TAG_DIM", "4", "MODEL.HEAD_BLOCKS", "1", "MODEL.PIXELS", "symmetric"]
    options += ["DATASET.SCHEMA", "datasets/synthetic.yaml", "DATASET.TRAIN", "train", "DATASET.VAL", "val"]
    options += [
        "DATASET.INPUT_SIZE",
        "64",
        "DATASET.ROOT",
        str(tiny_crowd),
        "OUTPUT_DIR",
        str(tmp_path),
        "NAME",
        "mobile",
    ]
    options += ["TRAIN.EPOCHS", "1", "TRAIN.WORKERS", "0", "TEST.WORKERS", "0", "TRAIN.LOG_EVERY", "1"]
    folder = train_config(load_config(None, options))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert any("val/AP" in line for line in lines)
    assert all(line["loss/total"] > 0 for line in lines if "loss/total" in line)


@pytest.mark.parametrize("norm", ["bias", "batch"])
def test_features_have_stride_four_and_batch_norms_fold(norm):
    network = build_model(load_config(None, [*SMALL, "MODEL.MOBILENET_NORM", norm]), 5).eval()
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, ChannelBias):
            nn.init.normal_(module.bias, std=0.1)
    with torch.inference_mode():
        assert network.backbone(images).shape == (2, 24, 16, 24)
        expected, folded = network(images), fold_batch_norm(network)
        assert not any(isinstance(module, nn.BatchNorm2d | ChannelBias) for module in folded.modules())
        assert (folded(images).tags - expected.tags).abs().max() <= 1e-4 * expected.tags.abs().max()


def test_symmetric_pixels_go_from_minus_one_to_one():
    image = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 3, 1).expand(1, 1, 3, 3)
    assert normalize(image, "symmetric")[0, 0, 0].tolist() == pytest.approx([-1, -0.6, 1])
