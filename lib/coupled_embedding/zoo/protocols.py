"""Protocols: on which splits and in which precision a card's network is trained, as options over the card's config."""

from collections.abc import Mapping, Sequence

from yacs.config import CfgNode

from coupled_embedding.config import load_config
from coupled_embedding.prepare import schema_of
from coupled_embedding.utils.errors import UserError
from coupled_embedding.zoo.cards import ModelCard

# validated: as the card's config has it: no image of the test split, nor of the one that chooses the checkpoint, is
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


def recipe_of(card: ModelCard, protocol: str) -> tuple[str, list[str]]:
    """Return a protocol's config file and the options over it, ``[key, value, ...]``.

    Where they change the training, NAME is among them: the run has a folder of its own, ``NAME_paper`` or
    ``NAME_released``. Protocols that come to the same have the same run.

    Raises:
        UserError: the protocol is not known for this card.
    """
    if protocol == PAPER and card.paper_config:
        return card.paper_config, []
    cfg = load_config(card.config)
    options = _options_of(card, protocol, schema_of(cfg).name)
    trained_on = options.get("DATASET.TRAIN", cfg.DATASET.TRAIN)
    if protocol != VALIDATED and trained_on != card.paper.trained_on:
        raise UserError(
            f"--protocol {protocol}: the published figures of {card.name} are of a training on "
            f"'{card.paper.trained_on or 'a split that its card does not name'}', not on '{trained_on}', and its card "
            "has no paper_config; give DATASET.TRAIN, DATASET.VAL and a NAME"
        )
    overrides = [text for pair in options.items() for text in pair]
    if load_config(card.config, overrides) == cfg:
        return card.config, []
    return card.config, [*overrides, "NAME", f"{cfg.NAME}_{_ending(protocol, schema_of(cfg).name)}"]


def _options_of(card: ModelCard, protocol: str, data_set: str) -> Options:
    if protocol == RELEASED and (not card.row or data_set not in _OPTIONS[RELEASED]):
        raise UserError(
            f"--protocol released: what the released program does is known for the paper's own rows, and {card.name} "
            "is none; --protocol paper trains on the splits of its publication"
        )
    # of other data sets the card says what the publication trained on; the precision is the paper's
    other = _FLOAT32 if protocol == PAPER else {}
    return _OPTIONS[protocol].get(data_set, other)


def _ending(protocol: str, data_set: str) -> str:
    """Return how a protocol's runs are called: by the first protocol that comes to the same."""
    of = {name: _OPTIONS[name].get(data_set) for name in PROTOCOLS}
    return next(name for name in PROTOCOLS if name == protocol or (of[name] and of[name] == of[protocol]))


def config_of(card: ModelCard, protocol: str, overrides: Sequence[str] = ()) -> CfgNode:
    """Return a protocol's config with options changed; errors as `recipe_of` and `load_config`."""
    path, options = recipe_of(card, protocol)
    return load_config(path, [*options, *overrides])


def configs_of(card: ModelCard) -> dict[str, CfgNode]:
    """Return the configs of the protocols that are known for a card, by protocol."""
    configs = {}
    for protocol in PROTOCOLS:
        try:
            configs[protocol] = config_of(card, protocol)
        except UserError:
            continue
    return configs
