import numpy as np
import torch

from coupled_embedding.builders import build_criterion, build_model
from coupled_embedding.config import load_config
from coupled_embedding.data.targets import Targets
from coupled_embedding.losses.pafs import paf_loss

LIMBS = ((0, 1), (1, 2))


def slow_loss(pafs, target, mask):
    batch, limbs, _, height, width = pafs.shape
    total = 0.0
    for b in range(batch):
        for limb in range(limbs):
            first, second = LIMBS[limb]
            for y in range(height):
                for x in range(width):
                    weight = mask[b, first, y, x] * mask[b, second, y, x] if mask.ndim == 4 else mask[b, y, x]
                    error = pafs[b, limb, :, y, x] - target[b, limb, :, y, x]
                    total += weight * (error**2).sum()
    return total / (batch * height * width * 3)


def test_the_loss_is_that_of_a_loop_over_cells_for_both_kinds_of_masks():
    rng = np.random.default_rng(4)
    pafs, target = rng.normal(size=(2, 2, 2, 2, 3, 4))
    for mask in (rng.integers(0, 2, (2, 3, 4)).astype(float), rng.random((2, 3, 3, 4))):
        found = paf_loss(*map(torch.from_numpy, (pafs, target, mask)), LIMBS)
        np.testing.assert_allclose(found.item(), slow_loss(pafs, target, mask), rtol=1e-12)


def test_the_criterion_adds_the_fields_of_each_stage_with_their_weight():
    options = ["MODEL.WIDTH", "8", "MODEL.STEM_WIDTH", "8", "MODEL.PAF_STAGES", "3", "LOSS.PAF_WEIGHT", "0.25"]
    cfg = load_config("config/synthetic/paf_small.yaml", options)
    network = build_model(cfg, 3, len(LIMBS))
    output = network(torch.rand(2, 3, 64, 64))
    assert len(output.aux_outputs) == 2
    stages = [*output.aux_outputs, output]
    assert all(stage.pafs.shape == (2, 2, 2, 16, 16) and stage.heatmaps[0].shape == (2, 3, 16, 16) for stage in stages)
    targets = Targets(
        (torch.rand(2, 3, 16, 16),),
        (torch.ones(2, 16, 16),),
        torch.zeros(2, 1, 3, 2, dtype=torch.long),
        torch.ones(2, 1, 3, dtype=torch.bool),
        torch.full((2, 1), 0.3),
        pafs=torch.rand(2, 2, 2, 16, 16),
    )
    losses = build_criterion(cfg, LIMBS)(output, targets)
    assert losses.keys() == {"total", "heatmap", "paf"}
    expected = sum(0.25 * ((stage.pafs - targets.pafs) ** 2).sum() / (2 * 256 * 3) for stage in stages)
    torch.testing.assert_close(losses["paf"], expected)
    losses["total"].backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []
