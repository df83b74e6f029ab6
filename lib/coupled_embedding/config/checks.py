"""Values of options: brought to their type, checked one by one and together."""

import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from yacs.config import CfgNode

from coupled_embedding.config import rules
from coupled_embedding.config.defaults import Option, all_options, flat
from coupled_embedding.utils.errors import ConfigError, short_repr
from coupled_embedding.utils.paths import path_error

# what a config may make of a machine: the papers' networks have 104 blocks and see 1,280 pixels
MOST_BLOCKS = 1000
LARGEST_INPUT = 8192
MOST_SCALES = 16
STAGED = ("hourglass", "cpm")  # backbones that output maps themselves


def coerce(option: Option, value: Any, key: str, source: str) -> Any:
    """Return ``value`` in the type of an option; ConfigError if it cannot be.

    Whole numbers are accepted for floats, and ``1e-3``, which YAML reads as text, for 0.001. Empty means None
    where that is the default.
    """
    if option.default is None and value in (None, ""):
        return None
    return _in_type_of(option.kind() if option.kind else option.default, value, f"{source}: {key}")


def _in_type_of(sample: Any, value: Any, where: str) -> Any:
    is_plain = isinstance(value, int | float | str) and not isinstance(value, bool)
    if type(value) is int and abs(value) >= 2**63:
        raise ConfigError(f"{where}: {short_repr(value)} is invalid; expected whole numbers of up to 64 bits")
    if isinstance(sample, list) and isinstance(value, list | tuple):
        return [_in_type_of(sample[0], item, where) if sample else item for item in value]
    if isinstance(sample, str) and is_plain:
        if error := path_error(str(value)):
            raise ConfigError(f"{where}: {short_repr(str(value))} is invalid: {error}")
        return str(value)
    if isinstance(sample, float) and is_plain:
        with suppress(ValueError):
            if math.isfinite(number := float(value)):
                return number
    elif type(value) is type(sample) and not isinstance(sample, list):
        return value
    raise ConfigError(f"{where}: expected a {_kind(sample)}, got {short_repr(value)} ({type(value).__name__})")


def _kind(sample: Any) -> str:
    if isinstance(sample, list):
        return f"list of {_kind(sample[0])}s" if sample else "list"
    return {bool: "boolean (True or False)", int: "whole number", float: "number", str: "text"}[type(sample)]


def check_values(cfg: CfgNode, source: str) -> None:
    """Raise ConfigError for the first value that is not allowed; ``source`` names the file."""
    values = flat(cfg)
    for key, option in all_options().items():
        value = values[key]
        if option.rule and value is not None and not option.rule.test(value):
            raise ConfigError(f"{source}: {key}: {short_repr(value)} is invalid; expected {option.rule.words}")
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
            f"TEST.SCALES: {short_repr(scales)} is invalid; expected up to {MOST_SCALES} scales, whose largest "
            f"times DATASET.INPUT_SIZE ({size}) is at most {LARGEST_INPUT} pixels"
        )
    if 1.0 not in scales:
        yield f"TEST.SCALES: {short_repr(scales)} must hold 1.0, the scale that tags come from"
    if cfg.MODEL.SCALE_MAPS and cfg.LOSS.SCALE_ADAPTED:
        yield "LOSS.SCALE_ADAPTED: True is invalid with MODEL.SCALE_MAPS, which widths then come from; give False"
    if cfg.LOSS.ANNOTATED_WIDTHS and (cfg.LOSS.SCALE_ADAPTED or cfg.MODEL.SCALE_MAPS):
        yield "LOSS.ANNOTATED_WIDTHS: True is invalid with LOSS.SCALE_ADAPTED or MODEL.SCALE_MAPS; give False to both"
    if cfg.LOSS.SCALE_ADAPTED and not cfg.MODEL.TAG_DIM:
        yield "LOSS.SCALE_ADAPTED: True needs tags, which MODEL.TAG_DIM 0 leaves out; give False"
    if cfg.TEST.GROUPING == "pafs" and not cfg.MODEL.PAF:
        yield "TEST.GROUPING: 'pafs' needs MODEL.PAF; the network has no part affinity fields"
    if cfg.MODEL.PAF and cfg.TEST.PAF_PRESET == "with_tags" and not cfg.MODEL.TAG_DIM:
        yield "TEST.PAF_PRESET: 'with_tags' needs tags, which MODEL.TAG_DIM 0 leaves out; give another, such as paper"
    if cfg.TEST.GROUPING == "centers" and not cfg.MODEL.CENTERS:
        yield "TEST.GROUPING: 'centers' needs MODEL.CENTERS; the network has no center maps"
    by_centers = cfg.MODEL.CENTERS and cfg.TEST.GROUPING in ("auto", "centers")
    if cfg.TEST.REGROUP and cfg.MODEL.PAF and not by_centers and cfg.TEST.GROUPING in ("auto", "pafs"):
        yield "TEST.REGROUP: groups again by tags, but part affinity fields group here; give 0, or TEST.GROUPING tags"
    if by_centers and len(scales) > 1 and cfg.TEST.POSE_NMS == "none":
        yield "TEST.SCALES: several scales, whose people centers find, need TEST.POSE_NMS to merge them, such as oks"
    if cfg.TEST.GROUPING == "tags" and not cfg.MODEL.TAG_DIM and not cfg.DATASET.CROPS:
        yield "TEST.GROUPING: 'tags' needs tags, which MODEL.TAG_DIM 0 leaves out"
    if cfg.MODEL.HEATMAPS == "logistic" and (cfg.LOSS.SCALE_ADAPTED or cfg.MODEL.SCALE_MAPS):
        yield "MODEL.HEATMAPS: logistic is invalid with LOSS.SCALE_ADAPTED or MODEL.SCALE_MAPS; give False to both"
    if cfg.LOSS.CENTER_WEIGHT and not cfg.MODEL.SPATIAL_TAGS:
        yield "LOSS.CENTER_WEIGHT: needs MODEL.SPATIAL_TAGS above 0, such as 0.25"
    if cfg.TEST.BOXES and not cfg.DATASET.CROPS:
        yield "TEST.BOXES: needs DATASET.CROPS people: a network that sees whole images finds the people itself"
    if cfg.AUGMENT.PROPOSALS and not cfg.DATASET.CROPS:
        yield "AUGMENT.PROPOSALS: needs DATASET.CROPS people: whole images have no boxes to vary; give ''"
    if cfg.AUGMENT.PASTE and cfg.DATASET.CROPS:
        yield "AUGMENT.PASTE: is invalid with DATASET.CROPS, whose images hold one person with joints each; give ''"
    if cfg.TRAIN.COMPILE and cfg.TRAIN.RECOMPUTE:
        yield "TRAIN.RECOMPUTE: True is invalid with TRAIN.COMPILE, which decides that by itself; give False"
    if cfg.TRAIN.LR_PREFIXES and cfg.TRAIN.OPTIMIZER == "muon":
        yield "TRAIN.LR_PREFIXES: invalid with TRAIN.OPTIMIZER muon, which has one learning rate; give []"
    if size % 32 and cfg.MODEL.BACKBONE != "cpm":
        yield f"DATASET.INPUT_SIZE: {size} is invalid; expected {rules.INPUT_SIDE.words}"
    if cfg.LOSS.PARALLEL_WEIGHT and not cfg.MODEL.SPATIAL_TRANSFORMER:
        yield "LOSS.PARALLEL_WEIGHT: needs MODEL.SPATIAL_TRANSFORMER True"
    yield from _network_misfits(cfg.MODEL)


