"""The files in config/: all load; the eight full-size ones are the paper's experiments, baselines their authors'."""

from pathlib import Path

import pytest

from coupled_embedding.builders import build_decode_options
from coupled_embedding.config import config_to_yaml, load_config, override
from coupled_embedding.data.schema import load_schema

CONFIG = Path(__file__).resolve().parents[2] / "config"
FILES = sorted(CONFIG.rglob("*.yaml"))
NETWORKS = {  # docs/method.md 1: head, width, input; §5.3: kernel
    "ce_hrnet_w32_512": ("plain", 32, 512, 5),
    "ce_hrnet_w48_640": ("plain", 48, 640, 7),
    "ce_hrhrnet_w32_512": ("higher", 32, 512, 5),
    "ce_hrhrnet_w48_640": ("higher", 48, 640, 7),
}
BACKBONES = {32: "hrnet_w32-36af842e.pth", 48: "hrnet_w48-8ef0771d.pth"}
FULL_SIZE = [(dataset, network) for dataset in ("coco", "crowdpose") for network in NETWORKS]


def full_size(dataset, network):
    return load_config(CONFIG / dataset / f"{network}.yaml")


def decode_of(cfg):
    return build_decode_options(cfg, load_schema(cfg.DATASET.SCHEMA))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_file_loads_and_its_schema_has_its_splits(path, tmp_path):
    cfg = load_config(path)
    schema = load_schema(cfg.DATASET.SCHEMA)
    used = [split for split in (cfg.DATASET.TRAIN, cfg.DATASET.VAL, cfg.DATASET.TEST) if split]
    assert [schema.split(split).annotations for split in used]
    (tmp_path / "resolved.yaml").write_text(config_to_yaml(cfg))
    assert load_config(tmp_path / "resolved.yaml") == cfg


def test_full_size_configs_have_different_names():
    assert len({full_size(*case).NAME for case in FULL_SIZE}) == 8


@pytest.mark.parametrize(("dataset", "network"), FULL_SIZE)
def test_full_size_networks_are_the_papers(dataset, network):
    cfg = full_size(dataset, network)
    model = cfg.MODEL
    found = (model.HEAD, model.WIDTH, cfg.DATASET.INPUT_SIZE, cfg.TEST.NMS_KERNEL)
    assert found == NETWORKS[network]
    assert (model.STEM_WIDTH, model.STEM_BLOCKS, model.STAGE_MODULES, model.STAGE_BLOCKS) == (64, 4, [1, 4, 3], 4)
    assert (model.TAG_DIM, model.HEAD_BLOCKS, model.HEATMAP_BIAS) == (8, 4, 0)
    assert Path(model.PRETRAINED).name == BACKBONES[NETWORKS[network][1]]
    assert model.INIT_FROM == ""


@pytest.mark.parametrize(("dataset", "network"), FULL_SIZE)
def test_full_size_training_is_the_papers(dataset, network):
    cfg = full_size(dataset, network)
    train, augment, loss = cfg.TRAIN, cfg.AUGMENT, cfg.LOSS
    assert (augment.SCALE, augment.ROTATION, augment.TRANSLATE, augment.FLIP) == ([0.75, 1.5], 30, 0.2, 0.5)
    assert (augment.EXACT_FLIP, augment.COLOR, cfg.DATASET.MAX_PEOPLE) == (False, 0, 30)
    weights = (loss.HEATMAP_WEIGHT, loss.PULL_WEIGHT, loss.PUSH_WEIGHT, loss.COUPLING_WEIGHT)
    assert weights == (1, 1e-3, 1e-3, 1e-4)
    assert (loss.SCALE_ADAPTED, loss.FOCAL, loss.PULL_RAMP_FACTOR) == (True, True, 1)
    beta = {"coco": 0.40, "crowdpose": 0.55}
    assert beta[dataset] == loss.BETA
    assert (train.LR, train.WEIGHT_DECAY, train.EPOCHS) == (1.5e-3, 0, 300)
    assert (train.SCHEDULE, train.MILESTONES, train.GAMMA) == ("step", [200, 260], 0.1)
    assert (train.WARMUP_STEPS, train.WARMUP_RATIO) == (500, 0.001)
    assert (train.IMAGES_PER_GPU, train.ACCUMULATE, train.SYNC_BN) == (10, 1, True)
    assert (train.EMA, train.CLIP_GRAD) == (0, 0)


@pytest.mark.parametrize(("dataset", "network"), FULL_SIZE)
def test_full_size_inference_is_the_papers(dataset, network):
    cfg = full_size(dataset, network)
    test, decode = cfg.TEST, decode_of(cfg)
    assert (test.FLIP, test.SCALES, decode.refine, decode.assignment) == (True, [1], "fast", "munkres")
    assert (decode.cost, decode.max_joined, decode.missing_joints) == ("ce", 0, "origin")
    assert (decode.peaks.dedup_plateaus, decode.peaks.tie_order) == (False, "topk")
    assert (test.MAX_CANDIDATES, test.HEATMAP_THRESHOLD, test.TAG_THRESHOLD, test.PRECISION) == (30, 0.1, 1, "fp32")


