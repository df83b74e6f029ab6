"""Tables from cards and records: right cells, documents up to date, other records rejected."""

from dataclasses import replace
from pathlib import Path

import pytest

from coupled_embedding.builders import load_info
from coupled_embedding.utils.errors import UserError
from coupled_embedding.zoo.cards import load_cards
from coupled_embedding.zoo.cost import Gpus, training_hours, training_images
from coupled_embedding.zoo.protocols import spec_of_card
from coupled_embedding.zoo.published import load_published
from coupled_embedding.zoo.records import Protocol, RunRecord, load_records
from coupled_embedding.zoo.tables import all_tables, baselines_table, fill, mismatches, mpii_table, scores_table

CHECKOUT = Path(__file__).resolve().parents[2]
CARDS = load_cards(CHECKOUT / "models")
RECORDS = load_records(CHECKOUT / "models/records")
PUBLISHED = load_published(CHECKOUT / "models/published/systems.yaml")
MODEL = "crowdpose_ce_hrhrnet_w48_640_ms"


def record(model=MODEL, ap=0.7, protocol=("train", "val", "test"), seed=1, by="", **changes):
    card = CARDS[model]
    known = {("trainval", ""): "paper", ("trainval", "test"): "released"}
    by = by or known.get(protocol[:2], "validated")
    made = RunRecord(
        kind="test",
        model=model,
        run=model,
        dataset=model.split("_", 1)[0],
        protocol=Protocol(*protocol),
        config=card.config,
        overrides=[],
        settings=spec_of_card(card, by, card.test_options()).describe().changed,
        code={"commit": "0123456789abcdef", "dirty": False},
        packages={},
        data={},
        weights={"best.pth": "ab"},
        device="some GPU",
        ranks=8,
        seed=seed,
        images={"test": 8000, "val2017": 5000, "test-dev2017": 20288}[protocol[2]],
        seconds=1.0,
        metrics={"AP": ap},
        date="2026-11-20",
    )
    return replace(made, **changes)


def cells(table, name):
    row = next(line for line in table.splitlines() if f"`{name}`" in line)
    return [cell.strip() for cell in row.strip("|").split("|")]


@pytest.mark.parametrize("document", ["README.md", "docs/reproduce.md", "docs/peers.md"])
def test_documents_are_up_to_date(document):
    """Else: python tools/table.py --write."""
    text = (CHECKOUT / document).read_text(encoding="utf-8")
    assert "<!-- table " in text
    assert fill(text, all_tables(CARDS, RECORDS, PUBLISHED), document) == text


def test_committed_records_are_of_the_cards_rows():
    assert [(kept.run, mismatches(kept, CARDS)) for kept in RECORDS if mismatches(kept, CARDS)] == []


def test_the_papers_scores_are_beside_ours():
    row = cells(scores_table("crowdpose", CARDS, [record(ap=0.7012)]), MODEL)
    assert row[1:] == ["640", "✓", "71.6", "90.1", "77.3", "79.0", "72.2", "63.3", "70.1", "–", "–"]


def test_our_scores_go_by_their_protocol_and_split():
    paper = record(ap=0.71, protocol=("trainval", "", "test"))
    released = record(ap=0.72, protocol=("trainval", "test", "test"))
    validated = record(ap=0.70)
    table = scores_table("crowdpose", CARDS, [released, paper, validated])
    assert table.splitlines()[0].endswith("| ours, best on val | ours, paper's protocol | ours, selected on test |")
    assert cells(table, MODEL)[-3:] == ["70.0", "71.0", "72.0"]
    unknown = record(protocol=(None, None, "test"))
    assert cells(scores_table("crowdpose", CARDS, [unknown]), MODEL)[-3:] == ["–", "–", "–"]