def _network_misfits(model: CfgNode) -> Iterator[str]:
    blocks = model.STAGE_BLOCKS * sum(m * (n + 2) for n, m in enumerate(model.STAGE_MODULES))
    if blocks > MOST_BLOCKS:
        yield f"MODEL.STAGE_MODULES, MODEL.STAGE_BLOCKS: {blocks} residual blocks; allowed: {MOST_BLOCKS}"
    if model.BACKBONE in STAGED:
        with_it = f"with MODEL.BACKBONE {model.BACKBONE}"
        if model.HEAD != "plain":
            yield f"MODEL.HEAD: '{model.HEAD}' is invalid {with_it}; give 'plain'"
        if model.PRETRAINED:
            yield f"MODEL.PRETRAINED: {model.PRETRAINED:.200} is for HRNet; {with_it} give ''"
        if model.SCALE_MAPS:
            yield f"MODEL.SCALE_MAPS: True is invalid {with_it}; give False"
        for name in (name for name in ("PAF", "CENTERS") if model[name]):
            yield f"MODEL.{name}: True is invalid {with_it}; give False"
        if model.HEATMAPS != "linear":
            yield f"MODEL.HEATMAPS: {model.HEATMAPS} is invalid {with_it}; give linear"
    if model.PAF_STAGES > 1 and (not model.PAF or model.HEAD != "plain" or model.TAG_DIM):
        yield f"MODEL.PAF_STAGES: {model.PAF_STAGES} needs MODEL.PAF, MODEL.HEAD plain and MODEL.TAG_DIM 0"
    if model.PAF_STAGES > 1 and (model.CENTERS or model.HEATMAPS == "logistic"):
        yield f"MODEL.PAF_STAGES: {model.PAF_STAGES} is invalid with MODEL.CENTERS or MODEL.HEATMAPS logistic; give 1"
    if not model.TAG_DIM and (model.SPATIAL_TAGS or model.FEED_TAGS):
        yield "MODEL.TAG_DIM: 0 is invalid with MODEL.SPATIAL_TAGS or MODEL.FEED_TAGS, which need tags"
    if model.SPATIAL_TRANSFORMER and (model.TAG_DIM or model.SCALE_MAPS or model.CENTERS):
        yield (
            "MODEL.SPATIAL_TRANSFORMER: True is for heatmaps alone; give MODEL.TAG_DIM 0, MODEL.SCALE_MAPS False and "
            "MODEL.CENTERS False"
        )
    if model.HEAD == "separable" and model.SCALE_MAPS:
        yield "MODEL.SCALE_MAPS: True is invalid with MODEL.HEAD separable; give False"
    if model.FEED_TAGS and model.HEAD != "higher":
        yield f"MODEL.FEED_TAGS: needs MODEL.HEAD higher, not '{model.HEAD}'"
