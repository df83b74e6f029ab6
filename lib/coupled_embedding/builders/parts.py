"""From options to the parts of a training or a test: schema, data, network, loss, optimizer, decode."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from yacs.config import CfgNode

from coupled_embedding.builders.suppression import build_suppression
from coupled_embedding.data.coco import annotation_file, load_records
from coupled_embedding.data.copy_paste import CopyPaste, CutoutSource
from coupled_embedding.data.dataset import TrainDataset
from coupled_embedding.data.fit_proposals import load_proposals
from coupled_embedding.data.io.data_errors import DataErrorPolicy
from coupled_embedding.data.io.entries import PseudoLabels
from coupled_embedding.data.loader import training_records
from coupled_embedding.data.mixing import map_records
from coupled_embedding.data.pafs import Limbs, PafTargets
from coupled_embedding.data.person_crops import ProposedRegions, person_crops
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema, load_schema
from coupled_embedding.data.transforms import Augmentation
from coupled_embedding.decode.decode import grouping_order
from coupled_embedding.decode.options import PAF_PRESETS, DecodeOptions, PeakOptions, with_preset
from coupled_embedding.decode.pipeline import AnyDecodeOptions, PipelineOptions
from coupled_embedding.decode.single import SinglePersonOptions
from coupled_embedding.losses.criterion import PoseCriterion, Ramp
from coupled_embedding.losses.heatmap import HeatmapLoss
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
from coupled_embedding.utils.paths import resolve

# ---- data


def build_schema(cfg: CfgNode) -> KeypointSchema:
    """Read the schema; DATASET.CATEGORIES and DATASET.ORIENTATION go before its own."""
    schema = load_schema(cfg.DATASET.SCHEMA)
    chosen = tuple(map(str, cfg.DATASET.CATEGORIES)) or schema.categories
    return replace(schema, categories=chosen, orientation=cfg.DATASET.ORIENTATION or schema.orientation)


def build_policy(cfg: CfgNode, training: bool) -> DataErrorPolicy:
    """Return what happens to invalid data: ``auto`` skips it in training and raises an error in testing."""
    chosen = cfg.DATASET.ON_INVALID
    return DataErrorPolicy(training if chosen == "auto" else chosen == "skip", scored=not training)


def build_records(
    cfg: CfgNode, schema: KeypointSchema, split: str, policy: DataErrorPolicy | None = None
) -> list[ImageRecord]:
    """Read the images of a split; without a policy invalid entries are errors."""
    return load_records(schema, split, cfg.DATASET.ROOT, cfg.DATASET.IMAGE_IDS, policy)


def build_train_records(cfg: CfgNode, schema: KeypointSchema, policy: DataErrorPolicy) -> list[ImageRecord]:
    """Read the images of DATASET.TRAIN, with weights of people and joints by the scores of pseudo labels."""
    node = cfg.DATASET
    labels = PseudoLabels(node.MIN_SCORE, node.FULL_SCORE)
    return load_records(schema, node.TRAIN, node.ROOT, node.IMAGE_IDS, policy, labels)


@dataclass(frozen=True)
class MixedData:
    """A further data set of a training: its records in the joints of the first, and how often they are in an epoch."""

    schema: KeypointSchema
    split: str
    records: list[ImageRecord]
    weight: float


def build_mixed_data(cfg: CfgNode, schema: KeypointSchema, policy: DataErrorPolicy) -> list[MixedData]:
    """Read the data sets of DATASET.MIX."""
    labels = PseudoLabels(cfg.DATASET.MIN_SCORE, cfg.DATASET.FULL_SCORE)
    mixed = []
    for entry in cfg.DATASET.MIX:
        own, split = load_schema(entry["schema"]), entry["split"]
        records = load_records(own, split, entry.get("root", ""), (), policy, labels)
        records = map_records(training_records(records, cfg.DATASET.TRAIN_IMAGES), own, schema)
        mixed.append(MixedData(own, split, records, entry.get("weight", 1.0)))
    return mixed


def build_crops(cfg: CfgNode, records: list[ImageRecord]) -> list[ImageRecord] | None:
    """Return the crops of the annotated people of images; None: the network sees whole images."""
    return person_crops(records, cfg.DATASET.CROP_MARGIN) if cfg.DATASET.CROPS else None


def annotations_of(cfg: CfgNode, schema: KeypointSchema, split: str) -> Path:
    """Return the annotation file of a split."""
    return annotation_file(schema, split, cfg.DATASET.ROOT)


def build_augmentation(cfg: CfgNode) -> Augmentation:
    """Return the ranges of the augmentation."""
    node = cfg.AUGMENT
    scale = (node.SCALE[0], node.SCALE[1])
    return Augmentation(scale, node.ROTATION, node.TRANSLATE, node.FLIP, node.EXACT_FLIP, node.COLOR)


def build_train_dataset(
    cfg: CfgNode,
    records: list[ImageRecord],
    schema: KeypointSchema,
    strides: Sequence[int],
    policy: DataErrorPolicy | None = None,
    mixed: Sequence[MixedData] = (),
) -> TrainDataset:
    """Return the training samples of records and of further data sets."""
    parts = [training_records(records, cfg.DATASET.TRAIN_IMAGES), *(part.records for part in mixed)]
    parts = [part if (crops := build_crops(cfg, part)) is None else crops for part in parts]
    weights = None
    if any(part.weight != 1 for part in mixed):
        weights = np.repeat([1.0, *(part.weight for part in mixed)], [len(part) for part in parts])
    return TrainDataset(
        [record for part in parts for record in part],
        schema.flip_index,
        build_augmentation(cfg),
        input_size=cfg.DATASET.INPUT_SIZE,
        strides=strides,
        max_people=cfg.DATASET.MAX_PEOPLE,
        seed=cfg.SEED,
        reduced_decode=cfg.AUGMENT.REDUCED_DECODE,
        policy=policy,
        copy_paste=build_copy_paste(cfg, schema),
        weights=weights,
        propose_region=build_proposed_regions(cfg, schema),
    )


def build_proposed_regions(cfg: CfgNode, schema: KeypointSchema) -> ProposedRegions | None:
    """Return what draws the regions of people's crops; None: AUGMENT.PROPOSALS is empty."""
    choice = cfg.AUGMENT.PROPOSALS
    return ProposedRegions(load_proposals(choice, schema.joints), cfg.DATASET.CROP_MARGIN) if choice else None


def build_copy_paste(cfg: CfgNode, schema: KeypointSchema) -> CopyPaste | None:
    """Return what pastes people into images; None: AUGMENT.PASTE names no cut-outs."""
    node = cfg.AUGMENT
    if not node.PASTE:
        return None
    return CopyPaste(
        CutoutSource(resolve(node.PASTE), schema.joints),
        schema.flip_index,
        probability=node.PASTE_PROBABILITY,
        most=node.PASTE_PEOPLE,
        size=(node.PASTE_SIZE[0], node.PASTE_SIZE[1]),
        rotation=node.PASTE_ROTATION,
        full_score=cfg.DATASET.FULL_SCORE or 1.0,
    )


# ---- network, loss, optimizer


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
    )


def build_network(cfg: CfgNode, schema: KeypointSchema) -> PoseNetwork:
    """Return the network for a schema's people, with initial weights."""
    return build_model(cfg, schema.num_joints, len(build_limbs(cfg, schema)))


def build_criterion(cfg: CfgNode, limbs: Limbs = ()) -> PoseCriterion:
    """Return the loss; limbs are those of part affinity fields."""
    loss = cfg.LOSS
    heatmap_loss: HeatmapLoss | ScaleMapLoss
    if cfg.MODEL.SCALE_MAPS:
        heatmap_loss = ScaleMapLoss(loss.FOCAL)
    else:
        heatmap_loss = HeatmapLoss(loss.BETA, loss.SCALE_ADAPTED, loss.FOCAL)
    suffix = "_WEIGHT"  # of the options that weigh the terms
    weights = {key.removesuffix(suffix).lower(): value for key, value in loss.items() if key.endswith(suffix)}
    if not cfg.MODEL.TAG_DIM:
        weights = {name: weights[name] for name in ("heatmap", "paf", "parallel")}
    if not cfg.MODEL.PAF:
        del weights["paf"]
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


# ---- inference


def build_decode_options(cfg: CfgNode, schema: KeypointSchema) -> AnyDecodeOptions:
    """Return how maps become poses, of people's crops or of whole images."""
    return SinglePersonOptions() if cfg.DATASET.CROPS else build_grouping_options(cfg, schema)


def build_grouping_options(cfg: CfgNode, schema: KeypointSchema) -> DecodeOptions:
    """Return how the maps of whole images become poses: the preset TEST.COMPAT, and single options over it."""
    test = cfg.TEST
    try:
        order = grouping_order(test.GROUPING_ORDER, schema.joints, schema.grouping_order)
    except ValueError as error:
        raise ConfigError(f"TEST.GROUPING_ORDER: data set '{schema.name}': {error}") from error
    options = DecodeOptions(
        order,
        PeakOptions(test.NMS_KERNEL, test.MAX_CANDIDATES, test.HEATMAP_THRESHOLD),
        tag_threshold=test.TAG_THRESHOLD,
        refine=test.REFINE,
        regroup=test.REGROUP,
    )
    if cfg.MODEL.PAF and test.GROUPING != "tags":
        rule = PAF_PRESETS[test.PAF_PRESET]
        rule = replace(rule, matching=test.PAF_MATCHING or rule.matching)
        options = replace(options, limbs=schema.skeleton, paf=rule, refine="none")
    return with_preset(
        options,
        test.COMPAT,
        cost=test.GROUPING_COST,
        max_joined=test.MAX_JOINED,
        assignment=test.ASSIGNMENT,
        dedup_plateaus=test.NMS_DEDUP_PLATEAUS,
        tie_order=test.NMS_TIE_ORDER,
        missing_joints=test.MISSING_JOINTS,
    )


def build_pipeline_options(cfg: CfgNode, schema: KeypointSchema) -> PipelineOptions:
    """Return how a network is run on inputs and its output decoded."""
    return PipelineOptions(
        schema.flip_index,
        build_decode_options(cfg, schema),
        flip=cfg.TEST.FLIP,
        scales=tuple(cfg.TEST.SCALES),
        precision=cfg.TEST.PRECISION,
        fold_bn=cfg.TEST.FOLD_BN,
        multiscale_tags=cfg.TEST.MULTISCALE_TAGS,
        pixels=cfg.MODEL.PIXELS,
        pose_nms=build_suppression(cfg, schema),
    )


# ---- runs


def run_folder(cfg: CfgNode) -> Path:
    """Return the folder of a run."""
    return Path(cfg.OUTPUT_DIR) / cfg.NAME
