"""Read configs: `_BASE_` files first, then the file, then KEY VALUE overrides; then freeze."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from coupled_embedding.config.aliases import current_options, saved_options
from coupled_embedding.config.checks import check_values, coerce
from coupled_embedding.config.defaults import all_options, default_config
from coupled_embedding.utils.errors import ConfigError, short_repr
from coupled_embedding.utils.paths import path_error, resolve
from coupled_embedding.utils.plain_yaml import parse_yaml, read_text

BASE_KEY = "_BASE_"
COMMAND_LINE = "the command line"  # in errors
MOST_FILES = 100  # that one config may be made of: thirty that each name the next twice would be read 2^30 times


def load_config(path: str | Path | None = None, overrides: Sequence[str] = ()) -> CfgNode:
    """Return the frozen config of a YAML file.

    Args:
        path: the file, or None for the defaults alone. Its ``_BASE_`` (a path relative to the file, or a list of
            them) is applied before the file itself.
        overrides: ``[key, value, key, value, ...]`` as given on a command line.

    Raises:
        ConfigError: an unknown key, a wrong type or an invalid value; the text names key, value, file and what is
            allowed.

    >>> load_config("config/synthetic/ce_small.yaml", ["TRAIN.LR", "1e-3"]).TRAIN.LR
    0.001
    """
    cfg = default_config()
    if path is not None:
        for file, content in _with_bases(resolve(path), ()):
            _merge(cfg, current_options(content), str(file), "")
            check_values(cfg, str(file))
        cfg.NAME = cfg.NAME or f"{Path(path).resolve().parent.name}_{Path(path).stem}"
    return override(cfg, overrides)


def override(cfg: CfgNode, overrides: Sequence[str]) -> CfgNode:
    """Return a frozen copy of a config with ``[key, value, ...]`` changed; errors as `load_config`."""
    cfg = cfg.clone()
    cfg.defrost()
    _merge_overrides(cfg, overrides)
    check_values(cfg, COMMAND_LINE)
    cfg.freeze()
    return cfg


def config_from_dict(content: Any, source: str) -> CfgNode:
    """Rebuild a frozen config from a checkpoint's copy; ``source`` names it in errors."""
    if not isinstance(content, dict):
        raise ConfigError(f"{source}: expected groups of options, got {short_repr(content)}")
    cfg = default_config()
    _merge(cfg, saved_options(content), source, "")
    check_values(cfg, source)
    cfg.freeze()
    return cfg


def config_to_dict(cfg: CfgNode) -> dict[str, Any]:
    """Return plain nested dicts, as they are saved inside checkpoints."""
    return {key: config_to_dict(value) if isinstance(value, CfgNode) else value for key, value in cfg.items()}


def config_to_yaml(cfg: CfgNode) -> str:
    """Return the resolved config as YAML that `load_config` reads back."""
    return yaml.safe_dump(config_to_dict(cfg), sort_keys=False)


def _with_bases(path: Path, seen: tuple[Path, ...]) -> list[tuple[Path, dict[str, Any]]]:
    content = _read_yaml(path, f", which {BASE_KEY} of {seen[-1]} names" if seen else "")
    if path.resolve() in seen:
        raise ConfigError(f"{path}: {BASE_KEY} leads back to a file that is already being read")
    bases = content.pop(BASE_KEY, [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"{path}: {BASE_KEY}: expected a path or a list of paths, got {short_repr(bases)}")
    files: list[tuple[Path, dict[str, Any]]] = []
    for base in bases:
        if path_error(base):
            raise ConfigError(f"{path}: {BASE_KEY}: {short_repr(base)} cannot be a path: {path_error(base)}")
        files += _with_bases(path.parent / base, (*seen, path.resolve()))
        if len(files) > MOST_FILES:
            raise ConfigError(f"{path}: {BASE_KEY}: leads to more than {MOST_FILES} files")
    return [*files, (path, content)]


def _read_yaml(path: Path, origin: str) -> dict[str, Any]:
    try:
        text = read_text(path)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such config file{origin}") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot read this config file{origin} ({error})") from error
    try:
        content = parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"{path}: not a YAML file{origin}: {error}") from error
    if not isinstance(content, dict | None):
        raise ConfigError(f"{path}: expected KEY: value lines, got {short_repr(content)}")
    return content or {}


def _merge(node: CfgNode, content: dict[Any, Any], source: str, prefix: str) -> None:
    for key, value in content.items():
        name = f"{prefix}{key if isinstance(key, str) else short_repr(key)}"
        if key not in node:
            allowed = ", ".join(f"{prefix}{k}" for k in node)
            raise ConfigError(f"{source}: unknown key '{name:.200}'; allowed here: {allowed}")
        if isinstance(node[key], CfgNode):
            if not isinstance(value, dict):
                raise ConfigError(f"{source}: {name}: expected a group of keys, got {short_repr(value)}")
            _merge(node[key], value, source, f"{name}.")
        else:
            node[key] = coerce(all_options()[name], value, name, source)


def _merge_overrides(cfg: CfgNode, overrides: Sequence[str]) -> None:
    if len(overrides) % 2:
        raise ConfigError(f"{COMMAND_LINE}: expected KEY VALUE pairs, got an odd count: {' '.join(overrides)}")
    for key, text in zip(overrides[::2], overrides[1::2], strict=True):
        try:
            value = parse_yaml(text)
        except ValueError as error:
            raise ConfigError(f"{COMMAND_LINE}: {key:.200}: cannot read the value '{text:.200}': {error}") from error
        content: Any = "" if value is None else value
        for part in reversed(key.split(".")):
            content = {part: content}
        _merge(cfg, current_options(content), COMMAND_LINE, "")
