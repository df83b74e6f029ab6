"""From a config to a training, started or continued."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm
from yacs.config import CfgNode

from coupled_embedding.builders.inference import assemble_eval_job, with_group_crops
from coupled_embedding.builders.networks import (
    build_criterion,
    build_limbs,
    build_network,
    build_optimizer,
    build_paf_targets,
    build_schedule,
)
from coupled_embedding.builders.parts import (
    annotations_of,
    build_decode_options,
    build_mixed_data,
    build_policy,
    build_records,
    build_schema,
    build_train_dataset,
    build_train_records,
    run_folder,
)
from coupled_embedding.config import config_to_dict, config_to_yaml
from coupled_embedding.config.resume import check_resume_config
from coupled_embedding.data.audit import training_warnings, warnings
from coupled_embedding.data.dataset import TrainDataset
from coupled_embedding.data.evaluators import EVALUATORS
from coupled_embedding.data.io.data_errors import DataErrorPolicy
from coupled_embedding.data.loader import StepBatchSampler, train_batches
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.engine.batch_image import draw_batch
from coupled_embedding.engine.checkpointer import Checkpointer, read_resumable
from coupled_embedding.engine.evaluate import evaluate
from coupled_embedding.engine.invalid_images import InvalidImages
from coupled_embedding.engine.parallel import distribute, place
from coupled_embedding.engine.run_folder import find_start, set_final_aside
from coupled_embedding.engine.state import TrainState
from coupled_embedding.engine.train import Evaluate, TrainOptions, TrainRun
from coupled_embedding.evaluation import load_ground_truth, score_results
from coupled_embedding.networks.building import freeze
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.networks.weights import initialize
from coupled_embedding.optim.ema import MovingAverage
from coupled_embedding.utils.atomic import atomic_write
from coupled_embedding.utils.devices import choose_precision
from coupled_embedding.utils.distributed import DistEnv, run_on_rank0
from coupled_embedding.utils.errors import UserError


def start_train_run(cfg: CfgNode, env: DistEnv, resume: str | None = None) -> TrainRun:
    """Prepare a training in its folder; print what there is to say.

    Args:
        cfg: of the experiment.
        env: this rank.
        resume: None: from scratch; ``"auto"``: continue from the latest checkpoint if there is one; else the path of
            the checkpoint to continue from.

    Raises:
        UserError: what the config names is missing or wrong; or the folder already holds a run.
    """
    folder = run_folder(cfg)
    start, messages = find_start(folder, resume, env)
    run = build_train_run(cfg, env, initial_weights=start is None)
    run.messages = messages + run.messages
    if start:
        _continue_from(run, start, cfg)
    # now that nothing was rejected
    run_on_rank0(lambda: atomic_write(folder / "config.yaml", config_to_yaml(cfg), "the run's config"), env)
    if env.is_rank0:
        issues = run.invalid.policy.report("invalid annotations, skipped", run.invalid.policy.issues, folder)
        batch = env.world_size * cfg.TRAIN.ACCUMULATE * cfg.TRAIN.IMAGES_PER_GPU
        steps = f"{run.total_steps} steps of {batch} images ({env.world_size} x {env.device})"
        print(*filter(None, [*run.messages, issues, f"{run.about}, {steps}, into {folder}"]), sep="\n", flush=True)
    return run


def build_train_run(cfg: CfgNode, env: DistEnv, initial_weights: bool = True) -> TrainRun:
    """Return a training: data, network, loss, optimizer; nothing is written to its folder.

    Args:
        cfg: of the experiment.
        env: this rank.
        initial_weights: whether the network needs some; a resumed one has its own.

    Raises:
        UserError: what the config names is missing or wrong.
    """
    if cfg.TRAIN.THREADS:
        torch.set_num_threads(cfg.TRAIN.THREADS)
    schema = build_schema(cfg)
    torch.manual_seed(cfg.SEED)
    model = build_network(cfg, schema)
    messages = _split_warnings(cfg, schema)
    if initial_weights:
        messages += initialize(model, schema, cfg.MODEL.PRETRAINED, cfg.MODEL.INIT_FROM, cfg.MODEL.INIT_SCHEMA)
    messages += freeze(model, cfg.TRAIN.FREEZE)
    policy = build_policy(cfg, training=True)
    records, mixed = build_train_records(cfg, schema, policy), build_mixed_data(cfg, schema, policy)
    source = annotations_of(cfg, schema, cfg.DATASET.TRAIN)
    people = cfg.DATASET.MAX_PEOPLE
    found = training_warnings(records, schema, source, people, cfg.AUGMENT.FLIP > 0, policy.issues)
    messages += [f"warning: {line}" for line in policy.warnings + found]
    dataset = build_train_dataset(cfg, records, schema, model.strides, policy, mixed)
    labelled = sum(int((r.keypoints[..., 2] > 0).any(1).sum()) for r in dataset.records)
    for part in mixed:
        name = f"{part.schema.name} {part.split}"
        messages.append(f"mixed in: {name}, {len(part.records)} images, weight {part.weight:g}")
        messages += _held_out_warning(part.schema, part.split)
    unit = "crops" if cfg.DATASET.CROPS else "images"
    about = f"{cfg.NAME}: {len(dataset)} {unit} with {labelled} labelled people"
    run = assemble_train_run(cfg, env, schema, model, dataset)
    return replace(run, messages=messages + run.messages, about=about)


def _held_out_warning(schema: KeypointSchema, split: str) -> list[str]:
    """Return a warning about training on a split that results are reported on; nothing for any other."""
    warned = split in schema.held_out
    return [f"warning: training on '{split}', which results of {schema.name} are reported on"] if warned else []


def _split_warnings(cfg: CfgNode, schema: KeypointSchema) -> list[str]:
    """Return what to know about the choice of splits; UserError if a checkpoint would be chosen by a held-out one."""
    found = _held_out_warning(schema, cfg.DATASET.TRAIN)
    if cfg.DATASET.VAL and cfg.DATASET.VAL in schema.held_out:
        if not cfg.TRAIN.SELECT_ON_TEST:
            raise UserError(
                f"DATASET.VAL: '{cfg.DATASET.VAL}' is the split that results of {schema.name} are reported on; a "
                "checkpoint chosen by it flatters them. Choose by another split, or keep the last weights: "
                "DATASET.VAL ''"
            )
        found.append(
            f"warning: TRAIN.SELECT_ON_TEST: the best checkpoint is chosen by '{cfg.DATASET.VAL}', which results of "
            f"{schema.name} are reported on: those of best.pth will be too good"
        )
    return found


def assemble_train_run(
    cfg: CfgNode, env: DistEnv, schema: KeypointSchema, model: PoseNetwork, dataset: TrainDataset
) -> TrainRun:
    """Return a training of a network on a data set, both made elsewhere."""
    train, folder = cfg.TRAIN, run_folder(cfg)
    precision = choose_precision(train.PRECISION, "TRAIN.PRECISION", env.device)
    model = place(model, env, train.CHANNELS_LAST, train.SYNC_BN, train.RECOMPUTE)
    state = TrainState(
        model,
        build_optimizer(cfg, model),
        torch.amp.GradScaler(env.device.type, enabled=precision == "fp16"),
        MovingAverage(model, train.EMA) if train.EMA else None,
    )

    def sampler(first_step: int, last_step: int) -> StepBatchSampler:
        sizes = (len(dataset), train.IMAGES_PER_GPU, train.ACCUMULATE, env.rank, env.world_size)
        return StepBatchSampler(*sizes, cfg.SEED, first_step, last_step, train.DROP_LAST, dataset.weights)

    steps_per_epoch = sampler(0, 0).steps_per_epoch
    checkpointer = Checkpointer(
        folder,
        state,
        about={"config": config_to_dict(cfg), "schema": schema.to_dict()},
        selects_on=cfg.DATASET.VAL,
        must_match={"steps_per_epoch": steps_per_epoch, "images": len(dataset), "ranks": env.world_size},
        keep=train.KEEP,
        env=env,
    )
    pin = env.device.type == "cuda"
    evaluate_val, found = _validation(cfg, schema, dataset.policy, env)
    if train.PRECISION == "auto":
        found.append(f"TRAIN.PRECISION auto: {precision} on {env.device.type}")
    decode = build_decode_options(cfg, schema)
    return TrainRun(
        distribute(model, env, train.IMAGES_PER_GPU if train.COMPILE else 0),
        build_criterion(cfg, build_limbs(cfg, schema)),
        state,
        build_schedule(cfg, steps_per_epoch),
        lambda first, last: train_batches(dataset, sampler(first, last), train.WORKERS, pin, env.local_ranks),
        steps_per_epoch,
        checkpointer,
        InvalidImages(dataset.policy, folder, env),
        env,
        _train_options(cfg, schema, precision),
        evaluate=evaluate_val,
        messages=found,
        visualize=partial(draw_batch, schema=schema, options=decode, stride=model.strides[0]),
        raise_if_worker_died=dataset.raise_if_worker_died,
        val_split=cfg.DATASET.VAL,
    )


def _train_options(cfg: CfgNode, schema: KeypointSchema, precision: str) -> TrainOptions:
    train = cfg.TRAIN
    return TrainOptions(
        epochs=train.EPOCHS,
        accumulate=train.ACCUMULATE,
        clip_grad=train.CLIP_GRAD,
        precision=precision,
        pixels=cfg.MODEL.PIXELS,
        sigma=cfg.LOSS.SIGMA,
        beta=cfg.LOSS.BETA if cfg.LOSS.ANNOTATED_WIDTHS else 0.0,
        paf=build_paf_targets(cfg, schema),
        centers=cfg.MODEL.CENTERS,
        log_every=train.LOG_EVERY,
        visualize_every=train.VISUALIZE_EVERY,
        eval_every=train.EVAL_EVERY,
        save_every=train.SAVE_EVERY,
        save_steps=train.SAVE_STEPS,
        max_nonfinite_steps=train.MAX_NONFINITE_STEPS,
    )


def _continue_from(run: TrainRun, path: Path, cfg: CfgNode) -> None:
    content = read_resumable(path)
    epochs = check_resume_config(content["config"], cfg, path)
    run.metrics = run.checkpointer.restore(content, path)
    longer = run_on_rank0(lambda: set_final_aside(run.folder, epochs, cfg.TRAIN.EPOCHS), run.env)
    run.messages += [longer] if longer else []
    run.messages.append(f"continuing from {path} (step {run.state.step} of {run.total_steps})")


def _validation(
    cfg: CfgNode, schema: KeypointSchema, policy: DataErrorPolicy, env: DistEnv
) -> tuple[Evaluate | None, list[str]]:
    """Return the validation, None without one, and warnings about its annotations."""
    split = cfg.DATASET.VAL
    if not split:
        return None, []
    # always strict: a score on other annotations than the file's would be no score, and now is the time to say so
    strict = DataErrorPolicy(scored=True)
    records = build_records(cfg, schema, split, strict)
    found = [f"warning: DATASET.VAL: {line}" for line in strict.warnings + warnings(records, schema)]
    ids = [record.image_id for record in records] if cfg.DATASET.IMAGE_IDS else None
    truth = load_ground_truth(annotations_of(cfg, schema, split), schema, ids)
    if not truth.annotated:
        raise UserError(f"DATASET.VAL: the split '{split}' has no public annotations to score against")
    reason = truth.reason_undefined()
    if not reason and EVALUATORS[schema.evaluator].by_groups:  # which need more of the file: better known before
        reason = score_results(truth, [], schema).reasons.get("AP", "")
    if reason:
        raise UserError(
            f"DATASET.VAL: {truth.path}: {reason}. No checkpoint can be chosen by it; choose another split, or keep "
            "the last weights: DATASET.VAL ''"
        )

    def run_validation(model: PoseNetwork) -> dict[str, float]:
        job = assemble_eval_job(cfg, model, schema, split, records)
        job = with_group_crops(replace(job, ground_truth=truth, policy=DataErrorPolicy(policy.skip)), cfg)
        scores = evaluate(job, env).scores
        heading = "validation images that cannot be read, without detections"
        if records and len(job.policy.unreadable) == len(records):
            raise UserError(f"DATASET.VAL: none of the {len(records)} images can be read; {job.policy.issues[0]}")
        text = policy.report(heading, job.policy.issues, run_folder(cfg) if env.is_rank0 else None)
        policy.oriented |= job.policy.oriented
        for line in filter(None, (text, policy.report_oriented())):
            if env.is_rank0:
                tqdm.write(line)
        assert scores is not None
        return scores.values

    return run_validation, found
