"""Write an exported model's folder: the model, what it is, and programs that run it without this library."""

import importlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from coupled_embedding.decode import pose_centers
from coupled_embedding.export import pose_decoder, pose_maps, predict
from coupled_embedding.export.describe import DIVISOR
from coupled_embedding.export.graph import DTYPES, ExportGraph
from coupled_embedding.utils.atomic import atomic_write
from coupled_embedding.utils.errors import UserError

OPSET = 20
MOST_UNITS = 256  # of 64 pixels along a side

README = """# {name}

A multi-person pose estimation model ({joints} joints), exported to ONNX: pixel normalization, network, {flip}merge of
resolutions, {found}. `pose_decoder.py` finds the people there.

```bash
pip install -r requirements.txt
python predict.py image.jpg --out results
```

writes `results/image.predictions.json` and `results/image.poses.jpg`. In Python:

```python
import cv2
from predict import ExportedModel

model = ExportedModel(".")
keypoints, scores, tags = model.run(cv2.imread("image.jpg"))  # (N, K, 3): x, y, score; (N,); (N, T); best first
```

| file | what |
| --- | --- |
{files}

The model takes `images`, {dtype} RGB (batch, 3, height, width) of values 0 to 255, sides multiples of 64, and returns
`heatmaps` (batch, K, h', w'), `tags` (batch, K, T, h, w), and {outputs}.
"""

FILES = {
    "model.onnx": "the model, float32",
    "model.fp16.onnx": "the same, the network in float16: `--model model.fp16.onnx`",
    "model.int8.onnx": "the same, the network in int8: `--model model.int8.onnx`",
    "model.pt2": "the same for PyTorch: `torch.export.load`",
    "model.json": "joints, skeleton, input, decode options",
    "predict.py": "predicts images: onnxruntime, OpenCV",
    "pose_decoder.py": "from the model's outputs to people: NumPy",
    "pose_centers.py": "people by their centers: NumPy",
    "pose_maps.py": "upsampling, and places of missing joints: NumPy",
    "LICENSE": "of the model",
    "NOTICE": "of the model",
}


@dataclass(frozen=True)
class Formats:
    """Which files an export has besides model.onnx, and what they take.

    Attributes:
        dtype: of the input: a key of `graph.DTYPES`.
        pt2: also write model.pt2, by torch.export.
        fp16: also write model.fp16.onnx.
    """

    dtype: str = "uint8"
    pt2: bool = False
    fp16: bool = False


def require(module: str, package: str = "") -> ModuleType:
    """Import an optional module; UserError says what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        what = package or module
        raise UserError(
            f"export needs {what}: pip install 'coupled-embedding[export]' or pip install {what}"
        ) from error


def new_folder(path: Path) -> Path:
    """Make a folder for an export; UserError if it holds anything."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise UserError(f"{path}: --out must be a new or an empty folder, and this one holds files")
    except OSError as error:
        raise UserError(f"{path}: cannot make this folder ({error.strerror})") from error
    return path


def write_models(folder: Path, graphs: Mapping[str, ExportGraph], formats: Formats) -> None:
    """Write a file for each graph, and model.pt2 for model.onnx if wanted.

    Args:
        folder: that exists.
        graphs: file name -> in evaluation mode.
        formats: of the input, and whether model.pt2 is wanted.

    Raises:
        UserError: onnx or onnxscript is not installed.
    """
    for package in ("onnx", "onnxscript"):
        require(package)
    for name, graph in graphs.items():
        program = traced(graph, formats.dtype)
        if formats.pt2 and name == "model.onnx":
            torch.export.save(program, folder / "model.pt2")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own code
            onnx_program = torch.onnx.export(
                program,
                dynamo=True,
                input_names=["images"],
                output_names=list(graph.names),
                opset_version=OPSET,
                verbose=False,
            )
        assert onnx_program is not None
        onnx_program.save(folder / name, external_data=False)


def traced(graph: ExportGraph, dtype: str) -> torch.export.ExportedProgram:
    """Trace a graph for any batch, height and width."""
    batch = torch.export.Dim("batch", min=1, max=1024)
    height, width = (torch.export.Dim(name, min=1, max=MOST_UNITS) for name in ("height_64th", "width_64th"))
    example = torch.zeros(2, 3, 2 * DIVISOR, 3 * DIVISOR, dtype=DTYPES[dtype])
    shapes = ({0: batch, 2: DIVISOR * height, 3: DIVISOR * width},)
    return torch.export.export(graph, (example,), dynamic_shapes=shapes, strict=False)


def write_description(folder: Path, description: Mapping[str, Any]) -> None:
    """Write model.json, which the programs read."""
    atomic_write(folder / "model.json", json.dumps(description, indent=1) + "\n", "the model's description")


def write_programs(
    folder: Path, description: Mapping[str, Any], formats: Formats, licenses: Mapping[str, str] | None = None
) -> None:
    """Write the programs, their requirements and the README beside the models that are there.

    Args:
        folder: of the models.
        description: of model.json.
        formats: what the models take.
        licenses: ``LICENSE`` and ``NOTICE`` of the model, as far as it has them.
    """
    for module in (pose_centers, pose_decoder, pose_maps, predict):
        source = Path(str(module.__file__)).read_text(encoding="utf-8")
        for package in ("decode", "export"):
            source = source.replace(f"from coupled_embedding.{package}.", "from ")  # they lie side by side
        atomic_write(folder / Path(str(module.__file__)).name, source, "the program")
    for name, text in (licenses or {}).items():
        atomic_write(folder / name, text, "the model's license")
    decode = description["decode"]
    by_centers = bool(decode.get("centers"))
    packages = ["onnxruntime>=1.20", "numpy>=2", "opencv-python-headless>=4.9"]
    packages += ["scipy>=1.13"] if decode["assignment"] == "scipy" else []
    atomic_write(folder / "requirements.txt", "\n".join(packages) + "\n", "the requirements")
    rows = [f"| `{name}` | {what} |" for name, what in FILES.items() if (folder / name).exists()]
    text = README.format(
        name=description["name"],
        joints=len(description["joints"]),
        flip="mean with the flipped image, " if description["input"]["flip"] else "",
        files="\n".join(rows),
        dtype={"uint8": "uint8", "float": "float32"}[formats.dtype],
        found="center maps" if by_centers else "peaks of each joint and their tags",
        outputs=(
            "`centers` (batch, 1 + 2 · K, h, w): a heatmap of people's centers, and from the middle of a cell the "
            "displacements\nx, y to each joint, in cells"
            if by_centers
            else f"for the {decode['max_candidates'] + 1} best peaks of each joint `peak_pixels`\n(y · width + x), "
            "`peak_scores` and `peak_tags`"
        ),
    )
    atomic_write(folder / "README.md", text, "the README")
