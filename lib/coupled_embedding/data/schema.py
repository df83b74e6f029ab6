"""What a data set's people are made of: joints, flips, skeleton, sigmas, grouping order.

The schema is the only place that knows a joint's number. It is read from one YAML file per
data set (``datasets/*.yaml``); a new data set in COCO format needs such a file and no code.
"""

import colorsys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from coupled_embedding.data.evaluators import EVALUATORS
from coupled_embedding.utils.errors import DatasetError, short_repr
from coupled_embedding.utils.paths import name_error, path_error, resolve
from coupled_embedding.utils.plain_yaml import parse_yaml, read_text

MOST_JOINTS = 1000
# "auto": upright, unless the annotated size is that of the stored pixels; "upright"; "stored": never turned
ORIENTATIONS = ("auto", "upright", "stored")


@dataclass(frozen=True)
class Split:
    """Files of one split, relative to the data set's root."""

    annotations: str
    images: str


@dataclass(frozen=True)
class KeypointSchema:
    """A data set's joints and files. Joint numbers are positions in ``joints``.

    Attributes:
        name: the data set's short name.
        joints: K joint names, in the order of the annotation file.
        flip_pairs: (left, right) pairs of joint numbers that change places in a flipped image.
        skeleton: pairs of joint numbers that a drawing connects.
        sigmas: K object-keypoint-similarity sigmas.
        grouping_order: all joint numbers, in the order in which grouping visits them.
        colors: K (red, green, blue) triples for drawings.
        evaluator: name of the rules that score results, see `evaluators.EVALUATORS`.
        root: folder of the data set, relative to the checkout or absolute.
        splits: name -> files.
        synthetic: whether tools/ render the files when they are missing.
        held_out: splits that results are reported on, so that nothing may be chosen by them.
        categories: names or ids of the annotation file's categories that count as people, where it has
            several with these joints; empty: all of them.
        orientation: how an EXIF orientation is read, a key of `ORIENTATIONS`.
        midpoints: joints of other data sets that lie in the middle of two of these joints, by name.
    """

    name: str
    joints: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    skeleton: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    grouping_order: tuple[int, ...]
    colors: tuple[tuple[int, int, int], ...]
    evaluator: str = "coco"
    root: str = ""
    splits: dict[str, Split] = field(default_factory=dict)
    synthetic: bool = False
    held_out: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    orientation: str = "auto"
    midpoints: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def num_joints(self) -> int:
        """K."""
        return len(self.joints)

    @property
    def flip_index(self) -> tuple[int, ...]:
        """For each joint, the joint that it becomes in a flipped image."""
        index = list(range(self.num_joints))
        for left, right in self.flip_pairs:
            index[left], index[right] = right, left
        return tuple(index)

    def split(self, name: str) -> Split:
        """Return the files of split ``name``; DatasetError if the schema has no such split."""
        if name not in self.splits:
            raise DatasetError(
                f"data set '{self.name}' has no split '{name}'; its schema lists {', '.join(self.splits) or 'none'}"
            )
        return self.splits[name]

    def to_dict(self) -> dict[str, Any]:
        """Return the schema in the layout of its YAML file, names instead of numbers."""
        named = asdict(self)
        for key in ("flip_pairs", "skeleton"):
            named[key] = [[self.joints[i] for i in pair] for pair in getattr(self, key)]
        named["grouping_order"] = [self.joints[i] for i in self.grouping_order]
        named["colors"] = [list(color) for color in self.colors]
        named["midpoints"] = {name: list(pair) for name, pair in self.midpoints.items()}
        return named | {key: list(named[key]) for key in ("joints", "sigmas", "held_out", "categories")}


def load_schema(path: str | Path) -> KeypointSchema:
    """Read a schema file.

    Raises:
        DatasetError: the file is missing, not YAML, or a field is missing, unknown or wrong.
    """
    path = resolve(path)
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot read this data set schema ({error})") from error
    try:
        content = parse_yaml(text)
    except ValueError as error:
        raise DatasetError(f"{path}: not a YAML file: {error}") from error
    return schema_from_dict(content, str(path))


# of a schema file, with their types
_FIELDS = {
    **{"name": str, "joints": list, "flip_pairs": list, "skeleton": list, "sigmas": list},
    **{"grouping_order": list, "colors": list, "evaluator": str, "root": str, "splits": dict, "synthetic": bool},
    **{"held_out": list, "categories": list, "orientation": str, "midpoints": dict},
}
_REQUIRED = {"name", "joints", "flip_pairs", "skeleton", "sigmas"}


