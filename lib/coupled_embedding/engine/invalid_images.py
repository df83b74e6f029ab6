"""Images that training could not read, or read by their EXIF orientation: reported once per epoch."""

from pathlib import Path

from coupled_embedding.data.dataset import TrainBatch
from coupled_embedding.data.io.data_errors import DataErrorPolicy, DataIssue
from coupled_embedding.engine.logger import Logger
from coupled_embedding.utils.distributed import DistEnv, gather


class InvalidImages:
    """Collects the images that batches had to do without, and those with an EXIF orientation.

    Args:
        policy: the run's collection of data issues.
        folder: of the run.
        env: this rank.
    """

    def __init__(self, policy: DataErrorPolicy, folder: Path, env: DistEnv) -> None:
        self.policy, self.folder, self.env = policy, folder, env
        self.skipped: list[DataIssue] = []

    def add(self, batch: TrainBatch) -> None:
        """Collect the issues of a batch."""
        self.skipped += batch.skipped
        self.policy.oriented |= dict.fromkeys(batch.oriented)

    def report(self, logger: Logger, epoch: int) -> None:
        """Report the issues of all ranks; every rank must call it."""
        parts = gather((self.skipped, self.policy.oriented), self.env)
        self.skipped = []
        skipped = [issue for part, _ in parts for issue in part]
        heading = f"epoch {epoch}: images that cannot be read, others in their places"
        logger.info(self.policy.report(heading, skipped, self.folder if logger.enabled else None))
        for _, oriented in parts:
            self.policy.oriented |= oriented
        logger.info(self.policy.report_oriented())
