"""The weight files of a run: numbered checkpoints to go on from, the best, the last, a failed step's."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.engine import checkpoint_files as checkpoint
from coupled_embedding.engine.nonfinite import BadStep
from coupled_embedding.engine.state import TrainingState
from coupled_embedding.utils.distributed import World
from coupled_embedding.utils.errors import UserError

Scores = dict[str, float]
_EARLIER_END = re.compile(r"final_(\d+)_epochs\.pth")


@dataclass(frozen=True)
class RunFiles:
    """Writes a training's weight files; only the main process does, the others return at once.

    Attributes:
        folder: of the run.
        cfg: its config, which every file carries.
        schema: its joints, likewise.
        state: what is saved.
        steps_per_epoch, photos: a training continues only with as many.
        world: this process among all.
    """

    folder: Path
    cfg: CfgNode
    schema: KeypointSchema
    state: TrainingState
    steps_per_epoch: int
    photos: int
    world: World

    @property
    def final(self) -> Path:
        """The weights after the last step."""
        return self.folder / "final.pth"

    def save_final(self, scores: Scores) -> None:
        """Write the weights after the last step."""
        if self.world.is_main:
            checkpoint.save(self._weights(scores) | {"selected_on": ""}, self.final)

    def save_best(self, scores: Scores) -> None:
        """Write the weights of the best validation."""
        if self.world.is_main:
            weights = self._weights(scores) | {"selected_on": self.cfg.DATASET.VAL}
            checkpoint.save(weights, self.folder / "best.pth")

    def save_numbered(self, scores: Scores) -> None:
        """Write a checkpoint to go on from, and delete those that are too many."""
        if self.world.is_main:
            checkpoint.save(self._resumable(scores), checkpoint.checkpoint_path(self.folder, self.state.step))
            checkpoint.keep_latest(self.folder, self.cfg.TRAIN.KEEP)

    def save_failure(self, bad: BadStep) -> tuple[Path, bool]:
        """Write the present state with what was bad; return the file, and whether it repeats that step next.

        It does if the bad step was the last one, as that has changed nothing. A GPU's flags may
        tell of it some good steps later.
        """
        path = self.folder / f"failure_{bad.step:08d}.pth"
        repeats = bad.step == self.state.step
        if self.world.is_main:
            failure = {"step": bad.step, "terms": list(bad.terms), "image_ids": list(bad.image_ids)}
            content = self._resumable({}) | {"step": self.state.step - repeats, "failure": failure}
            checkpoint.save(content, path)
        return path, repeats

    def _weights(self, scores: Scores) -> dict[str, Any]:
        weights = self.state.tested_network.state_dict()
        return checkpoint.describe(self.cfg, self.schema, weights, scores, self.state.step)

    def _resumable(self, scores: Scores) -> dict[str, Any]:
        plan = {"steps_per_epoch": self.steps_per_epoch, "photos": self.photos, "processes": self.world.size}
        training = self.state.to_dict() | plan
        return self._weights(scores) | {"training": training}

    def restore(self, content: dict[str, Any], path: Path) -> Scores:
        """Take the state from what `read_resumable` read; return the scores of its validation.

        Raises:
            CheckpointError: it is of another network.
            UserError: its config differs in anything that changes the training.
        """
        checkpoint.check_same_training(content["config"], self.cfg, path, longer=True)
        now = {"steps_per_epoch": self.steps_per_epoch, "photos": self.photos, "processes": self.world.size}
        before = {name: content["training"].get(name, value) for name, value in now.items()}
        if before != now:
            words = [f"{before[name]} {name.replace('_', ' ')}, this run has {now[name]}" for name in now]
            differing = [text for text, name in zip(words, now, strict=True) if before[name] != now[name]]
            raise UserError(f"{path}: had {'; '.join(differing)}; continue with as many photos and processes")
        self.state.restore(content, path)
        return dict(content["metrics"])


def set_final_aside(folder: Path, epochs: int, epochs_now: int) -> str:
    """Rename the last weights of a run that goes on beyond its end, so that ``final.pth`` is always the present end's.

    Args:
        folder: of the run.
        epochs: after which it ended, or was to end.
        epochs_now: after which it ends now.

    Returns:
        What was done, in words; empty: the run goes on to the same end, or had not ended.

    Raises:
        UserError: the file cannot be renamed.
    """
    final = folder / "final.pth"
    if epochs == epochs_now or not final.is_file():
        return ""
    aside = folder / f"final_{epochs}_epochs.pth"
    try:
        final.replace(aside)
    except OSError as error:
        raise UserError(f"{final}: cannot be renamed to {aside.name} ({error.strerror})") from error
    after = f"{epochs} epoch{'s' if epochs > 1 else ''}"
    return f"trained longer: {epochs_now} epochs instead of {epochs}; the weights after {after} are {aside}"


def earlier_ends(folder: Path) -> list[int]:
    """Return after how many epochs a run ended before it was trained longer, in rising order."""
    return sorted(int(match[1]) for path in folder.iterdir() if (match := _EARLIER_END.fullmatch(path.name)))
