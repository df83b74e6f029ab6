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

# weights and activations; all else, the peaks among it, stays float32
QUANTIZED = ("Conv",)


def quantize_int8(folder: Path, images: Sequence[NDArray[np.uint8]]) -> Path:
    """Write model.int8.onnx beside model.onnx.

    Args:
        folder: of the export, with model.onnx and model.json.
        images: BGR (h, w, 3), of the kind that the model will see; 50 to 200 serve.

    Raises:
        UserError: onnxruntime or onnx is not installed.
    """
    require("onnx")
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
        _quantize(quantization, folder / "model.onnx", out, Reader())
    finally:
        logging.disable(level)
    return out


def _quantize(quantization: ModuleType, source: Path, out: Path, reader: Any) -> None:
    quantization.quantize_static(
        source,
        out,
        reader,
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=list(QUANTIZED),
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        calibrate_method=quantization.CalibrationMethod.MinMax,
    )