@pytest.mark.parametrize("dataset", ["coco", "crowdpose"])
@pytest.mark.parametrize("network", ["ae_hrhrnet_w32_512", "ae_hrhrnet_w48_640", "ae_hrnet_w32_512"])
def test_higherhrnets_recipe_is_its_authors(dataset, network):
    cfg = full_size(dataset, network)
    train, loss, test = cfg.TRAIN, cfg.LOSS, cfg.TEST
    assert (train.LR, train.WARMUP_STEPS, train.IMAGES_PER_GPU, train.OPTIMIZER) == (1e-3, 0, 12, "adam")
    assert (train.EPOCHS, train.MILESTONES, train.GAMMA) == (300, [200, 260], 0.1)
    assert (loss.SCALE_ADAPTED, loss.FOCAL, loss.COUPLING_WEIGHT) == (False, False, 0)
    assert (loss.HEATMAP_WEIGHT, loss.PULL_WEIGHT, loss.PUSH_WEIGHT) == (1, 1e-3, 1e-3)
    assert cfg.MODEL.TAG_DIM == 1
    assert cfg.MODEL.FEED_TAGS is (cfg.MODEL.HEAD == "higher")
    decode = decode_of(cfg)
    assert (test.NMS_KERNEL, decode.cost, decode.missing_joints, decode.max_joined) == (5, "ae", "zero", 30)


@pytest.mark.parametrize("dataset", ["coco", "crowdpose"])
def test_scale_maps_differ_from_higherhrnet_in_maps_and_weights_alone(dataset):
    scale_maps, plain = (full_size(dataset, f"{name}_hrhrnet_w32_512") for name in ("swahr", "ae"))
    options = ["NAME", scale_maps.NAME, "MODEL.SCALE_MAPS", "True", "LOSS.FOCAL", "True"]
    assert override(plain, options) == scale_maps
    assert f"{dataset}_swahr_hrhrnet_w32_512" == scale_maps.NAME


@pytest.mark.parametrize("dataset", ["coco", "crowdpose"])
def test_the_hourglass_is_its_authors(dataset):
    cfg = full_size(dataset, "ae_hourglass_512")
    model, train, test = cfg.MODEL, cfg.TRAIN, cfg.TEST
    assert (model.BACKBONE, model.STACKS, model.WIDTH, model.HOURGLASS_DEPTH) == ("hourglass", 4, 256, 4)
    assert (model.HOURGLASS_GROWTH, model.STEM_WIDTH, model.PIXELS, model.TAG_DIM) == (128, 64, "unit", 1)
    assert (train.LR, train.WARMUP_STEPS) == (2e-4, 0)
    second_rate = train.LR * train.GAMMA
    assert second_rate == pytest.approx(1e-5)
    images = {"coco": 64_115, "crowdpose": 10_000}[dataset]
    steps = train.MILESTONES[0] * (images // (4 * train.IMAGES_PER_GPU))
    assert steps == pytest.approx(200_000, rel=0.005)
    assert (test.NMS_KERNEL, test.MULTISCALE_TAGS, test.HEATMAP_THRESHOLD) == (3, "concat", 0.1)
    assert (decode_of(cfg).cost, decode_of(cfg).missing_joints, decode_of(cfg).max_joined) == ("ae", "zero", 30)


@pytest.mark.parametrize("dataset", ["coco", "crowdpose"])
def test_the_ablation_differs_from_the_method_in_its_loss_alone(dataset):
    ablation, method = (full_size(dataset, f"{name}_hrnet_w32_512") for name in ("ae8", "ce"))
    differing = {
        f"{group}.{key}" for group in method if isinstance(method[group], dict)
        for key in method[group] if method[group][key] != ablation[group][key]
    }  # fmt: skip
    assert differing == {"LOSS.COUPLING_WEIGHT", "LOSS.SCALE_ADAPTED", "LOSS.FOCAL"}


@pytest.mark.parametrize("network", NETWORKS)
def test_data_sets_and_splits_are_the_papers(network):
    coco, crowdpose = full_size("coco", network).DATASET, full_size("crowdpose", network).DATASET
    assert load_schema(coco.SCHEMA).name == "coco"
    assert (coco.TRAIN, coco.VAL) == ("train2017", "val2017")
    assert load_schema(crowdpose.SCHEMA).name == "crowdpose"
    # no image of the test split may choose the checkpoint
    assert (crowdpose.TRAIN, crowdpose.VAL, crowdpose.TEST) == ("train", "val", "test")


@pytest.mark.parametrize("network", [*NETWORKS, "ce_hrhrnet_w48_640_plus"])
def test_the_papers_protocol_differs_in_splits_and_precision_alone(network):
    ours, papers = full_size("crowdpose", network), full_size("crowdpose", f"{network}_paper")
    splits = papers.DATASET.TRAIN, papers.DATASET.VAL, papers.DATASET.TEST
    assert splits == ("trainval", "", "test")
    assert f"{ours.NAME}_paper" == papers.NAME
    splits = ["DATASET.TRAIN", "trainval", "DATASET.VAL", ""]
    assert (ours.TRAIN.PRECISION, papers.TRAIN.PRECISION) == ("bf16", "fp32")
    assert override(ours, ["NAME", papers.NAME, *splits, "TRAIN.PRECISION", "fp32"]) == papers


def test_plus_differs_in_its_start_weights_alone():
    plus, scratch = full_size("crowdpose", "ce_hrhrnet_w48_640_plus"), full_size("crowdpose", "ce_hrhrnet_w48_640")
    start = full_size("coco", "ce_hrhrnet_w48_640").NAME
    assert f"models/{start}.pth" == plus.MODEL.INIT_FROM
    assert plus == override(
        scratch, ["NAME", plus.NAME, "MODEL.PRETRAINED", "", "MODEL.INIT_FROM", plus.MODEL.INIT_FROM]
    )
