"""Everything that a stopped training needs to go on as if it had never stopped."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.networks.weights import load_strictly
from coupled_embedding.optim.ema import MovingAverage


@dataclass
class TrainState:
    """What changes while a network is trained.

    The loader's position follows from ``step`` alone: which images a step takes, and how each is
    augmented, is a function of the seed and the step.

    Attributes:
        model: as trained.
        optimizer: with its moments.
        scaler: of the losses in fp16; disabled for other precisions.
        ema: moving average of the weights, or None.
        step: optimizer steps done.
        best: best main metric of the validations so far.
        validation_pending: whether the epoch that just ended is still to be validated.
    """

    model: PoseNetwork
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: MovingAverage | None
    step: int = 0
    best: float = float("-inf")
    validation_pending: bool = False

    @property
    def eval_model(self) -> PoseNetwork:
        """The network that is evaluated and saved: the averaged one, if there is an average."""
        return self.ema.model if self.ema else self.model

    def to_dict(self) -> dict[str, Any]:
        """Return tensors and plain values; a checkpoint holds `eval_model` and ``step`` elsewhere."""
        device = next(self.model.parameters()).device
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average_updates": self.ema.updates if self.ema else 0,
            "best": self.best,
            "validation_pending": self.validation_pending,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }

    def restore(self, content: dict[str, Any], path: Path) -> None:
        """Load a checkpoint's content; ``path`` names it in errors.

        Raises:
            CheckpointError: it is not of this network.
        """
        training = content["training"]
        load_strictly(self.model, training["model"], path)
        if self.ema:
            load_strictly(self.ema.model, content["model"], path)
            self.ema.updates = training["average_updates"]
        self.optimizer.load_state_dict(training["optimizer"])
        if training["scaler"]:  # empty, unless it was fp16
            self.scaler.load_state_dict(training["scaler"])
        self.step, self.best = content["step"], training["best"]
        self.validation_pending = training["validation_pending"]
        # every rank starts from the same seed, so rank 0's state is everybody's
        torch.set_rng_state(training["random"])
        device = next(self.model.parameters()).device
        if training["random_cuda"] is not None and device.type == "cuda":
            torch.cuda.set_rng_state(training["random_cuda"], device)
