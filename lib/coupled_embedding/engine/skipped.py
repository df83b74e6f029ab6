"""Photos that training could not read or read turned, told once an epoch."""

from pathlib import Path

from coupled_embedding.data.dataset import TrainBatch
from coupled_embedding.data.io.data_errors import BadInput, Problem
from coupled_embedding.engine.logger import RunLog
from coupled_embedding.utils.distributed import World, gather


class SkippedPhotos:
    """Collects the photos that batches could not have, and those with an EXIF orientation.

    Args:
        bad_input: the run's log of broken input.
        folder: of the run.
        world: this process among all.
    """

    def __init__(self, bad_input: BadInput, folder: Path, world: World) -> None:
        self.bad_input, self.folder, self.world = bad_input, folder, world
        self.problems: list[Problem] = []
        self.oriented: dict[Problem, None] = {}
        self.told: set[Problem] = set()

    def add(self, batch: TrainBatch) -> None:
        """Remember what a batch could not have."""
        self.problems += batch.skipped
        self.oriented |= dict.fromkeys(batch.oriented)

    def tell(self, log: RunLog | None, epoch: int) -> None:
        """Say which photos of all processes were skipped in an epoch; every process must call it."""
        everywhere = [problem for part in gather(self.problems, self.world) for problem in part]
        self.problems = []
        heading = f"epoch {epoch}: photos that cannot be read, others in their places"
        told = self.bad_input.report(heading, everywhere, self.folder if log else None)
        if log and told:
            log.say(told)
        self._tell_oriented(log)

    def _tell_oriented(self, log: RunLog | None) -> None:
        """Warn of photos with an EXIF orientation that were not met before."""
        met = dict.fromkeys(p for part in gather(list(self.oriented), self.world) for p in part if p not in self.told)
        self.oriented = {}
        self.told |= met.keys()
        if log and met:
            log.say(f"warning: {len(met)} photos with an EXIF orientation, such as {next(iter(met))}")
