"""Model cards: one YAML file a published figure says how to reproduce it and what to expect."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from coupled_embedding.utils.errors import ConfigError
from coupled_embedding.utils.paths import resolve

FOLDER = "models"


@dataclass(frozen=True)
class Weights:
    """A trained network's file in ``models/``.

    Attributes:
        file: its name.
        sha256: how its SHA-256 begins; empty while it is not known.
        bytes: its size; 0 while it is not known.
    """

    file: str
    sha256: str = ""
    bytes: int = 0


@dataclass(frozen=True)
class Published:
    """What others report.

    Attributes:
        source: where it stands.
        trained_on: the split that they trained on.
        figures: split -> name of the score -> percent.
    """

    source: str
    trained_on: str
    figures: dict[str, dict[str, float]]


@dataclass(frozen=True)
class ModelCard:
    """One row of a table: a model and a way to test it.

    Attributes:
        name: the file's; the config's NAME, and an ending where the same network is tested in another way.
        title: in words.
        config: of the experiment.
        input: S in pixels, as the config has it.
        starts_from: a file in ``pretrained/``, another card's name, or ``scratch``.
        weights: of the config's run.
        paper: the figures to reproduce.
        row: of METHOD.md's table, from 1; 0: a baseline.
        paper_config: of the paper's protocol, for a data set whose splits `protocols` does not know; else empty.
        parameters: of the network; 0: the authors do not say.
        gflop: 10^9 operations of one photo's forward pass, a multiplication and an addition being two; 0: not counted.
        test: options of TEST that this row changes.
        notes: what else to know.
    """

    name: str
    title: str
    config: str
    input: int
    starts_from: str
    weights: Weights
    paper: Published
    row: int = 0
    paper_config: str = ""
    parameters: int = 0
    gflop: float = 0.0
    test: dict[str, Any] = field(default_factory=dict)
    notes: str = ""

    @property
    def is_multi_scale(self) -> bool:
        """Whether it is tested at several scales."""
        return "TEST.SCALES" in self.test

    def test_options(self) -> list[str]:
        """Return ``[key, value, ...]`` of this row's way to test."""
        return [text for key, value in self.test.items() for text in (key, json.dumps(value))]


_CARD = {
    "title": str,
    "config": str,
    "input": int,
    "starts_from": str,
    "weights": dict,
    "paper": dict,
    "row": int,
    "paper_config": str,
    "parameters": int,
    "gflop": float,
    "test": dict,
    "notes": str,
}
_OPTIONAL = ("row", "paper_config", "parameters", "gflop", "test", "notes")
_WEIGHTS = {"file": str, "sha256": str, "bytes": int}
_PAPER = {"source": str, "trained_on": str, "figures": dict}


def read_fields(content: Any, fields: Mapping[str, type], where: str, optional: tuple[str, ...]) -> dict[str, Any]:
    """Return a mapping whose keys and types are as wanted; ConfigError, starting with ``where``, if they are not."""
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: expected the fields {', '.join(fields)}, got {content!r:.120}")
    for key in content:
        if key not in fields:
            raise ConfigError(f"{where}: unknown field '{key}'; allowed: {', '.join(fields)}")
    for key, kind in fields.items():
        if key not in content and key not in optional:
            raise ConfigError(f"{where}: field '{key}' is missing")
        if key in content and type(content[key]) is not kind:
            raise ConfigError(f"{where}: {key}: expected a {kind.__name__}, got {content[key]!r:.120}")
    return content


def read_yaml(path: Path) -> Any:
    """Return a card's content; ConfigError if the file is missing or no YAML."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot read this card: {error}") from error


def load_card(path: str | Path) -> ModelCard:
    """Read a card.

    Raises:
        ConfigError: the file is missing, or a field is missing, unknown or wrong.
    """
    path = Path(path)
    fields = read_fields(read_yaml(path), _CARD, str(path), _OPTIONAL)
    weights = read_fields(fields["weights"], _WEIGHTS, f"{path}: weights", ("sha256", "bytes"))
    paper = read_fields(fields["paper"], _PAPER, f"{path}: paper", ())
    for split, figures in paper["figures"].items():
        if not isinstance(figures, dict) or not all(_is_percent(value) for value in figures.values()) or not figures:
            raise ConfigError(f"{path}: paper: figures: {split}: expected scores in percent, got {figures!r:.120}")
    for key in fields.get("test", {}):
        if not str(key).startswith("TEST."):
            raise ConfigError(f"{path}: test: {key}: only options of TEST can stand here")
    return ModelCard(**{**fields, "name": path.stem, "weights": Weights(**weights), "paper": Published(**paper)})


def _is_percent(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100


def load_cards(folder: str | Path = FOLDER) -> dict[str, ModelCard]:
    """Return a folder's cards by name: the paper's rows in its order, then baselines; errors as `load_card`."""
    cards = [load_card(path) for path in sorted(resolve(folder).glob("*.yaml"))]
    return {card.name: card for card in sorted(cards, key=lambda card: (card.row or 1000, card.name))}


def find_card(name: str, folder: str | Path = FOLDER) -> ModelCard:
    """Return a card by its name; ConfigError names those that there are."""
    path = resolve(folder) / f"{name}.yaml"
    if Path(name).name == name and path.is_file():
        return load_card(path)
    names = [path.stem for path in sorted(resolve(folder).glob("*.yaml"))]
    close = difflib.get_close_matches(name, names, 3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(names) or 'none'}"
    raise ConfigError(f"--model {name}: no such card in {resolve(folder)}; {hint}")
