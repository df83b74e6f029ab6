"""Records of trainings and tests: what ran, on what, with which figures, for people and for programs."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from coupled_embedding.config import config_from_dict, default_config, flat
from coupled_embedding.networks.weights import read_weight_file
from coupled_embedding.prepare import annotations_of, schema_of
from coupled_embedding.utils.atomic import write_whole
from coupled_embedding.utils.distributed import World
from coupled_embedding.utils.errors import UserError
from coupled_embedding.utils.paths import resolve
from coupled_embedding.zoo.jobs import Job
from coupled_embedding.zoo.provenance import code_version, device_name, package_versions, sha256_of

FORMAT = "coupled_embedding_record/1"
Figures = Mapping[str, float]
# options besides TEST's that a test takes from its own config; all others made the weights
_OF_TEST = {"NAME", "OUTPUT_DIR", *(f"DATASET.{key}" for key in ("SCHEMA", "ROOT", "TEST", "INPUT_SIZE"))}


@dataclass(frozen=True)
class Protocol:
    """Which splits a figure rests on.

    Attributes:
        trained_on: split; None: not known.
        selected_on: split that chose the checkpoint; empty: none did, the last weights count; None: not known.
        tested_on: split that the figures are of.
    """

    trained_on: str | None
    selected_on: str | None
    tested_on: str

    @property
    def kind(self) -> str:
        """What a figure is worth; "validated" is the honest kind, with the checkpoint chosen on another split."""
        if self.trained_on == self.tested_on:
            return "trained on the tested split"
        if self.trained_on is None or self.selected_on is None:
            return "not known"
        if self.selected_on == self.tested_on:
            return "selected on the tested split"
        return "validated" if self.selected_on else "last weights"

    def __str__(self) -> str:
        chosen = {None: "unknown choice", "": "last weights"}.get(self.selected_on, f"best by {self.selected_on}")
        return f"{self.trained_on or 'unknown training'} → {chosen} → {self.tested_on}"


@dataclass(frozen=True)
class RunRecord:
    """One training or test.

    Attributes:
        kind: ``"train"`` or ``"test"``.
        model: card's name; empty without one.
        run: the config's NAME.
        data_set: the schema's name.
        protocol: splits.
        config: its file; empty: the checkpoint's own.
        overrides: options changed on the command line, a card's included.
        settings: all options that are not at their default; a test's those of the training, where they are known.
        code, packages: versions.
        data: annotation file and its SHA-256, by split.
        weights: SHA-256 by file: a training's start weights and results, or what was tested.
        device: what it ran on; ``processes`` of them.
        seed: of the training; None: not known.
        notes: what else to know, such as "selected on test" where the split that figures are reported on chose the
            checkpoint.
        photos: tested; 0 in a training's.
        seconds: it took; of the last part, if the training was ``resumed``.
        figures: score -> in [0, 1], None where nothing could be scored; empty: not public.
        date: day it ended, UTC.
    """

    kind: str
    model: str
    run: str
    data_set: str
    protocol: Protocol
    config: str
    overrides: list[str]
    settings: dict[str, Any]
    code: dict[str, Any]
    packages: dict[str, str]
    data: dict[str, dict[str, str]]
    weights: dict[str, str]
    device: str
    processes: int
    seed: int | None
    photos: int
    seconds: float
    figures: dict[str, float | None]
    date: str
    resumed: bool = False
    notes: str = ""
    format: str = field(default=FORMAT)

    @property
    def splits(self) -> str:
        """What the figures rest on, notes included."""
        return f"{self.protocol}{f' ({self.notes})' if self.notes else ''}"

    def row(self) -> str:
        """Return what matters as a Markdown table of one row."""
        code = self.code.get("commit", self.code.get("version", "unknown"))[:10] + (
            "*" if self.code.get("dirty") else ""
        )
        cells = {
            "model": self.model or self.run,
            "splits": self.splits,
            **{name: percent(value) for name, value in self.figures.items()},
            "photos": str(self.photos),
            "seed": "" if self.seed is None else str(self.seed),
            "code": code,
            "device": f"{self.processes} x {self.device}",
            "hours": f"{self.seconds / 3600:.2f}",
            "date": self.date,
        }
        numbers = {*self.figures, "photos", "seed", "hours"}
        rule = ["--:" if name in numbers else "---" for name in cells]
        return "\n".join(f"| {' | '.join(line)} |" for line in (cells, rule, cells.values()))


def percent(value: float | None) -> str:
    """Return a score as papers print it."""
    return "n/a" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def record_of_training(
    job: Job, cfg: CfgNode, world: World, folder: Path, figures: Figures, seconds: float, resumed: bool
) -> RunRecord:
    """Return the record of a training that has ended; ``figures`` are its last validation's."""
    splits = [split for split in (cfg.DATASET.TRAIN, cfg.DATASET.VAL) if split]
    named = [cfg.MODEL.PRETRAINED, cfg.MODEL.INIT_FROM]
    files = [resolve(name) for name in named if name] + [folder / name for name in ("best.pth", "final.pth")]
    protocol = Protocol(cfg.DATASET.TRAIN, cfg.DATASET.VAL, cfg.DATASET.VAL)
    return _record("train", job, cfg, world, protocol, splits, files, cfg.SEED, 0, figures, seconds, resumed)


