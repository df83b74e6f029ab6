"""What documents say holds: links, paths, options and code; commands are in test_commands.py."""

import ast
import doctest
import fnmatch
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from documents import CHECKOUT, DOCUMENTS, anchors, blocks, examples, links, named, repository, spans
from runs import untrained_checkpoint

from coupled_embedding.config import load_config
from coupled_embedding.config.aliases import OPTIONS as OLD_NAMES
from coupled_embedding.config.checks import coerce
from coupled_embedding.config.defaults import all_options
from coupled_embedding.utils.plain_yaml import parse_yaml

SOURCES = [path for folder in ("lib", "tools", "benchmarks") for path in sorted((CHECKOUT / folder).rglob("*.py"))]
YAML_FILES = [
    path for folder in ("config", "datasets", "models") for path in sorted(CHECKOUT.glob(f"{folder}/**/*.yaml"))
]
OPTION = re.compile(r"\b(?:DATASET|SYNTHETIC|AUGMENT|MODEL|LOSS|TRAIN|TEST)\.[A-Z][A-Z0-9_]*\b")
HISTORY = CHECKOUT / "CHANGELOG.md"  # alone may name what was
CODE, DATA = (
    {".py", ".sh", ".md", ".toml"},
    {".pth", ".safetensors", ".json", ".jsonl", ".html", ".zip", ".jpg", ".png"},
)
ROOMS = {name.split("/")[0] for name in repository() if "/" in name}
# of users and runs: what documents call by a name, though it is in no checkout
OTHERS = re.compile(
    r"^(/|\.\./shared/|outputs/|datasets/(coco|crowdpose|mpii|ochuman|synthetic)/|(config|data|my_people)\.yaml$"
    r"|(annotations|baselines|images|json|tensorboard|test2017|train2017|val2017)/$)"
)


def documents(*without: Path) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", [path for path in DOCUMENTS if path not in without], ids=named)


# ---- links and paths


@documents()
def test_links_lead_somewhere(path):
    for link in links(path):
        target, _, anchor = link.partition("#")
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        file = (path.parent / target).resolve() if target else path
        assert file.exists(), f"no {link}"
        assert not anchor or anchor in anchors(file), f"no heading {link}"


def looks_like_a_path(text: str) -> bool:
    if not re.fullmatch(r"[\w./*{},\-]+", text) or text.startswith("-") or OTHERS.match(text):
        return False
    suffix = Path(text).suffix
    if suffix in CODE or (suffix == ".yaml" and text != "*.yaml"):
        return True
    is_ours = text.split("/")[0] in ROOMS and "/" in text
    return (is_ours or text.endswith("/")) and suffix not in DATA


def is_in_repository(text: str, document: Path) -> bool:
    """Whether files, or a folder, end with this path; ``*`` and ``{a,b}`` as in a shell."""
    if (braces := re.search(r"\{([^}]*)\}", text)) is not None:
        return all(is_in_repository(text.replace(braces[0], one), document) for one in braces[1].split(","))
    names = {f"/{name}" for name in repository()}
    return any(fnmatch.filter(names, f"*/{text}{end}") for end in ("", "/")) or (document.parent / text).exists()


@documents(HISTORY)
def test_paths_in_code_spans_exist(path):
    missing = [
        w for span in spans(path) for w in span.split() if looks_like_a_path(w) and not is_in_repository(w, path)
    ]
    assert not missing


@documents(HISTORY)
def test_layouts_name_folders(path):
    for block in (block for block in blocks(path) if not block.language):
        folders = re.findall(r"(?<!\S)[\w./]+/(?=\s|$)", block.text)
        assert [name for name in folders if not is_in_repository(name, path)] == []


def test_sources_cite_documents_and_sections_that_exist():
    method = (CHECKOUT / "docs/method.md").read_text(encoding="utf-8")
    numbers = set(re.findall(r"^#+ (\d+(?:\.\d+)?)\.? ", method, re.MULTILINE))
    section = re.compile(r"docs/method\.md,? (?:sections? )?(\d(?:\.\d)?)(?: (?:to|and) (\d(?:\.\d)?))?")
    for path in SOURCES + YAML_FILES:
        text = " ".join(path.read_text(encoding="utf-8").split())
        for name in re.findall(r"\b(?:docs/\w+\.md|README\.md)", text):
            assert any(file.endswith(name) for file in repository()), f"{named(path)}: {name}"
        for cited in section.finditer(text):
            assert {number for number in cited.groups() if number} <= numbers, f"{named(path)}: {cited[0]}"


