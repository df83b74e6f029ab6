"""The layers of lib/: a package imports only from lower layers, and only builders/ and config/ know the config."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

LIB = Path(__file__).resolve().parents[1] / "lib"
PACKAGE = LIB / "coupled_embedding"
# from the lowest; packages of one layer do not know each other
LAYERS = (
    {"utils"},
    {"config"},
    {"data"},
    {"evaluation", "losses", "networks", "visualize"},
    {"decode", "optim", "poses"},
    {"engine", "tracking"},
    {"export"},
    {"predictor"},
    {"builders"},
    {"analysis", "cli", "commands", "serve", "zoo"},
    {"browse"},
)
LAYER_OF = {package: number for number, packages in enumerate(LAYERS) for package in packages}
SATELLITES = LAYERS[-2] | LAYERS[-1]
# what knows names of options: the one that assembles, and tables that list or rename options as data
READS_CONFIG = {"builders", "config"}
READS_OPTION_TABLES = {"engine", "zoo"}
OPTION_TABLES = {"coupled_embedding.config.aliases", "coupled_embedding.config.defaults"}
FILES = sorted(PACKAGE.rglob("*.py"))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def package_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield every module that a file imports, inside functions too, and whether that is at its top."""
    tree = tree_of(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports hide which package they lead to"
            # `from coupled_embedding import builders` names the package behind the import
            names = [alias.name for alias in node.names] if node.module == "coupled_embedding" else []
            yield from ((f"{node.module}.{name}", node in tree.body) for name in names)
            yield str(node.module), node in tree.body
        elif isinstance(node, ast.Import):
            yield from ((alias.name, node in tree.body) for alias in node.names)


def packages_imported(path: Path) -> Iterator[tuple[str, bool]]:
    for module, at_top in imports(path):
        package, *inside = module.split(".")
        if package == "coupled_embedding" and inside and inside[0] != package_of(path):
            yield inside[0], at_top


def identifiers(path: Path) -> Iterator[str]:
    """Yield the names in a file's code, and texts that are nothing but a name, such as quoted annotations."""
    for node in ast.walk(tree_of(path)):
        match node:
            case ast.Attribute(value=ast.Name("args"), attr="cfg"):
                pass  # the option --cfg of a command line
            case ast.Attribute(attr=name) | ast.Name(id=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                yield name
            case ast.alias(name=name, asname=other):
                yield from (*name.split("."), other or "")
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Constant(value=str(name)):
                yield name


def named(path: Path) -> str:
    return str(path.relative_to(LIB))


def test_every_room_has_a_floor():
    assert {package_of(path) for path in FILES} == LAYER_OF.keys() | {"__init__"}


@pytest.mark.parametrize("path", FILES, ids=named)
def test_rooms_import_only_from_the_floors_below(path):
    package = package_of(path)
    if package == "__init__":
        assert not list(packages_imported(path))
        return
    for other, at_top in packages_imported(path):
        if (package, other) == ("predictor", "builders"):
            assert not at_top, "Predictor.from_pretrained imports builders, which imports the predictor"
        else:
            assert LAYER_OF[other] < LAYER_OF[package], f"{package} imports {other}"


@pytest.mark.parametrize("path", FILES, ids=named)
def test_the_core_imports_no_satellite_and_the_library_no_renderer(path):
    assert "synthetic_crowd" not in {module.split(".")[0] for module, _ in imports(path)}
    if package_of(path) not in SATELLITES:
        assert not SATELLITES & {package for package, _ in packages_imported(path)}


@pytest.mark.parametrize("path", [path for path in FILES if package_of(path) not in READS_CONFIG], ids=named)
def test_only_build_and_config_know_the_config(path):
    assert not {"cfg", "CfgNode"} & set(identifiers(path))
    modules = {module for module, _ in imports(path)}
    assert "yacs" not in {module.split(".")[0] for module in modules}
    of_config = {module for module in modules if module.startswith("coupled_embedding.config")}
    assert of_config <= (OPTION_TABLES if package_of(path) in READS_OPTION_TABLES else set())


def test_the_renderer_knows_no_network_and_no_config():
    for path in (LIB / "synthetic_crowd").rglob("*.py"):
        modules = {module for module, _ in imports(path)}
        allowed = {"coupled_embedding.utils.errors", "coupled_embedding.data.crowd_index"}
        assert {module for module in modules if module.startswith("coupled_embedding")} <= allowed, path
        assert not {"torch", "yacs"} & {module.split(".")[0] for module in modules}, path