def test_our_scores_of_coco_go_by_their_precision():
    name, splits = "coco_ce_hrnet_w32_512", ("train2017", "val2017")
    val, dev = (record(name, ap, (*splits, split)) for ap, split in ((0.661, "val2017"), (0.668, "test-dev2017")))
    assert cells(scores_table("coco", CARDS, [val, dev]), name)[-4:] == ["66.8", "66.1", "–", "–"]
    float32 = record(name, 0.67, (*splits, "test-dev2017"), by="paper")
    assert "TRAIN.PRECISION" not in float32.settings  # float32 is the options' default
    assert cells(scores_table("coco", CARDS, [float32, val, dev]), name)[-4:] == ["66.8", "66.1", "67.0", "–"]
    assert mismatches(float32, CARDS) == mismatches(dev, CARDS) == []


def test_last_weights_of_other_splits_are_not_the_papers_protocol():
    # a validated run whose final.pth was tested in place of best.pth
    last = record(ap=0.69, protocol=("train", "", "test"))
    assert cells(scores_table("crowdpose", CARDS, [last]), MODEL)[-3:] == ["–", "–", "–"]
    paper = record(ap=0.71, protocol=("trainval", "", "test"))
    assert cells(scores_table("crowdpose", CARDS, [last, paper]), MODEL)[-3:] == ["–", "71.0", "–"]
    # nor is what test chose in a training by other options
    chosen = record(ap=0.73, protocol=("train", "test", "test"))
    assert cells(scores_table("crowdpose", CARDS, [chosen]), MODEL)[-3:] == ["–", "–", "–"]
    baseline = record("crowdpose_ae_hrhrnet_w48_640", protocol=("train", "", "test"))
    assert cells(baselines_table(CARDS, [baseline]), baseline.model)[-1] == "–"


def test_seeds_are_a_mean_and_a_sample_deviation():
    runs = [record(ap=ap, seed=seed) for seed, ap in enumerate((0.70, 0.71, 0.75))]
    # mean 72, deviations -2, -1, 3: variance 14 / 2
    assert cells(scores_table("crowdpose", CARDS, runs), MODEL)[-3] == "72.0 ± 2.6"


def test_baselines_have_a_row_per_split():
    ours = record("coco_ae_hrhrnet_w32_512", 0.655, ("train2017", "val2017", "val2017"))
    rows = [line for line in baselines_table(CARDS, [ours]).splitlines() if "`coco_ae_hrhrnet_w32_512`" in line]
    assert [row.split("|")[2].strip() for row in rows] == ["test-dev2017", "val2017"]
    assert rows[0].endswith("| 66.4 | – |")
    assert rows[1].endswith("| 67.1 | 65.5 (selected on the tested split) |")


def test_mpiis_scores_have_names_of_their_own():
    name = "mpii_hourglass_8"
    ours = replace(record("coco_ae_hrhrnet_w32_512", protocol=("train", "val", "test")), model=name)
    precision = load_info(CHECKOUT / CARDS[name].config).precision
    scored = replace(
        ours,
        protocol=Protocol("train", "val", "val"),
        metrics={"PCKh@0.5": 0.8875, "AP": 0.1},
        settings={"TRAIN.PRECISION": precision},
    )
    rows = [line for line in mpii_table(CARDS, [scored]).splitlines() if f"`{name}`" in line]
    assert [row.split("|")[2].strip() for row in rows] == ["val", "test"]
    assert rows[0].endswith("| PCKh@0.5 | 90.1 | 88.8 |")
    assert rows[1].endswith("| PCKh@0.5 | 90.9 | – |")
    assert name not in baselines_table(CARDS, [scored])


def test_all_our_scores_are_listed_with_their_origin():
    row = cells(all_tables(CARDS, [record()])["ours"], MODEL)
    assert row[:6] == [f"`{MODEL}`", "train → best on val → test", "AP 70.0", "8000", "1", "0123456789"]
    assert row[6:] == ["8 x some GPU", "0.00", "2026-11-20"]
    chosen = replace(record(protocol=("trainval", "test", "test")), notes="selected on test")
    assert cells(all_tables(CARDS, [chosen])["ours"], MODEL)[1] == "trainval → best on test → test (selected on test)"
    assert all_tables(CARDS, [replace(chosen, kind="train")])["ours"].startswith("None yet")