def test_modules_in_code_spans_can_be_imported():
    for text in {span for path in DOCUMENTS for span in spans(path)}:
        if re.fullmatch(r"(?:coupled_embedding|synthetic_crowd)(?:\.\w+)+", text):
            try:
                importlib.import_module(text)
            except ModuleNotFoundError:
                module, _, name = text.rpartition(".")
                assert hasattr(importlib.import_module(module), name), text


# ---- options


def test_option_names_are_those_of_now():
    old = {name for name, (new, _) in OLD_NAMES.items() if name != new}
    allowed = {HISTORY: old, CHECKOUT / "lib/coupled_embedding/config/aliases.py": old}
    for path in [*DOCUMENTS, *SOURCES, *YAML_FILES]:
        if path.name == "same_numbers.py":  # an older checkout reads its options, too
            continue
        unknown = (
            set(OPTION.findall(path.read_text(encoding="utf-8"))) - all_options().keys() - allowed.get(path, set())
        )
        assert not unknown, named(path)


@documents(HISTORY)
def test_option_values_are_possible_now(path):
    for span in spans(path):
        key, _, text = span.partition(" ")
        if key not in all_options() or not text or len(shlex.split(text)) != 1:
            continue
        value, option = parse_yaml(shlex.split(text)[0]), all_options()[key]
        assert not isinstance(value, str | bool) or value not in OLD_NAMES.get(key, ("", {}))[1], span
        value = coerce(option, "" if value is None else value, key, span)
        assert not option.rule or option.rule.test(value), span


# ---- code


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, tiny_crowd: Path, tiny_text: str) -> dict[str, Path]:
    """What replaces the checkpoints and images that examples name, by suffix."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "tiny.yaml").write_text(tiny_text)
    # an untrained network has no peak above the default threshold
    cfg = load_config(folder / "tiny.yaml", ["TEST.HEATMAP_THRESHOLD", "0"])
    checkpoint = untrained_checkpoint(cfg, folder / "tiny.pth")
    return {".pth": checkpoint, ".jpg": next(iter(sorted(tiny_crowd.rglob("*.jpg"))))}


def module_of(path: Path) -> ModuleType:
    return importlib.import_module(".".join(path.relative_to(CHECKOUT / "lib").with_suffix("").parts))


def code_to_run() -> Iterator[Any]:
    """Yield code, and the file in whose module it runs: Python blocks of documents, examples of docstrings."""
    for path in DOCUMENTS:
        for block in (block for block in blocks(path) if block.language == "python"):
            yield pytest.param(block.text, None, id=f"{named(path)}:{block.line}")
    for path in sorted((CHECKOUT / "lib").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                for code in examples(ast.get_docstring(node, clean=False) or ""):
                    yield pytest.param(code, path, id=f"{named(path)}: {getattr(node, 'name', '')}")


@pytest.mark.parametrize(("code", "path"), list(code_to_run()))
def test_code_runs(code, path, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for suffix, file in files.items():
        code = re.sub(rf'"[^"\n]*\{suffix}"', repr(str(file)), code)
    exec(compile(code, "example", "exec"), dict(vars(module_of(path))) if path else {"__name__": "example"})


@pytest.mark.parametrize("path", [path for path in SOURCES if ">>> " in path.read_text(encoding="utf-8")], ids=named)
def test_doctests(path):
    result = doctest.testmod(module_of(path))
    assert result.attempted
    assert not result.failed


def test_every_block_is_checked():
    """Blocks of other languages would need a check of their own."""
    yaml_blocks = [named(path) for path in DOCUMENTS for block in blocks(path) if block.language == "yaml"]
    assert set(yaml_blocks) == {"docs/own_data.md"}  # which the commands there read, or the test of a config
    assert {block.language for path in DOCUMENTS for block in blocks(path)} <= {"", "bash", "python", "yaml"}


def test_the_core_that_the_readme_lists_is_short_and_its_lines_are_right():
    rows = re.findall(r"^\| \[`[^`]+`\]\((lib/\S+\.py)\) \| (\d+) \|", (CHECKOUT / "README.md").read_text(), re.M)
    lines = {path: len((CHECKOUT / path).read_text().splitlines()) for path, _ in rows}
    assert len(rows) > 15
    assert sum(lines.values()) <= 2800
    for path, listed in rows:
        assert int(listed) == pytest.approx(lines[path], rel=0.1), f"README.md: {path} has {lines[path]} lines"
