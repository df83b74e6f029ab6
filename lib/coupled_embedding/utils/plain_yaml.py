"""YAML as this project reads it: plain values only, and no file can take more than its share of memory or time."""

from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 2**20  # of a file; the largest of the project's own has 3,000
MOST_VALUES = 100_000  # of a file, aliases counted as often as they are used
LONGEST_NUMBER = 1000  # characters of a value that is not text: reading a number of n digits takes n²


def read_text(path: Path) -> str:
    """Return the text of a small file.

    Raises:
        OSError: it cannot be read, or is not a regular file (a pipe or device may never end).
        ValueError: it is too large, not UTF-8, or the path holds a NUL byte.
    """
    if path.exists() and not path.is_file():
        raise OSError("not a regular file")
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES} bytes")
    return content.decode("utf-8")


def parse_yaml(text: str) -> Any:
    """Return the plain values of a YAML text.

    Raises:
        ValueError: it is not YAML, holds tags other than YAML's own, a key twice, an alias of what contains it,
            or aliases that expand to more than ``MOST_VALUES`` values.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, {}, ())
        return loader.construct_document(node)
    except Exception as error:  # PyYAML raises whatever a value with a wrong tag meets: "!!int ''" an IndexError
        raise ValueError(f"{str(error) or type(error).__name__:.500}") from error


def _check(node: yaml.Node, counts: dict[int, int], above: tuple[int, ...]) -> int:
    """Return how many values a node expands to; ValueError if it could not be built with moderation."""
    if id(node) in above:
        raise ValueError(f"an alias leads back to a value that contains it{_place(node)}")
    if id(node) in counts:
        return counts[id(node)]
    if isinstance(node, yaml.ScalarNode):
        if node.tag != "tag:yaml.org,2002:str" and len(node.value) > LONGEST_NUMBER:
            raise ValueError(f"a number of {len(node.value)} characters{_place(node)}")
        parts = []
    elif isinstance(node, yaml.MappingNode):
        _check_keys(node)
        parts = [part for pair in node.value for part in pair]
    else:
        parts = node.value
    counts[id(node)] = 1 + sum(_check(part, counts, (*above, id(node))) for part in parts)
    if counts[id(node)] > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES} values; too many aliases?{_place(node)}")
    return counts[id(node)]


def _check_keys(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
            if (key.tag, key.value) in seen:
                raise ValueError(f"the key '{key.value:.100}' appears twice{_place(key)}")
            seen.add((key.tag, key.value))


def _place(node: yaml.Node) -> str:
    return f" (line {node.start_mark.line + 1})"