@pytest.mark.parametrize("protocol", [("train", "val", "test"), ("trainval", "", "test"), ("trainval", "test", "test")])
def test_a_record_of_the_cards_options_is_taken(protocol):
    free = {"SEED": 3, "TRAIN.IMAGES_PER_GPU": 20, "DATASET.ROOT": "/data", "NAME": "x_seed3"}
    made = record(protocol=protocol)
    assert mismatches(replace(made, settings=made.settings | free), CARDS) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 2}, "the record is of 2 images; crowdpose test has 8000"),
        ({"model": "mine"}, "only tests of a card"),
        ({"kind": "train"}, "only tests of a card"),
        ({"protocol": Protocol("test", "", "test")}, "trained on the tested split"),
    ],
)
def test_a_record_of_something_else_is_rejected(change, message):
    assert message in "\n".join(mismatches(replace(record(), **change), CARDS))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("TRAIN.EPOCHS", 10, "TRAIN.EPOCHS is 10, the card has the default"),
        ("TEST.SCALES", [2.0, 1.0], "TEST.SCALES is [2.0, 1.0], the card has [2.0, 1.0, 0.5]"),
        ("TEST.FLIP", False, "TEST.FLIP is False"),
        ("DATASET.IMAGE_IDS", [1], "DATASET.IMAGE_IDS is [1]"),
        ("LOSS.BETA", None, "LOSS.BETA is the default, the card has 0.55"),
        ("TRAIN.PRECISION", None, "TRAIN.PRECISION is the default, the card has bf16"),
    ],
)
def test_other_options_are_named(key, value, message):
    settings = {k: v for k, v in (record().settings | {key: value}).items() if v is not None}
    assert "\n".join(mismatches(replace(record(), settings=settings), CARDS)).startswith(message)


def test_the_papers_protocol_is_not_bf16():
    made = record(protocol=("trainval", "", "test"))
    reasons = mismatches(replace(made, settings={**made.settings, "TRAIN.PRECISION": "bf16"}), CARDS)
    assert reasons == ["TRAIN.PRECISION is bf16, the card has the default by --protocol paper"]


def test_markers_are_filled_and_all_else_stays():
    text = "a\n<!-- table x -->\nold\n<!-- end -->\nb <!-- main --> <!-- end -->\n<!-- table y -->\n<!-- end -->"
    filled = fill(text, {"x": "1", "y": "2"}, "f")
    assert filled == (
        "a\n<!-- table x -->\n\n1\n\n<!-- end -->\nb <!-- main --> <!-- end -->\n<!-- table y -->\n\n2\n\n<!-- end -->"
    )
    assert fill(filled, {"x": "1", "y": "2"}, "f") == filled


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- table x -->\n<!-- end -->", "f: no table 'x'; there are y"),
        ("<!-- table y -->\n", "not each has its"),
        ("<!-- table y -->\n<!-- table y -->\n<!-- end -->", "not each has its"),
    ],
)
def test_wrong_markers_are_named(text, message):
    with pytest.raises(UserError, match=message):
        fill(text, {"y": "2"}, "f")


def test_hours_follow_from_operations():
    # 3,600,000 images x 3 passes x 100 GFLOP = 1.08e18; 8 x 100e12 x 0.25 = 2e14 a second: 5,400 s
    gpus = Gpus("x", 8, 100, 0.25, 50)
    assert training_hours(3_600_000, 100, gpus) == pytest.approx(1.5)
    assert training_hours(3_600_000, 100, gpus, "fp32") == pytest.approx(3)
    assert training_images(load_info(CHECKOUT / "config/crowdpose/ce_hrnet_w32_512.yaml")) == 3_000_000
    coco = CHECKOUT / "config/coco/ce_hrnet_w32_512.yaml"
    assert training_images(load_info(coco)) == 64_115 * 300  # docs/method.md 2
    assert training_images(load_info(coco, ["DATASET.TRAIN_IMAGES", "all"])) == 118_287 * 300
    assert training_images(load_info(coco, ["DATASET.TRAIN_IMAGES", "labelled"])) == 0  # not known
    assert training_images(load_info(CHECKOUT / "config/crowdpose/ce_hrnet_w32_512_paper.yaml")) == 3_600_000
    assert training_images(load_info(CHECKOUT / "config/synthetic/ce_small.yaml")) == 0
