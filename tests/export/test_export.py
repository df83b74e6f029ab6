"""An exported folder finds the library's people, in this process and in one without this library."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from coupled_embedding.data.geometry import resize_geometry as library_geometry
from coupled_embedding.data.images import read_image
from coupled_embedding.data.test_dataset import warp_to_input
from coupled_embedding.export.check import compare
from coupled_embedding.export.graph import OUTPUTS
from coupled_embedding.export.licenses import licenses_of
from coupled_embedding.export.load import load_exported
from coupled_embedding.export.predict import resize_geometry
from coupled_embedding.export.quantize import quantize_int8
from coupled_embedding.export.write import new_folder, require
from coupled_embedding.predictor import Predictor
from coupled_embedding.utils.errors import CheckpointError, UserError


def test_people_are_the_predictors(exported, lively, pipeline, noise):
    model = load_exported(exported, threads=1)
    predictor = Predictor(pipeline, lively.schema, lively.cfg.DATASET.INPUT_SIZE)
    for image in noise:
        expected, found = predictor(image), model.run(image)
        assert len(expected) == len(found.scores) > 0
        assert found.tags.shape == (len(expected), 8)
        np.testing.assert_allclose(found.scores, [pose.score for pose in expected], rtol=0, atol=1e-4)
        np.testing.assert_allclose(found.keypoints, expected.decoded, rtol=0, atol=1e-3)


def test_check_agrees_and_measures(exported, pipeline, noise):
    comparison = compare(load_exported(exported, threads=1), pipeline, 64, noise)
    comparison.raise_if_different()
    assert comparison.images == len(noise)
    assert comparison.people > 0
    assert comparison.joints_off <= 0.01 * comparison.joints == pytest.approx(0.14 * comparison.people)
    assert "images/s" in comparison.describe()


def test_check_finds_another_model(exported, pipeline, noise, tmp_path):
    shutil.copytree(exported, tmp_path / "other")
    about = json.loads((exported / "model.json").read_text())
    about["decode"]["tag_threshold"] = 0.3
    (tmp_path / "other" / "model.json").write_text(json.dumps(about))
    comparison = compare(load_exported(tmp_path / "other", threads=1), pipeline, 64, noise)
    with pytest.raises(UserError, match="decoders find other people"):
        comparison.raise_if_different()


def test_batches_of_any_size(exported):
    model = load_exported(exported, threads=1)
    inputs = np.random.default_rng(2).integers(0, 256, (3, 3, 192, 64), np.uint8)
    together = model.maps(inputs)
    assert together["heatmaps"].shape == (3, 14, 96, 32)
    for number in range(3):
        alone = model.maps(inputs[number : number + 1])
        for name in OUTPUTS:
            np.testing.assert_allclose(together[name][number], alone[name][0], rtol=1e-4, atol=1e-4)


def test_torch_export_file_computes_the_same(exported):
    program = torch.export.load(exported / "model.pt2").module()
    inputs = torch.randint(0, 256, (1, 3, 64, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    expected = load_exported(exported, threads=1).maps(inputs.numpy())
    with torch.no_grad():
        found = dict(zip(OUTPUTS, program(inputs), strict=True))
    for name in ("heatmaps", "tags", "peak_scores"):
        np.testing.assert_allclose(found[name].numpy(), expected[name], rtol=1e-3, atol=1e-4)


def test_folder_predicts_without_the_library(exported, lively, pipeline, noise, tmp_path, alone):
    folder = shutil.copytree(exported, tmp_path / "moved")
    cv2.imwrite(str(tmp_path / "crowd.png"), noise[0])
    done = alone(folder, tmp_path / "crowd.png", "--out", tmp_path / "results", "--min-score", 0)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "results" / "crowd.predictions.json").read_text())
    assert (result["width"], result["height"]) == (100, 70)
    assert tuple(result["joints"]) == lively.schema.joints
    expected = Predictor(pipeline, lively.schema, 64)(noise[0]).decoded
    assert expected is not None
    np.testing.assert_allclose(result["people"][0]["keypoints"], expected[0], rtol=0, atol=2e-3)
    overlay = cv2.imread(str(tmp_path / "results" / "crowd.poses.jpg"))
    assert overlay.shape == noise[0].shape
    again = alone(folder, tmp_path / "crowd.png", "--out", tmp_path / "results", "--min-score", 0)
    assert again.returncode == 1
    assert "exists" in again.stderr


def test_folder_says_what_it_cannot_use(exported, tmp_path, alone):
    (tmp_path / "text.jpg").write_text("no image")
    done = alone(exported, tmp_path / "text.jpg", "--out", tmp_path)
    assert done.returncode == 1
    assert "text.jpg: not an image" in done.stderr
    cv2.imwrite(str(tmp_path / "long.png"), np.zeros((4, 400, 3), np.uint8))
    done = alone(exported, tmp_path / "long.png", "--out", tmp_path)
    assert done.stderr.startswith(f"{tmp_path / 'long.png'}: the image is 400×4 pixels")
    done = alone(exported, tmp_path / "long.png", "--model", "model.int8.onnx", "--out", tmp_path)
    assert "model.int8.onnx" in done.stderr
    assert "Traceback" not in done.stderr


def test_folder_describes_itself(exported):
    assert (exported / "LICENSE").read_text() == "Anyone may use it."
    readme = (exported / "README.md").read_text()
    assert all(f"`{path.name}`" in readme for path in exported.glob("*.onnx"))
    assert (exported / "requirements.txt").read_text().startswith("onnxruntime")
    about = json.loads((exported / "model.json").read_text())
    assert about["metrics"] == {"AP": 0.5}
    assert about["input"]["size"] == 64


def test_int8_keeps_the_maps_nearly(exported, noise, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "int8")
    path = quantize_int8(folder, noise)
    assert path.name == "model.int8.onnx"
    inputs, _ = load_exported(folder).prepare(noise[0])
    exact, rounded = load_exported(folder).maps(inputs)["heatmaps"], load_exported(path).maps(inputs)["heatmaps"]
    assert 0 < np.abs(exact - rounded).mean() < 0.2 * np.abs(exact).mean()


@pytest.mark.parametrize("size", [(640, 427), (427, 640), (333, 500), (512, 512), (97, 31)])
def test_images_are_resized_as_in_tests(exported, size):
    expected = library_geometry(size, 100)
    found = resize_geometry(*size, 100, 64)
    assert found.size == expected.base_size
    np.testing.assert_array_equal(found.to_input, expected.to_input())
    np.testing.assert_array_equal(found.to_image, expected.to_image())
    image = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    inputs, _ = load_exported(exported).prepare(image)
    warped = warp_to_input(image, library_geometry(size, 64))
    np.testing.assert_array_equal(inputs[0].transpose(1, 2, 0), warped)


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("model.json", None, "model.json"),
        ("model.json", "{", "JSONDecodeError"),
        ("model.json", '{"format": "another", "version": 1}', "not a coupled-embedding export of version 1"),
        ("model.onnx", None, "model.onnx"),
        ("model.onnx", "no model", "export the model again"),
    ],
)
def test_damaged_folder_is_an_error(exported, tmp_path, file, content, named):
    folder = shutil.copytree(exported, tmp_path / "damaged")
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(CheckpointError, match=named):
        load_exported(folder)


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 400, 3), np.uint8)])
def test_no_image_is_an_error(exported, image):
    with pytest.raises(ValueError, match=r"expected|times as long"):
        load_exported(exported).run(image)


def test_full_folder_and_missing_package_are_errors(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="new or an empty folder"):
        new_folder(tmp_path)
    with pytest.raises(UserError, match=r"pip install 'coupled-embedding\[export\]'"):
        require("no_such_package")


def test_licenses_come_with_the_weights(tmp_path):
    save_file({"a": np.zeros(1)}, tmp_path / "model.safetensors", {"license": "Apache License 2.0"})
    (tmp_path / "LICENSE.txt").write_text("of another file")
    (tmp_path / "NOTICE").write_text("by its authors")
    expected = {"LICENSE": "Apache License 2.0", "NOTICE": "by its authors"}
    assert licenses_of(tmp_path / "model.safetensors") == expected
    assert licenses_of(tmp_path / "model.pth") == {"LICENSE": "of another file", "NOTICE": "by its authors"}


@pytest.mark.photos
def test_check_agrees_on_real_images(exported, pipeline, images_dir):
    paths = sorted((images_dir / "coco" / "val2017").glob("*.jpg"))[:3]
    comparison = compare(load_exported(exported, threads=1), pipeline, 64, [read_image(path) for path in paths])
    assert comparison.people > 0
    assert comparison.decode_pixels_off <= 1e-3
    assert comparison.decode_score_off <= 1e-4
    assert comparison.maps_off <= 1e-4
