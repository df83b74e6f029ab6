"""The training loss: named terms, each with a weight. A new term is an entry in `PoseCriterion.terms` and a weight."""

import functools
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from coupled_embedding.data.gaussians import SIGMA
from coupled_embedding.data.outputs import PoseOutput
from coupled_embedding.data.pafs import Limbs
from coupled_embedding.data.targets import Targets
from coupled_embedding.losses.centers import center_losses
from coupled_embedding.losses.embedding import EmbeddingLoss, without_places
from coupled_embedding.losses.heatmap import HeatmapLoss
from coupled_embedding.losses.logistic import LogisticHeatmapLoss
from coupled_embedding.losses.optional import OPTIONAL_TERMS
from coupled_embedding.losses.pafs import paf_loss
from coupled_embedding.losses.parallel import parallel_loss
from coupled_embedding.losses.ramp import Ramp
from coupled_embedding.losses.scale_maps import ScaleMapLoss

# of the paper; on CrowdPose as on COCO
WEIGHTS = {"heatmap": 1.0, "pull": 1e-3, "push": 1e-3, "coupling": 1e-4}


class PoseCriterion(nn.Module):
    """Weighted sum of the loss terms (docs/method.md 3).

    Args:
        heatmap_loss: `HeatmapLoss`, `ScaleMapLoss` for a network that outputs scale maps, or `LogisticHeatmapLoss` for
            one whose heatmaps are probabilities.
        weights: of the terms by name; optional terms of weight 0 are not computed, and without ``pull`` no term of
            the tags is.
        pull_ramp: factor of the pull weight by step. Push has a saddle where all tags are equal; a
            gentle pull at the start lets tags leave it.
        spatial_dims: a tag's last dimensions that hold places, which say nothing about scales.
        units: of places, per cell.
        sigma: of the targets' Gaussians, cells.
        limbs: of part affinity fields.
    """

    def __init__(
        self,
        heatmap_loss: HeatmapLoss | ScaleMapLoss | LogisticHeatmapLoss,
        weights: Mapping[str, float] = WEIGHTS,
        pull_ramp: Ramp = Ramp(),  # noqa: B008 - frozen
        spatial_dims: int = 0,
        units: float = 1.0,
        sigma: float = SIGMA,
        limbs: Limbs = (),
    ) -> None:
        super().__init__()
        self.sigma, self.limbs = sigma, limbs
        self.heatmap_loss = heatmap_loss
        chosen = [name for name in OPTIONAL_TERMS if weights.get(name)]
        self.embedding_loss = EmbeddingLoss(spatial_dims, chosen, units)
        optional = {*OPTIONAL_TERMS, "parallel"}
        self.weights = {name: weight for name, weight in weights.items() if weight or name not in optional}
        self.ramps = {"pull": pull_ramp}

    def forward(self, output: PoseOutput, targets: Targets, step: int = 0) -> dict[str, Tensor]:
        """Return the weighted terms by name, and first their sum, ``total``.

        The outputs of a stacked network's earlier stages are supervised like the last one's.

        Args:
            output: of the network.
            targets: of the same batch.
            step: optimizer steps done, for the ramps.
        """
        with torch.autocast(output.tags.device.type, enabled=False):
            stages = [self._weighted(self.terms(stage, targets), step) for stage in (output, *output.aux_outputs)]
        return {name: _sum(stage[name] for stage in stages) for name in stages[0]}

    def terms(self, output: PoseOutput, targets: Targets) -> dict[str, Tensor]:
        """Return one stage's terms without weights, scalars, in float32 or better."""
        scale_tags = without_places(output.tags, self.embedding_loss.spatial_dims)
        widths = output.scale_maps if isinstance(self.heatmap_loss, ScaleMapLoss) else scale_tags
        heatmap = self.heatmap_loss(output.heatmaps, targets.heatmaps, targets.masks, widths)
        terms = {"heatmap": heatmap}
        if "pull" in self.weights:
            terms |= self.embedding_loss(
                output.tags, targets.cells, targets.visible, targets.scales, targets.confidence
            )
        if output.pafs is not None and targets.pafs is not None:
            terms["paf"] = paf_loss(output.pafs, targets.pafs, targets.masks[0], self.limbs)
        if output.centers is not None and targets.centers is not None:
            terms |= center_losses(output.centers, targets.centers)
        if "parallel" in self.weights:
            terms["parallel"] = parallel_loss(output.parallel, targets, self.sigma)
        return terms

    def _weighted(self, terms: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        if terms.keys() != self.weights.keys():
            raise ValueError(f"loss terms {sorted(terms)}, but weights for {sorted(self.weights)}")
        losses = {name: self._weight(name, step) * terms[name] for name in self.weights}
        return {"total": _sum(losses.values()), **losses}

    def _weight(self, name: str, step: int) -> float:
        return self.weights[name] * (self.ramps[name](step) if name in self.ramps else 1.0)


def _sum(terms: Iterable[Tensor]) -> Tensor:
    return functools.reduce(Tensor.add, terms)
