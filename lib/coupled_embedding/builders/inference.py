"""From a checkpoint to a network, a predictor or an evaluation."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from coupled_embedding.builders.exports import is_export, load_exported_predictor
from coupled_embedding.builders.networks import build_network
from coupled_embedding.builders.parts import (
    annotations_of,
    build_crops,
    build_pipeline_options,
    build_policy,
    build_records,
    build_schema,
    run_folder,
)
from coupled_embedding.builders.suppression import inline_pose_nms
from coupled_embedding.config import config_from_dict, config_to_dict, default_config, override
from coupled_embedding.data.audit import warnings
from coupled_embedding.data.evaluators import EVALUATORS
from coupled_embedding.data.joint_sides import unpaired_joints
from coupled_embedding.data.person_crops import box_crops
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema, schema_from_dict
from coupled_embedding.decode.pipeline import InferencePipeline
from coupled_embedding.engine.evaluate import EvalJob, EvalOptions
from coupled_embedding.engine.parallel import place
from coupled_embedding.evaluation import group_records, mpii_groups, read_boxes
from coupled_embedding.networks.building import build_on_meta
from coupled_embedding.networks.model_file import find_model, write_model_file
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.networks.state_dict import network_weights
from coupled_embedding.networks.weights import FORMAT, load_network, load_strictly, read_own_checkpoint
from coupled_embedding.predictor import Predictor
from coupled_embedding.utils.devices import choose_device
from coupled_embedding.utils.distributed import DistEnv
from coupled_embedding.utils.errors import CheckpointError, UserError
from coupled_embedding.utils.paths import resolve


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint's network with everything needed to use it."""

    network: PoseNetwork
    cfg: CfgNode
    schema: KeypointSchema
    metrics: dict[str, float]
    license: str = ""  # text that goes with the weights


def load_model(path: str | Path) -> LoadedModel:
    """Rebuild a network from one of our checkpoints alone.

    Args:
        path: anything that `find_model` knows.

    Raises:
        CheckpointError: the file is missing, damaged, or not of this package.
    """
    path = find_model(path)
    content = read_own_checkpoint(path)
    cfg = saved_config(content, path)
    schema = schema_from_dict(content.get("schema"), f"{path}, its schema")
    network = build_on_meta(partial(build_network, cfg, schema))
    load_strictly(network, network_weights(content, path), path)
    metrics = content.get("metrics", {})
    if not isinstance(metrics, dict) or not all(isinstance(value, int | float) for value in metrics.values()):
        raise CheckpointError(f"{path}: metrics: expected scores by name, got {metrics!r:.200}")
    scores = {str(name): float(value) for name, value in metrics.items()}
    return LoadedModel(network.eval(), cfg, schema, scores, str(content.get("license") or ""))


def save_model(path: str | Path, model: LoadedModel, half: bool = True) -> None:
    """Write a model as one safetensors file, which everything that takes a checkpoint takes.

    Paths of this machine are left out: OUTPUT_DIR, the folders of data sets, MODEL.INIT_FROM, TEST.BOXES.

    Args:
        path: ends in ``.safetensors``; must not exist.
        model: with weights that are to be kept.
        half: in half precision; it is computed with in single precision all the same.

    Raises:
        UserError: the path is another, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise UserError(f"{path}: a model is written as a safetensors file; let its name end in .safetensors")
    write_model_file(path, {**model_content(model), "model": model.network.state_dict()}, half)


def model_content(model: LoadedModel) -> dict[str, Any]:
    """Return what a model's file says besides its tensors, as plain values, without paths of this machine."""
    config = config_to_dict(model.cfg)
    mix = [{key: value for key, value in entry.items() if key != "root"} for entry in config["DATASET"]["MIX"]]
    config |= {
        "OUTPUT_DIR": default_config().OUTPUT_DIR,
        "DATASET": {**config["DATASET"], "ROOT": "", "MIX": mix},
        "MODEL": {**config["MODEL"], "INIT_FROM": ""},
        "TEST": {**inline_pose_nms(config["TEST"]), "BOXES": ""},
    }
    about = {"config": config, "schema": model.schema.to_dict(), "metrics": model.metrics, "license": model.license}
    return {"format": FORMAT, **about}


def config_of(path: str | Path) -> CfgNode:
    """Return the config inside a checkpoint; CheckpointError if it has none."""
    return saved_config(read_own_checkpoint(path), path)


def saved_config(content: dict[str, Any], path: str | Path) -> CfgNode:
    """Return the config in a checkpoint's content, named by its path in errors; OUTPUT_DIR is that of this machine."""
    config = content.get("config")
    if isinstance(config, dict):
        config = {**config, "OUTPUT_DIR": default_config().OUTPUT_DIR}
    return config_from_dict(config, f"{path}, its config")


# argument of `Predictor.from_pretrained` -> option
_ARGUMENTS = {
    "flip": "TEST.FLIP",
    "scales": "TEST.SCALES",
    "size": "DATASET.INPUT_SIZE",
    "heatmap_threshold": "TEST.HEATMAP_THRESHOLD",
    "tag_threshold": "TEST.TAG_THRESHOLD",
    "precision": "TEST.PRECISION",
    "batch": "TEST.IMAGES_PER_BATCH",
}


