"""A whole training run from a config: data, start weights, folder, validation."""

from pathlib import Path

import torch
from tqdm import tqdm
from yacs.config import CfgNode

from coupled_embedding.config import config_from_dict, config_to_yaml
from coupled_embedding.data.audit import people_of, unpaired_joints, warnings
from coupled_embedding.data.io.data_errors import BadInput, build_bad_input
from coupled_embedding.data.loader import build_train_dataset
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema, load_schema, schema_from_dict
from coupled_embedding.engine.checkpoint_files import latest_sound, list_checkpoints, read_resumable, remove_unfinished
from coupled_embedding.engine.checkpointer import set_final_aside
from coupled_embedding.engine.evaluate import ground_truth_of, run_test
from coupled_embedding.engine.train import Evaluate, Trainer
from coupled_embedding.networks.pose_network import PoseNetwork, build_network
from coupled_embedding.networks.state_dict import is_own_checkpoint
from coupled_embedding.networks.weights import carry_over, load_backbone, network_weights, read_weight_file
from coupled_embedding.prepare import annotations_of, records_of, render_missing, schema_of
from coupled_embedding.utils.atomic import write_whole
from coupled_embedding.utils.distributed import World, gather, on_main
from coupled_embedding.utils.errors import UserError
from coupled_embedding.utils.paths import resolve


def run_folder(cfg: CfgNode) -> Path:
    """Return the folder of a config's run."""
    return Path(cfg.OUTPUT_DIR) / cfg.NAME


def train(cfg: CfgNode, world: World, resume: str | None = None) -> dict[str, float]:
    """Train by a config.

    Args:
        cfg: the config.
        world: this process among all.
        resume: None: start anew, in a folder without a run (or continue, if torchrun restarted
            the processes); ``"auto"``: continue from the latest checkpoint if there is one;
            else the path of the checkpoint to continue from.

    Returns:
        The last validation's scores.

    Raises:
        UserError: what was given is wrong; or the folder already holds a run.
    """
    folder = run_folder(cfg)
    start, problems = on_main(lambda: _start_checkpoint(folder, resume, world.restarts > 0), world)
    if not all(gather(start is None or start.is_file(), world)):
        raise UserError(f"not every process sees {start}: several machines need a shared folder")
    on_main(lambda: _prepare_folder(folder), world)
    trainer, messages = build_trainer(cfg, world, fresh=start is None)
    messages += [f"warning: {problem}; using the checkpoint before it" for problem in problems]
    if start:
        content = read_resumable(start)
        trainer.resume(content, start)
        epochs = config_from_dict(content["config"], f"{start}, its config").TRAIN.EPOCHS
        longer = on_main(lambda: set_final_aside(folder, epochs, cfg.TRAIN.EPOCHS), world)
        messages += [longer] if longer else []
        messages.append(f"continuing from {start} (step {trainer.state.step} of {trainer.total_steps})")
    # now that nothing was refused
    on_main(lambda: write_whole(folder / "config.yaml", config_to_yaml(cfg), "the run's config"), world)
    if world.is_main:
        records, bad_input = trainer.dataset.records, trainer.dataset.bad_input
        if left_out := bad_input.report("broken annotations, left out", bad_input.problems, folder):
            messages.append(left_out)
        people = sum(int((r.keypoints[..., 2] > 0).any(1).sum()) for r in records)
        messages.append(
            f"{cfg.NAME}: {len(records)} photos with {people} labelled people, {trainer.total_steps} steps of "
            f"{world.size * cfg.TRAIN.ACCUMULATE * cfg.TRAIN.IMAGES_PER_GPU} photos ({world.size} x {world.device}), "
            f"into {folder}"
        )
        print("\n".join(messages), flush=True)
    return trainer.train()


