"""What model.json says of an exported model."""

from dataclasses import asdict
from typing import Any

from coupled_embedding.data.images import PIXELS
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.decode.options import DecodeOptions
from coupled_embedding.decode.pipeline import PipelineOptions
from coupled_embedding.evaluation import OksNMS
from coupled_embedding.utils.errors import UserError

FORMAT = "coupled-embedding export"
VERSION = 1
EXPORTED_COSTS = ("ce", "ae")
DIVISOR = 64  # of the input's sides, see `data.geometry.resize_geometry`


def decoder_options(options: DecodeOptions) -> dict[str, Any]:
    """Return a pipeline's decode options as `pose_decoder.Options` names them; UserError for what it cannot do."""
    if options.paf is not None:
        raise UserError(
            "TEST.GROUPING: an export groups by tags or finds people by centers, not by part affinity fields; give "
            "TEST.GROUPING tags (or centers), if the network has them"
        )
    if options.regroup:
        raise UserError(f"TEST.REGROUP: an export groups once, got {options.regroup}; give TEST.REGROUP 0")
    if options.cost not in EXPORTED_COSTS:
        allowed = " or ".join(EXPORTED_COSTS)
        raise UserError(f"TEST.GROUPING_COST: an export has {allowed}, got '{options.cost}'; give one of them")
    peaks = options.peaks
    return {
        "grouping_order": list(options.grouping_order),
        "kernel": peaks.kernel,
        "max_candidates": peaks.max_candidates,
        "threshold": peaks.threshold,
        "dedup_plateaus": peaks.dedup_plateaus,
        "tie_order": peaks.tie_order,
        "tag_threshold": options.tag_threshold,
        "cost": options.cost,
        "assignment": options.assignment,
        "max_joined": options.max_joined,
        "refine": options.refine != "none",
        "missing_joints": options.missing_joints,
        **({"centers": asdict(options.centers)} if options.centers else {}),
    }


def describe(
    options: PipelineOptions,
    schema: KeypointSchema,
    input_size: int,
    name: str,
    metrics: dict[str, float],
    place_dims: int = 0,
) -> dict[str, Any]:
    """Return model.json's content.

    Args:
        options: of the pipeline that was exported.
        schema: its joints.
        input_size: S: pixels of the input's short side.
        name: of the model.
        metrics: scores by name that its checkpoint holds.
        place_dims: the last dimensions of a view's tags, which hold places.

    Raises:
        UserError: the pipeline does what an export cannot.
    """
    decode = decoder_options(options.grouping())
    if (nms := options.pose_nms) is not None:
        if not decode.get("centers") or not isinstance(nms, OksNMS) or nms.soft:
            raise UserError(
                "TEST.POSE_NMS: an export suppresses poses by oks alone, and only people found by their centers; give "
                "none, and give it to its predictor"
            )
        decode["oks"] = {"sigmas": list(nms.sigmas), "threshold": nms.threshold, "joint_score": nms.joint_score}
    mean, std = PIXELS[options.pixels]
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "metrics": metrics,
        "joints": list(schema.joints),
        "skeleton": [list(pair) for pair in schema.skeleton],
        "flip_pairs": [list(pair) for pair in schema.flip_pairs],
        "sigmas": list(schema.sigmas),
        "colors": [list(color) for color in schema.colors],
        "input": {
            "size": input_size,
            "divisor": DIVISOR,
            "layout": "RGB (batch, 3, height, width), values 0 to 255, normalized inside the model",
            "mean": list(mean),
            "std": list(std),
            "flip": options.flip,
        },
        "tags": {"place_dims": place_dims},
        "decode": decode,
    }
