"""Photos that training could not read, told once an epoch."""

from pathlib import Path

from coupled_embedding.data.bad_input import BadInput, Problem
from coupled_embedding.data.train_dataset import TrainBatch
from coupled_embedding.distributed import World, gather
from coupled_embedding.training.logging import RunLog


class SkippedPhotos:
    """Collects the photos that batches could not have.

    Args:
        bad_input: the run's log of broken input.
        folder: of the run.
        world: this process among all.
    """

    def __init__(self, bad_input: BadInput, folder: Path, world: World) -> None:
        self.bad_input, self.folder, self.world = bad_input, folder, world
        self.problems: list[Problem] = []

    def add(self, batch: TrainBatch) -> None:
        """Remember what a batch could not have."""
        self.problems += batch.skipped

    def tell(self, log: RunLog | None, epoch: int) -> None:
        """Say which photos of all processes were skipped in an epoch; every process must call it."""
        everywhere = [problem for part in gather(self.problems, self.world) for problem in part]
        self.problems = []
        heading = f"epoch {epoch}: photos that cannot be read, others in their places"
        told = self.bad_input.report(heading, everywhere, self.folder if log else None)
        if log and told:
            log.say(told)
