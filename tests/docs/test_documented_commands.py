"""The commands of documents parse, their configs load, and what they name exists; nothing is trained."""

import importlib.util
import re
import sys
import tomllib
from argparse import Namespace
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from documents import CHECKOUT, DOCUMENTS, Block, blocks, commands, named, spans

from coupled_embedding.cli import VERBS, tool_of
from coupled_embedding.config import load_config
from coupled_embedding.data.schema import load_schema
from coupled_embedding.zoo.cards import find_card
from coupled_embedding.zoo.protocols import spec_of_card

TOOLS = {path.name: path for path in sorted(CHECKOUT.glob("tools/*.py")) if path.name != "rendering.py"}
PLACEHOLDER = re.compile(r"…|\[|\b(?:FILE|NAME|VERB|[NSK])\b")


@cache
def tool(name: str) -> ModuleType:
    """Import a command."""
    spec = importlib.util.spec_from_file_location(f"tool_{Path(name).stem}", TOOLS[name])
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def known_options(name: str, monkeypatch: pytest.MonkeyPatch, capsys) -> set[str]:
    """Return the options that a command's help lists."""
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit, match="0"):
        tool(name).parse()
    return set(re.findall(r"--[\w-]+", capsys.readouterr().out))


def parse(name: str, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys) -> Namespace:
    """Parse a command line as a command does; options must be written out."""
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known_options(
        name, monkeypatch, capsys
    )
    monkeypatch.setattr(sys, "argv", [name, *words])
    try:
        return tool(name).parse()
    except SystemExit:
        pytest.fail(capsys.readouterr().err)


