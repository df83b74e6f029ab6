"""Protocols: on which splits and in which precision a card's network is trained, as options over the card's config."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from coupled_embedding.builders import RunInfo, load_info
from coupled_embedding.utils.errors import UserError
from coupled_embedding.zoo.cards import ModelCard

# validated: as in the card's config: no image of the test split, nor of the split that chooses the checkpoint, is
# trained on. paper: the splits of the publication, in float32. released: what the authors' released program does, which
# keeps the checkpoint that is best on CrowdPose's test split
VALIDATED, PAPER, RELEASED = PROTOCOLS = ("validated", "paper", "released")

Options = Mapping[str, str]
_FLOAT32 = {"TRAIN.PRECISION": "fp32"}
_TRAINVAL = {**_FLOAT32, "DATASET.TRAIN": "trainval"}
_BEST_ON_TEST = {"DATASET.VAL": "test", "TRAIN.EVAL_EVERY": "10", "TRAIN.SELECT_ON_TEST": "True"}
# protocol -> data set -> what differs from the card's config; COCO's splits and choice (val2017) are the same in all
_OPTIONS: Mapping[str, Mapping[str, Options]] = {
    VALIDATED: {},
    PAPER: {"coco": _FLOAT32, "crowdpose": {**_TRAINVAL, "DATASET.VAL": ""}},
    RELEASED: {"coco": _FLOAT32, "crowdpose": {**_TRAINVAL, **_BEST_ON_TEST}},
}


@dataclass(frozen=True)
class RunSpec:
    """Where the config and the network's weights of a run come from."""

    config: str | None  # file; None: the weight file's own config
    overrides: tuple[str, ...] = ()  # (key, value, ...), a card's before the user's
    weights: str | None = None  # file; None: the run's own
    model: str = ""  # the card's name; empty without a card
    warning: str = ""  # what to print at the start; empty: nothing

    def describe(self) -> RunInfo:
        """Return what is known of the run; errors as `load_config`."""
        return load_info(self.config, self.overrides)


def spec_of_card(card: ModelCard, protocol: str, overrides: Sequence[str] = ()) -> RunSpec:
    """Return the training of a card by a protocol, with ``[key, value, ...]`` changed.

    A protocol that changes the training also changes NAME: its run has a folder of its own, ``NAME_paper`` or
    ``NAME_released``. Protocols with the same options have the same run.

    Raises:
        UserError: the protocol is not known for this card.
    """
    if protocol == PAPER and card.paper_config:
        return RunSpec(card.paper_config, tuple(overrides), model=card.name)
    run = load_info(card.config)
    options = _options_of(card, protocol, run.dataset)
    trained_on = options.get("DATASET.TRAIN", run.train)
    if protocol != VALIDATED and trained_on != card.paper.trained_on:
        raise UserError(
            f"--protocol {protocol}: the published scores of {card.name} are of a training on "
            f"'{card.paper.trained_on or 'a split that its card does not name'}', not on '{trained_on}', and its card "
            "has no paper_config; give DATASET.TRAIN, DATASET.VAL and a NAME"
        )
    changes = [text for pair in options.items() for text in pair]
    if load_info(card.config, changes) == run:
        return RunSpec(card.config, tuple(overrides), model=card.name)
    # the run's name ends with the first protocol that has these options
    same = (name for name in PROTOCOLS if _OPTIONS[name].get(run.dataset) == options)
    changes += ["NAME", f"{run.name}_{next(same, protocol)}"]
    return RunSpec(card.config, (*changes, *overrides), model=card.name)


def _options_of(card: ModelCard, protocol: str, dataset: str) -> Options:
    if protocol == RELEASED and (not card.row or dataset not in _OPTIONS[RELEASED]):
        raise UserError(
            f"--protocol released: what the released program does is known for the paper's own rows, and {card.name} "
            "is none; --protocol paper trains on the splits of its publication"
        )
    # of other data sets the card says what the publication trained on; the precision is the paper's
    return _OPTIONS[protocol].get(dataset, _FLOAT32 if protocol == PAPER else {})


def known_runs(card: ModelCard) -> dict[str, RunInfo]:
    """Return the trainings of a card by protocol, as far as the protocols are known for it."""
    runs = {}
    for protocol in PROTOCOLS:
        with suppress(UserError):
            runs[protocol] = spec_of_card(card, protocol).describe()
    return runs
