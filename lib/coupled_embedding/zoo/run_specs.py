"""What a command runs: a config file as it is, or a model card with its options and weights."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from coupled_embedding.builders import RunInfo, load_info
from coupled_embedding.utils.errors import CheckpointError
from coupled_embedding.utils.paths import resolve
from coupled_embedding.zoo.cards import FOLDER, ModelCard, find_card
from coupled_embedding.zoo.protocols import PROTOCOLS, VALIDATED, RunSpec, known_runs, spec_of_card


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


def check_choice(parser: argparse.ArgumentParser, args: argparse.Namespace, choices: Sequence[str]) -> None:
    """Exit with the parser's error if the options name no run, or more than one."""
    if args.cfg and args.model:
        parser.error("give --cfg or --model, not both")
    if not any(getattr(args, name) for name in choices):
        parser.error(f"give {' or '.join('--' + name for name in choices)}")
    if args.protocol != VALIDATED and not args.model:
        parser.error("--protocol needs --model; without a card, DATASET.TRAIN and DATASET.VAL say as much")


def spec_of_training(args: argparse.Namespace) -> RunSpec:
    """Return what to train, from another model's weights where a card says so; UserError if they are missing."""
    if not args.model:
        return RunSpec(args.cfg, tuple(args.overrides))
    card = find_card(args.model)
    spec = spec_of_card(card, args.protocol, args.overrides)
    if card.starts_from == "scratch" or card.starts_from.endswith(".pth") or "MODEL.INIT_FROM" in args.overrides[::2]:
        return spec
    start, warning = _start_weights(card, args.protocol, spec.describe().options["OUTPUT_DIR"])
    return replace(spec, overrides=("MODEL.INIT_FROM", str(start), *spec.overrides), warning=warning)


def _start_weights(card: ModelCard, protocol: str, output_dir: str) -> tuple[Path, str]:
    """Return the weights that a card starts from, and a warning if they are of another protocol than its training."""
    source, options = find_card(card.starts_from), ["OUTPUT_DIR", output_dir]
    run, default = (spec_of_card(source, name, options).describe() for name in (protocol, VALIDATED))
    other = _first_file(weight_places(source, default))
    if other and not _first_file(weight_places(source, run)):
        return other, (
            f"warning: {card.name} starts from {other}, which is not of --protocol {protocol}; to keep to it "
            f"throughout, train {source.name} by it first"
        )
    return find_weights(source, run, f" ({card.name} starts from it)"), ""


def spec_of_test(args: argparse.Namespace) -> RunSpec:
    """Return what to test: for a card its config, options and weights; UserError if card or weights are missing."""
    if not args.model:
        return RunSpec(args.cfg, tuple(args.overrides), args.weights)
    card = find_card(args.model)
    run = spec_of_card(card, args.protocol, args.overrides).describe()
    weights = args.weights or str(find_weights(card, run))
    # tests of the same network in another way get a folder and a results file of their own
    name = run.name + card.name.removeprefix(load_info(card.config).name)
    options = (*card.test_options(), *args.overrides, "NAME", name)
    return replace(spec_of_card(card, args.protocol, options), weights=weights)


def find_weights(card: ModelCard, run: RunInfo, reason: str = "") -> Path:
    """Return the weights of a card's training: in ``models/``, else the run's best, else its last.

    Raises:
        CheckpointError: there are none; the text says how to get them, and ``reason`` who needs them.
    """
    places = weight_places(card, run)
    if found := _first_file(places):
        return found
    of = next((name for name, known in known_runs(card).items() if known.name == run.name), VALIDATED)
    protocol = "" if of == VALIDATED else f" --protocol {of}"
    raise CheckpointError(
        f"{run.name}: no weights{reason}: neither {' nor '.join(map(str, places))} is there. Train it: python "
        f"tools/train.py --model {card.name}{protocol} --gpus 8 TRAIN.ACCUMULATE 2; or see: python tools/weights.py "
        f"--model {card.name}"
    )


def _first_file(places: Sequence[Path]) -> Path | None:
    return next((path for path in places if path.is_file()), None)


def weight_places(card: ModelCard, run: RunInfo) -> list[Path]:
    """Return where a training's weights may be, the first choice first; ``models/`` if no NAME was chosen for it."""
    known = {known.name: f"{known.name}.pth" for known in known_runs(card).values()}
    known[load_info(card.config).name] = card.weights.file
    in_zoo = [resolve(FOLDER) / known[run.name]] if run.name in known else []
    return [*in_zoo, run.folder / "best.pth", run.folder / "final.pth"]
