"""Which values an option allows: a test and how an error says it."""

import itertools
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from coupled_embedding.utils.paths import name_error


class Rule(NamedTuple):
    """What is allowed: ``test(value)``, and the same in words."""

    test: Callable[[Any], bool]
    words: str


def one_of(*choices: str) -> Rule:
    """Allow one of some texts."""
    return Rule(lambda v: v in choices, "one of " + ", ".join(f"'{c}'" for c in choices))


def between(low: float, high: float) -> Rule:
    """Allow numbers of a closed range."""
    return Rule(lambda v: low <= v <= high, f"a number from {low} to {high}")


def at_least(low: float) -> Rule:
    """Allow numbers from a lowest one on."""
    return Rule(lambda v: v >= low, f"at least {low}")


def above(low: float) -> Rule:
    """Allow numbers above a limit."""
    return Rule(lambda v: v > low, f"above {low}")


def each(rule: Rule, count: int | None = None) -> Rule:
    """Allow lists whose items follow a rule; None: of any length but 0."""
    words = f"{count} values, each " if count else "one value or more, each "
    return Rule(lambda v: (len(v) == count if count else len(v) > 0) and all(map(rule.test, v)), words + rule.words)


def _is_rising(values: Iterable[float]) -> bool:
    values = list(values)
    return all(v > 0 for v in values) and all(a < b for a, b in itertools.pairwise(values))


def _is_mix(entry: Any) -> bool:
    if not isinstance(entry, dict) or not {"schema", "split"} <= entry.keys() <= {"schema", "split", "root", "weight"}:
        return False
    weight = entry.get("weight", 1.0)
    texts = all(type(value) is str for key, value in entry.items() if key != "weight")
    return texts and type(weight) in (int, float) and 0 < weight <= 1000


MIX = Rule(
    lambda v: all(map(_is_mix, v)),
    "a list of {schema: a schema file, split: its split, weight: a number above 0 up to 1000, root: a folder}, where "
    "weight and root may be missing",
)
POSE_NMS_NAMES = ("none", "oks", "oks_soft", "paper", "released", "released_wholebody")
POSE_NMS = Rule(
    lambda v: v in POSE_NMS_NAMES or v.endswith((".yaml", ".yml", ".json")),
    f"one of {', '.join(POSE_NMS_NAMES)}, or a .yaml or .json file",
)
PARAMETERS = Rule(
    lambda v: all(type(text) is str and re.fullmatch(r"\w+=[-+.\deE]+", text) for text in v),
    "a list of parameters, such as [eta=20, sigma2=8]",
)
NAME = Rule(lambda v: not name_error(v), "a single name of a folder, without '/' or '..', of up to 100 bytes")
CATEGORIES = Rule(lambda v: all(type(name) in (str, int) for name in v), "a list of names or ids")
JOINTS = Rule(lambda v: all(type(name) is str for name in v), "a list of joint names")
PREFIXES = Rule(lambda v: all(type(name) is str and name for name in v), "a list of beginnings of names")
IDS = Rule(lambda v: all(type(i) is int and abs(i) < 2**63 for i in v), "a list of whole numbers of up to 64 bits")
INPUT_SIDE = Rule(lambda v: 64 <= v <= 4096 and v % 8 == 0, "a multiple of 32 from 64 to 4096 (of 8 for a cpm)")
ODD = Rule(lambda v: v % 2 == 1 and 1 <= v <= 63, "an odd number from 1 to 63")
ZOOM = Rule(lambda v: len(v) == 2 and 0.05 <= v[0] <= v[1] <= 20, "two numbers, least and greatest, from 0.05 to 20")
SCALES = each(Rule(lambda v: 0.5 <= v <= 8 and v * 2 == int(v * 2), "a multiple of 0.5 from 0.5 to 8"))
RISING = Rule(_is_rising, "epochs above 0 in rising order")
DECAY = Rule(lambda v: 0 <= v < 1, "at least 0 and below 1")
CROWD_INDEX = Rule(lambda v: v <= 1, "at most 1 (below 0: the natural mix)")
SEED = between(0, 2**32 - 1)
PRECISION = one_of("fp32", "bf16", "fp16", "auto")
