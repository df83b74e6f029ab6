"""Protocols: the splits and the precision of METHOD.md §4, for every card."""

from pathlib import Path

import pytest

from coupled_embedding.config import load_config
from coupled_embedding.utils.errors import UserError
from coupled_embedding.zoo.cards import load_cards
from coupled_embedding.zoo.protocols import PROTOCOLS, config_of

CHECKOUT = Path(__file__).resolve().parents[2]
CARDS = load_cards(CHECKOUT / "models")
ROWS = [name for name, card in CARDS.items() if card.row]
# trained on, chosen by, precision
SPLITS = {
    ("crowdpose", "validated"): ("train", "val", "bf16"),
    ("crowdpose", "paper"): ("trainval", "", "fp32"),
    ("crowdpose", "released"): ("trainval", "test", "fp32"),
    ("coco", "validated"): ("train2017", "val2017", "bf16"),
    ("coco", "paper"): ("train2017", "val2017", "fp32"),
    ("coco", "released"): ("train2017", "val2017", "fp32"),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ROWS)
def test_splits_and_precision_are_the_methods(name, protocol):
    cfg = config_of(CARDS[name], protocol)
    assert SPLITS[name.split("_")[0], protocol] == (cfg.DATASET.TRAIN, cfg.DATASET.VAL, cfg.TRAIN.PRECISION)
    assert cfg.TRAIN.SELECT_ON_TEST is (cfg.DATASET.VAL == "test")
    assert cfg.TRAIN.EVAL_EVERY == 10


@pytest.mark.parametrize("path", sorted((CHECKOUT / "config/crowdpose").glob("ce_*_paper.yaml")), ids=lambda p: p.stem)
def test_a_config_of_the_papers_protocol_is_the_cards(path):
    cfg = load_config(path)
    assert cfg == config_of(CARDS[cfg.NAME.removesuffix("_paper")], "paper")


@pytest.mark.parametrize("name", ["crowdpose_ae_hrhrnet_w48_640", "coco_ae_hrhrnet_w32_512"])
def test_a_baselines_publication_is_followed_but_no_released_program(name):
    cfg = config_of(CARDS[name], "paper")
    assert (CARDS[name].paper.trained_on, "fp32") == (cfg.DATASET.TRAIN, cfg.TRAIN.PRECISION)
    with pytest.raises(UserError, match=f"--protocol released: .* and {name} is none"):
        config_of(CARDS[name], "released")


def test_a_publication_that_trained_on_another_split_is_told():
    with pytest.raises(UserError, match="coco_ae_hourglass_512 are of a training on 'a split that its card does not"):
        config_of(CARDS["coco_ae_hourglass_512"], "paper")
