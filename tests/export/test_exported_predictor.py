"""An export in the doors of a checkpoint: the same poses, streams and files, and errors for what it fixes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from coupled_embedding.builders import LoadedModel, save_model
from coupled_embedding.export.quantize import quantize_int8
from coupled_embedding.poses import Poses
from coupled_embedding.predictor import Predictor
from coupled_embedding.utils.errors import CheckpointError, ConfigError, NonFiniteError, UserError


@pytest.fixture(scope="module")
def checkpoint(lively: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "lively.safetensors"
    save_model(path, lively, half=False)
    return path


@pytest.fixture
def changed(exported: Path, tmp_path: Path) -> Callable[..., Path]:
    """changed(key, ..., value): a copy of the export in whose model.json one value is another."""

    def change(*keys_and_value: object) -> Path:
        *keys, last, value = keys_and_value
        folder = shutil.copytree(exported, tmp_path / "changed")
        about = json.loads((folder / "model.json").read_text())
        node = about
        for key in keys:
            node = node[key]
        node[last] = value
        (folder / "model.json").write_text(json.dumps(about))
        return folder

    return change


def assert_same(found: Poses, expected: Poses) -> None:
    assert len(found) == len(expected) > 0
    for name in ("xy", "keypoint_scores", "scores", "boxes", "tags", "decoded"):
        mine, theirs = getattr(found, name), getattr(expected, name)
        assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype), name
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-3, err_msg=name)
    assert found.image_size == expected.image_size
    assert found.time.keys() == expected.time.keys()
    for field in ("joints", "skeleton", "flip_pairs", "sigmas", "colors", "grouping_order"):
        assert getattr(found.schema, field) == getattr(expected.schema, field)


def test_poses_are_the_checkpoints(exported, checkpoint, noise):
    first, second = Predictor.from_pretrained(checkpoint), Predictor.from_pretrained(exported)
    assert (second.input_size, second.batch) == (first.input_size, first.batch)
    for image in noise:
        assert_same(second(image), first(image))
    many = [*noise, *noise]  # in batches of equal shape
    for found, expected in zip(second(many), first(many), strict=True):
        assert_same(found, expected)
    assert all(seconds > 0 for seconds in second(noise[0]).time.values())
    assert_same(Predictor.from_pretrained(exported / "model.onnx")(noise[0]), first(noise[0]))


@pytest.mark.parametrize(
    "options",
    [
        {"heatmap_threshold": 0.04},
        {"tag_threshold": 0.3},
        {"size": 128, "batch": 2},
        {"overrides": ("TEST.POSE_NMS", "paper", "TEST.POSE_NMS_PARAMETERS", "[eta=4, sigma2=900]")},
        {"overrides": ("TEST.REFINE", "none", "TEST.MISSING_JOINTS", "guess")},
        {"overrides": ("TEST.GROUPING_COST", "ae", "TEST.MAX_JOINED", "3", "TEST.ASSIGNMENT", "scipy")},
        {"flip": True, "scales": [1], "device": "auto", "precision": "fp32"},  # what it does anyway
    ],
)
def test_options_of_the_decoder_do_what_they_do_for_a_checkpoint(exported, checkpoint, noise, options):
    options = {"heatmap_threshold": 0.02} | options  # of which maps of noise have many peaks
    found, expected = (Predictor.from_pretrained(source, **options)(noise[0]) for source in (exported, checkpoint))
    assert_same(found, expected)
    if "flip" not in options:
        plain = Predictor.from_pretrained(exported, heatmap_threshold=0.02)(noise[0])
        assert len(plain) != len(found) or not np.array_equal(plain.decoded, found.decoded)


def test_people_below_a_score_are_left_out(exported, noise):
    found = Predictor.from_pretrained(exported)(noise[0])
    limit = float(np.median(found.scores))
    chosen = Predictor.from_pretrained(exported, min_score=limit)(noise[0])
    assert chosen.scores.tolist() == [score for score in found.scores if score >= limit]


def test_places_are_left_out_of_tags(changed, exported, noise):
    plain = Predictor.from_pretrained(exported)(noise[0])
    found = Predictor.from_pretrained(changed("tags", {"place_dims": 2}))(noise[0])
    of_views = plain.tags.reshape(len(plain), 2, 4)[..., :2]
    assert found.tags.tolist() == of_views.reshape(len(plain), 4).tolist()


def test_maps_are_drawn_as_the_checkpoints(exported, checkpoint, noise):
    first, second = (Predictor.from_pretrained(source).maps(noise[1]) for source in (checkpoint, exported))
    for mine, theirs in zip(second, first, strict=True):
        assert mine.shape == noise[1].shape
        assert np.abs(mine.astype(int) - theirs).max() <= 2


def test_other_files_of_the_folder_are_chosen_by_name(exported, noise, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "int8")
    path = quantize_int8(folder, noise)
    assert path.name == "model.int8.onnx"
    exact, rounded = (Predictor.from_pretrained(source)(noise[0]) for source in (folder, path))
    assert len(exact) != len(rounded) or not np.array_equal(exact.decoded, rounded.decoded)


# ---- the verb


@pytest.fixture
def predict(exported, tmp_path, monkeypatch, call_verb):
    """predict(argument, ...): run the verb on the export in tmp_path; return what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, code: int = 0, model: Path = exported) -> str:
        return call_verb("predict", *arguments, "--model", model, "--out", "out", code=code)

    return run


