"""Tables of documents, made from cards and records: published and own figures side by side."""

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from coupled_embedding.config import default_config
from coupled_embedding.utils.errors import UserError
from coupled_embedding.zoo.cards import ModelCard
from coupled_embedding.zoo.cost import ASSUMED, PASSES, PHOTOS, Gpus, training_hours, training_photos
from coupled_embedding.zoo.protocols import PAPER, RELEASED, VALIDATED, config_of, configs_of
from coupled_embedding.zoo.records import Protocol, RunRecord, changed_settings, percent

NOT_MEASURED = "–"
_SECTION = re.compile(r"(<!-- table (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
# own figures beside the paper's: heading, split, protocol
_OWN = {
    "coco": (
        ("own test-dev", "test-dev2017", VALIDATED),
        ("own val2017, best by it", "val2017", VALIDATED),
        ("own test-dev, float32", "test-dev2017", PAPER),
        ("own val2017, float32", "val2017", PAPER),
    ),
    "crowdpose": (
        ("own, best by val", "test", VALIDATED),
        ("own, paper's protocol", "test", PAPER),
        ("own, selected on test", "test", RELEASED),
    ),
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
            measured = [own_ap(card, records, split, protocol) for _, split, protocol in own]
            figures = [f"{published[name]:.1f}" for name in names]
            rows.append([f"`{card.name}`", card.input, "✓" if card.is_multi_scale else "", *figures, *measured])
    headings = ["model", "input", "MS", *(name.replace("_", " ") for name in names), *(heading for heading, *_ in own)]
    return markdown(headings, rows, [1, *range(3, len(headings))])


def own_ap(card: ModelCard, records: Sequence[RunRecord], split: str, protocol: str) -> str:
    """Return own AP of a card's row: of one run, or mean ± standard deviation of several seeds."""
    found = [
        100 * value
        for record in records
        if (record.kind, record.model, record.protocol.tested_on) == ("test", card.name, split)
        and protocol_of(record, card) == protocol
        and (value := record.figures.get("AP")) is not None
    ]
    return mean_and_deviation(found) if found else NOT_MEASURED


def protocol_of(record: RunRecord, card: ModelCard) -> str | None:
    """Return the protocol that a record's weights come from: splits, choice and precision; None: of no known one.

    The last weights of a training that kept a split for choosing, for instance, are of none.
    """
    precision = record.settings.get("TRAIN.PRECISION", default_config().TRAIN.PRECISION)
    made = (record.protocol.trained_on, record.protocol.selected_on, precision)
    for name, cfg in configs_of(card).items():
        if made == (cfg.DATASET.TRAIN, cfg.DATASET.VAL, cfg.TRAIN.PRECISION):
            return name
    return None


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
                f"{ap} ({_worth(card, protocol, split)})"
                for _, where, protocol in _OWN[data_set_of(card)]
                if where == split and (ap := own_ap(card, records, split, protocol)) != NOT_MEASURED
            ]
            measured = "; ".join(own) or NOT_MEASURED
            rows.append([f"`{card.name}`", split, card.paper.source, f"{figures['AP']:.1f}", measured])
    return markdown(["model", "split", "published in", "AP", "own AP"], rows, [3])


def _worth(card: ModelCard, protocol: str, split: str) -> str:
    """Return what figures of a protocol are worth on a split."""
    data = config_of(card, protocol).DATASET
    kind = Protocol(data.TRAIN, data.VAL, split).kind
    return kind if protocol == VALIDATED else f"{kind}, --protocol {protocol}"


# 8 GPUs x 10 photos x 2 passes: near the 192 a step that the learning rate goes with elsewhere (docs/scaling.md)
_STEP = "TRAIN.ACCUMULATE 2"


def commands_table(cards: Cards) -> str:
    """Return how to reproduce each of the paper's rows: commands and what to expect."""
    rows = []
    for card in cards.values():
        if card.row:
            split = _REPORTED[data_set_of(card)]
            to_split = " --split test-dev2017" if data_set_of(card) == "coco" else ""
            train = (
                f"`python tools/train.py --model {card.name} --gpus 8 {_STEP}`"
                if not card.is_multi_scale
                else "the row above's"
            )
            test = f"`python tools/test.py --model {card.name} --gpus 8{to_split}`"
            figures = " ".join(f"{value:.1f}" for value in card.paper.figures[split].values())
            rows.append([card.row, train, test, figures])
    return markdown(["row", "train", "test", "expected"], rows, [0])


def hours_table(cards: Cards, gpus: Sequence[Gpus] = ASSUMED) -> str:
    """Return hours of the trainings behind the paper's rows, estimated from operations."""
    rows = []
    for card in cards.values():
        if card.row and not card.is_multi_scale:
            for cfg in (config_of(card, protocol) for protocol in (VALIDATED, PAPER)):
                photos, precision = training_photos(cfg), cfg.TRAIN.PRECISION
                hours = [f"{training_hours(photos, card.gflop, kind, precision):.1f}" for kind in gpus]
                cells = [f"`{cfg.NAME}`", cfg.DATASET.TRAIN, precision, f"{photos:,}", f"{card.gflop:.1f}"]
                rows.append([*cells, *hours, "not measured yet"])
    estimated = [f"{g.count} x {g.name} at {100 * g.use:g} % of {g.tflops:g} (fp32: {g.tf32:g}) TFLOP/s" for g in gpus]
    known = ["training", "split", "precision", "images", f"GFLOP an image, forward (x {PASSES})"]
    return markdown([*known, *estimated, "measured hours"], rows, range(3, len(known) + len(estimated) + 1))


def own_table(records: Sequence[RunRecord]) -> str:
    """Return all own figures, a row a record of a test."""
    rows = []
    for record in (r for r in records if r.kind == "test"):
        scores = ", ".join(f"{name} {percent(value)}" for name, value in record.figures.items())
        code = str(record.code.get("commit", record.code.get("version", "")))[:10]
        seed = "" if record.seed is None else record.seed
        rows.append([f"`{record.model}`", record.splits, scores, seed, code, f"{record.processes} x {record.device}"])
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
    return reasons + min((_differences(record, card, name) for name in configs_of(card)), key=len)


def _differences(record: RunRecord, card: ModelCard, protocol: str) -> list[str]:
    """Return which options of a record are not those of a card's protocol, a line each."""
    wanted = changed_settings(config_of(card, protocol, card.test_options()))
    keys = (record.settings.keys() | wanted.keys()) - _FREE
    default, of = "the default", "" if protocol == VALIDATED else f" by --protocol {protocol}"
    return [
        f"{key} is {record.settings.get(key, default)}, the card has {wanted.get(key, default)}{of}"
        for key in sorted(keys)
        if record.settings.get(key, default) != wanted.get(key, default)
    ]