def load_predictor(
    source: str | Path, overrides: Sequence[str] = (), device: str = "cpu", min_score: float = 0.0, **arguments: Any
) -> Predictor:
    """Return a predictor of a model; see `Predictor.from_pretrained`. Arguments that are None are the model's."""
    given = {_ARGUMENTS[name]: json.dumps(value) for name, value in arguments.items() if value is not None}
    changes = [*overrides, *(text for pair in given.items() for text in pair)]
    path = find_model(source)
    if is_export(path):
        return load_exported_predictor(path, changes, device, min_score)
    model = load_model(path)
    return build_predictor(model, override(model.cfg, changes), device, min_score)


def build_predictor(model: LoadedModel, cfg: CfgNode, device: str, min_score: float = 0.0) -> Predictor:
    """Return a predictor of a loaded model, whose options may have been changed."""
    place = choose_device("" if device == "auto" else device, 0, 1) if device in ("auto", "cuda") else device
    network = model.network.to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    pipeline = InferencePipeline(network, build_pipeline_options(cfg, model.schema))
    size, batch = cfg.DATASET.INPUT_SIZE, cfg.TEST.IMAGES_PER_BATCH
    tag_dims, used = (network.tag_dim, network.place_dims), replace(model, cfg=cfg)
    margin = cfg.DATASET.CROP_MARGIN if cfg.DATASET.CROPS else 0.0
    return Predictor(pipeline, model.schema, size, batch, min_score, tag_dims, used, margin)


def build_eval_job(cfg: CfgNode, weights: Path, split: str, env: DistEnv) -> EvalJob:
    """Load a network and the images to evaluate it on.

    Args:
        cfg: of the experiment.
        weights: file of the network.
        split: of the data set; empty: DATASET.TEST.
        env: this rank; the network goes to its device.

    Raises:
        UserError: a file is missing or does not fit.
    """
    schema, split = build_schema(cfg), split or cfg.DATASET.TEST
    network = build_on_meta(partial(build_network, cfg, schema))
    notes: list[str] = []
    load_network(network, weights, schema, notes)
    policy = build_policy(cfg, training=False)
    records = build_records(cfg, schema, split, policy)
    found = [f"{weights}: {note}" for note in notes]
    found += [f"warning: {line}" for line in policy.warnings + warnings(records, schema)]
    found += [f"warning: {line}" for line in (unpaired_joints(schema) if cfg.TEST.FLIP else [])]
    job = assemble_eval_job(cfg, place(network, env, channels_last=True), schema, split, records)
    job = _with_boxes(job, cfg) if cfg.TEST.BOXES else with_group_crops(job, cfg)
    folder = run_folder(cfg) / f"test_{split}"
    return replace(job, policy=policy, weights=weights, folder=folder, warnings=tuple(found))


def _with_boxes(job: EvalJob, cfg: CfgNode) -> EvalJob:
    """Return an evaluation on the crops of TEST.BOXES instead of annotated people's."""
    if EVALUATORS[job.schema.evaluator].normalizer:
        raise UserError(
            f"TEST.BOXES: {cfg.TEST.BOXES}: the rules of '{job.schema.evaluator}' (data set '{job.schema.name}') "
            "compare each annotated person with the pose in that person's box; give TEST.BOXES ''"
        )
    truth = job.load_ground_truth()
    boxes = read_boxes(
        resolve(cfg.TEST.BOXES), job.schema, truth.categories, truth.known_ids, min_score=cfg.TEST.BOX_SCORE
    )
    crops = box_crops(job.records, boxes, cfg.DATASET.CROP_MARGIN)
    return replace(job, crops=crops, ground_truth=truth, source_name="detection")


def with_group_crops(job: EvalJob, cfg: CfgNode) -> EvalJob:
    """Return an evaluation on the crops of MPII's groups where its rules score and there are groups; else the same."""
    if job.crops is not None or not (EVALUATORS[job.schema.evaluator].by_groups and cfg.TEST.GROUP_CROPS):
        return job
    truth = job.load_ground_truth()
    groups = mpii_groups(truth)
    if not groups:
        return job
    return replace(job, crops=group_records(job.records, groups), ground_truth=truth, source_name="group")


def assemble_eval_job(
    cfg: CfgNode, network: PoseNetwork, schema: KeypointSchema, split: str, records: list[ImageRecord]
) -> EvalJob:
    """Return the evaluation of a network on some images of a split, or on the annotated people's crops of them."""
    test = cfg.TEST
    if EVALUATORS[schema.evaluator].normalizer and not cfg.DATASET.CROPS:
        raise UserError(
            f"DATASET.CROPS: the rules of '{schema.evaluator}' (data set '{schema.name}') are for one person a crop; "
            "give DATASET.CROPS people, or a schema whose evaluator is coco"
        )
    options = EvalOptions(
        cfg.DATASET.INPUT_SIZE,
        images_per_batch=test.IMAGES_PER_BATCH,
        workers=test.WORKERS,
        max_detections=test.MAX_DETECTIONS,
        oks_backend=test.OKS_BACKEND,
        overlays=test.OVERLAYS,
    )
    return EvalJob(
        network,
        build_pipeline_options(cfg, schema),
        options,
        schema,
        split,
        records,
        annotations_of(cfg, schema, split),
        is_subset=bool(cfg.DATASET.IMAGE_IDS),
        name=cfg.NAME,
        crops=build_crops(cfg, records),
    )
