"""The predictor: the same poses as a test of the data set, from images of any kind, from threads and streams."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from runs import CPU, eval_job, untrained_checkpoint

from coupled_embedding import predictor as predictor_module
from coupled_embedding.builders import load_model, save_model
from coupled_embedding.data.coco import load_records
from coupled_embedding.data.geometry import apply_affine, resize_geometry
from coupled_embedding.decode.aggregate import MergedMaps
from coupled_embedding.engine.evaluate import evaluate
from coupled_embedding.networks import model_file
from coupled_embedding.poses import Poses
from coupled_embedding.predictor import Predictor
from coupled_embedding.utils.errors import CheckpointError, ConfigError, DatasetError

# untrained networks find nothing that is likely
ALL = ("TEST.HEATMAP_THRESHOLD", "0.0")


@pytest.fixture
def weights(tiny, tmp_path: Path) -> Path:
    return untrained_checkpoint(tiny("untrained"), tmp_path / "untrained.pth")


@pytest.fixture
def predictor(weights: Path) -> Predictor:
    return Predictor.from_pretrained(weights, heatmap_threshold=0.0)


@pytest.fixture
def images(tiny_crowd: Path) -> list[Path]:
    return sorted((tiny_crowd / "images").iterdir())


def same(first: Poses, second: Poses) -> bool:
    names = ("xy", "keypoint_scores", "scores", "boxes", "tags")
    return len(first) == len(second) and all(
        np.allclose(getattr(first, n), getattr(second, n), atol=1e-4, equal_nan=True) for n in names
    )


@pytest.mark.parametrize("options", [(), ("TEST.FLIP", "False"), ("TEST.SCALES", "[1, 0.5]"), ("TEST.COMPAT", "clean")])
def test_the_poses_are_those_of_a_test_of_the_data_set(weights, tiny_crowd, options):
    result = evaluate(eval_job(weights, *ALL, *options), CPU)
    predictor = Predictor.from_pretrained(weights, (*ALL, *options))
    records = load_records(predictor.schema, "test", str(tiny_crowd))
    listed = predictor([record.path for record in records])
    for record, poses in zip(records, listed, strict=True):
        expected = sorted(result.poses[record.image_id], key=lambda pose: -pose.score)
        entries = [entry for entry in result.results if entry["image_id"] == record.image_id]
        entries.sort(key=lambda entry: -entry["score"])
        assert len(expected) > 0
        assert poses.to_coco(record.image_id, entries[0]["category_id"]) == entries
        assert np.array_equal(poses.tags, [pose.tag for pose in expected])
        assert poses.image_size == (record.width, record.height)
        # the sums of another batch size are rounded in another order
        assert same(predictor(record.path), poses)


def test_images_of_every_kind_give_the_same_poses(predictor, images):
    pixels = cv2.imread(str(images[0]))
    rgb = np.ascontiguousarray(pixels[..., ::-1])
    chw = torch.from_numpy(rgb).permute(2, 0, 1)
    expected = predictor(pixels)
    assert len(expected) > 0
    for image in (str(images[0]), Image.fromarray(rgb), chw, chw / 255):
        assert same(predictor(image), expected), type(image)
    assert same(predictor(rgb, channels="rgb"), expected)
    assert not same(predictor(rgb), expected)


def test_a_list_gives_a_list_in_order_whatever_the_shapes(predictor, images):
    wide = np.zeros((60, 200, 3), np.uint8)
    mixed = [images[0], wide, cv2.imread(str(images[1])), wide, images[2]]
    found = predictor(mixed)
    assert [poses.source for poses in found] == [str(images[0]), "image", "image", "image", str(images[2])]
    assert all(same(poses, predictor(image)) for poses, image in zip(found, mixed, strict=True))
    assert predictor([]) == []


def test_every_stage_has_a_time(predictor, images):
    assert set(predictor(images[0]).time) == {"load", "network", "decode"}
    assert all(seconds > 0 for poses in predictor(images[:3]) for seconds in poses.time.values())


def test_people_below_a_score_are_left_out(weights, predictor, images):
    found = predictor(images[0])
    limit = float(np.median(found.scores))
    chosen = Predictor.from_pretrained(weights, heatmap_threshold=0.0, min_score=limit)(images[0])
    assert chosen.scores.tolist() == [score for score in found.scores if score >= limit]
    assert 0 < len(chosen) < len(found)


def test_a_joint_is_found_where_the_heatmap_exceeds_the_threshold_of_peaks(weights, images):
    scores = Predictor.from_pretrained(weights, heatmap_threshold=0.0)(images[0]).keypoint_scores
    limit = float(np.quantile(scores[scores > 0], 0.8))
    poses = Predictor.from_pretrained(weights, heatmap_threshold=limit)(images[0])
    found = ~np.isnan(poses.xy[..., 0])
    assert found.any(axis=1).all()
    assert not found.all()
    assert poses.keypoint_scores[found].min() > limit
    assert (poses.decoded[..., 2][~found] <= limit).all()


def test_arguments_are_the_options_of_the_config(weights):
    chosen = Predictor.from_pretrained(
        weights,
        ("TEST.FLIP", "True", "TEST.REFINE", "none"),
        flip=False,
        scales=(1, 2),
        size=128,
        heatmap_threshold=0.3,
        tag_threshold=0.7,
        precision="bf16",
        batch=3,
    )
    options = chosen.pipeline.options
    assert (options.flip, options.scales, options.precision) == (False, (1.0, 2.0), "bf16")
    assert (options.decode.peaks.threshold, options.decode.tag_threshold) == (0.3, 0.7)
    assert (options.decode.refine, chosen.input_size, chosen.batch) == ("none", 128, 3)
    with pytest.raises(ConfigError, match=r"TEST\.SCALES"):
        Predictor.from_pretrained(weights, scales=[0.3])


def test_a_model_is_found_by_its_name_and_a_run_by_its_folder(weights, images, tmp_path, monkeypatch):
    monkeypatch.setattr(model_file, "FOLDER", tmp_path / "models")
    save_model(tmp_path / "models/mine.safetensors", load_model(weights), half=False)
    run = tmp_path / "run"
    run.mkdir()
    (run / "best.pth").write_bytes(weights.read_bytes())
    named, of_run = (Predictor.from_pretrained(source, ALL) for source in ("mine", run))
    assert same(named(images[0]), of_run(images[0]))
    with pytest.raises(CheckpointError, match=r"yours: no such file .*there are mine"):
        Predictor.from_pretrained("yours")


def test_several_threads_get_the_poses_of_one(predictor, images):
    expected = [predictor(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(predictor, images * 3))
    assert all(same(poses, expected[number % len(images)]) for number, poses in enumerate(found))


def test_a_large_image_is_shrunk_to_the_same_input(predictor, images):
    small = cv2.imread(str(images[0]))
    large = cv2.resize(small, None, fx=20, fy=20, interpolation=cv2.INTER_NEAREST)
    shapes = []
    forward = predictor.pipeline.forward
    predictor.pipeline.forward = lambda inputs, size: shapes.append([i.shape for i in inputs]) or forward(inputs, size)
    assert predictor(small).image_size == (96, 96)
    assert predictor(large).image_size == (1920, 1920)
    assert shapes[0] == shapes[1]


# ---- streams


def test_a_stream_reads_folders_and_globs_in_order(predictor, images):
    expected = predictor(images)
    for source in (images[0].parent, f"{images[0].parent}/*.jpg", images):
        found = list(predictor.stream(source))
        assert [poses.source for poses in found] == [str(image) for image in images]
        assert all(same(a, b) for a, b in zip(found, expected, strict=True))


def test_a_video_gives_poses_of_every_frame(predictor, images, write_video):
    frames = [cv2.imread(str(image)) for image in images[:7]]
    path = write_video("clip.mp4", frames)
    found = list(predictor.stream(path, keep_frames=True))
    assert [(poses.frame, poses.source) for poses in found] == [(number, str(path)) for number in range(7)]
    for poses in found:
        assert same(poses, predictor(poses.pixels))
        assert poses.draw().shape == (96, 96, 3)
    assert all(poses.pixels is None for poses in predictor.stream(str(path)))


def test_a_stream_reads_no_more_than_a_few_images_ahead(predictor, images, monkeypatch):
    read = []
    monkeypatch.setattr(predictor_module, "to_bgr", lambda image, _: read.append(0) or np.zeros((64, 64, 3), np.uint8))
    predictor.batch, predictor.pipeline.threads = 2, 1
    for number, _ in enumerate(predictor.stream([images[0]] * 40)):
        assert len(read) - number <= 12
    assert len(read) == 40


@pytest.mark.bad_input
def test_what_cannot_be_read_raises_or_is_left_out(predictor, images, tmp_path):
    (tmp_path / "bad.jpg").write_text("no image")
    (tmp_path / "bad.mp4").write_text("no video")
    source = [images[0], tmp_path / "bad.jpg", tmp_path / "bad.mp4", np.zeros((100, 4000, 3), np.uint8), images[1]]
    with pytest.raises(DatasetError, match=r"bad\.jpg"):
        list(predictor.stream(source))
    errors: list[DatasetError] = []
    found = list(predictor.stream(source, on_error=errors.append))
    assert [poses.source for poses in found] == [str(images[0]), str(images[1])]
    assert ["bad.jpg" in str(errors[0]), "bad.mp4" in str(errors[1]), "times as long" in str(errors[2])] == [True] * 3


class CountingTracker:
    """Gives every person of every frame another id."""

    def __init__(self) -> None:
        self.next, self.seen = 0, []

    def update(self, keypoints, scores, boxes, tags):
        self.seen.append((keypoints, scores, boxes, tags))
        self.next += len(scores)
        return np.arange(self.next - len(scores), self.next)


def test_a_tracker_gets_each_frame_and_gives_the_ids(predictor, images, write_video):
    path = write_video("clip.mp4", [cv2.imread(str(image)) for image in images[:3]])
    tracker = CountingTracker()
    found = list(predictor.stream(path, tracker=tracker))
    assert [number for poses in found for number in poses.ids] == list(range(tracker.next))
    for poses, (keypoints, scores, boxes, tags) in zip(found, tracker.seen, strict=True):
        assert np.isfinite(keypoints).all()
        assert np.array_equal(keypoints[..., 2], poses.keypoint_scores)
        assert np.array_equal(scores, poses.scores)
        assert np.array_equal(boxes, poses.boxes)
        assert np.array_equal(tags, poses.tags)


# ---- what the network outputs


def test_maps_are_drawn_on_the_image(predictor, images):
    image = cv2.imread(str(images[0]))
    for drawn in predictor.maps(image):
        assert drawn.shape == image.shape
        assert drawn.std() > 0


@pytest.mark.parametrize("size", [(120, 90), (90, 120), (400, 130)])
def test_maps_lie_where_the_network_saw_them(predictor, size, monkeypatch):
    """A peak of a network that finds one joint at a known place of the input is drawn at that place of the image."""
    image = np.full((size[1], size[0], 3), 60, np.uint8)
    geometry = resize_geometry(size, predictor.input_size)
    width, height = (side // 4 for side in geometry.base_size)
    heatmaps, tags = torch.zeros(1, 14, height, width), torch.zeros(1, 14, height, width, 4)
    row, column = height // 3, width // 2
    heatmaps[0, 5, row - 1 : row + 2, column - 1 : column + 2] = 1.0
    monkeypatch.setattr(predictor.pipeline, "forward", lambda *_: MergedMaps(heatmaps, tags))
    expected = apply_affine(geometry.to_image(), np.array([[4 * column + 1.5, 4 * row + 1.5]]))[0]
    for drawn in predictor.maps(image):
        change = np.abs(drawn.astype(float) - drawn[0, 0]).sum(axis=2)
        rows, columns = np.nonzero(change > 0.5 * change.max())
        assert [columns.mean(), rows.mean()] == pytest.approx(expected, abs=2.5)


def test_a_first_call_that_compiles_says_so(predictor, images, monkeypatch, caplog):
    with caplog.at_level(logging.WARNING):
        predictor(images[0])
        assert not caplog.records
        monkeypatch.setattr(predictor_module, "is_compiled", lambda: False)
        predictor(images[0])
    assert "compiling the decode for this machine, once" in caplog.text


def test_people_are_drawn_in_the_colors_of_their_ids(predictor, images):
    image = np.full((96, 96, 3), 128, np.uint8)
    poses = predictor(images[0])[:2]
    sure = replace(poses, keypoint_scores=np.where(np.isnan(poses.xy[..., 0]), 0.0, 0.9))
    drawn = [sure.with_ids(ids).draw(image, min_score=0.0) for ids in ([0, 1], [0, 1], [5, 6])]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
