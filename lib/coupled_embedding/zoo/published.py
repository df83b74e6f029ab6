"""Published figures of other systems, read from ``models/published/``: one list of them, for one table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coupled_embedding.utils.errors import ConfigError
from coupled_embedding.utils.paths import resolve
from coupled_embedding.utils.plain_yaml import parse_yaml, read_text
from coupled_embedding.zoo.cards import from_dict
from coupled_embedding.zoo.markdown import markdown_table

FILE = "models/published/systems.yaml"
NOT_CHECKED = "†"


@dataclass(frozen=True)
class Figure:
    """One published score of a system.

    Attributes:
        system: its name, and the network where there are several.
        finds: how it finds and groups joints, in words.
        data: data set and split.
        score: name of the score.
        percent: its value.
        source: the publication or program.
        checked: False: from general knowledge, not compared with the source.
        notes: in words.
    """

    system: str
    finds: str
    data: str
    score: str
    percent: float
    source: str
    checked: bool = True
    notes: str = ""


def load_published(path: str | Path = FILE) -> list[Figure]:
    """Read a file's figures; ConfigError names the file, the entry and the field that is wrong."""
    path = resolve(path)
    try:
        content = parse_yaml(read_text(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot read these figures: {error}") from error
    if not isinstance(content, list):
        raise ConfigError(f"{path}: expected a list of figures, got {content!r:.120}")
    figures = [from_dict(Figure, entry, f"{path}: entry {number}") for number, entry in enumerate(content, 1)]
    for number, figure in enumerate(figures, 1):
        if not 0 <= figure.percent <= 100:
            raise ConfigError(f"{path}: entry {number}: percent: expected 0 to 100, got {figure.percent}")
    return figures


def published_table(figures: Sequence[Figure]) -> str:
    """Return the figures by data set and score, in the order of the file; the best of each is printed bold.

    Figures that were not checked end with a dagger.
    """
    order = list(dict.fromkeys((figure.data, figure.score) for figure in figures))
    rows = []
    for data, score in order:
        group = [figure for figure in figures if (figure.data, figure.score) == (data, score)]
        best = max(figure.percent for figure in group)
        for figure in group:
            value = f"{figure.percent:g}" if figure.percent * 10 % 1 else f"{figure.percent:.1f}"
            value = f"**{value}**" if figure.percent == best and len(group) > 1 else value
            value += "" if figure.checked else f" {NOT_CHECKED}"
            rows.append([data, figure.system, figure.finds, score, value, figure.source, figure.notes])
    headings = ["data", "system", "finds people by", "score", "published", "source", "notes"]
    return markdown_table(headings, rows, [4])
