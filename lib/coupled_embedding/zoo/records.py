"""Records of trainings and tests: what ran, on what, with which scores, for people and for programs."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from coupled_embedding.builders import RunInfo, changed_options, trained_options
from coupled_embedding.config.aliases import current_flat, current_record
from coupled_embedding.networks.torch_files import read_weight_file
from coupled_embedding.utils.atomic import atomic_write
from coupled_embedding.utils.distributed import DistEnv
from coupled_embedding.utils.errors import UserError
from coupled_embedding.utils.paths import resolve
from coupled_embedding.zoo.cards import from_dict
from coupled_embedding.zoo.markdown import markdown_table, percent
from coupled_embedding.zoo.provenance import code_version, device_name, package_versions, sha256_of
from coupled_embedding.zoo.run_specs import RunSpec

Metrics = Mapping[str, float]
FORMAT = "coupled_embedding_record/1"
# options besides TEST's and SYNTHETIC's that a test takes from its own config; all others made the weights
_OF_TEST = {
    "NAME",
    "OUTPUT_DIR",
    *(f"DATASET.{key}" for key in ("SCHEMA", "ROOT", "TEST", "INPUT_SIZE", "CROPS", "CROP_MARGIN")),
}


@dataclass(frozen=True)
class Protocol:
    """The splits of a score."""

    trained_on: str | None  # None: unknown
    selected_on: str | None  # what chose the checkpoint; empty: nothing did, the last weights count; None: unknown
    tested_on: str

    @property
    def kind(self) -> str:
        """What a score is worth; "validated" is the honest kind, with the checkpoint chosen on another split."""
        if self.trained_on == self.tested_on:
            return "trained on the tested split"
        if self.trained_on is None or self.selected_on is None:
            return "not known"
        if self.selected_on == self.tested_on:
            return "selected on the tested split"
        return "validated" if self.selected_on else "last weights"

    def __str__(self) -> str:
        chosen = {None: "unknown choice", "": "last weights"}.get(self.selected_on, f"best on {self.selected_on}")
        return f"{self.trained_on or 'unknown training'} → {chosen} → {self.tested_on}"


@dataclass(frozen=True)
class RunRecord:
    """One training or test."""

    kind: str  # "train" or "test"
    model: str  # the card's name; empty without a card
    run: str  # the config's NAME
    dataset: str  # the schema's name
    protocol: Protocol
    config: str  # file; empty: the checkpoint's own
    overrides: list[str]  # options changed on the command line, a card's included
    settings: dict[str, Any]  # options that are not at their default; a test's include those of the training, if known
    code: dict[str, Any]  # see `code_version`
    packages: dict[str, str]  # versions
    data: dict[str, dict[str, str]]  # split -> annotation file and its SHA-256
    weights: dict[str, str]  # file -> SHA-256: a training's initial weights and results, or what was tested
    device: str  # of each of the ranks
    ranks: int
    seed: int | None  # of the training; None: unknown
    images: int  # tested; 0 in a training's
    seconds: float  # of the last part, if the training was resumed
    metrics: dict[str, float | None]  # scores in [0, 1], None where nothing could be scored; empty: not public
    date: str  # day the run ended, UTC
    resumed: bool = False
    notes: str = ""  # such as "selected on test", the split that results are reported on
    format: str = FORMAT

    @property
    def splits(self) -> str:
        """The splits of the scores, notes included."""
        return f"{self.protocol}{f' ({self.notes})' if self.notes else ''}"

    def to_json(self) -> str:
        """Return the record as `read_record` reads it."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def records_table(records: Sequence[RunRecord]) -> str:
    """Return what matters of each record, a row per record; a star marks code that differed from its commit."""
    rows = []
    for record in records:
        scores = ", ".join(f"{name} {percent(value)}" for name, value in record.metrics.items())
        seed = "" if record.seed is None else record.seed
        code = str(record.code.get("commit", record.code.get("version", "unknown")))[:10]
        code += "*" if record.code.get("dirty") else ""
        run = [record.images, seed, code, f"{record.ranks} x {record.device}", f"{record.seconds / 3600:.2f}"]
        rows.append([f"`{record.model or record.run}`", record.splits, scores, *run, record.date])
    headings = ["model", "trained on → checkpoint → tested on", "scores"]
    return markdown_table([*headings, "images", "seed", "code", "device", "hours", "date"], rows, [3, 4, 7])


