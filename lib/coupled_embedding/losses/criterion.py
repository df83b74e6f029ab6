"""The training loss: weighted sum of the heatmap and embedding terms."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from coupled_embedding.data.pose_output import PoseMaps
from coupled_embedding.data.targets import Targets
from coupled_embedding.losses.embedding import EmbeddingLoss
from coupled_embedding.losses.heatmap import HeatmapLoss
from coupled_embedding.losses.scale_maps import ScaleMapLoss


@dataclass(frozen=True)
class LossTerms:
    """Weighted scalar losses of one batch; ``total`` is the one to differentiate."""

    total: Tensor
    heatmap: Tensor
    pull: Tensor
    push: Tensor
    coupling: Tensor

    def __add__(self, other: "LossTerms") -> "LossTerms":
        """Return the sums of the terms."""
        return LossTerms(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def stacked(self) -> Tensor:
        """Return the terms as one detached vector, in the order of the fields: one transfer."""
        return torch.stack([getattr(self, field.name).detach() for field in fields(self)])


@dataclass(frozen=True)
class PullRamp:
    """The pull weight's factor: ``factor`` until step ``start``, then linearly to 1 at ``end``."""

    start: int = 0
    end: int = 0
    factor: float = 1.0

    def __call__(self, step: int) -> float:
        """Return the factor at a step."""
        if step >= self.end:
            return 1.0
        if step < self.start:
            return self.factor
        return self.factor + (1 - self.factor) * (step - self.start) / (self.end - self.start)


class PoseCriterion(nn.Module):
    """Weigh and add the losses (METHOD.md §3).

    Args:
        heatmap_loss: the heatmap term; `ScaleMapLoss` wants maps of a network that has scale maps.
        heatmap_weight, pull_weight, push_weight, coupling_weight: the terms' weights.
        pull_ramp: factor of the pull weight by step. Push has a saddle where all tags are
            equal; a gentle pull at the start lets tags leave it.
    """

    def __init__(
        self,
        heatmap_loss: HeatmapLoss | ScaleMapLoss,
        heatmap_weight: float = 1.0,
        pull_weight: float = 1e-3,
        push_weight: float = 1e-3,
        coupling_weight: float = 1e-4,
        pull_ramp: PullRamp = PullRamp(),
    ) -> None:
        super().__init__()
        self.heatmap_loss = heatmap_loss
        self.embedding_loss = EmbeddingLoss()
        self.weights = (heatmap_weight, pull_weight, push_weight, coupling_weight)
        self.pull_ramp = pull_ramp

    def forward(self, maps: PoseMaps, targets: Targets, step: int = 0) -> LossTerms:
        """Return the weighted terms, summed over the stages of a stacked network.

        ``step`` is the optimizer step, for the pull's ramp.
        """
        terms = self._stage(maps, targets, step)
        for stage in maps.earlier:
            terms = terms + self._stage(stage, targets, step)
        return terms

    def _stage(self, maps: PoseMaps, targets: Targets, step: int) -> LossTerms:
        with torch.autocast(maps.tags.device.type, enabled=False):
            widths = maps.scale_maps if isinstance(self.heatmap_loss, ScaleMapLoss) else maps.tags
            heatmap = self.heatmap_loss(maps.heatmaps, targets.heatmaps, targets.masks, widths)
            terms = self.embedding_loss(maps.tags, targets.cells, targets.visible, targets.scales)
            heatmap_weight, pull_weight, push_weight, coupling_weight = self.weights
            heatmap = heatmap_weight * heatmap
            pull = pull_weight * self.pull_ramp(step) * terms.pull
            push = push_weight * terms.push
            coupling = coupling_weight * terms.coupling
            return LossTerms(heatmap + pull + push + coupling, heatmap, pull, push, coupling)


def build_criterion(cfg: CfgNode) -> PoseCriterion:
    """Build the loss of a config."""
    loss = cfg.LOSS
    heatmap_loss: HeatmapLoss | ScaleMapLoss
    if cfg.MODEL.SCALE_MAPS:
        heatmap_loss = ScaleMapLoss(loss.FOCAL)
    else:
        heatmap_loss = HeatmapLoss(loss.BETA, loss.SCALE_ADAPTED, loss.FOCAL)
    ramp = PullRamp(loss.PULL_RAMP_START, loss.PULL_RAMP_END, loss.PULL_RAMP_FACTOR)
    return PoseCriterion(
        heatmap_loss,
        loss.HEATMAP_WEIGHT,
        loss.PULL_WEIGHT,
        loss.PUSH_WEIGHT,
        loss.COUPLING_WEIGHT,
        ramp,
    )
