"""The same experiment with several seeds: what is done, what is left, mean and deviation."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coupled_embedding.engine.checkpoint_files import check_same_training
from coupled_embedding.networks.weights import read_weight_file
from coupled_embedding.utils.errors import UserError
from coupled_embedding.zoo.jobs import Job
from coupled_embedding.zoo.provenance import sha256_of
from coupled_embedding.zoo.records import RunRecord, changed_settings, percent, read_record
from coupled_embedding.zoo.tables import markdown


@dataclass(frozen=True)
class SeedRun:
    """One seed of an experiment.

    Attributes:
        seed: its number.
        train: the training's config, NAME and SEED included.
        test: the test's.
        folder: of the run.
        record: of the test, where it will lie.
    """

    seed: int
    train: Job
    test: Job
    folder: Path
    record: Path

    def is_trained(self) -> bool:
        """Tell whether the training has ended; UserError if it was one with other options."""
        final = self.folder / "final.pth"
        if not final.is_file():
            return False
        check_same_training(read_weight_file(final)["config"], self.train.load(), final)
        return True

    def tested(self) -> RunRecord | None:
        """Return the record of the test, if it can be read and is of these weights and these options."""
        weights = next((path for path in (self.folder / "best.pth", self.folder / "final.pth") if path.is_file()), None)
        if not self.record.is_file() or weights is None:
            return None
        try:
            record = read_record(self.record)
        except UserError:  # a test that is done again writes it anew
            return None
        wanted = {key: value for key, value in changed_settings(self.test.load()).items() if key.startswith("TEST.")}
        found = {key: value for key, value in record.settings.items() if key.startswith("TEST.")}
        same_weights = record.weights == {weights.name: sha256_of(weights)}
        return record if found == wanted and same_weights else None


def seed_options(name: str, seed: int) -> list[str]:
    """Return the options of one seed's run: ``NAME_seedS`` with its SEED."""
    return ["SEED", str(seed), "NAME", f"{name}_seed{seed}"]


def seeds_table(records: Sequence[RunRecord]) -> str:
    """Return a row a seed, then mean ± sample standard deviation, in percent."""
    names = list(records[0].figures)
    rows = [[record.seed, *(percent(record.figures[name]) for name in names)] for record in records]
    rows.append(["mean ± sd", *(_mean(name, records) for name in names)])
    return markdown(["seed", *names], rows, range(1, len(names) + 1))


def _mean(name: str, records: Sequence[RunRecord]) -> str:
    values = [math.nan if (value := record.figures[name]) is None else 100 * value for record in records]
    if any(math.isnan(value) for value in values):
        return "n/a"
    deviation = f"{statistics.stdev(values):.2f}" if len(values) > 1 else "n/a"
    return f"{statistics.mean(values):.2f} ± {deviation}"