def record_of_training(
    spec: RunSpec, info: RunInfo, env: DistEnv, metrics: Metrics, seconds: float, resumed: bool, notes: str = ""
) -> RunRecord:
    """Return the record of a training that has ended; ``metrics`` are its last validation's."""
    files = [resolve(name) for name in (info.pretrained, info.init_from) if name]
    files += [info.folder / "best.pth", info.folder / "final.pth"]
    record = _record("train", spec, info, env, Protocol(info.train, info.val, info.val), files, metrics)
    notes = "; ".join(filter(None, (record.notes, notes)))
    return replace(record, seconds=round(float(seconds), 1), resumed=resumed, notes=notes)


def record_of_test(
    spec: RunSpec, info: RunInfo, env: DistEnv, weights: Path, split: str, images: int, metrics: Metrics, seconds: float
) -> RunRecord:
    """Return the record of a test; how the weights were made is read from their file, where known."""
    content = read_weight_file(weights)
    trained = trained_options(content, weights)
    protocol = Protocol(trained.get("DATASET.TRAIN"), content.get("selected_on"), split)
    record = _record("test", spec, info, env, protocol, [weights], metrics)
    # a test's config need not be the one that the weights were trained with
    settings = {key: value for key, value in info.changed.items() if _is_of_test(key)}
    settings |= {key: value for key, value in changed_options(trained).items() if not _is_of_test(key)}
    seed, seconds = trained.get("SEED"), round(float(seconds), 1)
    return replace(record, settings=settings, seed=seed, images=images, seconds=seconds)


def _is_of_test(key: str) -> bool:
    return key.startswith(("TEST.", "SYNTHETIC.")) or key in _OF_TEST


def _record(
    kind: str, spec: RunSpec, info: RunInfo, env: DistEnv, protocol: Protocol, weights: list[Path], metrics: Metrics
) -> RunRecord:
    splits = (protocol.trained_on, protocol.selected_on) if kind == "train" else (protocol.tested_on,)
    data = {split: info.annotations[split] for split in splits if split}
    return RunRecord(
        kind,
        model=spec.model,
        run=info.name,
        dataset=info.dataset,
        protocol=protocol,
        config=spec.config or "",
        overrides=list(spec.overrides),
        settings=info.changed,
        code=code_version(),
        packages=package_versions(),
        data={split: {"file": path.name, "sha256": sha256_of(path)} for split, path in data.items()},
        weights={path.name: sha256_of(path) for path in weights if path.is_file()},
        device=device_name(env.device),
        ranks=env.world_size,
        seed=info.seed,
        images=0,
        seconds=0.0,
        metrics={name: None if math.isnan(value) else value for name, value in metrics.items()},
        date=datetime.now(UTC).date().isoformat(),
        notes=f"selected on {protocol.selected_on}" if protocol.selected_on in info.held_out else "",
    )


def write_record(record: RunRecord, folder: Path) -> Path:
    """Write ``record_KIND.json`` and, for people, ``record_KIND.md``; return the former's path."""
    path = folder / f"record_{record.kind}.json"
    atomic_write(path, record.to_json(), "the run's record")
    atomic_write(path.with_suffix(".md"), records_table([record]) + "\n", "the run's record")
    return path


def keep_record(record: RunRecord, folder: Path) -> Path:
    """Write a permanent record under its own name; UserError if there is one of the same test. Return its path."""
    weights = next(iter(record.weights.values()), "")
    path = folder / f"{record.run}_{record.protocol.tested_on}_{weights[:8]}.json"
    if path.exists():
        raise UserError(f"{path}: a record of the same weights and split exists; delete it first")
    atomic_write(path, record.to_json(), "this record")
    return path


def read_record(path: Path) -> RunRecord:
    """Read a record, older ones with the current names; UserError if the file is missing, damaged or another kind's."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot read this record: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path}: not a record of this package (expected the format '{FORMAT}')")
    record = from_dict(RunRecord, current_record(content), str(path))
    return replace(record, settings=current_flat(record.settings))


def load_records(folder: Path) -> list[RunRecord]:
    """Return the records of a folder, by file name; errors as `read_record`."""
    return [read_record(path) for path in sorted(folder.glob("*.json"))]
