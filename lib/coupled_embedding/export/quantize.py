"""An exported model's convolutions in int8, with ranges of activations taken from images."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.export.predict import ExportedModel
from coupled_embedding.export.write import require
from coupled_embedding.utils.errors import UserError

# weights and activations; all else, the peaks among it, stays float32. The activation functions are listed so that the
# ranges are those behind them: before a ReLU6 they are many times as wide, and int8 has 256 steps
QUANTIZED = ("Conv", "Clip", "Relu")
# convolutions that stay float32, by the beginnings of their weights' names: their outputs add up to the maps, and they
# are a small part of the network (docs/export.md says what they cost in int8)
FLOAT = ("network.head.", "network.center_head.", "network.backbone.pyramid.", "network.backbone.tag_pyramid.")


def quantize_int8(folder: Path, images: Sequence[NDArray[np.uint8]]) -> Path:
    """Write model.int8.onnx beside model.onnx.

    Args:
        folder: of the export, with model.onnx and model.json.
        images: BGR (h, w, 3), of the kind that the model will see; 50 to 200 serve.

    Raises:
        UserError: onnxruntime or onnx is not installed.
    """
    onnx = require("onnx")
    if not images:
        raise UserError("--int8: quantizing needs images for the ranges of activations, and there are none")
    quantization = require("onnxruntime.quantization", "onnxruntime")
    model = ExportedModel(folder)
    out = folder / "model.int8.onnx"
    inputs: Iterator[dict[str, Any]] = ({"images": model.prepare(image)[0]} for image in images)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[name-defined]
        def get_next(self) -> dict[str, Any] | None:
            return next(inputs, None)

    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # advice for those who call it themselves
    try:
        graph = onnx.load(folder / "model.onnx").graph
        float_nodes = [node.name for node in graph.node if any(name.startswith(FLOAT) for name in node.input)]
        _quantize(quantization, folder / "model.onnx", out, Reader(), float_nodes)
    finally:
        logging.disable(level)
    return out


def _quantize(quantization: ModuleType, source: Path, out: Path, reader: Any, float_nodes: Sequence[str]) -> None:
    quantization.quantize_static(
        source,
        out,
        reader,
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=list(QUANTIZED),
        nodes_to_exclude=list(float_nodes),
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        calibrate_method=quantization.CalibrationMethod.MinMax,
    )