def schema_from_dict(content: Any, source: str) -> KeypointSchema:
    """Build a schema from a YAML file's content; ``source`` names it in errors."""
    fields = _checked_fields(content, source)
    joints = _strings(fields["joints"], f"{source}: joints")
    if not 1 <= len(joints) <= MOST_JOINTS or len(set(joints)) != len(joints):
        expected = f"a list of different names, at most {MOST_JOINTS}"
        raise DatasetError(f"{source}: joints: expected {expected}, got {short_repr(list(joints))}")
    order = _numbers(fields.get("grouping_order") or joints, joints, f"{source}: grouping_order")
    if sorted(order) != list(range(len(joints))):
        raise DatasetError(f"{source}: grouping_order: must name each of the {len(joints)} joints once")
    flip_pairs = _pairs(fields["flip_pairs"], joints, f"{source}: flip_pairs")
    if len({joint for pair in flip_pairs for joint in pair}) != 2 * len(flip_pairs):
        raise DatasetError(f"{source}: flip_pairs: a joint may be in one pair only")
    _strings([fields.get("root", "")], f"{source}: root")
    name = fields["name"]
    if problem := name_error(name) if name else "it is empty":
        raise DatasetError(f"{source}: name: {short_repr(name)} cannot be part of file names: {problem}")
    return KeypointSchema(
        name,
        joints,
        flip_pairs,
        _pairs(fields["skeleton"], joints, f"{source}: skeleton"),
        _sigmas(fields["sigmas"], len(joints), source),
        order,
        _colors(fields.get("colors") or [], len(joints), source),
        evaluator=_one_of(fields.get("evaluator", "coco"), tuple(EVALUATORS), f"{source}: evaluator"),
        root=fields.get("root", ""),
        splits=_splits(fields.get("splits", {}), source),
        synthetic=fields.get("synthetic", False),
        held_out=_strings(fields.get("held_out", []), f"{source}: held_out"),
        categories=_strings([str(c) for c in fields.get("categories", [])], f"{source}: categories"),
        orientation=_one_of(fields.get("orientation", "auto"), ORIENTATIONS, f"{source}: orientation"),
        midpoints=_midpoints(fields.get("midpoints", {}), joints, f"{source}: midpoints"),
    )


def _checked_fields(content: Any, source: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise DatasetError(f"{source}: expected a mapping with the fields {', '.join(_FIELDS)}")
    unknown = [key if isinstance(key, str) else short_repr(key) for key in content if key not in _FIELDS]
    if unknown:
        raise DatasetError(f"{source}: unknown field {', '.join(unknown):.200}; allowed: {', '.join(_FIELDS)}")
    for key, kind in _FIELDS.items():
        if key not in content and key in _REQUIRED:
            raise DatasetError(f"{source}: field '{key}' is missing")
        if key in content and not isinstance(content[key], kind):
            raise DatasetError(f"{source}: {key}: expected a {kind.__name__}, got {short_repr(content[key])}")
    return content


def _one_of(value: str, allowed: Sequence[str], where: str) -> str:
    if value not in allowed:
        raise DatasetError(f"{where}: {short_repr(value)} is not one of {', '.join(allowed)}")
    return value


def _strings(values: Sequence[Any], where: str) -> tuple[str, ...]:
    for value in values:
        if not isinstance(value, str):
            raise DatasetError(f"{where}: expected names, got {short_repr(value)}")
        if path_error(value):
            raise DatasetError(f"{where}: {short_repr(value)} is invalid: {path_error(value)}")
    return tuple(values)


def _numbers(names: Sequence[Any], joints: Sequence[str], where: str) -> tuple[int, ...]:
    places = {name: number for number, name in enumerate(joints)}
    for name in names:
        if not isinstance(name, str) or name not in places:
            raise DatasetError(f"{where}: {short_repr(name)} is not one of the joints")
    return tuple(places[name] for name in names)


def _pairs(values: Sequence[Any], joints: Sequence[str], where: str) -> tuple[tuple[int, int], ...]:
    for value in values:
        if not isinstance(value, list) or len(value) != 2:
            raise DatasetError(f"{where}: expected pairs of joint names, got {short_repr(value)}")
    return tuple((a, b) for a, b in (_numbers(pair, joints, where) for pair in values))


def _midpoints(content: dict[Any, Any], joints: Sequence[str], where: str) -> dict[str, tuple[str, str]]:
    for name in _strings(list(content), where):
        if name in joints:
            raise DatasetError(f"{where}: '{name}' is one of the joints itself")
    pairs = _pairs(list(content.values()), joints, where)
    return {name: (joints[a], joints[b]) for name, (a, b) in zip(content, pairs, strict=True)}


def _sigmas(values: Sequence[Any], count: int, source: str) -> tuple[float, ...]:
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool) and 0 < v < 10]
    if len(values) != count or len(numbers) != count:
        expected = f"{count} numbers above 0, one per joint"
        raise DatasetError(f"{source}: sigmas: expected {expected}, got {short_repr(list(values))}")
    return tuple(numbers)


def _colors(values: Sequence[Any], count: int, source: str) -> tuple[tuple[int, int, int], ...]:
    if not values:
        hues = (colorsys.hsv_to_rgb(i / count, 0.75, 1.0) for i in range(count))
        return tuple((round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in hues)
    for value in values:
        is_triple = isinstance(value, list) and len(value) == 3
        if not is_triple or not all(isinstance(v, int) and 0 <= v <= 255 for v in value):
            raise DatasetError(f"{source}: colors: expected [red, green, blue] of 0..255, got {short_repr(value)}")
    if len(values) != count:
        raise DatasetError(f"{source}: colors: expected {count} colors, one per joint, got {len(values)}")
    return tuple((v[0], v[1], v[2]) for v in values)


def _splits(content: dict[Any, Any], source: str) -> dict[str, Split]:
    splits = {}
    for name, files in content.items():
        problem = name_error(str(name)) if isinstance(name, str | int) else "it must be a text"
        if problem:
            raise DatasetError(f"{source}: splits: {short_repr(name)} cannot name a split: {problem}")
        keys = set(files) if isinstance(files, dict) else set()
        if keys != {"annotations", "images"} or not all(isinstance(v, str) for v in files.values()):
            raise DatasetError(f"{source}: splits.{name}: expected the two paths 'annotations' and 'images'")
        splits[str(name)] = Split(*_strings([files["annotations"], files["images"]], f"{source}: splits.{name}"))
    return splits
