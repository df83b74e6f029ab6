"""Everything that a stopped training needs to go on as if it had never stopped."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from coupled_embedding.engine.checkpoint_files import load_strictly
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.optim.ema import MovingAverage


@dataclass
class TrainingState:
    """What changes while a network is trained.

    The loader's place follows from ``step`` alone: which photos a step takes, and how each is
    augmented, is a function of the seed and the step.

    Attributes:
        network: as trained.
        optimizer: with its moments.
        scaler: of fp16's losses; disabled for other precisions.
        average: of the weights, or None.
        step: optimizer steps done.
        best: best main score of the validations so far.
        untested: whether the validation of the epoch that just ended is still to be done.
    """

    network: PoseNetwork
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: MovingAverage | None
    step: int = 0
    best: float = float("-inf")
    untested: bool = False

    @property
    def tested_network(self) -> PoseNetwork:
        """The network that is tested and saved: the averaged one if the run averages."""
        return self.average.network if self.average else self.network  # type: ignore[return-value]

    def to_dict(self) -> dict[str, Any]:
        """Return tensors and plain values; the averaged weights and ``step`` stand elsewhere in a checkpoint."""
        device = next(self.network.parameters()).device
        return {
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average_updates": self.average.updates if self.average else 0,
            "best": self.best,
            "untested": self.untested,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }

    def restore(self, content: dict[str, Any], path: Path) -> None:
        """Take everything from a checkpoint's content; ``path`` names it in errors.

        Raises:
            CheckpointError: it is not of this network.
        """
        training = content["training"]
        load_strictly(self.network, training["model"], path)
        if self.average:
            load_strictly(self.average.network, content["model"], path)
            self.average.updates = training["average_updates"]
        self.optimizer.load_state_dict(training["optimizer"])
        self.scaler.load_state_dict(training["scaler"])
        self.step, self.best = content["step"], training["best"]
        self.untested = training.get("untested", False)
        self._restore_random(training)

    def _restore_random(self, training: dict[str, Any]) -> None:
        # every process starts from the same seed, so the main one's state is everybody's
        if training.get("random") is not None:
            torch.set_rng_state(training["random"])
        device = next(self.network.parameters()).device
        if training.get("random_cuda") is not None and device.type == "cuda":
            torch.cuda.set_rng_state(training["random_cuda"], device)
