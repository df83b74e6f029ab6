"""From options to the parts of a training or a test: schema, data, network, loss, optimizer, decode."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
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
from coupled_embedding.data.person_crops import ProposedRegions, person_crops
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema, load_schema
from coupled_embedding.data.transforms import Augmentation
from coupled_embedding.decode.decode import grouping_order
from coupled_embedding.decode.options import PAF_PRESETS, CenterRule, DecodeOptions, PeakOptions, with_preset
from coupled_embedding.decode.pipeline import AnyDecodeOptions, PipelineOptions
from coupled_embedding.decode.single import SinglePersonOptions
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
    if cfg.MODEL.CENTERS and test.GROUPING in ("auto", "centers"):
        centers = CenterRule(test.CENTER_THRESHOLD, test.CENTER_REACH, test.MAX_CANDIDATES)
        options = replace(options, centers=centers)
    elif cfg.MODEL.PAF and test.GROUPING in ("auto", "pafs"):
        rule = PAF_PRESETS[test.PAF_PRESET]
        rule = replace(rule, matching=test.PAF_MATCHING or rule.matching, tag_threshold=test.TAG_THRESHOLD)
        # missing joints are looked up by tags, which a network may have besides
        refine = test.REFINE if cfg.MODEL.TAG_DIM else "none"
        options = replace(options, limbs=schema.skeleton, paf=rule, refine=refine)
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
