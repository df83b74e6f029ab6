"""The baselines' networks next to their released programs: every key, and the maps of an image."""

import json

import numpy as np
import pytest
import torch

from coupled_embedding.builders import build_model
from coupled_embedding.config import load_config
from coupled_embedding.data.schema import load_schema
from coupled_embedding.networks.convert import config_of_released, convert_weights

CONFIGS = {
    "higherhrnet_w32_coco": "coco/ae_hrhrnet_w32_512",
    "higherhrnet_w48_coco": "coco/ae_hrhrnet_w48_640",
    "higherhrnet_w32_crowdpose": "crowdpose/ae_hrhrnet_w32_512",
    "associative_embedding_hourglass": "coco/ae_hourglass_512",
}


def network_of(checkout, name):
    cfg = load_config(checkout / "config" / f"{CONFIGS[name]}.yaml")
    with torch.device("meta"):  # shapes without numbers: the weights come later
        return build_model(cfg, load_schema(cfg.DATASET.SCHEMA).num_joints)


@pytest.mark.reference
def test_released_checkpoints_have_our_shapes_by_other_names(baseline_state_dict_case, checkout):
    recorded = json.loads(baseline_state_dict_case.read_text())
    name = baseline_state_dict_case.stem.removesuffix("_state_dict")
    released = {key: torch.empty(shape, device="meta") for key, shape in recorded["state_dict"].items()}
    network = network_of(checkout, name)
    converted = convert_weights(released, network.num_joints)
    own = {key: value.shape for key, value in network.state_dict().items()}
    assert {key: value.shape for key, value in converted.items()} == own
    assert sum(p.numel() for p in network.parameters()) == recorded["parameters"]
    assert config_of_released(released, "f") == f"config/{CONFIGS[name]}.yaml"


@pytest.mark.reference
def test_forward_equals_the_recorded_maps(baseline_forward_case, checkout, reference_dir, weights_by_name):
    recorded = np.load(baseline_forward_case)
    name = baseline_forward_case.stem.removesuffix("_forward")
    shapes = json.loads((reference_dir / "baselines" / f"{name}_state_dict.json").read_text())["state_dict"]
    network = network_of(checkout, name).eval()
    joints = network.num_joints
    network.load_state_dict(convert_weights(weights_by_name(shapes), joints), assign=True)
    hourglass = "image_nhwc" in recorded
    image = recorded["image_nhwc"].transpose(0, 3, 1, 2) if hourglass else recorded["image"]
    with torch.no_grad():
        output = network(torch.from_numpy(image))
    if hourglass:  # 17 heatmaps, 17 tags and spare channels a stack
        expected = recorded["output"].transpose(1, 0, 2, 3, 4)
        stages = [torch.cat((s.heatmaps[0], s.tags[..., 0]), 1) for s in (*output.aux_outputs, output)]
        pairs = list(zip(stages, expected[:, :, : 2 * joints], strict=True))
    else:
        low = torch.cat((output.heatmaps[0], output.tags[..., 0]), 1)
        pairs = [(low, recorded["output_0"]), (output.heatmaps[1], recorded["output_1"])]
    for own, maps in pairs:
        assert own.shape == maps.shape
        assert np.abs(own.numpy() - maps).max() <= 1e-5 * maps.std()