def test_the_verb_predicts_folders_and_draws(predict, exported, noise, tmp_path):
    (tmp_path / "images").mkdir()
    for number, image in enumerate(noise):
        cv2.imwrite(str(tmp_path / f"images/{number}.png"), image)
    predict("images", "--min-score", "0", "--heatmaps", "--tags")
    predictor = Predictor.from_pretrained(exported)
    for number, image in enumerate(noise):
        content = json.loads((tmp_path / f"out/{number}.predictions.json").read_text())
        assert content["predictions"] == predictor(image).to_dict()["predictions"]
        for ending in (".jpg", ".heatmaps.jpg", ".tags.jpg"):
            assert cv2.imread(str(tmp_path / f"out/{number}{ending}")).shape == image.shape


def test_the_verb_tracks_people_over_a_video(predict, noise, write_video, tmp_path):
    frame = cv2.resize(noise[0], (96, 64))
    clip = write_video("clip.mp4", [frame] * 3)
    predict(clip, "--track", "--min-score", "0", "--json-only", "--options", "TEST.HEATMAP_THRESHOLD", "0.02")
    lines = [json.loads(line) for line in (tmp_path / "out/clip.predictions.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == [0, 1, 2]
    ids = [[person["id"] for person in line["predictions"]] for line in lines]
    assert all(len(set(one)) == len(one) > 0 for one in ids)
    assert set(ids[0]) & set(ids[2])


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--no-flip"], "TEST.FLIP is true in this export and cannot be false"),
        (["--scales", "2", "1"], "TEST.SCALES is [1.0] in this export and cannot be [2.0, 1.0]"),
        (["--device", "cuda"], "an export runs on the CPU, not on 'cuda'"),
        (["--options", "TEST.NMS_KERNEL", "7"], "TEST.NMS_KERNEL is 5 in this export and cannot be 7"),
        (["--options", "TEST.THRESHOLD", "1"], "unknown key 'TEST.THRESHOLD'"),
        (["--options", "TEST.HEATMAP_THRESHOLD", "high"], "TEST.HEATMAP_THRESHOLD: expected a number"),
    ],
)
def test_what_an_export_fixes_is_an_error(predict, noise, tmp_path, arguments, error):
    cv2.imwrite(str(tmp_path / "a.png"), noise[0])
    printed = predict("a.png", *arguments, code=2)
    assert error in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "out").exists()


# ---- damaged and hostile folders


def test_precision_is_the_files(exported):
    with pytest.raises(ConfigError, match=r'TEST\.PRECISION is "fp32" in this export and cannot be "bf16"'):
        Predictor.from_pretrained(exported, precision="bf16")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("joints", "all"), "model.json"),
        (("joints", ["one"]), "IndexError"),
        (("skeleton", [[0, 99]]), "IndexError"),
        (("sigmas", [1.0]), "sigmas"),
        (("input", None), "TypeError"),
        (("input", "size", 10**9), r"DATASET\.INPUT_SIZE"),
        (("input", "divisor", 32), r"input\.divisor: expected 64"),
        (("decode", "threshold", "high"), r"TEST\.HEATMAP_THRESHOLD"),
        (("decode", "cost", "free"), r"TEST\.GROUPING_COST"),
        (("decode", "unknown", 1), "unknown"),
        (("tags", {"place_dims": 4}), "place_dims of model.json: expected 0 to 3, got 4"),
    ],
)
def test_a_wrong_description_is_an_error_that_names_the_field(changed, change, named):
    with pytest.raises(UserError, match=named):
        Predictor.from_pretrained(changed(*change))


@pytest.mark.bad_input
def test_a_model_of_other_joints_or_another_kind_is_an_error(changed, exported):
    about = json.loads((exported / "model.json").read_text())
    last = len(about["joints"]) - 1
    keep = {key: [pair for pair in about[key] if last not in pair] for key in ("skeleton", "flip_pairs")}
    folder = changed("joints", about["joints"][:-1])
    about |= keep | {key: about[key][:-1] for key in ("joints", "sigmas", "colors")}
    about["decode"]["grouping_order"].remove(last)
    (folder / "model.json").write_text(json.dumps(about))
    with pytest.raises(CheckpointError, match=r"the model has 14 joints, model\.json has 13"):
        Predictor.from_pretrained(folder)


@pytest.mark.bad_input
def test_maps_that_are_not_finite_are_an_error(exported, noise, monkeypatch):
    predictor = Predictor.from_pretrained(exported)
    maps = predictor.pipeline.model.maps

    def damaged(inputs):
        outputs = maps(inputs)
        outputs["heatmaps"][0, 0, 0, 0] = np.nan
        return outputs

    monkeypatch.setattr(predictor.pipeline.model, "maps", damaged)
    with pytest.raises(NonFiniteError, match="NaN or infinite"):
        predictor(noise[0])
