"""From options to network, loss, optimizer and schedule."""

from collections.abc import Callable
from functools import partial

import torch
from yacs.config import CfgNode

from coupled_embedding.data.pafs import Limbs, PafTargets
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.losses.centers import CENTER_TERMS
from coupled_embedding.losses.criterion import PoseCriterion
from coupled_embedding.losses.heatmap import HeatmapLoss
from coupled_embedding.losses.logistic import LogisticHeatmapLoss
from coupled_embedding.losses.ramp import Ramp
from coupled_embedding.losses.scale_maps import ScaleMapLoss
from coupled_embedding.networks.cpm import CPMSettings
from coupled_embedding.networks.hourglass import HourglassSettings
from coupled_embedding.networks.hrnet import HRNetSettings
from coupled_embedding.networks.mobilenet_fpn import MobileNetFPNSettings
from coupled_embedding.networks.places import SPATIAL_DIMS
from coupled_embedding.networks.pose_network import Backbone, PoseNetwork
from coupled_embedding.networks.spatial_transformer import TransformedPoseNetwork
from coupled_embedding.networks.stages import StageSettings
from coupled_embedding.optim.optimizer import Muon, parameter_groups, torch_optimizer
from coupled_embedding.optim.schedule import Schedule
from coupled_embedding.utils.errors import ConfigError


def _hrnet(model: CfgNode) -> HRNetSettings:
    return HRNetSettings(
        width=model.WIDTH,
        stem_width=model.STEM_WIDTH,
        stem_blocks=model.STEM_BLOCKS,
        stage_modules=tuple(model.STAGE_MODULES),
        stage_blocks=model.STAGE_BLOCKS,
    )


def _hourglass(model: CfgNode) -> HourglassSettings:
    return HourglassSettings(
        stacks=model.STACKS,
        width=model.WIDTH,
        growth=model.HOURGLASS_GROWTH,
        depth=model.HOURGLASS_DEPTH,
        stem_width=model.STEM_WIDTH,
        block=model.HOURGLASS_BLOCK,
    )


def _cpm(model: CfgNode) -> CPMSettings:
    return CPMSettings(stages=model.STACKS, width=model.WIDTH, batch_norm=model.CPM_NORM == "batch")


def _mobilenet_fpn(model: CfgNode) -> MobileNetFPNSettings:
    return MobileNetFPNSettings(
        factor=model.MOBILENET_FACTOR,
        batch_norm=model.MOBILENET_NORM == "batch",
        same_padding=model.MOBILENET_PADDING == "same",
        tag_width=model.MOBILENET_TAG_WIDTH,
    )


# MODEL.BACKBONE -> its settings, by the options MODEL
BACKBONES: dict[str, Callable[[CfgNode], Backbone | StageSettings]] = {
    "hrnet": _hrnet,
    "hourglass": _hourglass,
    "cpm": _cpm,
    "mobilenet_fpn": _mobilenet_fpn,
}


def build_limbs(cfg: CfgNode, schema: KeypointSchema) -> Limbs:
    """Return the limbs of part affinity fields, none without MODEL.PAF; ConfigError if the schema has none."""
    if cfg.MODEL.PAF and not schema.skeleton:
        raise ConfigError(f"MODEL.PAF: the skeleton of data set '{schema.name}' has no limbs")
    return schema.skeleton if cfg.MODEL.PAF else ()


def build_paf_targets(cfg: CfgNode, schema: KeypointSchema) -> PafTargets | None:
    """Return how part affinity fields are drawn, None without MODEL.PAF."""
    limbs = build_limbs(cfg, schema)
    return PafTargets(limbs, cfg.LOSS.PAF_TARGETS, cfg.LOSS.PAF_WIDTH) if limbs else None


