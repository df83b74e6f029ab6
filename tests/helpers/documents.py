"""The parts of Markdown documents: fenced blocks, code spans, links, headings; and the commands in them."""

import re
import shlex
import string
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    [CHECKOUT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    + [*CHECKOUT.glob("docs/*.md"), *CHECKOUT.glob("benchmarks/**/*.md")]
    + [CHECKOUT / name / "README.md" for name in ("datasets", "models", "pretrained")]
)
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_OUTSIDE = {".git", ".venv", "outputs", "__pycache__"}


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, text and first line's number."""

    language: str
    text: str
    line: int


def named(path: Path) -> str:
    """Return a document's name, as an id of a test."""
    return str(path.relative_to(CHECKOUT))


def blocks(path: Path) -> list[Block]:
    """Return a document's fenced blocks."""
    text = path.read_text(encoding="utf-8")
    found = [Block(m[1], m[2], text.count("\n", 0, m.start()) + 2) for m in _FENCE.finditer(text)]
    assert text.count("```") == 2 * len(found), f"{path}: a fence that is not closed, or not at a line's start"
    return found


def prose(path: Path) -> str:
    """Return a document without its fenced blocks."""
    return _FENCE.sub("", path.read_text(encoding="utf-8"))


def spans(path: Path) -> list[str]:
    """Return a document's code spans, each on one line."""
    return [" ".join(span.split()) for span in _SPAN.findall(prose(path))]


def links(path: Path) -> list[str]:
    """Return the targets of a document's links and images."""
    return _LINK.findall(prose(path))


def anchors(path: Path) -> set[str]:
    """Return the names by which a document's headings are linked, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def repository() -> frozenset[str]:
    """Return every file and folder of the checkout, folders with a slash at their end."""
    found = set()
    for path in CHECKOUT.rglob("*"):
        name = path.relative_to(CHECKOUT)
        if not _OUTSIDE & set(name.parts):
            found.add(f"{name}/" if path.is_dir() else str(name))
    return frozenset(found)


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of a shell block, variables filled in, assignments left out."""
    values: dict[str, str] = {}
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = next((i for i, word in enumerate(words) if word in ("&&", ";", "|")), len(words))
            command, words = words[:end], words[end + 1 :]
            while command and re.match(r"^[A-Za-z_]+=", command[0]):
                name, _, value = command.pop(0).partition("=")
                values[name] = value
            if command:
                yield [string.Template(word).safe_substitute(values) for word in command]


def examples(docstring: str) -> Iterator[str]:
    """Yield the code of each fenced Python block of a docstring."""
    for match in re.finditer(r"^ *```python\n(.*?)^ *```$", docstring, re.DOTALL | re.MULTILINE):
        yield textwrap.dedent(match[1])
