"""Load an exported folder."""

from pathlib import Path

from coupled_embedding.export.predict import ExportedModel
from coupled_embedding.export.write import require
from coupled_embedding.utils.errors import CheckpointError


def load_exported(folder: str | Path, file: str = "model.onnx", threads: int = 0) -> ExportedModel:
    """Return the model in a folder that `tools/export.py` wrote; its ``run(image)`` returns the people of an image.

    Args:
        folder: of the export, or one of its ONNX files.
        file: which of its models: ``"model.onnx"``, ``"model.fp16.onnx"`` or ``"model.int8.onnx"``.
        threads: of onnxruntime; 0: a thread for each core.

    Raises:
        UserError: onnxruntime is not installed.
        CheckpointError: a file is missing, damaged or not of an export.
    """
    require("onnxruntime")
    path = Path(folder)
    if path.suffix == ".onnx":
        path, file = path.parent, path.name
    try:
        return ExportedModel(path, file, threads)
    except Exception as error:  # onnxruntime raises what its C++ code chooses
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        where = getattr(error, "filename", None) or path
        raise CheckpointError(
            f"{where}: cannot load this export ({reason!s:.300}); export the model again by tools/export.py"
        ) from error
