"""The suppression of poses that the options TEST choose, and the rule for what is fitted on a split."""

from typing import Any

from yacs.config import CfgNode

from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.evaluation import PoseNMS, build_pose_nms, chosen_parameters
from coupled_embedding.utils.errors import ConfigError, UserError

_OPTIONS = "TEST.POSE_NMS, TEST.POSE_NMS_PARAMETERS"  # in errors


def build_suppression(cfg: CfgNode, schema: KeypointSchema) -> PoseNMS | None:
    """Return what suppresses poses; None: TEST.POSE_NMS is none."""
    choice, parameters = cfg.TEST.POSE_NMS, cfg.TEST.POSE_NMS_PARAMETERS
    if choice != "none":
        return build_pose_nms(choice, schema.sigmas, parameters, _OPTIONS)
    if parameters:
        raise ConfigError("TEST.POSE_NMS_PARAMETERS: needs TEST.POSE_NMS, such as paper")
    return None


def inline_pose_nms(test: dict[str, Any]) -> dict[str, Any]:
    """Return the options TEST with the content of a file TEST.POSE_NMS in its place."""
    if test["POSE_NMS"] == "none":
        return test
    preset, values = chosen_parameters(test["POSE_NMS"], test["POSE_NMS_PARAMETERS"], _OPTIONS)
    return test | {"POSE_NMS": preset, "POSE_NMS_PARAMETERS": [f"{name}={value!r}" for name, value in values.items()]}


def check_not_held_out(cfg: CfgNode, schema: KeypointSchema, split: str, what: str) -> list[str]:
    """Return a warning where something is fitted to a split that results are reported on; UserError unless allowed.

    TRAIN.SELECT_ON_TEST allows it.
    """
    if split not in schema.held_out:
        return []
    reported = f"'{split}', which results of {schema.name} are reported on"
    if cfg.TRAIN.SELECT_ON_TEST:
        return [f"warning: TRAIN.SELECT_ON_TEST: {what} are fitted to {reported}: those will be too good"]
    raise UserError(
        f"--split: {what} fitted to {reported}, flatter them; fit to another split, or give "
        "--options TRAIN.SELECT_ON_TEST True"
    )
