"""Suppression by name: presets, single parameters over them, and files of fitted ones."""

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from coupled_embedding.evaluation.pose_nms import OksNMS, ParametricNMS, PoseNMS
from coupled_embedding.utils.errors import UserError, short_repr
from coupled_embedding.utils.paths import resolve
from coupled_embedding.utils.plain_yaml import parse_yaml, read_text

# exp(-distance/σ2), joints near within a pixel, removal by close joints too, merged poses, other scores
_RELEASED = ParametricNMS(
    squared=False, gate_pixels=1.0, match_joints=5, match_pixels=7.0, merge_pixels=15.0, min_score=0.3, rescore=True
)
# sigmas of the joints -> the suppression
PRESETS: dict[str, Callable[[Sequence[float]], PoseNMS]] = {
    "oks": lambda sigmas: OksNMS(tuple(sigmas)),
    "oks_soft": lambda sigmas: OksNMS(tuple(sigmas), soft=True),
    "paper": lambda _: ParametricNMS(),
    "released": lambda _: _RELEASED,
    "released_wholebody": lambda _: replace(
        _RELEASED, lam=1.65, sigma2=8.0, eta=3.6, min_score=0.01, match_joints=3, alpha=0.15
    ),
}
_NAMES = {"lambda": "lam"}  # of parameters in files and on command lines -> fields


def build_pose_nms(
    choice: str, sigmas: Sequence[float], parameters: Sequence[str] = (), source: str = "the suppression of poses"
) -> PoseNMS:
    """Return the suppression of a name.

    Args:
        choice: a key of `PRESETS`, or a file that holds what `pose_nms_text` returns.
        sigmas: (K,) of the schema.
        parameters: such as ``"eta=20"``: values over the preset's or the file's.
        source: names the parameters in errors.

    Raises:
        UserError: the name or a parameter is unknown, the file cannot be read, or a value is not allowed.
    """
    preset, values = chosen_parameters(choice, parameters, source)
    nms = PRESETS[preset](sigmas)
    allowed = _parameters(nms)
    for name, value in values.items():
        where = f"{source}: {name}"
        if name not in allowed:
            raise UserError(f"{where}: '{preset}' has no such parameter; it has {', '.join(allowed)}")
        if type(allowed[name]) is int and not float(value).is_integer():
            raise UserError(f"{where}: expected a whole number, got {value}")
        try:
            nms = replace(nms, **{_NAMES.get(name, name): type(allowed[name])(value)})
        except ValueError as error:
            raise UserError(f"{where}: {str(error).partition(': ')[2]}") from error
    return nms


def chosen_parameters(choice: str, parameters: Sequence[str], source: str) -> tuple[str, dict[str, float]]:
    """Return the preset and the parameters over it that a name or a file, and ``"name=value"`` texts stand for."""
    preset, values = (choice, {}) if choice in PRESETS else _read(choice, source)
    for text in parameters:
        name, _, value = text.partition("=")
        values[name] = _number(value, f"{source}: {name}")
    return preset, values


def _read(path: str, source: str) -> tuple[str, dict[str, float]]:
    if Path(path).suffix not in (".yaml", ".yml", ".json"):
        raise UserError(f"{source}: '{path:.200}' is none of {', '.join(PRESETS)}, nor a .yaml or .json file")
    try:
        content = parse_yaml(read_text(resolve(path)))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file of a fitted suppression of poses") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot read this suppression of poses: {error}") from error
    preset = content.pop("preset", None) if isinstance(content, dict) else None
    if not isinstance(preset, str) or preset not in PRESETS:
        raise UserError(f"{path}: preset: expected one of {', '.join(PRESETS)}, got {short_repr(preset)}")
    return preset, {str(name): _number(value, f"{path}: {name!s:.100}") for name, value in content.items()}


def _number(value: Any, where: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{where}: expected a number, got {short_repr(value)}")
    return number


def _parameters(nms: PoseNMS) -> dict[str, Any]:
    """Return the numbers of a suppression by the names that files and command lines have for them."""
    names = {field: name for name, field in _NAMES.items()}
    values = {names.get(field.name, field.name): getattr(nms, field.name) for field in fields(nms)}
    return {name: value for name, value in values.items() if type(value) in (int, float)}


def pose_nms_text(preset: str, nms: PoseNMS, comment: str = "") -> str:
    """Return the content of a file that `build_pose_nms` takes: what is fitted, and what differs from the preset.

    Args:
        preset: a key of `PRESETS` of this kind.
        nms: its parameters are written.
        comment: lines for people.
    """
    own = _parameters(PRESETS[preset](nms.sigmas if isinstance(nms, OksNMS) else ()))
    fitted = {name for pair in nms.PAIRS for name in pair}
    values = {n: v for n, v in _parameters(nms).items() if v != own[n] or _NAMES.get(n, n) in fitted}
    lines = [f"# {line}" for line in comment.splitlines()] + [f"preset: {preset}"]
    return "\n".join([*lines, *(f"{name}: {value!r}" for name, value in values.items())]) + "\n"
