"""Tables of documents, made from cards and records: published and own figures side by side."""

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from coupled_embedding.config import load_config
from coupled_embedding.errors import UserError
from coupled_embedding.zoo.cards import ModelCard
from coupled_embedding.zoo.cost import ASSUMED, PASSES, PHOTOS, Gpus, training_hours, training_photos
from coupled_embedding.zoo.records import RunRecord, changed_settings, percent

NOT_MEASURED = "–"
_SECTION = re.compile(r"(<!-- table (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
# own figures beside the paper's: heading, split, kind of protocol
_OWN = {
    "coco": (
        ("own test-dev", "test-dev2017", "validated"),
        ("own val2017, best by it", "val2017", "selected on the tested split"),
    ),
    "crowdpose": (("own, best by val", "test", "validated"), ("own, paper's splits", "test", "last weights")),
}
_REPORTED = {"coco": "test-dev2017", "crowdpose": "test"}
_SCORES = {
    "coco": ("AP", "AP50", "AP75", "AP_M", "AP_L"),
    "crowdpose": ("AP", "AP50", "AP75", "AP_easy", "AP_medium", "AP_hard"),
}
# what a run may change without being another experiment; the authors do not state their total batch
_FREE = {
    *("NAME", "OUTPUT_DIR", "SEED", "DATASET.ROOT", "DATASET.TEST", "MODEL.PRETRAINED", "MODEL.INIT_FROM"),
    *(f"TRAIN.{key}" for key in ("IMAGES_PER_GPU", "ACCUMULATE", "WORKERS", "THREADS", "LOG_EVERY", "PICTURES_EVERY")),
    *(f"TRAIN.{key}" for key in ("SAVE_EVERY", "SAVE_STEPS", "KEEP", "MAX_BAD_STEPS", "COMPILE", "CHANNELS_LAST")),
    *(f"TEST.{key}" for key in ("IMAGES_PER_BATCH", "WORKERS", "OVERLAYS", "ENGINE", "FOLD_BN")),
}
Cards = Mapping[str, ModelCard]


def data_set_of(card: ModelCard) -> str:
    """Return the data set that a card's figures are of."""
    return "crowdpose" if card.name.startswith("crowdpose_") else "coco"


def markdown(headings: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Iterable[int] = ()) -> str:
    """Return a Markdown table; columns of ``numbers`` are ranged right."""
    right = set(numbers)
    rule = ["--:" if column in right else "---" for column in range(len(headings))]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in (headings, rule, *rows))


def figures_table(data_set: str, cards: Cards, records: Sequence[RunRecord]) -> str:
    """Return the paper's rows of a data set with own AP beside them."""
    names, own = _SCORES[data_set], _OWN[data_set]
    rows = []
    for card in cards.values():
        if card.row and data_set_of(card) == data_set:
            published = card.paper.figures[_REPORTED[data_set]]
            measured = [own_ap(card, records, split, kind) for _, split, kind in own]
            figures = [f"{published[name]:.1f}" for name in names]
            rows.append([f"`{card.name}`", card.input, "✓" if card.is_multi_scale else "", *figures, *measured])
    headings = ["model", "input", "MS", *(name.replace("_", " ") for name in names), *(heading for heading, *_ in own)]
    return markdown(headings, rows, [1, *range(3, len(headings))])


def own_ap(card: ModelCard, records: Sequence[RunRecord], split: str, kind: str) -> str:
    """Return own AP of a card's row: of one run, or mean ± standard deviation of several seeds."""
    found = [
        100 * value
        for record in records
        if (record.kind, record.model) == ("test", card.name)
        and (record.protocol.tested_on, record.protocol.kind) == (split, kind)
        # the last weights of a training that kept a split for choosing are of neither protocol
        and (kind != "last weights" or record.protocol.trained_on == card.paper.trained_on)
        and (value := record.figures.get("AP")) is not None
    ]
    return mean_and_deviation(found) if found else NOT_MEASURED


def mean_and_deviation(values: Sequence[float]) -> str:
    """Return ``mean ± sample standard deviation``, one decimal; of a single value that one alone."""
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def baselines_table(cards: Cards, records: Sequence[RunRecord]) -> str:
    """Return the baselines' published and own AP, a row a split."""
    rows = []
    for card in cards.values():
        for split, figures in card.paper.figures.items() if not card.row else ():
            own = [
                (kind, own_ap(card, records, split, kind))
                for _, where, kind in _OWN[data_set_of(card)]
                if where == split
            ]
            measured = "; ".join(f"{ap} ({kind})" for kind, ap in own if ap != NOT_MEASURED) or NOT_MEASURED
            rows.append([f"`{card.name}`", split, card.paper.source, f"{figures['AP']:.1f}", measured])
    return markdown(["model", "split", "published in", "AP", "own AP"], rows, [3])


# 8 GPUs x 10 photos x 2 passes: near the 192 a step that the learning rate goes with elsewhere (docs/scaling.md)
_STEP = "TRAIN.ACCUMULATE 2"


