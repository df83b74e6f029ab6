"""What a command is to do: a config file as it stands, or a model card with its options and weights."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yacs.config import CfgNode

from coupled_embedding.config import load_config
from coupled_embedding.errors import CheckpointError, UserError
from coupled_embedding.paths import resolve
from coupled_embedding.zoo.cards import FOLDER, PROTOCOLS, ModelCard, find_card


@dataclass(frozen=True)
class Job:
    """What `load_config` and the network's weights come from.

    Attributes:
        config: file, or None for the weight file's own.
        overrides: ``[key, value, ...]``, a card's before the user's.
        weights: file, or None for the run's own.
        model: the card's name; empty without one.
    """

    config: str | None
    overrides: tuple[str, ...] = ()
    weights: str | None = None
    model: str = ""

    def load(self) -> CfgNode:
        """Return the config; errors as `load_config`."""
        return load_config(self.config, self.overrides)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg``, ``--model`` and ``--protocol``: what to run."""
    parser.add_argument("--cfg", metavar="FILE", help="config file")
    parser.add_argument("--model", metavar="NAME", help="card in models/, such as coco_ce_hrhrnet_w32_512")
    parser.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default=PROTOCOLS[0],
        help="with --model: train and choose the checkpoint on different splits (%(default)s), or the paper's splits",
    )


def job_of_training(args: argparse.Namespace) -> Job:
    """Return what to train; a network that starts from another model's gets that one's weights.

    Raises:
        UserError: the card or the weights that it starts from are missing.
    """
    if not args.model:
        return Job(args.cfg, tuple(args.overrides))
    card = find_card(args.model)
    job = Job(_config(card, args.protocol), tuple(args.overrides), None, card.name)
    if card.starts_from == "scratch" or card.starts_from.endswith(".pth") or "MODEL.INIT_FROM" in args.overrides[::2]:
        return job
    source = find_card(card.starts_from)
    source_cfg = load_config(source.config, ["OUTPUT_DIR", job.load().OUTPUT_DIR])
    start = find_weights(source, source_cfg, f"{card.name} starts from it")
    return Job(job.config, ("MODEL.INIT_FROM", str(start), *job.overrides), None, card.name)


def job_of_test(args: argparse.Namespace) -> Job:
    """Return what to test: for a card its config, its options, and its weights where they lie.

    Raises:
        UserError: the card or the weights are missing.
    """
    if not args.model:
        return Job(args.cfg, tuple(args.overrides), args.weights)
    card = find_card(args.model)
    config = _config(card, args.protocol)
    cfg = load_config(config, args.overrides)
    weights = args.weights or str(find_weights(card, cfg))
    # tests of the same network in another way get a folder and a results file of their own
    name = cfg.NAME + card.name.removeprefix(load_config(card.config).NAME)
    return Job(config, (*card.test_options(), *args.overrides, "NAME", name), weights, card.name)


def _config(card: ModelCard, protocol: str) -> str:
    """Return a protocol's config file; UserError if the card knows no config with the splits of the publication."""
    path = card.config_of(protocol)
    if protocol == "paper" and card.paper.trained_on != load_config(path).DATASET.TRAIN:
        raise UserError(
            f"--protocol paper: the card {card.name} has no paper_config; give DATASET.TRAIN, DATASET.VAL and a NAME"
        )
    return path


def find_weights(card: ModelCard, cfg: CfgNode, reason: str = "") -> Path:
    """Return a model's weights: in ``models/``, else the run's best, else its last.

    Args:
        card: the model.
        cfg: of its run, with OUTPUT_DIR and NAME; of another NAME than the card's, only that run's.
        reason: who needs them, for the error.

    Raises:
        CheckpointError: none is there; the text says how to get them.
    """
    candidates = weight_places(card, cfg)
    for path in candidates:
        if path.is_file():
            return path
    places = " nor ".join(map(str, candidates))
    protocol = " --protocol paper" if cfg.NAME == _name_of(card, "paper") != _name_of(card, "validated") else ""
    raise CheckpointError(
        f"{cfg.NAME}: no weights{f' ({reason})' if reason else ''}: neither {places} is there. Train it: python "
        f"tools/train.py --model {card.name}{protocol} --gpus 8 "
        f"TRAIN.ACCUMULATE 2; or see: python tools/weights.py --model {card.name}"
    )


def weight_places(card: ModelCard, cfg: CfgNode) -> list[Path]:
    """Return where a model's weights may lie, the first choice first."""
    run = Path(cfg.OUTPUT_DIR) / cfg.NAME
    places = [run / "best.pth", run / "final.pth"]
    files = {_name_of(card, "paper"): f"{_name_of(card, 'paper')}.pth", _name_of(card, "validated"): card.weights.file}
    return [resolve(FOLDER) / files[cfg.NAME], *places] if cfg.NAME in files else places


def _name_of(card: ModelCard, protocol: str) -> str:
    return str(load_config(card.config_of(protocol)).NAME)


def check_choice(parser: argparse.ArgumentParser, args: argparse.Namespace, choices: Sequence[str]) -> None:
    """Make the parser complain of too much or too little of what says what to run."""
    if args.cfg and args.model:
        parser.error("give --cfg or --model, not both")
    if not any(getattr(args, name) for name in choices):
        parser.error(f"give {' or '.join('--' + name for name in choices)}")
    if args.protocol != PROTOCOLS[0] and not args.model:
        parser.error("--protocol needs --model; without a card, DATASET.TRAIN and DATASET.VAL say as much")