def build_model(cfg: CfgNode, num_joints: int, limbs: int = 0) -> PoseNetwork:
    """Return the network for K joints and, with MODEL.PAF, L limbs, with initial weights."""
    model = cfg.MODEL
    kind: Callable[..., PoseNetwork] = PoseNetwork
    if model.SPATIAL_TRANSFORMER:
        kind = partial(TransformedPoseNetwork, parallel=cfg.LOSS.PARALLEL_WEIGHT > 0)
    return kind(
        num_joints,
        model.TAG_DIM,
        BACKBONES[model.BACKBONE](model),
        head=model.HEAD,
        head_blocks=model.HEAD_BLOCKS,
        heatmap_bias=model.HEATMAP_BIAS,
        feed_tags=model.FEED_TAGS,
        with_scales=model.SCALE_MAPS,
        spatial_tags=model.SPATIAL_TAGS,
        limbs=limbs if model.PAF else 0,
        paf_stages=model.PAF_STAGES,
        centers=model.CENTERS,
        logistic=model.HEATMAPS == "logistic",
    )


def build_network(cfg: CfgNode, schema: KeypointSchema) -> PoseNetwork:
    """Return the network for a schema's people, with initial weights."""
    return build_model(cfg, schema.num_joints, len(build_limbs(cfg, schema)))


def build_criterion(cfg: CfgNode, limbs: Limbs = ()) -> PoseCriterion:
    """Return the loss; limbs are those of part affinity fields."""
    loss = cfg.LOSS
    heatmap_loss: HeatmapLoss | ScaleMapLoss | LogisticHeatmapLoss
    if cfg.MODEL.HEATMAPS == "logistic":
        heatmap_loss = LogisticHeatmapLoss()
    elif cfg.MODEL.SCALE_MAPS:
        heatmap_loss = ScaleMapLoss(loss.FOCAL)
    else:
        heatmap_loss = HeatmapLoss(loss.BETA, loss.SCALE_ADAPTED, loss.FOCAL)
    suffix = "_WEIGHT"  # of the options that weigh the terms
    weights = {key.removesuffix(suffix).lower(): value for key, value in loss.items() if key.endswith(suffix)}
    if not cfg.MODEL.TAG_DIM:
        weights = {name: weights[name] for name in ("heatmap", "paf", *CENTER_TERMS, "parallel")}
    if not cfg.MODEL.PAF:
        del weights["paf"]
    if not cfg.MODEL.CENTERS:
        weights = {name: weight for name, weight in weights.items() if name not in CENTER_TERMS}
    ramp = Ramp(loss.PULL_RAMP_START, loss.PULL_RAMP_END, loss.PULL_RAMP_FACTOR)
    units = cfg.MODEL.SPATIAL_TAGS
    return PoseCriterion(heatmap_loss, weights, ramp, SPATIAL_DIMS if units else 0, units, loss.SIGMA, limbs)


def build_optimizer(cfg: CfgNode, model: PoseNetwork) -> torch.optim.Optimizer:
    """Return the optimizer of a network's parameters."""
    train = cfg.TRAIN
    if train.OPTIMIZER != "muon":
        groups = parameter_groups(dict(model.named_parameters()), train.LR_PREFIXES, train.LR_FACTOR)
        return torch_optimizer(train.OPTIMIZER, groups, train.LR, train.WEIGHT_DECAY)
    ends = {id(layer.weight) for layer in model.input_and_output_layers()}
    parameters = list(model.parameters())
    matrices = [p for p in parameters if p.ndim == 4 and id(p) not in ends]
    chosen = set(map(id, matrices))
    return Muon(matrices, [p for p in parameters if id(p) not in chosen], train.LR, weight_decay=train.WEIGHT_DECAY)


def build_schedule(cfg: CfgNode, steps_per_epoch: int) -> Schedule:
    """Return the learning rate by step, for epochs of a number of optimizer steps."""
    train = cfg.TRAIN
    warmup = (train.LR, train.WARMUP_STEPS, train.WARMUP_RATIO)
    if train.SCHEDULE == "cosine":
        steps = train.EPOCHS * steps_per_epoch
        return Schedule(*warmup, cosine_start=int(train.COSINE_START * steps), cosine_end=steps)
    return Schedule(*warmup, [int(epoch) * steps_per_epoch for epoch in train.MILESTONES], train.GAMMA)
