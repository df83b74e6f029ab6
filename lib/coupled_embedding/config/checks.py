"""Types and ranges of config values: what is allowed is said where it is checked."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from yacs.config import CfgNode

from coupled_embedding.utils.errors import ConfigError, shown
from coupled_embedding.utils.paths import name_problem, text_problem

# what a config may make of a machine: the papers' networks have 104 blocks and see 1,280 pixels
MOST_BLOCKS = 1000
LARGEST_INPUT = 8192
MOST_SCALES = 16
MOST_SCENES = 10**6  # of a split of the synthetic crowd, whose image ids are that far apart

Rule = tuple[Callable[[Any], bool], str]


def coerce(default: Any, value: Any, key: str, source: str) -> Any:
    """Return ``value`` in the type of ``default``; ConfigError if it cannot be.

    Whole numbers may stand for floats, and ``1e-3``, which YAML reads as text, for 0.001.
    """
    if type(value) is int and abs(value) >= 2**63:
        raise ConfigError(f"{source}: {key}: {shown(value)} is impossible; allowed: whole numbers of up to 64 bits")
    if isinstance(default, float):
        number = _as_float(value)
        if number is not None:
            return number
    elif isinstance(default, list):
        if isinstance(value, list | tuple):
            return [coerce(default[0], item, key, source) if default else item for item in value]
    elif isinstance(default, str) and isinstance(value, int | float | str) and not isinstance(value, bool):
        return _as_text(str(value), key, source)
    elif type(value) is type(default):
        return value
    raise ConfigError(f"{source}: {key}: expected a {_kind(default)}, got {shown(value)} ({type(value).__name__})")


def _as_text(text: str, key: str, source: str) -> str:
    if text_problem(text):
        raise ConfigError(f"{source}: {key}: {shown(text)} is impossible: {text_problem(text)}")
    return text


def _as_float(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _kind(default: Any) -> str:
    if isinstance(default, list):
        return f"list of {_kind(default[0])}s" if default else "list"
    return {bool: "boolean (True or False)", int: "whole number", float: "number", str: "text"}[type(default)]


def _one_of(*choices: str) -> Rule:
    return (lambda v: v in choices), "one of " + ", ".join(f"'{c}'" for c in choices)


def _between(low: float, high: float) -> Rule:
    return (lambda v: low <= v <= high), f"a number from {low} to {high}"


def _at_least(low: float) -> Rule:
    return (lambda v: v >= low), f"at least {low}"


def _above(low: float) -> Rule:
    return (lambda v: v > low), f"above {low}"


def _each(rule: Rule, count: int | None = None) -> Rule:
    what = f"{count} values, each " if count else "one value or more, each "
    return (lambda v: (len(v) == count if count else len(v) > 0) and all(rule[0](x) for x in v)), what + rule[1]


def _rising(values: Iterable[float]) -> bool:
    values = list(values)
    return all(v > 0 for v in values) and all(a < b for a, b in itertools.pairwise(values))


RULES: dict[str, Rule] = {
    "NAME": ((lambda v: not name_problem(v)), "a single name of a folder, without '/' or '..', of up to 100 bytes"),
    "SEED": _between(0, 2**32 - 1),
    "DATASET.INPUT_SIZE": ((lambda v: 64 <= v <= 4096 and v % 32 == 0), "a multiple of 32 from 64 to 4096"),
    "DATASET.MAX_PEOPLE": _between(1, 1000),
    "DATASET.IMAGE_IDS": (
        (lambda v: all(type(i) is int and abs(i) < 2**63 for i in v)),
        "a list of whole numbers of up to 64 bits",
    ),
    "DATASET.CATEGORIES": ((lambda v: all(type(name) is str for name in v)), "a list of names or ids"),
    "DATASET.TRAIN_IMAGES": _one_of("annotated", "labelled", "all"),
    "DATASET.ORIENTATION": _one_of("", "auto", "upright", "stored"),
    "DATASET.BAD_INPUT": _one_of("auto", "strict", "tolerant"),
    "SYNTHETIC.WIDTH": _between(64, 2048),
    "SYNTHETIC.HEIGHT": _between(64, 2048),
    "SYNTHETIC.MIN_PEOPLE": _between(1, 40),
    "SYNTHETIC.MAX_PEOPLE": _between(1, 40),
    "SYNTHETIC.CROWD_INDEX": ((lambda v: v <= 1), "at most 1 (below 0: the natural mix)"),
    "SYNTHETIC.SEED": _between(0, 2**32 - 1),
    "SYNTHETIC.TRAIN_SCENES": _between(1, MOST_SCENES),
    "SYNTHETIC.VAL_SCENES": _between(1, MOST_SCENES),
    "SYNTHETIC.TEST_SCENES": _between(1, MOST_SCENES),
    "AUGMENT.SCALE": (
        (lambda v: len(v) == 2 and 0.05 <= v[0] <= v[1] <= 20),
        "two numbers, least and greatest, from 0.05 to 20",
    ),
    "AUGMENT.ROTATION": _between(0, 180),
    "AUGMENT.TRANSLATE": _between(0, 1),
    "AUGMENT.FLIP": _between(0, 1),
    "AUGMENT.COLOR": _between(0, 0.9),
    "MODEL.BACKBONE": _one_of("hrnet", "hourglass"),
    "MODEL.HEAD": _one_of("plain", "higher"),
    "MODEL.TAG_DIM": _between(1, 256),
    "MODEL.WIDTH": _between(4, 512),
    "MODEL.STEM_WIDTH": _between(4, 512),
    "MODEL.STEM_BLOCKS": _between(1, 64),
    "MODEL.STAGE_MODULES": _each(_between(1, 32), 3),
    "MODEL.STAGE_BLOCKS": _between(1, 64),
    "MODEL.HEAD_BLOCKS": _between(0, 64),
    "MODEL.STACKS": _between(1, 16),
    "MODEL.HOURGLASS_DEPTH": _between(1, 8),
    "MODEL.HOURGLASS_GROWTH": _between(0, 1024),
    "MODEL.PIXELS": _one_of("imagenet", "unit"),
    "LOSS.HEATMAP_WEIGHT": _at_least(0),
    "LOSS.PULL_WEIGHT": _at_least(0),
    "LOSS.PUSH_WEIGHT": _at_least(0),
    "LOSS.COUPLING_WEIGHT": _at_least(0),
    "LOSS.BETA": _above(0),
    "LOSS.PULL_RAMP_START": _at_least(0),
    "LOSS.PULL_RAMP_END": _at_least(0),
    "LOSS.PULL_RAMP_FACTOR": _between(0, 1),
    "TRAIN.IMAGES_PER_GPU": _between(1, 4096),
    "TRAIN.ACCUMULATE": _between(1, 4096),
    "TRAIN.EPOCHS": _between(1, 10**6),
    "TRAIN.OPTIMIZER": _one_of("adam", "muon"),
    "TRAIN.LR": _above(0),
    "TRAIN.WEIGHT_DECAY": _at_least(0),
    "TRAIN.SCHEDULE": _one_of("step", "cosine"),
    "TRAIN.MILESTONES": (_rising, "epochs above 0 in rising order"),
    "TRAIN.GAMMA": _between(0, 1),
    "TRAIN.COSINE_START": _between(0, 1),
    "TRAIN.WARMUP_STEPS": _at_least(0),
    "TRAIN.WARMUP_RATIO": _between(0, 1),
    "TRAIN.CLIP_GRAD": _at_least(0),
    "TRAIN.EMA": ((lambda v: 0 <= v < 1), "at least 0 and below 1"),
    "TRAIN.PRECISION": _one_of("fp32", "bf16", "fp16"),
    "TRAIN.WORKERS": _between(0, 256),
    "TRAIN.THREADS": _between(0, 1024),
    "TRAIN.LOG_EVERY": _at_least(1),
    "TRAIN.PICTURES_EVERY": _at_least(0),
    "TRAIN.EVAL_EVERY": _at_least(0),
    "TRAIN.SAVE_EVERY": _at_least(1),
    "TRAIN.SAVE_STEPS": _at_least(0),
    "TRAIN.KEEP": _at_least(1),
    "TRAIN.MAX_BAD_STEPS": _at_least(0),
    "TEST.IMAGES_PER_BATCH": _between(1, 1024),
    "TEST.SCALES": _each(((lambda v: 0.5 <= v <= 8 and v * 2 == int(v * 2)), "a multiple of 0.5 from 0.5 to 8")),
    "TEST.TAG_SCALES": _one_of("base", "all"),
    "TEST.NMS_KERNEL": ((lambda v: v % 2 == 1 and 1 <= v <= 63), "an odd number from 1 to 63"),
    "TEST.MAX_CANDIDATES": _between(1, 1000),
    "TEST.HEATMAP_THRESHOLD": _at_least(0),
    "TEST.TAG_THRESHOLD": _above(0),
    "TEST.GROUPING_ORDER": ((lambda v: all(type(name) is str for name in v)), "a list of joint names"),
    "TEST.GROUPING_COST": _one_of("near", "steps"),
    "TEST.MAX_JOINED": _at_least(0),
    "TEST.ASSIGNMENT": _one_of("munkres", "scipy"),
    "TEST.PEAK_TIES": _one_of("topk", "rows"),
    "TEST.ABSENT_JOINTS": _one_of("origin", "zero", "guess"),
    "TEST.MAX_DETECTIONS": _at_least(0),
    "TEST.ENGINE": _one_of("pycocotools", "fast", "crowdposetools"),
    "TEST.PRECISION": _one_of("fp32", "bf16", "fp16"),
    "TEST.WORKERS": _between(0, 256),
    "TEST.OVERLAYS": _between(0, 1000),
}


def check_values(cfg: CfgNode, source: str) -> None:
    """Raise ConfigError for the first value outside its range; ``source`` names the file."""
    for key, (allowed, description) in RULES.items():
        value = _get(cfg, key)
        if not allowed(value):
            raise ConfigError(f"{source}: {key}: {shown(value)} is impossible; allowed: {description}")
    for problem in _misfits(cfg):
        raise ConfigError(f"{source}: {problem}")


def _misfits(cfg: CfgNode) -> Iterator[str]:
    """Yield what is wrong with values that are possible alone, but not together."""
    few, many = cfg.SYNTHETIC.MIN_PEOPLE, cfg.SYNTHETIC.MAX_PEOPLE
    if few > many:
        yield f"SYNTHETIC.MIN_PEOPLE: {few} must not exceed SYNTHETIC.MAX_PEOPLE, {many}"
    start, end = cfg.LOSS.PULL_RAMP_START, cfg.LOSS.PULL_RAMP_END
    if start > end:
        yield f"LOSS.PULL_RAMP_START: {start} must not exceed LOSS.PULL_RAMP_END, {end}"
    scales, size = cfg.TEST.SCALES, cfg.DATASET.INPUT_SIZE
    if size * max(scales) > LARGEST_INPUT or len(scales) > MOST_SCALES:
        yield (
            f"TEST.SCALES: {shown(scales)} is impossible; allowed: up to {MOST_SCALES} scales, whose largest times "
            f"DATASET.INPUT_SIZE ({size}) is at most {LARGEST_INPUT} pixels"
        )
    if 1.0 not in scales:
        yield f"TEST.SCALES: {shown(scales)} must hold 1.0, the scale that tags come from"
    if cfg.MODEL.SCALE_MAPS and cfg.LOSS.SCALE_ADAPTED:
        yield "LOSS.SCALE_ADAPTED: True is impossible with MODEL.SCALE_MAPS, which widths then come from; give False"
    yield from _network_misfits(cfg.MODEL)


def _network_misfits(model: CfgNode) -> Iterator[str]:
    blocks = model.STAGE_BLOCKS * sum(m * (n + 2) for n, m in enumerate(model.STAGE_MODULES))
    if blocks > MOST_BLOCKS:
        yield f"MODEL.STAGE_MODULES, MODEL.STAGE_BLOCKS: {blocks} residual blocks; allowed: {MOST_BLOCKS}"
    if model.BACKBONE == "hourglass" and model.HEAD != "plain":
        yield f"MODEL.HEAD: '{model.HEAD}' is impossible with MODEL.BACKBONE hourglass; give 'plain'"
    if model.BACKBONE == "hourglass" and model.PRETRAINED:
        yield f"MODEL.PRETRAINED: {model.PRETRAINED:.200} is for HRNet; with MODEL.BACKBONE hourglass give ''"
    if model.BACKBONE == "hourglass" and model.SCALE_MAPS:
        yield "MODEL.SCALE_MAPS: True is impossible with MODEL.BACKBONE hourglass; give False"
    if model.FEED_TAGS and model.HEAD != "higher":
        yield f"MODEL.FEED_TAGS: needs MODEL.HEAD higher, not '{model.HEAD}'"


def _get(cfg: CfgNode, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg
