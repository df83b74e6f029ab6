"""Protocols: the splits and the precision of docs/method.md 4, for every card."""

from pathlib import Path

import pytest

from coupled_embedding.builders import load_info
from coupled_embedding.utils.errors import UserError
from coupled_embedding.zoo.cards import load_cards
from coupled_embedding.zoo.protocols import PROTOCOLS, spec_of_card

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
    run = spec_of_card(CARDS[name], protocol).describe()
    assert SPLITS[name.split("_")[0], protocol] == (run.train, run.val, run.precision)
    assert run.options["TRAIN.SELECT_ON_TEST"] is (run.val == "test")
    assert run.options["TRAIN.EVAL_EVERY"] == 10


@pytest.mark.parametrize("path", sorted((CHECKOUT / "config/crowdpose").glob("ce_*_paper.yaml")), ids=lambda p: p.stem)
def test_a_config_of_the_papers_protocol_is_the_cards(path):
    run = load_info(path)
    assert run == spec_of_card(CARDS[run.name.removesuffix("_paper")], "paper").describe()


@pytest.mark.parametrize("name", ["crowdpose_ae_hrhrnet_w48_640", "coco_ae_hrhrnet_w32_512"])
def test_a_baselines_publication_is_followed_but_no_released_program(name):
    run = spec_of_card(CARDS[name], "paper").describe()
    assert (CARDS[name].paper.trained_on, "fp32") == (run.train, run.precision)
    with pytest.raises(UserError, match=f"--protocol released: .* and {name} is none"):
        spec_of_card(CARDS[name], "released")


def test_a_publication_that_trained_on_another_split_is_an_error():
    with pytest.raises(UserError, match="coco_ae_hourglass_512 are of a training on 'a split that its card does not"):
        spec_of_card(CARDS["coco_ae_hourglass_512"], "paper")