def commands_table(cards: Cards) -> str:
    """Return how to reproduce each of the paper's rows: commands and what to expect."""
    rows = []
    for card in cards.values():
        if card.row:
            split = _REPORTED[data_set_of(card)]
            paper = " --protocol paper" if card.paper_config else ""
            to_split = " --split test-dev2017" if data_set_of(card) == "coco" else ""
            train = (
                f"`python tools/train.py --model {card.name} --gpus 8 {_STEP}`"
                if not card.is_multi_scale
                else "the row above's"
            )
            test = f"`python tools/test.py --model {card.name} --gpus 8{to_split}`"
            also = f"`{paper.strip()}` behind both" if paper else "the same"
            figures = " ".join(f"{value:.1f}" for value in card.paper.figures[split].values())
            rows.append([card.row, train, test, also, figures])
    return markdown(["row", "train", "test", "the paper's splits", "expected"], rows, [0])


def hours_table(cards: Cards, gpus: Sequence[Gpus] = ASSUMED) -> str:
    """Return hours of the trainings behind the paper's rows, estimated from operations."""
    rows = []
    for card in cards.values():
        if card.row and not card.is_multi_scale:
            for path in dict.fromkeys((card.config, card.paper_config or card.config)):
                cfg = load_config(path)
                photos = training_photos(cfg)
                hours = [f"{training_hours(photos, card.gflop, kind):.1f}" for kind in gpus]
                rows.append(
                    [f"`{cfg.NAME}`", cfg.DATASET.TRAIN, f"{photos:,}", f"{card.gflop:.1f}", *hours, "not measured yet"]
                )
    estimated = [f"{g.count} x {g.name} at {100 * g.use:g} % of {g.tflops:g} TFLOP/s" for g in gpus]
    headings = ["training", "split", "photos", f"GFLOP a photo, forward (x {PASSES})", *estimated, "measured hours"]
    return markdown(headings, rows, range(2, len(headings)))


def own_table(records: Sequence[RunRecord]) -> str:
    """Return all own figures, a row a record of a test."""
    rows = []
    for record in (r for r in records if r.kind == "test"):
        scores = ", ".join(f"{name} {percent(value)}" for name, value in record.figures.items())
        code = str(record.code.get("commit", record.code.get("version", "")))[:10]
        seed = "" if record.seed is None else record.seed
        rows.append([f"`{record.model}`", record.protocol, scores, seed, code, f"{record.processes} x {record.device}"])
    headings = ["model", "trained on → checkpoint → tested on", "scores", "seed", "code", "device"]
    return markdown(headings, rows, [3]) if rows else "None yet: they need the whole data sets and GPUs."


def all_tables(cards: Cards, records: Sequence[RunRecord]) -> dict[str, str]:
    """Return every table that a document can hold, by the name in its marker."""
    return {
        "coco": figures_table("coco", cards, records),
        "crowdpose": figures_table("crowdpose", cards, records),
        "baselines": baselines_table(cards, records),
        "commands": commands_table(cards),
        "hours": hours_table(cards),
        "own": own_table(records),
    }


def fill(text: str, tables: Mapping[str, str], source: str) -> str:
    """Return a document with each ``<!-- table NAME -->`` … ``<!-- end -->`` filled anew.

    Raises:
        UserError: a marker names no table or has no end.
    """
    filled = _SECTION.findall(text)
    opened = text.count("<!-- table ")
    if len(filled) != opened or any(body.count("<!--") for _, _, body, _ in filled):
        raise UserError(f"{source}: {opened} markers '<!-- table NAME -->', but not each has its '<!-- end -->'")
    for _, name, _, _ in filled:
        if name not in tables:
            raise UserError(f"{source}: no table '{name}'; there are {', '.join(tables)}")
    return _SECTION.sub(lambda found: f"{found[1]}\n{tables[found[2]]}\n\n{found[4]}", text)


def misfits(record: RunRecord, cards: Cards) -> list[str]:
    """Return why a record is none of a card's row, a line each; empty: it is one."""
    card = cards.get(record.model)
    if record.kind != "test" or card is None:
        return [f"it is of a {record.kind} of '{record.model}'; only tests of a card (--model) have a row"]
    protocol = record.protocol
    reasons = [f"its figures say little: {protocol.kind} ({protocol})"] if protocol.kind.startswith("trained") else []
    whole = PHOTOS.get((record.data_set, protocol.tested_on))
    if record.photos != whole:
        reasons.append(
            f"it is of {record.photos} photos; {record.data_set} {protocol.tested_on} has {whole or 'no known number'}"
        )
    if protocol.trained_on is None:
        return reasons  # released weights: nobody knows more
    of_paper = protocol.trained_on == card.paper.trained_on and not protocol.selected_on
    wanted = changed_settings(load_config(card.config_of("paper" if of_paper else "validated"), card.test_options()))
    keys = (record.settings.keys() | wanted.keys()) - _FREE
    default = "the default"
    return reasons + [
        f"{key} is {record.settings.get(key, default)}, the card has {wanted.get(key, default)}"
        for key in sorted(keys)
        if record.settings.get(key, default) != wanted.get(key, default)
    ]