def build_trainer(cfg: CfgNode, world: World, fresh: bool = True) -> tuple[Trainer, list[str]]:
    """Prepare a config's data and a network with its start weights; nothing is written to the run's folder.

    Args:
        fresh: whether the network needs start weights; a continued one has its own.

    Returns:
        The trainer, and what was done to the weights, a line each.

    Raises:
        UserError: what the config names is missing or wrong.
    """
    if cfg.TRAIN.THREADS:
        torch.set_num_threads(cfg.TRAIN.THREADS)
    schema = schema_of(cfg)
    on_main(lambda: render_missing(cfg, schema, {cfg.DATASET.TRAIN, cfg.DATASET.VAL}), world)
    torch.manual_seed(cfg.SEED)
    network = build_network(cfg, schema.num_joints)
    messages = initialise(network, cfg, schema) if fresh else []
    if cfg.DATASET.TRAIN in schema.held_out:
        messages.append(f"warning: training on '{cfg.DATASET.TRAIN}', which figures of {schema.name} are reported on")
    bad_input = build_bad_input(cfg, training=True)
    records = records_of(cfg, schema, cfg.DATASET.TRAIN, bad_input)
    messages += [f"warning: {line}" for line in _suspicions(cfg, records, schema)]
    dataset = build_train_dataset(cfg, records, schema, network.strides, bad_input)
    evaluate = _validation(cfg, schema, world, bad_input)
    if evaluate and cfg.DATASET.VAL in schema.held_out:
        messages.append(
            f"warning: TRAIN.SELECT_ON_TEST: the best checkpoint is chosen by '{cfg.DATASET.VAL}', which figures of "
            f"{schema.name} are reported on: those of best.pth will be too good"
        )
    return Trainer(cfg, schema, network, dataset, run_folder(cfg), world, evaluate), messages


def _suspicions(cfg: CfgNode, records: list[ImageRecord], schema: KeypointSchema) -> list[str]:
    """Return what looks wrong with the data before it is trained on, a line each.

    Raises:
        UserError: there is nobody to learn from.
    """
    people = people_of(records, schema)
    if not people.labelled.any():
        count = sum(record.annotations for record in records)
        raise UserError(
            f"{annotations_of(cfg, schema, cfg.DATASET.TRAIN)}: nobody to learn from: {count} annotations of people in "
            f"{len(records)} images, none with a labelled joint (keypoints x, y, label above 0); "
            "tools/check_dataset.py says more"
        )
    lines = warnings(records, schema)
    crowded = [r for r in records if (r.keypoints[..., 2] > 0).any(1).sum() > cfg.DATASET.MAX_PEOPLE]
    if crowded:
        lines.append(
            f"{len(crowded)} images have more labelled people than DATASET.MAX_PEOPLE {cfg.DATASET.MAX_PEOPLE}, such "
            f"as {crowded[0].path}: those with fewest joints are left out"
        )
    lines += unpaired_joints(schema) if cfg.AUGMENT.FLIP else []
    return lines


def _start_checkpoint(folder: Path, resume: str | None, restarted: bool) -> tuple[Path | None, list[str]]:
    """Return the checkpoint to start from, and what is wrong with later ones.

    Processes that torchrun started again go on from the folder's latest checkpoint, whatever
    they were started with; without one they do as at first.
    """
    checkpoints = list_checkpoints(folder)
    if resume == "auto" or (restarted and checkpoints):
        if checkpoints:
            return latest_sound(folder)
        _check_unused(folder, "its checkpoints are gone, so it cannot be continued")
        return None, []
    if resume is None:
        _check_unused(folder, "continue it with --resume")
        return None, []
    if not Path(resume).is_file():
        known = ", ".join(path.name for path in checkpoints) or "none"
        raise UserError(f"--resume {resume}: no such checkpoint; {folder} holds {known}")
    newer = [path for path in checkpoints if path.name > Path(resume).name]
    if newer and Path(resume).resolve().parent == folder.resolve():
        raise UserError(
            f"{folder} holds newer checkpoints ({newer[-1].name}), which continuing from {Path(resume).name} would mix "
            "with; move them and best.pth away first"
        )
    return Path(resume), []


def _check_unused(folder: Path, advice: str) -> None:
    """Raise UserError if a folder holds what a run would replace."""
    if list_checkpoints(folder) or any((folder / name).exists() for name in ("best.pth", "final.pth")):
        raise UserError(
            f"{folder} already holds a run; {advice}, or give the new one another folder: NAME some_name or "
            "OUTPUT_DIR some_folder"
        )


