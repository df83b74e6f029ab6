"""The configs of single-person networks are their authors' recipes."""

from pathlib import Path

import pytest

from coupled_embedding.builders import build_model, build_optimizer
from coupled_embedding.config import load_config, override
from coupled_embedding.data.schema import load_schema
from coupled_embedding.networks.building import build_on_meta

CONFIG = Path(__file__).resolve().parents[2] / "config"
PEOPLE = 22_246  # of the training part of the hourglass's authors


def experiment(name):
    return load_config(CONFIG / f"{name}.yaml")


@pytest.mark.parametrize("name", ["mpii/hourglass_8", "mpii/hourglass_2", "mpii/cpm", "mpii/rmpe_hourglass_8"])
def test_they_see_one_person_and_output_heatmaps_alone(name):
    cfg = experiment(name)
    assert (cfg.DATASET.CROPS, cfg.MODEL.TAG_DIM, cfg.MODEL.HEAD) == ("people", 0, "plain")
    assert (cfg.LOSS.SCALE_ADAPTED, cfg.LOSS.FOCAL) == (False, False)  # squared errors
    assert load_schema(cfg.DATASET.SCHEMA).num_joints == 16


def test_eight_hourglasses_are_the_authors_later_program():
    cfg = experiment("mpii/hourglass_8")
    model, train, augment = cfg.MODEL, cfg.TRAIN, cfg.AUGMENT
    assert (model.BACKBONE, model.HOURGLASS_BLOCK, model.STACKS, model.WIDTH) == ("hourglass", "residual", 8, 256)
    assert (model.HOURGLASS_DEPTH, model.HOURGLASS_GROWTH, model.STEM_WIDTH) == (4, 0, 64)
    assert (cfg.DATASET.INPUT_SIZE, cfg.LOSS.SIGMA, model.PIXELS) == (256, 1, "unit")
    assert (train.OPTIMIZER, train.LR, train.IMAGES_PER_GPU) == ("adam", 1e-3, 16)
    second_rate = train.LR * train.GAMMA
    assert second_rate == pytest.approx(2e-4)
    assert train.MILESTONES[0] * (PEOPLE // train.IMAGES_PER_GPU) == pytest.approx(100_000, rel=0.001)
    assert (augment.SCALE, augment.ROTATION, augment.TRANSLATE, cfg.TEST.FLIP) == ([0.75, 1.25], 30, 0, True)


def test_two_hourglasses_differ_in_their_number_alone():
    eight, two = experiment("mpii/hourglass_8"), experiment("mpii/hourglass_2")
    assert override(eight, ["NAME", two.NAME, "MODEL.STACKS", "2"]) == two


def test_the_pose_machine_is_its_authors():
    cfg = experiment("mpii/cpm")
    model, train, augment = cfg.MODEL, cfg.TRAIN, cfg.AUGMENT
    assert (model.BACKBONE, model.STACKS, model.WIDTH, model.CPM_NORM) == ("cpm", 6, 128, "none")
    assert (cfg.DATASET.INPUT_SIZE, cfg.LOSS.SIGMA * 8) == (368, 7)
    assert (augment.SCALE, augment.ROTATION) == ([0.7, 1.3], 40)
    assert (train.OPTIMIZER, train.LR, train.IMAGES_PER_GPU, train.LR_FACTOR) == ("sgd", 8e-5, 16, 5)
    # half the sum over the cells of an image's maps, from the mean that this package's loss is
    assert cfg.LOSS.HEATMAP_WEIGHT == 16 * (368 // 8) ** 2 / 2
    network = build_on_meta(lambda: build_model(cfg, 16))
    faster, others = build_optimizer(cfg, network).param_groups
    stages = [{id(p) for p in part.parameters()} for part in (network.backbone.first, network.backbone)]
    assert {id(p) for p in faster["params"]} == stages[0]
    assert {id(p) for p in others["params"]} == stages[1] - stages[0]
    assert (faster["lr_factor"], others["lr_factor"]) == (5, 1)


def test_the_spatial_transformer_starts_from_the_trained_hourglasses():
    cfg, single = experiment("mpii/rmpe_hourglass_8"), experiment("mpii/hourglass_8")
    assert Path(cfg.MODEL.INIT_FROM).name == f"{single.NAME}.pth"
    assert (cfg.MODEL.SPATIAL_TRANSFORMER, cfg.LOSS.PARALLEL_WEIGHT > 0) == (True, True)
    names = [
        {name for name, _ in build_on_meta(lambda c=c: build_model(c, 16)).named_parameters()} for c in (cfg, single)
    ]
    assert names[1] < names[0]
    assert {name.partition(".")[0] for name in names[0] - names[1]} == {"localisation"}


def test_the_small_hourglass_of_lsp_is_small():
    cfg = experiment("lsp/hourglass_small_128")
    network = build_on_meta(lambda: build_model(cfg, load_schema(cfg.DATASET.SCHEMA).num_joints))
    assert sum(parameter.numel() for parameter in network.parameters()) < 500_000
    assert cfg.DATASET.VAL == ""  # the test part chooses nothing
