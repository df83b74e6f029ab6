"""An export of a network that finds people by their centers: the library's people, without the library too."""

import json

import cv2
import numpy as np
import pytest
import torch

from coupled_embedding.builders import LoadedModel, build_model, build_pipeline_options, build_schema
from coupled_embedding.builders.exports import load_exported_predictor
from coupled_embedding.config import load_config, override
from coupled_embedding.decode.pipeline import InferencePipeline
from coupled_embedding.export.check import compare
from coupled_embedding.export.describe import describe
from coupled_embedding.export.graph import CENTER_OUTPUTS, ExportGraph
from coupled_embedding.export.load import load_exported
from coupled_embedding.export.write import Formats, new_folder, write_description, write_models, write_programs
from coupled_embedding.predictor import Predictor
from coupled_embedding.utils.errors import ConfigError, UserError

pytest.importorskip("onnxruntime")
WITHOUT = ["TEST.POSE_NMS", "none", "TEST.POSE_NMS_PARAMETERS", "[]"]
NMS = ["TEST.POSE_NMS", "oks", "TEST.POSE_NMS_PARAMETERS", "[threshold=0.1]"]


@pytest.fixture(scope="module", params=[0, 4])
def centered(request, tmp_path_factory, tiny_text):
    """The tiny network with center maps, untrained, of which some places are centers; with tags and without."""
    path = tmp_path_factory.mktemp("centered") / "tiny.yaml"
    path.write_text(tiny_text)
    options = [
        "MODEL.TAG_DIM",
        str(request.param),
        "MODEL.CENTERS",
        "True",
        "MODEL.HEATMAPS",
        "logistic",
        "LOSS.SCALE_ADAPTED",
        "False",
    ]
    cfg = load_config(
        path, ["TEST.PRECISION", "fp32", "TEST.FLIP", "True", "TEST.CENTER_THRESHOLD", "0.1", *options, *NMS]
    )
    schema = build_schema(cfg)
    torch.manual_seed(1)
    network = build_model(cfg, schema.num_joints)
    for layer in (*network.head.output_layers(), *network.center_head.output_layers()):
        torch.nn.init.normal_(layer.weight, std=0.05)
    torch.nn.init.normal_(network.center_head.displacement_layer.weight, std=0.5)
    with torch.no_grad():  # batch norm's statistics
        for _ in range(20):
            network(torch.randn(4, 3, 64, 64))
    return LoadedModel(network.eval(), cfg, schema, {})


@pytest.fixture(scope="module")
def pipeline(centered):
    return InferencePipeline(centered.network, build_pipeline_options(centered.cfg, centered.schema))


@pytest.fixture(scope="module")
def folder(centered, pipeline, tmp_path_factory):
    folder = new_folder(tmp_path_factory.mktemp("exported") / "model")
    graph = ExportGraph(centered.network, pipeline.options).eval()
    write_models(folder, {"model.onnx": graph}, Formats())
    about = describe(pipeline.options, centered.schema, centered.cfg.DATASET.INPUT_SIZE, "centered", {})
    write_description(folder, about)
    write_programs(folder, about, Formats())
    return folder


def test_people_are_the_predictors_with_and_without_the_library(folder, centered, pipeline, noise):
    model = load_exported(folder, threads=1)
    predictor = Predictor(pipeline, centered.schema, centered.cfg.DATASET.INPUT_SIZE)
    again = load_exported_predictor(folder, [], "cpu")
    dropped = 0
    for image in noise:
        expected, found, loaded = predictor(image), model.run(image), again(image)
        assert len(expected) == len(found.scores) == len(loaded) > 0
        np.testing.assert_allclose(found.scores, [pose.score for pose in expected], rtol=0, atol=1e-4)
        np.testing.assert_allclose(found.keypoints, expected.decoded, rtol=0, atol=1e-2)
        np.testing.assert_allclose(loaded.decoded, expected.decoded, rtol=0, atol=1e-2)
        assert found.tags.shape == (len(expected), 2 * centered.cfg.MODEL.TAG_DIM)
        dropped += len(load_exported_predictor(folder, WITHOUT, "cpu")(image)) - len(expected)
    assert dropped > 0
    comparison = compare(model, pipeline, 64, noise)
    comparison.raise_if_different()
    assert comparison.people > 0


def test_outputs_are_named_and_the_readme_says_what_they_are(folder):
    outputs = load_exported(folder, threads=1).maps(np.zeros((2, 3, 64, 128), np.uint8))
    assert tuple(outputs) == CENTER_OUTPUTS
    assert outputs["centers"].shape == (2, 1 + 2 * 14, 16, 32)
    readme = (folder / "README.md").read_text()
    assert "`centers` (batch, 1 + 2 · K, h, w)" in readme
    assert "peak_pixels" not in readme
    assert "coupled_embedding" not in (folder / "pose_centers.py").read_text()


def test_a_folder_predicts_without_the_library(folder, noise, tmp_path, alone):
    cv2.imwrite(str(tmp_path / "crowd.png"), noise[0])
    done = alone(folder, tmp_path / "crowd.png", "--out", tmp_path / "results", "--min-score", 0)
    assert done.returncode == 0, done.stderr
    people = json.loads((tmp_path / "results" / "crowd.predictions.json").read_text())["people"]
    np.testing.assert_allclose(
        people[0]["keypoints"], load_exported(folder).run(noise[0]).keypoints[0], rtol=0, atol=2e-3
    )


def test_what_an_export_does_not_do_is_refused(centered, folder):
    def described(*options):
        chosen = override(centered.cfg, options)
        return describe(build_pipeline_options(chosen, centered.schema), centered.schema, 64, "x", {})

    with pytest.raises(UserError, match="suppresses poses by oks alone"):
        described("TEST.POSE_NMS", "oks_soft", "TEST.POSE_NMS_PARAMETERS", "[]")
    if centered.cfg.MODEL.TAG_DIM:
        with pytest.raises(UserError, match="only people found by their centers"):
            described("TEST.GROUPING", "tags")
    assert "oks" not in described(*WITHOUT)["decode"]
    with pytest.raises(ConfigError, match=r"TEST\.GROUPING"):
        load_exported_predictor(folder, ["TEST.GROUPING", "tags"], "cpu")
