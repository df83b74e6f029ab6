"""Tables of documents, made from cards and records: published scores and ours side by side."""

import re
from collections.abc import Mapping, Sequence

from coupled_embedding.config.defaults import all_options
from coupled_embedding.utils.errors import UserError
from coupled_embedding.zoo.cards import ModelCard
from coupled_embedding.zoo.cost import ASSUMED, IMAGES, PASSES, Gpus, training_hours, training_images
from coupled_embedding.zoo.markdown import markdown_table, mean_and_deviation, percent
from coupled_embedding.zoo.protocols import PAPER, RELEASED, VALIDATED, known_runs, spec_of_card
from coupled_embedding.zoo.published import Figure, published_table
from coupled_embedding.zoo.records import Protocol, RunRecord, records_table

NOT_MEASURED = "–"
_SECTION = re.compile(r"(<!-- table (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
# our scores next to the paper's: heading, split, protocol
_OURS = {
    "coco": (
        ("ours, test-dev", "test-dev2017", VALIDATED),
        ("ours, val2017, best on it", "val2017", VALIDATED),
        ("ours, test-dev, float32", "test-dev2017", PAPER),
        ("ours, val2017, float32", "val2017", PAPER),
    ),
    "crowdpose": (
        ("ours, best on val", "test", VALIDATED),
        ("ours, paper's protocol", "test", PAPER),
        ("ours, selected on test", "test", RELEASED),
    ),
}
_REPORTED = {"coco": "test-dev2017", "crowdpose": "test"}
_SCORES = {
    "coco": ("AP", "AP50", "AP75", "AP_M", "AP_L"),
    "crowdpose": ("AP", "AP50", "AP75", "AP_easy", "AP_medium", "AP_hard"),
}
# 8 GPUs x 10 images x 2 accumulated: near the 192 per step that the learning rate goes with elsewhere (docs/scaling.md)
_STEP = "TRAIN.ACCUMULATE 2"
# what a run may change without being another experiment; the authors do not state their total batch
_FREE = {
    *("SEED", "DATASET.TEST", "MODEL.PRETRAINED", "MODEL.INIT_FROM", "TRAIN.IMAGES_PER_GPU", "TRAIN.ACCUMULATE"),
    *(name for name, option in all_options().items() if not option.results),
}
Cards = Mapping[str, ModelCard]


def scores_table(dataset: str, cards: Cards, records: Sequence[RunRecord]) -> str:
    """Return the paper's rows of a data set with our AP next to them."""
    names, ours = _SCORES[dataset], _OURS[dataset]
    rows = []
    for card in (card for card in cards.values() if card.row and card.dataset == dataset):
        published = card.paper.metrics[_REPORTED[dataset]]
        measured = [our_score(card, records, split, protocol) for _, split, protocol in ours]
        about = [f"`{card.name}`", card.input, "✓" if card.is_multi_scale else ""]
        rows.append([*about, *(f"{published[name]:.1f}" for name in names), *measured])
    scores = [name.replace("_", " ") for name in names]
    headings = ["model", "input", "MS", *scores, *(heading for heading, *_ in ours)]
    return markdown_table(headings, rows, [1, *range(3, len(headings))])


def our_score(card: ModelCard, records: Sequence[RunRecord], split: str, protocol: str, score: str = "AP") -> str:
    """Return our score of a card's row: of one run, or mean ± standard deviation of several seeds."""
    found = [
        value
        for record in records
        if (record.kind, record.model, record.protocol.tested_on) == ("test", card.name, split)
        and protocol_of(record, card) == protocol
        and (value := record.metrics.get(score)) is not None
    ]
    if not found:
        return NOT_MEASURED
    return mean_and_deviation(found, 1) if len(found) > 1 else percent(found[0])


def protocol_of(record: RunRecord, card: ModelCard) -> str | None:
    """Return the protocol that a record's weights come from: splits, choice and precision; None: no known one.

    The last weights of a training that kept a split for choosing, for instance, are of none.
    """
    precision = record.settings.get("TRAIN.PRECISION", all_options()["TRAIN.PRECISION"].default)
    made = (record.protocol.trained_on, record.protocol.selected_on, precision)
    runs = known_runs(card).items()
    return next((name for name, run in runs if made == (run.train, run.val, run.precision)), None)


def baselines_table(cards: Cards, records: Sequence[RunRecord]) -> str:
    """Return the baselines' published AP and ours, a row per split."""
    rows = []
    for card in (card for card in cards.values() if not card.row and card.dataset in _OURS):
        for split, metrics in card.paper.metrics.items():
            protocols = [protocol for _, of, protocol in _OURS[card.dataset] if of == split]
            ours = [(our_score(card, records, split, protocol), protocol) for protocol in protocols]
            worth = [f"{ap} ({_worth(card, by, split)})" for ap, by in ours if ap != NOT_MEASURED]
            measured = "; ".join(worth) or NOT_MEASURED
            rows.append([f"`{card.name}`", split, card.paper.source, f"{metrics['AP']:.1f}", measured])
    return markdown_table(["model", "split", "published in", "AP", "our AP"], rows, [3])


def mpii_table(cards: Cards, records: Sequence[RunRecord]) -> str:
    """Return MPII's published scores and ours, a row per split; mean average precision, or PCKh of single people."""
    rows = []
    for card in (card for card in cards.values() if card.dataset == "mpii"):
        for split, metrics in card.paper.metrics.items():
            for score, published in metrics.items():
                ours = our_score(card, records, split, VALIDATED, score)
                rows.append([f"`{card.name}`", split, card.paper.source, score, f"{published:.1f}", ours])
    return markdown_table(["model", "split", "published in", "score", "published", "ours"], rows, [4, 5])


def _worth(card: ModelCard, protocol: str, split: str) -> str:
    """Return what scores of a protocol are worth on a split."""
    run = spec_of_card(card, protocol).describe()
    kind = Protocol(run.train, run.val, split).kind
    return kind if protocol == VALIDATED else f"{kind}, --protocol {protocol}"


def commands_table(cards: Cards) -> str:
    """Return how to reproduce each of the paper's rows: commands and what to expect."""
    rows = []
    for card in (card for card in cards.values() if card.row):
        split = _REPORTED[card.dataset]
        to_split = f" --split {split}" if card.dataset == "coco" else ""
        train = f"`python tools/train.py --model {card.name} --gpus 8 {_STEP}`"
        test = f"`python tools/test.py --model {card.name} --gpus 8{to_split}`"
        expected = " ".join(f"{value:.1f}" for value in card.paper.metrics[split].values())
        rows.append([card.row, "the row above's" if card.is_multi_scale else train, test, expected])
    return markdown_table(["row", "train", "test", "expected"], rows, [0])


def hours_table(cards: Cards, gpus: Sequence[Gpus] = ASSUMED) -> str:
    """Return hours of the trainings of the paper's rows, estimated from operations."""
    rows = []
    for card in (card for card in cards.values() if card.row and not card.is_multi_scale):
        for run in (spec_of_card(card, protocol).describe() for protocol in (VALIDATED, PAPER)):
            images = training_images(run)
            hours = [f"{training_hours(images, card.gflop, kind, run.precision):.1f}" for kind in gpus]
            about = [f"`{run.name}`", run.train, run.precision, f"{images:,}", f"{card.gflop:.1f}"]
            rows.append([*about, *hours, "not measured yet"])
    estimated = [f"{g.count} x {g.name} at {100 * g.use:g} % of {g.tflops:g} (fp32: {g.tf32:g}) TFLOP/s" for g in gpus]
    known = ["training", "split", "precision", "images", f"GFLOP per image, forward (x {PASSES})"]
    return markdown_table([*known, *estimated, "measured hours"], rows, range(3, len(known) + len(estimated) + 1))


def all_tables(cards: Cards, records: Sequence[RunRecord], published: Sequence[Figure] = ()) -> dict[str, str]:
    """Return every table that a document can hold, by the name in its marker; ``published``: of other systems."""
    tests = [record for record in records if record.kind == "test"]
    return {
        "coco": scores_table("coco", cards, records),
        "crowdpose": scores_table("crowdpose", cards, records),
        "baselines": baselines_table(cards, records),
        "mpii": mpii_table(cards, records),
        "published": published_table(published),
        "commands": commands_table(cards),
        "hours": hours_table(cards),
        "ours": records_table(tests) if tests else "None yet: they need the whole data sets and GPUs.",
    }


def fill(text: str, tables: Mapping[str, str], source: str) -> str:
    """Return a document with each ``<!-- table NAME -->`` … ``<!-- end -->`` filled; UserError if one is wrong."""
    sections, opened = _SECTION.findall(text), text.count("<!-- table ")
    if len(sections) != opened or any("<!--" in body for _, _, body, _ in sections):
        raise UserError(f"{source}: {opened} markers '<!-- table NAME -->', but not each has its '<!-- end -->'")
    if unknown := [name for _, name, _, _ in sections if name not in tables]:
        raise UserError(f"{source}: no table '{unknown[0]}'; there are {', '.join(tables)}")
    return _SECTION.sub(lambda found: f"{found[1]}\n{tables[found[2]]}\n\n{found[4]}", text)


def mismatches(record: RunRecord, cards: Cards) -> list[str]:
    """Return why a record belongs to no card's row, a line each; empty: it belongs to one."""
    card, protocol = cards.get(record.model), record.protocol
    if record.kind != "test" or card is None:
        return [f"the record is of a {record.kind} of '{record.model}'; only tests of a card (--model) have a row"]
    reasons = [f"its scores say little: {protocol.kind} ({protocol})"] if protocol.kind.startswith("trained") else []
    whole = IMAGES.get(record.dataset, {}).get(protocol.tested_on)
    if record.images != whole:
        has = f"{record.dataset} {protocol.tested_on} has {whole or 'no known number'}"
        reasons.append(f"the record is of {record.images} images; {has}")
    if protocol.trained_on is None:
        return reasons  # released weights: nothing more is known
    return reasons + min((_differences(record, card, name) for name in known_runs(card)), key=len)


def _differences(record: RunRecord, card: ModelCard, protocol: str) -> list[str]:
    """Return which options of a record are not those of a card's protocol, a line each."""
    wanted = spec_of_card(card, protocol, card.test_options()).describe().changed
    default, of = "the default", "" if protocol == VALIDATED else f" by --protocol {protocol}"
    return [
        f"{key} is {record.settings.get(key, default)}, the card has {wanted.get(key, default)}{of}"
        for key in sorted((record.settings.keys() | wanted.keys()) - _FREE)
        if record.settings.get(key, default) != wanted.get(key, default)
    ]
