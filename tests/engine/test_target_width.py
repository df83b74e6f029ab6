"""LOSS.SIGMA: the width of the targets that a training compares heatmaps with."""

import math
from contextlib import closing

import pytest
import torch

from coupled_embedding.builders import build_train_run
from coupled_embedding.engine.train import forward
from coupled_embedding.utils.distributed import process_group


@pytest.mark.parametrize(
    ("options", "sigma"), [((), 2.0), (("LOSS.SIGMA", "1"), 1.0), (("LOSS.SIGMA", "0.875"), 0.875)]
)
def test_a_cell_beside_a_joint_has_the_gaussians_value(tiny, options, sigma):
    cfg = tiny("width", "DATASET.VAL", "''", *options)
    with process_group("cpu") as env:
        run = build_train_run(cfg, env)
        with closing(run.open_loader(0, 1)) as loader:
            _, targets, losses = forward(run, next(loader))
    assert losses["total"].isfinite()
    assert run.criterion.sigma == sigma
    image, person, joint = targets.visible.nonzero()[0].tolist()
    x, y = targets.cells[image, person, joint].tolist()
    heatmap = targets.heatmaps[0][image, joint]
    assert heatmap[y, x] == 1
    for step in (-1, 1):
        if 0 <= x + step < heatmap.shape[1]:
            # another person's joint may be nearer
            assert float(heatmap[y, x + step]) >= math.exp(-1 / (2 * sigma**2)) - 1e-6
    # and no cell is between 1 and the nearest neighbors' value
    below = heatmap[heatmap < 1]
    assert float(below.max()) == pytest.approx(math.exp(-1 / (2 * sigma**2)), rel=1e-6)
    assert heatmap.dtype == torch.float32
