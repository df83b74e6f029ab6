"""Tags with places: their values, and a network that is the same but for them."""

import json

import pytest
import torch
from runs import train_config
from torch import nn

from coupled_embedding.builders import build_model
from coupled_embedding.config import load_config
from coupled_embedding.networks.folding import fold_batch_norm
from coupled_embedding.networks.hourglass import HourglassSettings
from coupled_embedding.networks.places import SPATIAL_DIMS, add_places
from coupled_embedding.networks.pose_network import PoseNetwork

SMALL = ("MODEL.BACKBONE", "mobilenet_fpn", "MODEL.MOBILENET_FACTOR", "0.25", "MODEL.TAG_DIM", "4")


def tags_of(*shape, kind=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(kind)


@pytest.mark.parametrize("units", [1.0, 0.25])
def test_the_last_two_dimensions_gain_x_and_y_in_units(units):
    tags = tags_of(2, 3, 4, 5, 6)
    added = add_places(tags, units) - tags
    assert not added[..., :-2].any()
    for y in range(4):
        for x in range(5):
            expected = torch.tensor([x * units, y * units]).expand(2, 3, 2)
            torch.testing.assert_close(added[:, :, y, x, -2:], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_places_are_exact_whatever_the_precision(kind):
    tags = torch.zeros(1, 1, 300, 700, 2, dtype=kind)
    places = add_places(tags, 1.0)
    assert places.dtype == (torch.float64 if kind == torch.float64 else torch.float32)
    assert places[0, 0, 299, 611].tolist() == [611, 299]


@pytest.mark.parametrize("head", ["plain", "higher", "separable"])
def test_a_network_with_places_is_the_same_but_for_them(tiny, head):
    torch.manual_seed(0)
    spatial = PoseNetwork(3, 2, tiny, head, head_blocks=1, spatial_tags=0.5).eval()
    bare = PoseNetwork(3, 2 + SPATIAL_DIMS, tiny, head, head_blocks=1).eval()
    bare.load_state_dict(spatial.state_dict())
    assert spatial.tag_dim == bare.tag_dim == 4
    with torch.no_grad():
        images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
        found, expected = spatial(images), bare(images)
    assert all(torch.equal(a, b) for a, b in zip(found.heatmaps, expected.heatmaps, strict=True))
    torch.testing.assert_close(found.tags, add_places(expected.tags, 0.5), rtol=0, atol=0)
    # people at different places have different tags before anything is learned
    apart = found.tags[:, :, 0, 0] - found.tags[:, :, 15, 23]
    assert (apart[..., -2:].abs() > 7).all()


def test_every_stage_of_a_stacked_network_has_places():
    settings = HourglassSettings(stacks=2, width=8)
    network = PoseNetwork(3, 1, settings, "plain", spatial_tags=1.0).eval()
    with torch.no_grad():
        output = network(torch.zeros(1, 3, 256, 256))
    for stage in (output, *output.aux_outputs):
        assert stage.tags.shape[-1] == 3
        assert (stage.tags[0, :, 40, 50, -2] - stage.tags[0, :, 40, 20, -2]).round().tolist() == [30] * 3


# ---- the pyramid for tags


@pytest.mark.parametrize("norm", ["bias", "batch"])
def test_a_pyramid_for_tags_widens_the_features_and_folds(norm):
    options = [*SMALL, "MODEL.HEAD", "separable", "MODEL.MOBILENET_TAG_WIDTH", "16", "MODEL.MOBILENET_NORM", norm]
    torch.manual_seed(0)
    network = build_model(load_config(None, options), 5).eval()
    assert network.strides == (4,)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features = network.backbone(images)
        assert features.shape == (2, 24 + 16, 16, 24)
        expected, folded = network(images), fold_batch_norm(network)
        assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
        found = folded(images)
    for a, b in ((found.tags, expected.tags), (found.heatmaps[0], expected.heatmaps[0])):
        assert (a - b).abs().max() <= 1e-4 * b.abs().max()


def test_the_pyramid_for_tags_is_beside_the_one_for_heatmaps():
    options = [*SMALL, "MODEL.HEAD", "separable", "MODEL.MOBILENET_TAG_WIDTH", "16"]
    torch.manual_seed(0)
    network = build_model(load_config(None, options), 5)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    parameters = dict(network.backbone.named_parameters())
    output = network(images)
    for maps, seen in ((output.heatmaps[0], "pyramid"), (output.tags, "tag_pyramid")):
        gradients = torch.autograd.grad(maps.square().sum(), list(parameters.values()), retain_graph=True)
        reached = [name for name, gradient in zip(parameters, gradients, strict=True) if gradient.any()]
        assert {name.partition(".")[0] for name in reached} == {"trunk", seen}


def test_all_of_it_trains_and_tests_like_any_other(tiny_crowd, tmp_path):
    options = [*SMALL, "MODEL.HEAD", "separable", "MODEL.MOBILENET_TAG_WIDTH", "8", "MODEL.SPATIAL_TAGS", "0.25"]
    options += ["DATASET.SCHEMA", "datasets/synthetic.yaml", "DATASET.TRAIN", "train", "DATASET.VAL", "val"]
    options += ["DATASET.INPUT_SIZE", "64", "DATASET.ROOT", str(tiny_crowd), "OUTPUT_DIR", str(tmp_path)]
    options += ["NAME", "mobile", "TRAIN.EPOCHS", "1", "TRAIN.WORKERS", "0", "TEST.WORKERS", "0"]
    options += ["TRAIN.IMAGES_PER_GPU", "4", "TRAIN.VISUALIZE_EVERY", "0", "TEST.FLIP", "False", "TEST.REFINE", "none"]
    options += ["TRAIN.LOG_EVERY", "1", "LOSS.SCALE_ADAPTED", "False", "LOSS.ANNOTATED_WIDTHS", "True"]
    folder = train_config(load_config(None, options))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert any("val/AP" in line for line in lines)
    losses = [line for line in lines if "loss/total" in line]
    assert losses
    assert all(line["loss/total"] > 0 and line["loss/coupling"] > 0 for line in losses)
