"""What a command is to do: a config file as it stands, or a model card with its options and weights."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yacs.config import CfgNode

from coupled_embedding.config import load_config
from coupled_embedding.utils.errors import CheckpointError
from coupled_embedding.utils.paths import resolve
from coupled_embedding.zoo.cards import FOLDER, ModelCard, find_card
from coupled_embedding.zoo.protocols import PROTOCOLS, VALIDATED, config_of, configs_of, recipe_of


@dataclass(frozen=True)
class Job:
    """What `load_config` and the network's weights come from.

    Attributes:
        config: file, or None for the weight file's own.
        overrides: ``[key, value, ...]``, a card's before the user's.
        weights: file, or None for the run's own.
        model: the card's name; empty without one.
        warning: what to print when it starts; empty: nothing.
    """

    config: str | None
    overrides: tuple[str, ...] = ()
    weights: str | None = None
    model: str = ""
    warning: str = ""

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
        default=VALIDATED,
        help="with --model: train and choose the checkpoint on different splits, neither of them the tested one "
        "(validated, the default); the paper's splits, in float32 (paper); as the authors' released program, which on "
        "CrowdPose chooses by the test split (released; on COCO the same as paper)",
    )


def job_of_training(args: argparse.Namespace) -> Job:
    """Return what to train; a network that starts from another model's gets that one's weights.

    Raises:
        UserError: the card or the weights that it starts from are missing.
    """
    if not args.model:
        return Job(args.cfg, tuple(args.overrides))
    card = find_card(args.model)
    job = job_of_card(card, args.protocol, args.overrides)
    if card.starts_from == "scratch" or card.starts_from.endswith(".pth") or "MODEL.INIT_FROM" in args.overrides[::2]:
        return job
    start, warning = _start_weights(card, args.protocol, job.load().OUTPUT_DIR)
    return Job(job.config, ("MODEL.INIT_FROM", str(start), *job.overrides), None, card.name, warning)


def job_of_card(card: ModelCard, protocol: str, overrides: Sequence[str] = ()) -> Job:
    """Return the training of a card as its config names it, start weights included; errors as `recipe_of`."""
    config, options = recipe_of(card, protocol)
    return Job(config, (*options, *overrides), None, card.name)


def _start_weights(card: ModelCard, protocol: str, output_dir: str) -> tuple[Path, str]:
    """Return the weights that a card starts from, and a warning if they are of another protocol than its training."""
    source, options = find_card(card.starts_from), ["OUTPUT_DIR", output_dir]
    cfg = config_of(source, protocol, options)
    if not any(path.is_file() for path in weight_places(source, cfg)):
        for path in weight_places(source, config_of(source, VALIDATED, options)):
            if path.is_file():
                return path, (
                    f"warning: {card.name} starts from {path}, which is not of --protocol {protocol}; to keep to it "
                    f"throughout, train {source.name} by it first"
                )
    return find_weights(source, cfg, f"{card.name} starts from it"), ""


def job_of_test(args: argparse.Namespace) -> Job:
    """Return what to test: for a card its config, its options, and its weights where they lie.

    Raises:
        UserError: the card or the weights are missing.
    """
    if not args.model:
        return Job(args.cfg, tuple(args.overrides), args.weights)
    card = find_card(args.model)
    job = job_of_card(card, args.protocol, args.overrides)
    cfg = job.load()
    weights = args.weights or str(find_weights(card, cfg))
    # tests of the same network in another way get a folder and a results file of their own
    name = cfg.NAME + card.name.removeprefix(load_config(card.config).NAME)
    config, options = recipe_of(card, args.protocol)
    return Job(config, (*options, *card.test_options(), *args.overrides, "NAME", name), weights, card.name)


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
    of = next((name for name, known in configs_of(card).items() if known.NAME == cfg.NAME), VALIDATED)
    protocol = "" if of == VALIDATED else f" --protocol {of}"
    raise CheckpointError(
        f"{cfg.NAME}: no weights{f' ({reason})' if reason else ''}: neither {places} is there. Train it: python "
        f"tools/train.py --model {card.name}{protocol} --gpus 8 "
        f"TRAIN.ACCUMULATE 2; or see: python tools/weights.py --model {card.name}"
    )


def weight_places(card: ModelCard, cfg: CfgNode) -> list[Path]:
    """Return where a model's weights may lie, the first choice first."""
    run = Path(cfg.OUTPUT_DIR) / cfg.NAME
    places = [run / "best.pth", run / "final.pth"]
    files = {known.NAME: f"{known.NAME}.pth" for known in configs_of(card).values()}
    files[load_config(card.config).NAME] = card.weights.file
    return [resolve(FOLDER) / files[cfg.NAME], *places] if cfg.NAME in files else places


def check_choice(parser: argparse.ArgumentParser, args: argparse.Namespace, choices: Sequence[str]) -> None:
    """Make the parser complain of too much or too little of what says what to run."""
    if args.cfg and args.model:
        parser.error("give --cfg or --model, not both")
    if not any(getattr(args, name) for name in choices):
        parser.error(f"give {' or '.join('--' + name for name in choices)}")
    if args.protocol != VALIDATED and not args.model:
        parser.error("--protocol needs --model; without a card, DATASET.TRAIN and DATASET.VAL say as much")
