"""Names and values that options, checkpoints and records had before: old files and commands keep working.

The one table of aliases. Entries are permanent.
"""

from collections.abc import Mapping
from typing import Any

# old name -> name now, in the same group, and old value -> value now; an option that kept its name is listed for these
OPTIONS: dict[str, tuple[str, dict[str | bool, str]]] = {
    "DATASET.ONLY_WITH_PEOPLE": ("DATASET.TRAIN_IMAGES", {True: "labelled", False: "all"}),
    "DATASET.BAD_INPUT": ("DATASET.ON_INVALID", {"strict": "raise", "tolerant": "skip"}),
    "TRAIN.PICTURES_EVERY": ("TRAIN.VISUALIZE_EVERY", {}),
    "TRAIN.MAX_BAD_STEPS": ("TRAIN.MAX_NONFINITE_STEPS", {}),
    "TEST.TAG_SCALES": ("TEST.MULTISCALE_TAGS", {"base": "single", "all": "concat"}),
    "TEST.GROUPING_COST": ("TEST.GROUPING_COST", {"near": "ce", "steps": "ae"}),
    "TEST.ONE_PEAK_PER_PLATEAU": ("TEST.NMS_DEDUP_PLATEAUS", {}),
    "TEST.PEAK_TIES": ("TEST.NMS_TIE_ORDER", {}),
    "TEST.ABSENT_JOINTS": ("TEST.MISSING_JOINTS", {}),
    "TEST.REFINE": ("TEST.REFINE", {True: "fast", False: "none"}),
    "TEST.ENGINE": ("TEST.OKS_BACKEND", {}),
}
# what checkpoints that are older than an option were trained with, where that is not the default now
BEFORE: dict[str, Any] = {"DATASET.TRAIN_IMAGES": "all", "TRAIN.DROP_LAST": False}
# fields of a checkpoint's training state, of run records, and of a model card's paper
TRAINING = {"photos": "images", "processes": "ranks", "untested": "validation_pending"}
CARD = {"figures": "metrics"}
RECORD = {"photos": "images", "processes": "ranks", "data_set": "dataset", "figures": "metrics"}


def current_options(content: dict[Any, Any]) -> dict[Any, Any]:
    """Return nested options with their current names and values; the content itself is left alone."""
    for old, (new, values) in OPTIONS.items():
        group, _, key = old.partition(".")
        node = content.get(group)
        if isinstance(node, dict) and key in node:
            others = {name: value for name, value in node.items() if name != key}
            # a name of now, where both are given, has the last word
            content = {**content, group: {new.partition(".")[2]: _value_now(node[key], values), **others}}
    return content


def saved_options(content: dict[Any, Any]) -> dict[Any, Any]:
    """Return the options of a checkpoint by their current names, younger options with what held for them before."""
    content = current_options(content)
    for name, value in BEFORE.items():
        group, _, key = name.partition(".")
        if isinstance(content.get(group), dict):
            content = {**content, group: {key: value, **content[group]}}
    return content


def current_flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options by their full names, such as those of a record, with current names and values."""
    translated = {}
    for name, value in options.items():
        new, values = OPTIONS.get(name, (name, {}))
        translated[new] = _value_now(value, values)
    return translated


def current_checkpoint(content: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's content whose training state has its current names."""
    training = content.get("training")
    return {**content, "training": _renamed(training, TRAINING)} if isinstance(training, dict) else content


def current_record(content: dict[str, Any]) -> dict[str, Any]:
    """Return a run record's fields by their current names."""
    return _renamed(content, RECORD)


def current_card(content: Any) -> Any:
    """Return a model card's content by its current names."""
    paper = content.get("paper") if isinstance(content, dict) else None
    return {**content, "paper": _renamed(paper, CARD)} if isinstance(paper, dict) else content


def _renamed(content: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in content.items()}


def _value_now(value: Any, values: Mapping[str | bool, str]) -> Any:
    # 1 is no True here, and lists cannot be looked up
    return values.get(value, value) if isinstance(value, str | bool) else value