def _prepare_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot write the run's folder ({error.strerror}); see OUTPUT_DIR") from error


def initialise(network: PoseNetwork, cfg: CfgNode, schema: KeypointSchema) -> list[str]:
    """Give a network its start weights; return what was done, a line each."""
    messages = []
    if cfg.MODEL.PRETRAINED:
        path = resolve(cfg.MODEL.PRETRAINED)
        if not path.is_file():
            raise UserError(
                f"MODEL.PRETRAINED: {path} is missing; tools/weights.py says where it comes from (and see "
                "pretrained/README.md), or train from scratch with MODEL.PRETRAINED ''"
            )
        notes: list[str] = []
        unused = load_backbone(network, path, notes)
        messages.append(f"backbone from {path} ({len(unused)} classification and lower-branch tensors not used)")
        messages += [f"{path}: {note}" for note in notes]
    if cfg.MODEL.INIT_FROM:
        path = resolve(cfg.MODEL.INIT_FROM)
        if not path.is_file():
            raise UserError(
                f"MODEL.INIT_FROM: {path} is missing, whose weights this network starts from. Train that one and name "
                "its best.pth here (tools/train.py --model NAME finds it by itself); tools/weights.py says more"
            )
        notes = []
        fresh = start_from(network, cfg, schema, path, notes)
        messages.append(f"weights from {path}; fresh head channels: {', '.join(fresh) or 'none'}")
        messages += [f"{path}: {note}" for note in notes]
    return messages


def start_from(
    network: PoseNetwork, cfg: CfgNode, schema: KeypointSchema, path: Path, notes: list[str] | None = None
) -> list[str]:
    """Give a network the weights of another one, of other joints too; return the joints that it has not.

    Args:
        notes: gets a line for each choice among the file's weights.

    Raises:
        CheckpointError: the file is damaged or does not fit.
    """
    content = read_weight_file(path)
    if is_own_checkpoint(content):
        source = schema_from_dict(content.get("schema"), f"{path}, its schema")
    else:
        source = load_schema(cfg.MODEL.INIT_SCHEMA)
    return carry_over(network, network_weights(content, path, notes), source.joints, schema.joints, path)


def _validation(cfg: CfgNode, schema: KeypointSchema, world: World, bad_input: BadInput) -> Evaluate | None:
    if not cfg.DATASET.VAL:
        return None
    if cfg.DATASET.VAL in schema.held_out and not cfg.TRAIN.SELECT_ON_TEST:
        raise UserError(
            f"DATASET.VAL: '{cfg.DATASET.VAL}' is the split that figures of {schema.name} are reported on; a "
            "checkpoint chosen by it flatters them. Choose by another split, or keep the last weights: DATASET.VAL ''"
        )
    # always strict: a score on other annotations than the file's would be no score, and now is the time to say so
    records = records_of(cfg, schema, cfg.DATASET.VAL, BadInput(scored=True))
    truth = ground_truth_of(cfg, schema, records, cfg.DATASET.VAL)
    if not truth.annotated:
        raise UserError(f"DATASET.VAL: the split '{cfg.DATASET.VAL}' has no public annotations to score against")
    if nobody := truth.why_nothing_is_found():
        raise UserError(
            f"DATASET.VAL: {truth.path}: {nobody}. No checkpoint can be chosen by it; choose another split, or keep "
            "the last weights: DATASET.VAL ''"
        )

    def evaluate(network: PoseNetwork) -> dict[str, float]:
        photos = BadInput(bad_input.tolerant)
        outcome = run_test(network, cfg, schema, records, cfg.DATASET.VAL, world, truth=truth, bad_input=photos)
        told = bad_input.report(
            "validation photos that cannot be read, nobody found there",
            photos.problems,
            run_folder(cfg) if world.is_main else None,
        )
        if told and world.is_main:
            tqdm.write(told)
        assert outcome.scores is not None
        return outcome.scores.values

    return evaluate