def check_tool(name: str, words: list[str], own_schema: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Parse a command line, load its config with the overrides, and find its split."""
    words = [str(own_schema) if Path(word).name == "my_people.yaml" else word for word in words]
    words = [re.sub(r"^FILE$", "config/synthetic/ce_small.yaml", word) for word in words]
    args = vars(parse(name, words, monkeypatch, capsys))
    overrides = args.get("overrides") or args.get("options") or []
    card = args.get("model") if "protocol" in args else None  # predict.py's --model is a weight file or its name
    if card:
        spec = spec_of_card(find_card(card), args["protocol"], overrides)
        cfg = load_config(spec.config, spec.overrides)
    else:
        cfg = load_config(args.get("cfg"), overrides)
    schema = load_schema(args.get("schema") or cfg.DATASET.SCHEMA)
    # without a config the data set is a checkpoint's
    if args.get("split") and (args.get("cfg") or card or args.get("schema") or "DATASET.SCHEMA" in overrides):
        assert args["split"] in schema.splits
    if card or args.get("cfg"):
        assert {cfg.DATASET.TRAIN, cfg.DATASET.TEST} <= schema.splits.keys()


def check_pytest(words: list[str]) -> None:
    """Check that the files, markers and names that pytest is asked for exist."""
    settings = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    markers = {line.split(":")[0] for line in settings["markers"]} | {"MARKER"}
    files = [CHECKOUT / word for word in words if word.startswith("tests/")]
    assert all(file.exists() for file in files)
    sources = [source for file in files for source in (file.rglob("test_*.py") if file.is_dir() else [file])]
    tests = [name.lower() for s in sources for name in re.findall(r"def (test_\w+)", s.read_text(encoding="utf-8"))]
    for option, expression in pairwise(words):
        wanted = set(re.findall(r"\w+", expression)) - {"and", "or", "not"}
        if option == "-k":
            assert all(any(word in test for test in tests) for word in wanted), expression
        if option == "-m":
            assert wanted <= markers, expression


def check_script(script: str, words: list[str]) -> None:
    """Check that a script of benchmarks/ or tests/ knows the options that it is given."""
    source = (CHECKOUT / script).read_text() + (CHECKOUT / "benchmarks/common.py").read_text()
    assert all(f'"{word}"' in source for word in words if word.startswith("--"))


def check_command(words: list[str], own_schema: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Check a command of a document; a program that is not known here is an error, so that none is skipped."""
    program, *rest = words
    if program == "torchrun" or (program == "sbatch" and "tools/slurm.sh" in rest):
        place = [word.startswith("tools/") for word in rest].index(True)
        resume = ["--resume"] if program == "sbatch" else []
        check_tool("train.py", rest[place + 1 :] + resume, own_schema, monkeypatch, capsys)
    elif Path(program).name in ("python", "python3"):
        if rest[0] == "-m":
            assert rest[1] in ("venv", "pytest", "pdoc")  # test_api_reference.py runs pdoc's
            if rest[1] == "pytest":
                check_pytest(rest[2:])
        elif rest[0].startswith("tools/"):
            check_tool(rest[0].removeprefix("tools/"), rest[1:], own_schema, monkeypatch, capsys)
        else:
            check_script(rest[0], rest[1:])
    elif Path(program).name == "coupled-embedding":
        assert rest[0] in VERBS
        check_tool(tool_of(rest[0]).name, rest[1:], own_schema, monkeypatch, capsys)
    elif Path(program).name == "pip":
        extras = (".", ".[test]", ".[export]", ".[hub]", ".[serve]", ".[docs]")
        assert rest in (["install", "-e", end] for end in extras)
    else:
        assert program in ("git", "tensorboard") or (CHECKOUT / program).exists(), (
            f"{program} is not known to this test"
        )


def yaml_blocks() -> list[Block]:
    return [block for block in blocks(CHECKOUT / "docs/own_data.md") if block.language == "yaml"]


def test_the_config_for_several_data_sets_loads(tmp_path: Path) -> None:
    (block,) = yaml_blocks()[1:]
    path = tmp_path / "mixed.yaml"
    path.write_text(block.text)
    for entry in load_config(path).DATASET.MIX:
        assert load_schema(entry["schema"]).split(entry["split"])


@pytest.fixture(scope="module")
def own_schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The schema that docs/own_data.md shows."""
    block = yaml_blocks()[0]
    path = tmp_path_factory.mktemp("own") / "my_people.yaml"
    path.write_text(block.text)
    return path


def commands_of_blocks() -> list[Any]:
    return [
        pytest.param(words, id=f"{named(path)}:{block.line}: {' '.join(words)[:60]}")
        for path in DOCUMENTS
        for block in blocks(path)
        for words in (commands(block.text) if block.language == "bash" else ())
    ]


def commands_of_spans() -> Iterator[Any]:
    """Yield code spans that are commands; tests that reliability.md lists are pytest's."""
    for path in DOCUMENTS:
        for span in dict.fromkeys(spans(path)):
            is_test = path.name == "reliability.md" and span.startswith("tests/") and ".py" in span
            text = f"python -m pytest {span}" if is_test else span
            # of tools with placeholders the options alone are checked, below
            if re.match(r"^(python|torchrun|sbatch|coupled-embedding) ", text) and not (
                re.search("tools/|^coupled", text) and PLACEHOLDER.search(text)
            ):
                for words in commands(text.replace("[", "").replace("]", "")):
                    yield pytest.param(words, id=f"{named(path)}: {span[:80]}")


@pytest.mark.parametrize("words", [*commands_of_blocks(), *commands_of_spans()])
def test_commands_parse(words, own_schema, monkeypatch, capsys):
    check_command(words, own_schema, monkeypatch, capsys)


@pytest.mark.parametrize("name", TOOLS)
def test_every_command_is_documented_with_options_that_it_has(name, monkeypatch, capsys):
    known = known_options(name, monkeypatch, capsys)
    uses = [span for path in DOCUMENTS for span in spans(path) if re.search(rf"\btools/{name}\b", span)]
    assert any(f"tools/{name}" in span for span in spans(CHECKOUT / "docs/commands.md"))
    for use in uses:
        assert set(re.findall(r"(?<=[ \[])--[a-z][\w-]*", use)) <= known, use
