"""The same experiment with several seeds: what is done, what is left, mean and deviation."""

from collections.abc import Sequence
from pathlib import Path

from coupled_embedding.builders import check_same_training
from coupled_embedding.utils.errors import UserError
from coupled_embedding.zoo.markdown import markdown_table, mean_and_deviation, percent
from coupled_embedding.zoo.provenance import sha256_of
from coupled_embedding.zoo.records import RunRecord, read_record
from coupled_embedding.zoo.run_specs import RunSpec


def seed_options(name: str, seed: int) -> list[str]:
    """Return the options of one seed's run: ``NAME_seedS`` with its SEED."""
    return ["SEED", str(seed), "NAME", f"{name}_seed{seed}"]


def is_trained(train: RunSpec) -> bool:
    """Return whether a training has ended; UserError if it had other options."""
    final = train.describe().folder / "final.pth"
    if final.is_file():
        check_same_training(final, train.config, train.overrides)
    return final.is_file()


def find_record(path: Path, train: RunSpec, test: RunSpec) -> RunRecord | None:
    """Return the record at a path, if it is of this test of this training's best weights, else of its last."""
    folder = train.describe().folder
    weights = next((file for name in ("best.pth", "final.pth") if (file := folder / name).is_file()), None)
    try:
        record = read_record(path)
    except UserError:  # a test that is run again writes a new one
        return None
    settings = (test.describe().changed, record.settings)
    wanted, found = ({key: value for key, value in of.items() if key.startswith("TEST.")} for of in settings)
    same = weights is not None and record.weights == {weights.name: sha256_of(weights)}
    return record if same and found == wanted else None


def seeds_table(records: Sequence[RunRecord]) -> str:
    """Return a row per seed, then mean ± sample standard deviation, in percent."""
    names = list(records[0].metrics)
    rows = [[record.seed, *(percent(record.metrics[name]) for name in names)] for record in records]
    means = [mean_and_deviation([record.metrics[name] for record in records], 2) for name in names]
    return markdown_table(["seed", *names], [*rows, ["mean ± sd", *means]], range(1, len(names) + 1))