def record_of_test(
    job: Job, cfg: CfgNode, world: World, weights: Path, split: str, photos: int, figures: Figures, seconds: float
) -> RunRecord:
    """Return the record of a test; how the weights were made is read from their file, where it says so."""
    content = read_weight_file(weights)
    # weights of others, converted to a checkpoint, carry a config, but were not trained by it
    own = "config" in content and "selected_on" in content
    made = config_from_dict(content["config"], f"{weights}, its config") if own else None
    protocol = Protocol(made and made.DATASET.TRAIN, content.get("selected_on"), split)
    record = _record("test", job, cfg, world, protocol, [split], [weights], 0, photos, figures, seconds, False)
    # a test's config need not be the one that the weights were trained with
    settings = {key: value for key, value in record.settings.items() if _is_of_test(key)}
    if made is not None:
        settings |= {key: value for key, value in changed_settings(made).items() if not _is_of_test(key)}
    return replace(record, settings=settings, seed=made and made.SEED)


def _is_of_test(key: str) -> bool:
    return key.startswith(("TEST.", "SYNTHETIC.")) or key in _OF_TEST


def _record(
    kind: str,
    job: Job,
    cfg: CfgNode,
    world: World,
    protocol: Protocol,
    splits: Sequence[str],
    files: Sequence[Path],
    seed: int | None,
    photos: int,
    figures: Figures,
    seconds: float,
    resumed: bool,
) -> RunRecord:
    schema = schema_of(cfg)
    annotations = {split: annotations_of(cfg, schema, split) for split in splits}
    return RunRecord(
        kind=kind,
        model=job.model,
        run=cfg.NAME,
        data_set=schema.name,
        protocol=protocol,
        config=job.config or "",
        overrides=list(job.overrides),
        settings=changed_settings(cfg),
        code=code_version(),
        packages=package_versions(),
        data={split: {"file": path.name, "sha256": sha256_of(path)} for split, path in annotations.items()},
        weights={path.name: sha256_of(path) for path in files if path.is_file()},
        device=device_name(world.device),
        processes=world.size,
        seed=seed,
        photos=photos,
        seconds=round(seconds, 1),
        figures={name: None if math.isnan(value) else value for name, value in figures.items()},
        date=datetime.now(UTC).date().isoformat(),
        resumed=resumed,
        notes=f"selected on {protocol.selected_on}" if protocol.selected_on in schema.held_out else "",
    )


def changed_settings(cfg: CfgNode) -> dict[str, Any]:
    """Return a config's options that differ from the defaults, by their whole name."""
    defaults = flat(default_config())
    return {key: value for key, value in flat(cfg).items() if value != defaults[key]}


def write_record(record: RunRecord, folder: Path) -> Path:
    """Write ``record_KIND.json`` and, for people, ``record_KIND.md``; return the former's path.

    Raises:
        UserError: the folder cannot be written.
    """
    path = folder / f"record_{record.kind}.json"
    write_whole(path, _as_json(record), "the run's record")
    write_whole(path.with_suffix(".md"), record.row() + "\n", "the run's record")
    return path


def read_record(path: Path) -> RunRecord:
    """Read a record.

    Raises:
        UserError: the file is missing, damaged or of another format.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot read this record: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path}: not a record of this package (expected the format '{FORMAT}')")
    names = {item.name for item in fields(RunRecord)}
    if set(content) - names or names - set(content):
        odd = sorted(names ^ set(content))
        raise UserError(f"{path}: missing or unknown field {', '.join(odd)}")
    try:
        return RunRecord(**{**content, "protocol": Protocol(**content["protocol"])})
    except TypeError as error:
        raise UserError(f"{path}: protocol: {error}") from error


def load_records(folder: Path) -> list[RunRecord]:
    """Return the records of a folder, by file name; errors as `read_record`."""
    return [read_record(path) for path in sorted(folder.glob("*.json"))]


def keep_record(record: RunRecord, folder: Path) -> Path:
    """Write a record under a name of its own, for good; return its path.

    Raises:
        UserError: the same test is there already, or the folder cannot be written.
    """
    weights = next(iter(record.weights.values()), "")
    path = folder / f"{record.run}_{record.protocol.tested_on}_{weights[:8]}.json"
    if path.exists():
        raise UserError(f"{path}: a record of the same weights and split is there already; delete it first")
    write_whole(path, _as_json(record), "this record")
    return path


def _as_json(record: RunRecord) -> str:
    return json.dumps(asdict(record), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
