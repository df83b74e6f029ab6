"""Options under the names and with the meanings that they had before: old configs and checkpoints keep working."""

from collections.abc import Callable
from typing import Any

# old name -> the option's name now, and its value now
ALIASES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "DATASET.ONLY_WITH_PEOPLE": ("DATASET.TRAIN_IMAGES", lambda only: "labelled" if only else "all"),
}
# what checkpoints that are older than an option were trained with, where that is not the default now
BEFORE: dict[str, Any] = {"DATASET.TRAIN_IMAGES": "all", "TRAIN.DROP_LAST": False}


def renamed(content: dict[Any, Any]) -> dict[Any, Any]:
    """Return nested options with their names and values of now; the content itself is left alone."""
    for old, (new, value_now) in ALIASES.items():
        group, _, key = old.rpartition(".")
        node = _node(content, group)
        if isinstance(node, dict) and key in node:
            content = _without(content, old)
            content = _with(content, new, value_now(node[key]))
    return content


def as_before(content: dict[Any, Any]) -> dict[Any, Any]:
    """Return a checkpoint's options, with those that it is too old to have as they were then."""
    content = renamed(content)
    for name, value in BEFORE.items():
        group, _, key = name.rpartition(".")
        node = _node(content, group)
        if isinstance(node, dict) and key not in node:
            content = _with(content, name, value)
    return content


def _node(content: Any, group: str) -> Any:
    for part in filter(None, group.split(".")):
        content = content.get(part) if isinstance(content, dict) else None
    return content


def _without(content: dict[Any, Any], name: str) -> dict[Any, Any]:
    first, _, rest = name.partition(".")
    if rest:
        return {**content, first: _without(content[first], rest)}
    return {key: value for key, value in content.items() if key != first}


def _with(content: dict[Any, Any], name: str, value: Any) -> dict[Any, Any]:
    """Return a copy with an option set, unless it is there already."""
    first, _, rest = name.partition(".")
    if rest:
        return {**content, first: _with(content.get(first, {}), rest, value)}
    return {**content, first: content.get(first, value)}
