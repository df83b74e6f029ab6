"""Checkpoints of a run: self-describing, written to a temporary file and renamed, pruned, and found again."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from coupled_embedding.config.aliases import current_checkpoint
from coupled_embedding.engine.nonfinite import NonFiniteStep
from coupled_embedding.engine.state import TrainState
from coupled_embedding.networks.torch_files import read_weight_file
from coupled_embedding.networks.weights import FORMAT
from coupled_embedding.utils.distributed import DistEnv
from coupled_embedding.utils.errors import CheckpointError, UserError

_NAME = re.compile(r"checkpoint_(\d+)\.pth$")


@dataclass(frozen=True)
class Checkpointer:
    """Writes a run's checkpoints; only rank 0 does, the others return at once.

    Attributes:
        folder: of the run.
        state: what is saved.
        about: what every file carries besides weights: ``config`` and ``schema`` as plain dicts.
        selects_on: split whose validation chooses the best checkpoint.
        must_match: what a training continues with only if equal: steps per epoch, images, ranks.
        keep: numbered checkpoints that are kept.
        env: this rank.
    """

    folder: Path
    state: TrainState
    about: Mapping[str, Any]
    selects_on: str
    must_match: Mapping[str, int]
    keep: int
    env: DistEnv

    @property
    def final(self) -> Path:
        """The weights after the last step."""
        return self.folder / "final.pth"

    def save_final(self, metrics: dict[str, float]) -> None:
        """Save the weights after the last step."""
        self._write(self.final, self.weights(metrics) | {"selected_on": ""})

    def save_best(self, metrics: dict[str, float]) -> None:
        """Save the weights of the best validation."""
        self._write(self.folder / "best.pth", self.weights(metrics) | {"selected_on": self.selects_on})

    def save(self, metrics: dict[str, float]) -> None:
        """Save a checkpoint to resume from, and prune older ones."""
        self._write(checkpoint_path(self.folder, self.state.step), self._resumable(metrics))
        if self.env.is_rank0:
            for path in list_checkpoints(self.folder)[: -self.keep]:
                path.unlink(missing_ok=True)

    def save_failure(self, bad: NonFiniteStep) -> tuple[Path, bool]:
        """Save the present state with what was bad; return the file, and whether it repeats that step next.

        It does if the bad step was the last one, as that has changed nothing. The flags of a GPU may report it
        some good steps later.
        """
        path = self.folder / f"failure_{bad.step:08d}.pth"
        repeats = bad.step == self.state.step
        failure = {"step": bad.step, "terms": list(bad.terms), "image_ids": list(bad.image_ids)}
        self._write(path, self._resumable({}) | {"step": self.state.step - repeats, "failure": failure})
        return path, repeats

    def weights(self, metrics: dict[str, float]) -> dict[str, Any]:
        """Return a checkpoint's content: tensors and plain values only."""
        weights = self.state.eval_model.state_dict()
        return {"format": FORMAT, "model": weights, **self.about, "metrics": metrics, "step": self.state.step}

    def _resumable(self, metrics: dict[str, float]) -> dict[str, Any]:
        return self.weights(metrics) | {"training": self.state.to_dict() | dict(self.must_match)}

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        if self.env.is_rank0:
            write_checkpoint(content, path)

    def restore(self, content: dict[str, Any], path: Path) -> dict[str, float]:
        """Load what `read_resumable` read; return the metrics of its validation.

        Raises:
            CheckpointError: it is of another network.
            UserError: it is of another number of images, ranks or steps per epoch.
        """
        before = {name: content["training"].get(name, value) for name, value in self.must_match.items()}
        differing = [
            f"{before[name]} {name.replace('_', ' ')}, this run has {value}"
            for name, value in self.must_match.items()
            if before[name] != value
        ]
        if differing:
            raise UserError(
                f"{path}: had {'; '.join(differing)}; continue with the same number of images and ranks, or start "
                f"another run from its weights: NAME some_name MODEL.INIT_FROM {path}"
            )
        self.state.restore(content, path)
        return dict(content["metrics"])


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint to a temporary file, flushed to disk, then renamed, so that a crash leaves the old file.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot write the checkpoint ({error}); earlier checkpoints are untouched") from error


def _flush_folder(folder: Path) -> None:
    """Make a rename outlive a power cut, where the file system supports it."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def list_checkpoints(folder: Path) -> list[Path]:
    """Return a run's numbered checkpoints, oldest first."""
    numbered = [(int(match[1]), path) for path in folder.glob("checkpoint_*.pth") if (match := _NAME.search(path.name))]
    return [path for _, path in sorted(numbered)]


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return the name of the checkpoint after a number of optimizer steps."""
    return folder / f"checkpoint_{step:08d}.pth"


def read_resumable(path: Path) -> dict[str, Any]:
    """Read a numbered checkpoint; CheckpointError if it is damaged or no training can continue from it."""
    content = read_weight_file(path)
    if content.get("format") != FORMAT or "training" not in content:
        raise CheckpointError(f"{path}: not a checkpoint that training can continue from; give a checkpoint_*.pth")
    return current_checkpoint(content)


def latest_valid(folder: Path) -> tuple[Path | None, list[str]]:
    """Return a run's latest checkpoint that can be read, and what is wrong with later ones.

    Raises:
        CheckpointError: there are checkpoints, but none can be read.
    """
    problems: list[str] = []
    for path in reversed(list_checkpoints(folder)):
        try:
            read_resumable(path)
            return path, problems
        except CheckpointError as error:
            problems.append(str(error))
    if problems:
        raise CheckpointError(
            f"{folder}: none of its checkpoints can be read; start again in another folder (NAME or OUTPUT_DIR), "
            "from its best.pth with MODEL.INIT_FROM:\n  " + "\n  ".join(problems)
        )
    return None, []


def remove_partial(folder: Path) -> None:
    """Delete what a process that was killed while it wrote a checkpoint left."""
    for path in folder.glob("*.pth.part"):
        path.unlink(missing_ok=True)
