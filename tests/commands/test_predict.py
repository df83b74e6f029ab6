"""The verb predict, in this process: its files, their names, what it prints, and its errors."""

import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from runs import untrained_checkpoint

from coupled_embedding.cli import VERBS
from coupled_embedding.cli import main as cli
from coupled_embedding.data.sources import Video
from coupled_embedding.predictor import Predictor

ALL = ["--min-score", "0", "--options", "TEST.HEATMAP_THRESHOLD", "0"]


@pytest.fixture
def weights(tiny, tmp_path: Path) -> Path:
    return untrained_checkpoint(tiny("untrained"), tmp_path / "untrained.pth")


@pytest.fixture
def images(tiny_crowd: Path) -> list[Path]:
    return sorted((tiny_crowd / "images").iterdir())


@pytest.fixture
def predict(weights, tmp_path, monkeypatch, call_verb):
    """predict(argument, ...): run the verb in tmp_path; return what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path, code: int = 0) -> str:
        return call_verb("predict", *arguments, "--model", weights, "--device", "cpu", code=code)

    return run


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_images_leave_overlays_and_json(predict, weights, images, tmp_path):
    printed = predict(images[0], images[1], *ALL)
    out = tmp_path / "outputs/predict"
    stems = [image.stem for image in images[:2]]
    assert listed(out) == sorted(f"{stem}{ending}" for stem in stems for ending in (".jpg", ".predictions.json"))
    expected = Predictor.from_pretrained(weights, heatmap_threshold=0.0)(images[0])
    content = json.loads((out / f"{stems[0]}.predictions.json").read_text())
    assert content["predictions"] == expected.to_dict()["predictions"]
    assert cv2.imread(str(out / f"{stems[0]}.jpg")).shape == (96, 96, 3)
    people = sum(len(json.loads(path.read_text())["predictions"]) for path in out.glob("*.json"))
    line = rf"outputs/predict: 2 images \(NAME\.jpg, NAME\.predictions\.json\); {people} people; [\d.e+]+ images/s$"
    assert re.search(line, printed, re.MULTILINE)


def test_a_second_run_overwrites_nothing(predict, images, tmp_path):
    for _ in range(2):
        predict(images[0], "--out", "out", "--json-only")
    assert listed(tmp_path / "out") == [f"{images[0].stem}.predictions.json", f"{images[0].stem}_2.predictions.json"]


def test_options_reach_the_predictor_and_weak_people_are_left_out(predict, weights, images, tmp_path):
    given = ["--size", "128", "--scales", "1", "2", "--no-flip"]
    expected = Predictor.from_pretrained(weights, heatmap_threshold=0.0, size=128, scales=(1, 2), flip=False)(images[0])
    limit = float(np.median(expected.scores))
    options = ["--min-score", str(limit), "--json-only", "--options", "TEST.HEATMAP_THRESHOLD", "0"]
    predict(images[0], "--out", "out", *given, *options)
    content = json.loads((tmp_path / f"out/{images[0].stem}.predictions.json").read_text())
    assert content["predictions"] == expected.filtered(limit).to_dict()["predictions"]
    predict(images[0], "--out", "likely", "--json-only", "--options", "TEST.HEATMAP_THRESHOLD", "0")
    (file,) = (tmp_path / "likely").iterdir()
    assert json.loads(file.read_text())["predictions"] == []


def test_heatmaps_and_tags_are_drawn_when_asked_for(predict, images, tmp_path):
    predict(images[0], "--out", "out", "--heatmaps", "--tags", "--json-only")
    stem = images[0].stem
    assert listed(tmp_path / "out") == [f"{stem}.heatmaps.jpg", f"{stem}.predictions.json", f"{stem}.tags.jpg"]
    assert cv2.imread(str(tmp_path / f"out/{stem}.tags.jpg")).shape == (96, 96, 3)


def test_a_video_leaves_a_line_a_frame_and_a_video(predict, images, write_video, tmp_path):
    path = write_video("clip.mp4", [cv2.imread(str(image)) for image in images[:5]], rate=5)
    printed = predict(path, "--out", "out", *ALL)
    assert listed(tmp_path / "out") == ["clip.mp4", "clip.predictions.jsonl"]
    lines = [json.loads(line) for line in (tmp_path / "out/clip.predictions.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == [0, 1, 2, 3, 4]
    assert [line["seconds"] for line in lines] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert all(line["predictions"] for line in lines)
    video = Video.open(tmp_path / "out/clip.mp4")
    assert video.rate == 5
    assert len(list(video.frames())) == 5
    assert "1 video of 5 frames (NAME.mp4, NAME.predictions.jsonl)" in printed


def test_heatmaps_and_tags_of_a_video_are_videos(predict, images, write_video, tmp_path):
    path = write_video("clip.mp4", [cv2.imread(str(image)) for image in images[:5]], rate=5)
    printed = predict(path, "--out", "out", "--heatmaps", "--tags", "--json-only", *ALL)
    assert listed(tmp_path / "out") == ["clip.heatmaps.mp4", "clip.predictions.jsonl", "clip.tags.mp4"]
    for name in ("clip.heatmaps.mp4", "clip.tags.mp4"):
        video = Video.open(tmp_path / "out" / name)
        frames = list(video.frames())
        assert (video.rate, len(frames), frames[0].shape) == (5, 5, (96, 96, 3))
    assert "1 video of 5 frames (NAME.predictions.jsonl, NAME.heatmaps.mp4, NAME.tags.mp4)" in printed
    predict(path, "--out", "out", "--tags", "--json-only", *ALL)
    assert "clip_2.tags.mp4" in listed(tmp_path / "out")


class EvenIds:
    """A tracker that counts in twos, over one video each."""

    def __init__(self, sigmas) -> None:
        self.next = 0

    def update(self, keypoints, scores, boxes, tags):
        ids = self.next + 2 * np.arange(len(scores))
        self.next += 2 * len(scores)
        return ids


def test_people_get_ids_of_a_tracker_of_each_video(predict, images, write_video, tmp_path, monkeypatch):
    monkeypatch.setattr("coupled_embedding.commands.predict.Tracker", EvenIds)
    paths = [write_video(f"{name}.mp4", [cv2.imread(str(image)) for image in images[:2]]) for name in "ab"]
    predict(*paths, "--out", "out", "--track", "--json-only", *ALL)
    for name in "ab":
        lines = (tmp_path / f"out/{name}.predictions.jsonl").read_text().splitlines()
        ids = [person["id"] for line in lines for person in json.loads(line)["predictions"]]
        assert ids == list(range(0, 2 * len(ids), 2))


class Camera:
    """A camera that the user stops with Ctrl-C after three frames."""

    def __init__(self, frames: list[np.ndarray]) -> None:
        self.frames, self.released = list(frames), False

    def read(self) -> tuple[bool, np.ndarray]:
        if not self.frames:
            raise KeyboardInterrupt
        return True, self.frames.pop(0)

    def release(self) -> None:
        self.released = True


def test_a_camera_is_read_until_it_is_stopped(predict, images, tmp_path, monkeypatch):
    camera = Camera([cv2.imread(str(image)) for image in images[:3]])
    monkeypatch.setattr(Video, "open", lambda source: Video(f"camera {source}", 25.0, 0, camera, is_live=True))
    printed = predict("0", "--out", "out", *ALL)
    assert listed(tmp_path / "out") == ["camera_0.mp4", "camera_0.predictions.jsonl"]
    assert len((tmp_path / "out/camera_0.predictions.jsonl").read_text().splitlines()) == 3
    assert len(list(Video("", 25, 0, cv2.VideoCapture(str(tmp_path / "out/camera_0.mp4"))).frames())) == 3
    assert camera.released
    assert "1 video of 3 frames" in printed


# ---- errors


@pytest.mark.bad_input
def test_images_that_cannot_be_read_are_left_out_with_a_warning(predict, images, tmp_path):
    (tmp_path / "bad.jpg").write_text("no image")
    printed = predict(tmp_path / "bad.jpg", images[0], "--out", "out", "--json-only")
    assert "warning: " in printed
    assert "bad.jpg: not an image that OpenCV can read" in printed
    assert listed(tmp_path / "out") == [f"{images[0].stem}.predictions.json"]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["gone.jpg"], "gone.jpg: cannot read this image (No such file or directory)"),
        (["gone.mp4"], "gone.mp4: no such video"),
        (["folder"], "folder: no images in it"),
        (["*.png"], "*.png: no images in it"),
        (["a.jpg", "--size", "3"], "DATASET.INPUT_SIZE"),
        (["a.jpg", "--scales", "0.1"], "TEST.SCALES"),
    ],
)
def test_mistakes_are_reported_in_a_line(predict, tmp_path, arguments, error):
    (tmp_path / "folder").mkdir()
    printed = predict(*arguments, code=2)
    assert printed.count("error: ") == 1
    assert error in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "outputs").exists()


# ---- the console script


def run_cli(monkeypatch, capsys, *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["coupled-embedding", *arguments])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as caught:
        cli()
    printed = capsys.readouterr()
    return int(caught.value.code or 0), printed.out + printed.err


@pytest.mark.parametrize("verb", ["predict", "train", "test", "diagnose", "browse", "convert", "convert-dataset"])
def test_each_verb_is_the_command_of_its_name(verb, monkeypatch, capsys):
    code, printed = run_cli(monkeypatch, capsys, verb, "--help")
    assert code == 0
    assert f"usage: {verb.replace('-', '_')}.py" in printed


def test_without_a_verb_or_with_another_they_are_listed(monkeypatch, capsys):
    code, printed = run_cli(monkeypatch, capsys)
    assert code == 2
    code, listed = run_cli(monkeypatch, capsys, "--help")
    assert code == 0
    assert printed == listed
    assert VERBS["predict"] in listed
    code, printed = run_cli(monkeypatch, capsys, "predit")
    assert code == 2
    assert printed.startswith("error: no verb 'predit'\nusage: coupled-embedding VERB")
