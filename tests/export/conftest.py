"""Exports, and maps as an exported model outputs them, for tests of its decoder."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from coupled_embedding.builders import LoadedModel, build_model, build_pipeline_options, build_schema
from coupled_embedding.config import load_config
from coupled_embedding.decode.aggregate import ImageMaps
from coupled_embedding.decode.options import DecodeOptions
from coupled_embedding.decode.pipeline import InferencePipeline
from coupled_embedding.export.describe import decoder_options, describe
from coupled_embedding.export.graph import OUTPUTS, ExportGraph, PeakFinder
from coupled_embedding.export.pose_decoder import Options
from coupled_embedding.export.write import Formats, new_folder, write_description, write_models, write_programs

# a program whose imports of the library, or of torch and numba, fail
ALONE = """
import runpy, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "numba", "coupled_embedding", "scipy"):
            raise ImportError(f"{name} must not be needed")
sys.meta_path.insert(0, Absent())
sys.argv = sys.argv[1:]
sys.path.insert(0, str(__import__("pathlib").Path(sys.argv[0]).parent))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def predict_alone(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run an export's predict.py where there is no library."""
    command = [sys.executable, "-c", ALONE, str(folder / "predict.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={"OMP_NUM_THREADS": "1"})


@pytest.fixture(scope="session")
def alone() -> Callable[..., subprocess.CompletedProcess[str]]:
    return predict_alone


def model_outputs(maps: ImageMaps, size: tuple[int, int], options: DecodeOptions) -> dict[str, np.ndarray]:
    """Return what a model with these merged maps outputs, for an input of (H, W), without the batch's axis."""
    views = []
    for view in maps.tags:
        tags = view.values.transpose(2, 3, 0, 1)  # (K, D, h, w)
        views.append(tags if view.flip_index is None else tags[list(view.flip_index), :, :, ::-1])
    heatmaps, tags = torch.from_numpy(maps.heatmaps)[None], torch.from_numpy(np.concatenate(views, 1))[None]
    finder = PeakFinder(size[0] // heatmaps.shape[2], size[0] // tags.shape[3], options.peaks)
    values = (heatmaps, tags, *finder(heatmaps, tags))
    return {name: value[0].numpy() for name, value in zip(OUTPUTS, values, strict=True)}


@pytest.fixture(scope="session")
def outputs_of() -> Callable[..., dict[str, np.ndarray]]:
    return model_outputs


@pytest.fixture(scope="session")
def options_of() -> Callable[[DecodeOptions], Options]:
    """The decoder's options for the library's, by way of model.json's text."""
    return lambda options: Options.from_dict(decoder_options(options))


@pytest.fixture(scope="session")
def lively(tmp_path_factory: pytest.TempPathFactory, tiny_text: str) -> LoadedModel:
    """The tiny network with a higher head, whose untrained maps have peaks and tags of all sizes."""
    path = tmp_path_factory.mktemp("lively") / "tiny.yaml"
    path.write_text(tiny_text)
    cfg = load_config(path, ["TEST.PRECISION", "fp32"])
    schema = build_schema(cfg)
    torch.manual_seed(1)
    network = build_model(cfg, schema.num_joints)
    for layer in network.head.output_layers():
        torch.nn.init.normal_(layer.weight, std=0.05)
    with torch.no_grad():  # batch norm's statistics
        for _ in range(20):
            network(torch.randn(4, 3, 64, 64))
    return LoadedModel(network.eval(), cfg, schema, {"AP": 0.5})


@pytest.fixture(scope="session")
def pipeline(lively: LoadedModel) -> InferencePipeline:
    return InferencePipeline(lively.network, build_pipeline_options(lively.cfg, lively.schema))


@pytest.fixture(scope="session")
def exported(lively: LoadedModel, pipeline: InferencePipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the lively network, with model.pt2; tests copy it before they change it."""
    pytest.importorskip("onnxruntime")
    folder = new_folder(tmp_path_factory.mktemp("exported") / "model")
    formats = Formats(pt2=True)
    write_models(folder, {"model.onnx": ExportGraph(lively.network, pipeline.options).eval()}, formats)
    about = describe(pipeline.options, lively.schema, lively.cfg.DATASET.INPUT_SIZE, "lively", lively.metrics)
    write_description(folder, about)
    write_programs(folder, about, formats, {"LICENSE": "Anyone may use it."})
    return folder


@pytest.fixture(scope="session")
def noise() -> list[np.ndarray]:
    """BGR images of several shapes."""
    random = np.random.default_rng(5)
    shapes = ((70, 100), (150, 90), (64, 64), (41, 37))
    return [random.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]
