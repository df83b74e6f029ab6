"""Every option, a line each: default (and so its type), allowed values, meaning.

The defaults are the paper's COCO w32 recipe. ``resume=True``: the option may differ between a stopped training and its
continuation. ``results=False``: it changes neither what is learned nor which poses are found, except for rounding.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from yacs.config import CfgNode

from coupled_embedding.config import rules
from coupled_embedding.config.rules import Rule, above, at_least, between, each, one_of


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        default: its type is the option's.
        rule: which values are allowed; None: all of the type.
        meaning: in words.
        kind: the type, where the default is None: the choice of another option, such as TEST.COMPAT.
        resume: whether the option may differ between a stopped training and its continuation.
        results: whether the option changes what is learned or which poses are found.
    """

    default: Any
    rule: Rule | None
    meaning: str
    kind: type | None = None
    resume: bool = False
    results: bool = True


MANY_SCENES = between(1, 10**6)  # the image ids of a split are that far apart

# fmt: off
OPTIONS: dict[str, Option | dict[str, Option]] = {
    "OUTPUT_DIR": Option("outputs", None, "runs go to OUTPUT_DIR/NAME; never taken from a checkpoint", resume=True, results=False),
    "NAME": Option("", rules.NAME, "of the run's folder; empty: the config's folder and name, such as coco_ce_hrnet_w32_512", results=False),
    "SEED": Option(1, rules.SEED, "of initial weights, order and augmentation"),
    "DATASET": {
        "SCHEMA": Option("datasets/coco.yaml", None, "joints, flips, sigmas, files: see datasets/README.md"),
        "ROOT": Option("", None, "folder of the data set; empty: the schema's own", resume=True, results=False),
        "TRAIN": Option("train2017", None, "split to train on"),
        "VAL": Option("val2017", None, "split that selects the best checkpoint; empty: no evaluation while training"),
        "TEST": Option("val2017", None, "split that tools/test.py scores by default", resume=True),
        "INPUT_SIZE": Option(512, rules.INPUT_SIDE, "S, pixels: side of the training crop, short side at test time"),
        "CROPS": Option("", one_of("", "people"), "what the network sees: whole images, or a square crop around each person, whose joints alone it finds (people)"),
        "CROP_MARGIN": Option(1.25, between(0.5, 10), "a crop's side in units of the longer side of the person's box"),
        "MAX_PEOPLE": Option(30, between(1, 1000), "M: people per image that training keeps, those with most joints first"),
        "CATEGORIES": Option([], rules.CATEGORIES, "names or ids of the file's categories that are people; empty: the schema's, or all with its joints"),
        "TRAIN_IMAGES": Option("annotated", one_of("annotated", "labelled", "all"), "images to train on: with an annotation of a person or crowd, with a labelled joint, or all"),
        "ORIENTATION": Option("", one_of("", "auto", "upright", "stored"), "EXIF orientation: upright, never turned (stored), or by the annotated size (auto); empty: the schema's"),
        "ON_INVALID": Option("auto", one_of("auto", "raise", "skip"), "corrupt images and annotations: stop, or leave them out and report; auto: skip in training, raise in testing", resume=True),
        "MIX": Option([], rules.MIX, "further data sets to train on, joints by name: [{schema, split, weight, root}, ...]; weight: how often an epoch sees their images"),
        "MIN_SCORE": Option(0.0, between(0, 1), "pseudo labels: people of a lower score are ignored in training"),
        "FULL_SCORE": Option(0.0, between(0, 1), "pseudo labels: joints count by keypoint_scores / FULL_SCORE, at most whole; 0: all alike"),
        "IMAGE_IDS": Option([], rules.IDS, "train and test on these image ids only; empty: all"),
    },
    "SYNTHETIC": {  # the synthetic crowd, rendered into DATASET.ROOT when its files are missing
        "WIDTH": Option(192, between(64, 2048), "pixels"),
        "HEIGHT": Option(192, between(64, 2048), "pixels"),
        "MIN_PEOPLE": Option(1, between(1, 40), "people per scene, at least"),
        "MAX_PEOPLE": Option(10, between(1, 40), "people per scene, at most"),
        "CROWD_INDEX": Option(-1.0, rules.CROWD_INDEX, "in [0, 1]: steer every scene towards it; below 0: the natural mix"),
        "SEED": Option(7, rules.SEED, "of the scenes"),
        "TRAIN_SCENES": Option(4000, MANY_SCENES, "scenes of the split"),
        "VAL_SCENES": Option(100, MANY_SCENES, "scenes of the split"),
        "TEST_SCENES": Option(200, MANY_SCENES, "scenes of the split"),
    },
    "AUGMENT": {
        "SCALE": Option([0.75, 1.5], rules.ZOOM, "the side of what is seen in units of the image's short side, or of a person's crop"),
        "ROTATION": Option(30.0, between(0, 180), "degrees, either way"),
        "TRANSLATE": Option(0.2, between(0, 1), "of the scaled image size, or of the scaled side of a person's crop, either way"),
        "FLIP": Option(0.5, between(0, 1), "probability"),
        "EXACT_FLIP": Option(False, None, "flip joints exactly in image pixels; False: as the released program does, about one cell off"),
        "REDUCED_DECODE": Option(True, None, "decode JPEGs smaller where the crop halves them anyway; False: the released program's pixels"),
        "COLOR": Option(0.0, between(0, 0.9), "contrast and saturation vary by up to ± this share, brightness by up to ± half of it"),
        "PROPOSALS": Option("", None, "crops of people around boxes as a detector would find them: released (AlphaPose's draws), or a file of tools/fit_proposals.py; empty: annotated boxes"),
        "PASTE": Option("", None, "file of people cut out of images (see docs/own_data.md), which are pasted into training images; empty: none"),
        "PASTE_PROBABILITY": Option(0.5, between(0, 1), "share of the images that people are pasted into"),
        "PASTE_PEOPLE": Option(3, between(1, 30), "people pasted into an image, at most"),
        "PASTE_SIZE": Option([0.3, 0.9], each(between(0.02, 4), 2), "height of a pasted person as a share of the image's short side, least and greatest"),
        "PASTE_ROTATION": Option(15.0, between(0, 180), "degrees, either way"),
    },
    "MODEL": {
        "BACKBONE": Option("hrnet", one_of("hrnet", "hourglass", "cpm", "mobilenet_fpn"), "hourglass: stacked, each with outputs of its own; cpm: convolutional pose machine, for one person; mobilenet_fpn: small, for CPUs"),
        "HEAD": Option("higher", one_of("plain", "higher", "separable"), "plain: heatmaps at S/4; higher: at S/4 and S/2; separable: at S/4, of a few cheap layers"),
        "FEED_TAGS": Option(False, None, "the deconvolution of the higher head sees the tags too, as in HigherHRNet"),
        "SCALE_MAPS": Option(False, None, "a learned scale map for each heatmap, from which the loss takes the targets' widths"),
        "TAG_DIM": Option(8, between(0, 256), "D; 0: no tags, as for one person, part affinity fields or people's centers"),
        "WIDTH": Option(32, between(4, 512), "W: channels of HRNet's highest resolution, of an hourglass, or of a cpm"),
        "STEM_WIDTH": Option(64, between(4, 512), "channels of the stem"),
        "STEM_BLOCKS": Option(4, between(1, 64), "bottlenecks of stage 1"),
        "STAGE_MODULES": Option([1, 4, 3], each(between(1, 32), 3), "modules of stages 2, 3, 4 (2, 3, 4 branches)"),
        "STAGE_BLOCKS": Option(4, between(1, 64), "basic blocks of a branch"),
        "HEAD_BLOCKS": Option(4, between(0, 64), "basic blocks after the higher head's deconvolution"),
        "STACKS": Option(4, between(1, 16), "hourglasses in sequence, or stages of a cpm"),
        "HOURGLASS_BLOCK": Option("conv", one_of("conv", "residual"), "what they are made of: convolutions (associative embedding's), or residuals with batch norm (those for one person)"),
        "HOURGLASS_DEPTH": Option(4, between(1, 8), "levels below S/4"),
        "HOURGLASS_GROWTH": Option(128, between(0, 1024), "further channels a level"),
        "CPM_NORM": Option("none", one_of("none", "batch"), "after a cpm's convolutions: nothing, as its authors, or batch norm"),
        "MOBILENET_FACTOR": Option(1.5, between(0.25, 4), "of MobileNetV2's channels"),
        "MOBILENET_NORM": Option("bias", one_of("bias", "batch"), "after its convolutions: batch norm, or the bias that is left of a folded one"),
        "MOBILENET_PADDING": Option("same", one_of("same", "even"), "of its convolutions of stride 2: as TensorFlow's (same), or on all sides (even)"),
        "MOBILENET_TAG_WIDTH": Option(0, between(0, 1024), "channels of a second pyramid for tags alone; 0: none"),
        "SPATIAL_TAGS": Option(0.0, between(0, 10), "above 0: two more tag dimensions hold a cell's place, in cells times this, plus what the network adds"),
        "PAF": Option(False, None, "part affinity fields (OpenPose) of the skeleton's limbs, by which TEST.GROUPING can group"),
        "PAF_STAGES": Option(1, between(1, 16), "1: a convolution outputs them; more: further stages improve heatmaps and fields"),
        "CENTERS": Option(False, None, "a heatmap of people's centers and, from there, where each joint is (MoveNet, CenterNet), by which TEST.GROUPING can group"),
        "HEATMAPS": Option("linear", one_of("linear", "logistic"), "logistic: of the sigmoid of the convolution's output, trained by a focal loss (CornerNet) instead of LOSS.FOCAL's"),
        "SPATIAL_TRANSFORMER": Option(False, None, "single-person networks: a learned affine map of the crop, undone in the heatmaps (RMPE)"),
        "PIXELS": Option("imagenet", one_of("imagenet", "unit", "symmetric"), "input: ImageNet's mean and deviation, 0 to 1 (unit), or -1 to 1 (symmetric)"),
        "HEATMAP_BIAS": Option(0.0, None, "initial bias of the heatmap convolutions"),
        "PRETRAINED": Option("", None, "ImageNet backbone file; a missing file is an error", resume=True),
        "INIT_FROM": Option("", None, "checkpoint whose weights training starts from; head channels are transferred by joint name", resume=True),
        "INIT_SCHEMA": Option("datasets/coco.yaml", None, "the joints of INIT_FROM, where the file does not say", resume=True),
    },
    "LOSS": {
        "HEATMAP_WEIGHT": Option(1.0, at_least(0), "weight of the heatmap loss"),
        "PULL_WEIGHT": Option(1e-3, at_least(0), "weight of the pull loss"),
        "PUSH_WEIGHT": Option(1e-3, at_least(0), "weight of the push loss"),
        "COUPLING_WEIGHT": Option(1e-4, at_least(0), "weight of the scale-coupled loss; 0 switches it off"),
        "CENTER_WEIGHT": Option(0.0, at_least(0), "weight of the distance of spatial tags from their person's center, in person sizes; they are then neither pulled nor pushed"),
        "CONTRAST_WEIGHT": Option(0.0, at_least(0), "weight of how unlikely each joint finds its own person by the tags (InfoNCE)"),
        "VARIANCE_WEIGHT": Option(0.0, at_least(0), "weight of how far tags' deviations over an image's people fall short of 1"),
        "CORRELATION_WEIGHT": Option(0.0, at_least(0), "weight of the mean squared correlation of two tag dimensions over people"),
        "PAF_WEIGHT": Option(1.0, at_least(0), "weight of the part affinity fields' loss, where MODEL.PAF has them"),
        "PAF_TARGETS": Option("mean", one_of("mean", "released", "soft"), "fields of people who meet: averaged as in the paper; the later one's, as in the released program; fading and summed (soft)"),
        "PAF_WIDTH": Option(1.0, above(0), "half a limb's width in cells; soft: how fast it fades"),
        "CENTER_HEATMAP_WEIGHT": Option(1.0, at_least(0), "weight of the loss of people's centers, where MODEL.CENTERS has them"),
        "DISPLACEMENT_WEIGHT": Option(1.0, at_least(0), "weight of the distance of joints from where their center says they are, in person scales"),
        "PARALLEL_WEIGHT": Option(0.0, at_least(0), "weight of how far MODEL.SPATIAL_TRANSFORMER's crop is from centered, by a parallel branch"),
        "SIGMA": Option(2.0, between(0.5, 8), "cells: the targets' Gaussians, before any factor of their width"),
        "BETA": Option(0.40, above(0), "scale-adapted targets: width 2 s / BETA"),
        "SCALE_ADAPTED": Option(True, None, "the targets' widths follow the tags; False: MODEL.SCALE_MAPS, or fixed width"),
        "ANNOTATED_WIDTHS": Option(False, None, "the targets' widths follow the annotated scales, at the same BETA; not with SCALE_ADAPTED or MODEL.SCALE_MAPS"),
        "FOCAL": Option(True, None, "soft focal weight; False: squared error"),
        "PULL_RAMP_START": Option(0, at_least(0), "optimizer steps with PULL_RAMP_FACTOR of the pull weight ..."),
        "PULL_RAMP_END": Option(0, at_least(0), "... which rises linearly to the whole by this step"),
        "PULL_RAMP_FACTOR": Option(1.0, between(0, 1), "share of the pull weight at the start"),
    },
    "TRAIN": {
        "IMAGES_PER_GPU": Option(10, between(1, 4096), "per rank and forward pass"),
        "ACCUMULATE": Option(1, between(1, 4096), "gradient accumulation: forward passes per optimizer step"),
        "DROP_LAST": Option(True, None, "drop an epoch's last, partial step; False: a smaller last step"),
        "EPOCHS": Option(300, between(1, 10**6), "passes over the data"),
        "OPTIMIZER": Option("adam", one_of("adam", "muon", "rmsprop", "sgd"), "adam, as the paper; muon: orthogonalised updates, which learn more per image; sgd: with momentum 0.9"),
        "LR": Option(1.5e-3, above(0), "learning rate after warm-up"),
        "LR_PREFIXES": Option([], rules.PREFIXES, "parameters that have LR_FACTOR times the learning rate, by the beginnings of their names, such as backbone.first"),
        "LR_FACTOR": Option(1.0, above(0), "of the parameters of LR_PREFIXES"),
        "WEIGHT_DECAY": Option(0.0, at_least(0), "of the optimizer"),
        "SCHEDULE": Option("step", one_of("step", "cosine"), "step: times GAMMA at MILESTONES; cosine: flat until COSINE_START, then to 0"),
        "MILESTONES": Option([200, 260], rules.RISING, "epochs"),
        "GAMMA": Option(0.1, between(0, 1), "factor of each milestone"),
        "COSINE_START": Option(0.6, between(0, 1), "share of all steps"),
        "WARMUP_STEPS": Option(500, at_least(0), "steps of linear warm-up"),
        "WARMUP_RATIO": Option(0.001, between(0, 1), "share of the rate at the first step"),
        "CLIP_GRAD": Option(0.0, at_least(0), "largest gradient norm; 0: no clipping"),
        "EMA": Option(0.0, rules.DECAY, "decay of the weights' moving average, which is then evaluated and saved; 0: none"),
        "PRECISION": Option("fp32", rules.PRECISION, "of the network; losses stay float32; auto: the fastest that the device has units for"),
        "CHANNELS_LAST": Option(True, None, "memory format", results=False),
        "FREEZE": Option([], rules.PREFIXES, "parameters that stay as they are, by the beginnings of their names, such as backbone.trunk"),
        "COMPILE": Option(False, None, "torch.compile the network, for batches of TRAIN.IMAGES_PER_GPU", results=False),
        "RECOMPUTE": Option(False, None, "compute residual blocks again in the backward pass: less memory, more time", resume=True, results=False),
        "SYNC_BN": Option(True, None, "batch statistics over all ranks"),
        "WORKERS": Option(4, between(0, 256), "loader processes per rank", resume=True, results=False),
        "THREADS": Option(0, between(0, 1024), "CPU threads of a rank; 0: torch's choice, or fewer where other programs keep cores busy", resume=True, results=False),
        "LOG_EVERY": Option(50, at_least(1), "steps between log lines", resume=True, results=False),
        "VISUALIZE_EVERY": Option(1000, at_least(0), "steps between images in TensorBoard; 0: none", resume=True, results=False),
        "EVAL_EVERY": Option(5, at_least(0), "epochs between validations; 0: only after the last"),
        "SELECT_ON_TEST": Option(False, None, "let DATASET.VAL be a split that results are reported on, as the released program does: they then flatter"),
        "SAVE_EVERY": Option(1, at_least(1), "epochs between checkpoints to resume from", resume=True, results=False),
        "SAVE_STEPS": Option(0, at_least(0), "steps between checkpoints within an epoch; 0: none", resume=True, results=False),
        "KEEP": Option(2, at_least(1), "checkpoints kept in addition to the best one", resume=True, results=False),
        "MAX_NONFINITE_STEPS": Option(20, at_least(0), "skipped steps of an epoch whose loss or gradient is not finite; more end the run", resume=True, results=False),
    },
    "TEST": {
        "IMAGES_PER_BATCH": Option(4, between(1, 1024), "images of equal shape per forward pass", results=False),
        "FLIP": Option(True, None, "average with the flipped image"),
        "SCALES": Option([1.0], rules.SCALES, "scale factors"),
        "MULTISCALE_TAGS": Option("single", one_of("single", "concat"), "tags of factor 1, or of all factors concatenated (slower, more memory)"),
        "NMS_KERNEL": Option(5, rules.ODD, "input pixels; 7 for w48"),
        "MAX_CANDIDATES": Option(30, between(1, 1000), "peaks per joint; people found by their centers"),
        "HEATMAP_THRESHOLD": Option(0.1, at_least(0), "peaks at or below are dropped"),
        "TAG_THRESHOLD": Option(1.0, above(0), "a candidate farther from every person's mean tag starts a new person"),
        "GROUPING": Option("auto", one_of("auto", "tags", "pafs", "centers"), "what groups joints: tags, part affinity fields, or people's centers; auto: centers or else fields where the network has them"),
        "PAF_PRESET": Option("paper", one_of("paper", "openpose", "openpose_coco", "sleap", "with_tags"), "whose rule connects joints by fields: the paper's evaluation, OpenPose's, its COCO setting, SLEAP's, or this project's: fields and tags together"),
        "PAF_MATCHING": Option(None, one_of("greedy", "hungarian"), "of a limb's candidates; empty: the preset's", str),
        "CENTER_THRESHOLD": Option(0.02, between(0, 1), "score above which a center is a person's"),
        "CENTER_REACH": Option(0.1, above(0), "share of the longer side of a person's predicted joints: at that distance from its predicted place a joint's heatmap counts half"),
        "GROUPING_ORDER": Option([], rules.JOINTS, "joint names in the order in which grouping visits them; empty: the schema's"),
        "REFINE": Option("fast", one_of("none", "reference", "fast"), "predict missing joints at each person's best place; fast: the same poses as reference"),
        "REGROUP": Option(0, between(0, 10), "passes after grouping in which whole people compete for all joints; 0: as the paper"),
        "COMPAT": Option("released", one_of("released", "higherhrnet", "clean"), "whose decode: the authors' released program, HigherHRNet's, or without their deviations; sets the next six"),
        "GROUPING_COST": Option(None, one_of("ce", "ae", "distance"), "distance within 1, minus score (ce); 100 a unit of distance, minus score (ae); twice the distance within 1, not rounded, minus score (distance)", str),
        "MAX_JOINED": Option(None, at_least(0), "only the first N people of an image can be joined; 0: all", int),
        "ASSIGNMENT": Option(None, one_of("munkres", "scipy"), "among equal costs: the choice of munkres 1.1.4, or the nearer tag (scipy)", str),
        "NMS_DEDUP_PLATEAUS": Option(None, None, "one candidate per flat top, instead of each of its pixels", bool),
        "NMS_TIE_ORDER": Option(None, one_of("topk", "rows"), "order of equal peaks: torch.topk's on a CPU, or top to bottom, left to right", str),
        "MISSING_JOINTS": Option(None, one_of("origin", "zero", "guess"), "joints without a score: at (0, 0); there with score 0; at their likeliest place", str),
        "POSE_NMS": Option("none", rules.POSE_NMS, "of several poses of one person keep the best: none, by OKS, RMPE's parametric one by the paper's formulas or as AlphaPose has it (released), or a file of tools/fit_nms.py"),
        "POSE_NMS_PARAMETERS": Option([], rules.PARAMETERS, "values over those of TEST.POSE_NMS, such as [eta=20, sigma2=8]"),
        "BOXES": Option("", None, "of people, for crops: empty: annotated; or a COCO detections file, or a keypoint results file, such as a bottom-up network's"),
        "BOX_SCORE": Option(0.0, at_least(0), "boxes of TEST.BOXES scored lower are left out"),
        "GROUP_CROPS": Option(True, None, "where MPII's rules score: the network sees the crops of groups of people; False: whole images"),
        "MAX_DETECTIONS": Option(0, at_least(0), "people per image in the results, best first; 0: all"),
        "OKS_BACKEND": Option("pycocotools", one_of("pycocotools", "fast", "crowdposetools"), "computes the scores; fast: faster-coco-eval", results=False),
        "PRECISION": Option("fp32", rules.PRECISION, "of the network; decode stays float32; auto: as in training"),
        "FOLD_BN": Option(True, None, "fold batch norm into the convolutions: faster, equal except for rounding", results=False),
        "WORKERS": Option(2, between(0, 256), "loader processes", results=False),
        "OVERLAYS": Option(4, between(0, 1000), "drawn images each of the best, worst and most crowded; 0: none", results=False),
    },
}
# fmt: on


def default_config() -> CfgNode:
    """Return a fresh tree of defaults, not frozen."""
    cfg = CfgNode()
    for key, entry in OPTIONS.items():
        if isinstance(entry, Option):
            cfg[key] = entry.default
        else:
            cfg[key] = CfgNode({name: option.default for name, option in entry.items()})
    return copy.deepcopy(cfg)


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tree's values by their full names, such as ``TRAIN.LR``."""
    options: dict[str, Any] = {}
    for key, value in tree.items():
        group = isinstance(value, dict)
        options |= {f"{key}.{name}": item for name, item in flat(value).items()} if group else {key: value}
    return options


@cache
def all_options() -> dict[str, Option]:
    """Return every option by its full name."""
    return flat(OPTIONS)
