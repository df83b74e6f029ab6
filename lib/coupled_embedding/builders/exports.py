"""From an exported folder to a predictor."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from coupled_embedding.builders.parts import build_pipeline_options
from coupled_embedding.config import config_from_dict, flat, override
from coupled_embedding.data.schema import KeypointSchema, schema_from_dict
from coupled_embedding.export.describe import DIVISOR
from coupled_embedding.export.load import load_exported
from coupled_embedding.export.pipeline import ExportedPipeline
from coupled_embedding.export.predict import ExportedModel
from coupled_embedding.predictor import Predictor
from coupled_embedding.utils.errors import CheckpointError, ConfigError, UserError

# what is done before and after the exported model runs; all else is inside it
_CHANGEABLE = (
    "DATASET.INPUT_SIZE",
    "TEST.ASSIGNMENT",
    "TEST.CENTER_REACH",
    "TEST.CENTER_THRESHOLD",
    "TEST.GROUPING_COST",
    "TEST.GROUPING_ORDER",
    "TEST.HEATMAP_THRESHOLD",
    "TEST.IMAGES_PER_BATCH",
    "TEST.MAX_JOINED",
    "TEST.MISSING_JOINTS",
    "TEST.NMS_TIE_ORDER",
    "TEST.POSE_NMS",
    "TEST.POSE_NMS_PARAMETERS",
    "TEST.REFINE",
    "TEST.TAG_THRESHOLD",
)


def is_export(path: Path) -> bool:
    """Whether a path is an exported folder or one of its ONNX files."""
    return path.suffix == ".onnx" or (path / "model.json").is_file()


def load_exported_predictor(path: Path, overrides: Sequence[str], device: str, min_score: float = 0.0) -> Predictor:
    """Return a predictor of an export.

    Args:
        path: as for `is_export`.
        overrides: ``[key, value, ...]``: options to change.
        device: ``"cpu"`` or ``"auto"``, which is the CPU.
        min_score: people scored lower are left out.

    Raises:
        CheckpointError: a file is missing or damaged.
        ConfigError: an option is wrong, or fixed in the export.
        UserError: onnxruntime is not installed, or another device is asked for.
    """
    if device not in ("cpu", "auto"):
        raise UserError(f"{path}: an export runs on the CPU, not on '{device}'; load the checkpoint it was made from")
    model = load_exported(path)
    where = f"{(path.parent if path.suffix == '.onnx' else path) / 'model.json'}"
    try:
        schema = _schema_of(model, where)
        own = _config_of(model, "fp16" if path.name.endswith(".fp16.onnx") else "fp32", where)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(
            f"{where}: a field is missing or wrong ({reason:.200}); export the model again"
        ) from error
    chosen = override(own, overrides)
    _refuse_fixed(flat(own), flat(chosen), path)
    pipeline = ExportedPipeline(model, build_pipeline_options(chosen, schema), str(path))
    size, batch = chosen.DATASET.INPUT_SIZE, chosen.TEST.IMAGES_PER_BATCH
    return Predictor(pipeline, schema, size, batch, min_score, (pipeline.tag_dim, pipeline.place_dims))


def _schema_of(model: ExportedModel, where: str) -> KeypointSchema:
    """Return the joints that model.json describes, which has numbers where a schema has names."""
    info, joints = model.info, model.info["joints"]
    named = {key: [[joints[joint] for joint in pair] for pair in info[key]] for key in ("flip_pairs", "skeleton")}
    plain = {key: info[key] for key in ("joints", "sigmas", "colors")}
    order = [joints[joint] for joint in model.options.grouping_order]
    return schema_from_dict({"name": "export", **plain, **named, "grouping_order": order}, where)


def _config_of(model: ExportedModel, precision: str, where: str) -> CfgNode:
    """Return the options that an export was made with, as far as model.json has them, checked like any config's."""
    info, decode = model.info, model.options
    if info["input"]["divisor"] != DIVISOR:
        raise CheckpointError(f"{where}: input.divisor: expected {DIVISOR}, got {info['input']['divisor']!r:.80}")
    test = {
        "FLIP": info["input"]["flip"],
        "PRECISION": precision,
        "NMS_KERNEL": decode.kernel,
        "MAX_CANDIDATES": decode.max_candidates,
        "HEATMAP_THRESHOLD": decode.threshold,
        "NMS_DEDUP_PLATEAUS": decode.dedup_plateaus,
        "NMS_TIE_ORDER": decode.tie_order,
        "TAG_THRESHOLD": decode.tag_threshold,
        "GROUPING_COST": decode.cost,
        "ASSIGNMENT": decode.assignment,
        "MAX_JOINED": decode.max_joined,
        "REFINE": "fast" if decode.refine else "none",
        "MISSING_JOINTS": decode.missing_joints,
    }
    if decode.centers is not None:
        rule = decode.centers
        test |= {
            "CENTER_THRESHOLD": rule["threshold"],
            "CENTER_REACH": rule["reach"],
            "MAX_CANDIDATES": rule["max_people"],
        }
    if decode.oks is not None:
        parameters = [f"{name}={decode.oks[name]}" for name in ("threshold", "joint_score")]
        test |= {"POSE_NMS": "oks", "POSE_NMS_PARAMETERS": parameters}
    model_options = {"CENTERS": decode.centers is not None}
    content = {"DATASET": {"INPUT_SIZE": info["input"]["size"]}, "MODEL": model_options, "TEST": test}
    return config_from_dict(content, where)


def _refuse_fixed(own: dict[str, Any], chosen: dict[str, Any], path: Path) -> None:
    """Raise ConfigError if an option was changed that an export fixes."""
    # of people found by their centers the limit is the decoder's, of peaks the model's
    changeable = (*_CHANGEABLE, *(["TEST.MAX_CANDIDATES"] if own["MODEL.CENTERS"] else []))
    for key, value in chosen.items():
        if value != own[key] and key not in changeable:
            raise ConfigError(
                f"{path}: {key} is {json.dumps(own[key])} in this export and cannot be {json.dumps(value)}: an export "
                f"fixes it; export the checkpoint with it, or load the checkpoint itself. An export takes "
                f"{', '.join(changeable)}"
            )
