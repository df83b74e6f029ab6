"""Networks of heatmaps alone, MODEL.TAG_DIM 0."""

import pytest
import torch

from coupled_embedding.builders import build_criterion, build_model, build_optimizer
from coupled_embedding.config import load_config
from coupled_embedding.data.targets import Targets

PLAIN = [
    "MODEL.TAG_DIM",
    "0",
    "LOSS.SCALE_ADAPTED",
    "False",
    "LOSS.FOCAL",
    "False",
    "MODEL.WIDTH",
    "8",
    "MODEL.STEM_WIDTH",
    "8",
]
HOURGLASS = ["MODEL.BACKBONE", "hourglass", "MODEL.HEAD", "plain", "MODEL.STACKS", "2", "MODEL.HOURGLASS_DEPTH", "2"]


def experiment(*options):
    return load_config("config/synthetic/ce_small_paper.yaml", [*PLAIN, *options])


@pytest.mark.parametrize(
    "options",
    [["MODEL.HEAD", "plain"], ["MODEL.HEAD", "higher"], ["MODEL.HEAD", "separable"], HOURGLASS],
    ids=["plain", "higher", "separable", "hourglass"],
)
def test_all_parameters_of_a_network_without_tags_learn_from_the_heatmap_loss_alone(options):
    cfg = experiment(*options)
    network = build_model(cfg, 5)
    output = network(torch.rand(2, 3, 64, 64))
    assert output.tags.shape == (2, 5, 16, 16, 0)
    heatmaps = tuple(torch.rand_like(heatmap) for heatmap in output.heatmaps)
    masks = tuple(torch.ones(2, *heatmap.shape[-2:]) for heatmap in output.heatmaps)
    cells, visible = torch.zeros(2, 3, 5, 2, dtype=torch.long), torch.ones(2, 3, 5, dtype=torch.bool)
    losses = build_criterion(cfg)(output, Targets(heatmaps, masks, cells, visible, torch.full((2, 3), 0.3)))
    assert losses.keys() == {"total", "heatmap"}
    stages = [output.heatmaps, *(stage.heatmaps for stage in output.aux_outputs)]
    expected = sum(((h - t) ** 2).mean() for stage in stages for h, t in zip(stage, heatmaps, strict=True))
    torch.testing.assert_close(losses["total"], expected)
    losses["total"].backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_muon_takes_a_network_without_tags():
    cfg = experiment("MODEL.HEAD", "higher", "TRAIN.OPTIMIZER", "muon")
    network = build_model(cfg, 5)
    optimizer = build_optimizer(cfg, network)
    grouped = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert len(grouped) == len(list(network.parameters()))
