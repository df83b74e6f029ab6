"""int8 where activation functions cut wide ranges off, as in converted MobileNets."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from coupled_embedding.builders import build_model, build_pipeline_options, build_schema
from coupled_embedding.config import load_config
from coupled_embedding.export.describe import describe
from coupled_embedding.export.graph import ExportGraph
from coupled_embedding.export.load import load_exported
from coupled_embedding.export.quantize import quantize_int8
from coupled_embedding.export.write import Formats, write_description, write_models

OPTIONS = {
    "MODEL.BACKBONE": "mobilenet_fpn",
    "MODEL.MOBILENET_FACTOR": "0.25",
    "MODEL.MOBILENET_TAG_WIDTH": "8",
    "MODEL.HEAD": "separable",
    "MODEL.TAG_DIM": "1",
    "DATASET.INPUT_SIZE": "64",
    "TEST.FLIP": "False",
    "TEST.PRECISION": "fp32",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, noise: list[np.ndarray]) -> Path:
    """An exported network whose values before each ReLU6 are twenty times as wide as behind it."""
    cfg = load_config(None, [word for pair in OPTIONS.items() for word in pair])
    schema = build_schema(cfg)
    torch.manual_seed(0)
    network = build_model(cfg, schema.num_joints).eval()
    with torch.no_grad():
        for name, parameter in network.backbone.trunk.named_parameters():
            if name.endswith(".1.bias"):  # before a ReLU6: one channel that it cuts to 0
                parameter[0] = -100
        for layer in network.head.output_layers():
            nn.init.normal_(layer.weight, std=0.05)
    options = build_pipeline_options(cfg, schema)
    out = tmp_path_factory.mktemp("mobilenet")
    write_models(out, {"model.onnx": ExportGraph(network, options).eval()}, Formats())
    write_description(out, describe(options, schema, 64, "small", {}))
    quantize_int8(out, noise)
    return out


def test_wide_ranges_before_activations_cost_no_precision(folder, noise):
    exact, rounded = load_exported(folder), load_exported(folder, "model.int8.onnx")
    for image in noise:
        inputs, _ = exact.prepare(image)
        wanted, found = exact.maps(inputs)["heatmaps"], rounded.maps(inputs)["heatmaps"]
        assert np.abs(found - wanted).mean() < 0.25 * np.abs(wanted - wanted.mean()).mean()


def test_pyramids_and_head_stay_in_float(folder):
    graph = onnx.load(folder / "model.int8.onnx").graph
    names = [name for node in graph.node if node.op_type == "Conv" for name in node.input[1:2]]
    assert [name for name in names if ("head." in name or "pyramid." in name) and "DequantizeLinear" in name] == []
    assert [name for name in names if "trunk." in name and "DequantizeLinear" not in name] == []
    assert any("trunk." in name for name in names)
    assert any("head." in name for name in names)
