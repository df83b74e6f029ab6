"""Model cards: one YAML file per published result, with what it takes to reproduce it and what to expect."""

import difflib
import json
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_origin, get_type_hints

from coupled_embedding.config.aliases import current_card
from coupled_embedding.utils.errors import ConfigError
from coupled_embedding.utils.paths import resolve
from coupled_embedding.utils.plain_yaml import parse_yaml, read_text

FOLDER = "models"
Content = TypeVar("Content")


@dataclass(frozen=True)
class Weights:
    """A weight file, as cards in ``models/`` and ``pretrained/`` describe it; what is unknown is empty or 0."""

    file: str
    sha256: str = ""  # its first digits
    bytes: int = 0
    origin: str = ""  # where the file comes from, in words
    url: str = ""
    title: str = ""


@dataclass(frozen=True)
class Published:
    """Published scores."""

    source: str
    trained_on: str  # the split that the authors trained on
    metrics: dict[str, dict[str, float]]  # split -> name of the score -> percent


@dataclass(frozen=True)
class ModelCard:
    """One row of a table: a model and how to test it."""

    name: str  # of the file; the config's NAME, with a suffix where the same network is tested in another way
    title: str
    config: str  # file of the experiment
    input: int  # S in pixels, as in the config
    starts_from: str  # a file in pretrained/, another card's name, or "scratch"
    weights: Weights  # of the config's run
    paper: Published  # the scores to reproduce
    row: int = 0  # of the paper's table, from 1; 0: a baseline
    paper_config: str = ""  # of the paper's protocol, for a data set whose splits `protocols` does not know
    parameters: int = 0  # of the network; 0: not published
    gflop: float = 0.0  # 10^9 operations of one image's forward pass, see `cost.forward_gflop`; 0: not counted
    test: dict[str, Any] = field(default_factory=dict)  # options of TEST that this row changes
    notes: str = ""

    @property
    def dataset(self) -> str:
        """The data set that the card's scores are of."""
        prefix = self.name.partition("_")[0]
        return prefix if prefix in ("crowdpose", "mpii") else "coco"

    @property
    def is_multi_scale(self) -> bool:
        """Whether the network is tested at several scales."""
        return "TEST.SCALES" in self.test

    def test_options(self) -> list[str]:
        """Return ``[key, value, ...]`` of how this row is tested."""
        return [text for key, value in self.test.items() for text in (key, json.dumps(value))]


def from_dict(kind: type[Content], content: Any, where: str, **known: Any) -> Content:
    """Build a dataclass, whose fields may be dataclasses themselves, from the fields of a file and ``known`` ones.

    Raises:
        ConfigError: a field is missing, unknown or of another type; the text starts with ``where``.
    """
    hints = {name: hint for name, hint in get_type_hints(kind).items() if name not in known}
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: expected the fields {', '.join(hints)}, got {content!r:.120}")
    for key, value in content.items():
        if key not in hints:
            raise ConfigError(f"{where}: unknown field '{key}'; allowed: {', '.join(hints)}")
        if is_dataclass(hints[key]):
            known[key] = from_dict(hints[key], value, f"{where}: {key}")
        elif not _is_of_type(value, hints[key]):
            name = getattr(hints[key], "__name__", hints[key])
            raise ConfigError(f"{where}: {key}: expected a {name}, got {value!r:.120}")
    for item in fields(kind):  # type: ignore[arg-type]
        if item.name in hints.keys() - content.keys() and item.default is item.default_factory is MISSING:
            raise ConfigError(f"{where}: field '{item.name}' is missing")
    return kind(**{**content, **known})


def _is_of_type(value: Any, hint: Any) -> bool:
    if isinstance(value, bool) or hint is bool:
        return type(value) is hint
    return isinstance(value, hint if isinstance(hint, UnionType) else get_origin(hint) or hint)


def read_card(kind: type[Content], path: Path, **known: Any) -> Content:
    """Read a YAML file; errors as `from_dict`, or because the file cannot be read."""
    try:
        content = current_card(parse_yaml(read_text(path)))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot read this card: {error}") from error
    return from_dict(kind, content, str(path), **known)


def load_card(path: Path) -> ModelCard:
    """Read a model card; errors as `read_card`."""
    card = read_card(ModelCard, path, name=path.stem)
    for split, metrics in card.paper.metrics.items():
        values = list(metrics.values()) if isinstance(metrics, dict) else []
        if not values or not all(type(value) in (int, float) and 0 <= value <= 100 for value in values):
            raise ConfigError(f"{path}: paper: metrics: {split}: expected scores in percent, got {metrics!r:.120}")
    for key in card.test:
        if not str(key).startswith("TEST."):
            raise ConfigError(f"{path}: test: {key}: only options of TEST are allowed here")
    return card


def load_cards(folder: str | Path = FOLDER) -> dict[str, ModelCard]:
    """Return a folder's cards by name: the paper's rows in its order, then baselines; errors as `read_card`."""
    cards = [load_card(path) for path in sorted(resolve(folder).glob("*.yaml"))]
    return {card.name: card for card in sorted(cards, key=lambda card: (card.row or 1000, card.name))}


def find_card(name: str, folder: str | Path = FOLDER) -> ModelCard:
    """Return a card by its name; ConfigError suggests others if there is none."""
    names = [path.stem for path in sorted(resolve(folder).glob("*.yaml"))]
    if name in names:
        return load_card(resolve(folder) / f"{name}.yaml")
    close = difflib.get_close_matches(name, names, 3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(names) or 'none'}"
    raise ConfigError(f"--model {name}: no such card in {resolve(folder)}; {hint}")
