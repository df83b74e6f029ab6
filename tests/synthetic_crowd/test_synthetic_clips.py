"""Clips: identities that last, motion without jumps, people who cross, leave and come back; files that read back."""

import importlib.util
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from coupled_embedding.utils.errors import DatasetError
from synthetic_crowd import CrowdSettings, clip_writer, render_clip, write_clips
from synthetic_crowd.writer import split_seed

SMALL = CrowdSettings(width=96, height=72, min_people=3, max_people=6)
NECK, HIPS = 13, [6, 7]


@pytest.fixture(scope="module")
def clips():
    """Four clips of five seconds."""
    return [list(render_clip(SMALL, 3, index, 60)) for index in range(4)]


def tracks(clip):
    """{id: {frame: keypoints (14, 3)}}."""
    found = {}
    for number, frame in enumerate(clip):
        for person, keypoints in zip(frame.ids.tolist(), frame.scene.keypoints, strict=True):
            found.setdefault(person, {})[number] = keypoints
    return found


def test_same_arguments_same_clip_whatever_came_before(clips):
    again = list(render_clip(SMALL, 3, 1, 60))
    for before, after in zip(clips[1], again, strict=True):
        np.testing.assert_array_equal(before.scene.image, after.scene.image)
        np.testing.assert_array_equal(before.scene.keypoints, after.scene.keypoints)
        np.testing.assert_array_equal(before.ids, after.ids)
    other = next(render_clip(SMALL, 4, 1, 60)).scene.image
    assert (other != again[0].scene.image).any()


def test_every_frame_is_a_scene_of_the_settings(clips):
    for clip in clips:
        assert len(clip) == 60
        for frame in clip:
            scene, ids = frame.scene, frame.ids
            assert scene.image.shape == (72, 96, 3)
            assert scene.image.dtype == np.uint8
            assert len(ids) == len(scene.keypoints) == len(scene.boxes) == len(scene.areas)
            assert len(set(ids.tolist())) == len(ids)
            assert set(ids.tolist()) <= set(range(1, 7))
            for number, area in enumerate(scene.areas):
                assert (scene.person_map == number + 1).sum() == area
            assert scene.person_map.max(initial=0) == len(ids)
            assert ((scene.keypoints[..., 2] == 2).sum(1) >= 3).all()


def test_the_camera_stands_still_and_people_move(clips):
    for clip in clips:
        first, last = clip[0].scene, clip[-1].scene
        both_empty = (first.person_map == 0) & (last.person_map == 0)
        difference = np.abs(first.image.astype(int) - last.image).max(-1)
        # shadows and half-covered pixels aside, the place is the same
        assert (difference[both_empty] < 8).mean() > 0.5
        assert (difference > 20).any()


def test_people_move_without_jumps(clips):
    for clip in clips:
        for track in tracks(clip).values():
            for frame in track.keys() & {number + 1 for number in track}:
                now, before = track[frame], track[frame - 1]
                shared = (now[:, 2] > 0) & (before[:, 2] > 0)
                steps = np.linalg.norm(now[shared, :2] - before[shared, :2], axis=1)
                # a twelfth of a second; no person fills more than three quarters of the height by much
                assert (steps < 0.2 * 72).all()


def test_people_keep_their_bodies(clips):
    """Neck to hips, in the image, changes slowly: a label never moves on to another person."""
    for clip in clips:
        for track in tracks(clip).values():
            trunks = {
                number: np.linalg.norm(points[NECK, :2] - points[HIPS, :2].mean(0))
                for number, points in track.items()
                if (points[[NECK, *HIPS], 2] > 0).all()
            }
            for number in trunks.keys() & {other + 1 for other in trunks}:
                assert trunks[number] == pytest.approx(trunks[number - 1], abs=2.5, rel=0.15)


def test_people_enter_leave_come_back_and_cross(clips):
    enter, leave, back, cross = 0, 0, 0, 0
    for clip in clips:
        found = tracks(clip)
        for track in found.values():
            enter += min(track) > 5
            leave += max(track) < 54
            seen = sorted(track)
            back += max(np.diff(seen), default=1) > 5
        for first in found:
            for second in found:
                shared = sorted(found[first].keys() & found[second].keys())
                order = [np.sign(found[first][n][NECK, 0] - found[second][n][NECK, 0]) for n in shared]
                cross += first < second and {-1.0, 1.0} <= set(order)
    assert min(enter, leave, back, cross) > 0, (enter, leave, back, cross)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((SMALL, -1, 0, 5), "seed and index are -1 and 0"),
        ((SMALL, 0, -1, 5), "seed and index"),
        ((SMALL, 0, 0, 1), "frames is 1"),
        ((SMALL, 0, 0, 5, 0.0), "fps is 0.0"),
        ((SMALL, 0, 0, 5, float("nan")), "fps is nan"),
    ],
)
def test_wrong_arguments_are_named(arguments, text):
    with pytest.raises(ValueError, match=text):
        next(render_clip(*arguments))


# -------------------------------------------------------------------------------------------------------- files


def test_written_clips_read_back_with_pycocotools(tmp_path):
    path = write_clips(tmp_path, "val", SMALL, 3, 2, frames=4, fps=10.0)
    assert path == tmp_path / "json" / "clips_val.json"
    coco = COCO(str(path))
    assert coco.dataset["videos"] == [{"id": n, "name": f"val/{n:04d}", "fps": 10.0, "length": 4} for n in range(2)]
    images = coco.loadImgs(sorted(coco.getImgIds()))
    assert [(image["video_id"], image["frame_id"]) for image in images] == [(v, f) for v in (0, 1) for f in range(4)]
    frames = [frame for index in (0, 1) for frame in render_clip(SMALL, split_seed("val", 3), index, 4, 10.0)]
    for image, frame in zip(images, frames, strict=True):
        pixels = cv2.imread(str(tmp_path / "clips" / image["file_name"]))
        assert pixels.shape == (image["height"], image["width"], 3)
        assert np.abs(pixels.astype(float) - frame.scene.image).mean() < 8
        people = coco.loadAnns(sorted(coco.getAnnIds(imgIds=image["id"])))
        assert [p["track_id"] for p in people] == (image["video_id"] * 100 + frame.ids).tolist()
        for number, person in enumerate(people):
            np.testing.assert_allclose(
                np.reshape(person["keypoints"], (14, 3)), frame.scene.keypoints[number], atol=0.006
            )
            np.testing.assert_array_equal(coco.annToMask(person), frame.scene.person_map == number + 1)
    assert len({p["id"] for p in coco.dataset["annotations"]}) == len(coco.dataset["annotations"])


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_workers_write_the_same_files(tmp_path):
    write_clips(tmp_path / "alone", "val", SMALL, 1, 2, frames=2)
    write_clips(tmp_path / "helped", "val", SMALL, 1, 2, frames=2, workers=2)
    assert files(tmp_path / "alone") == files(tmp_path / "helped")


def test_splits_lie_beside_each_other(tmp_path):
    for split in ("val", "test"):
        write_clips(tmp_path, split, SMALL, 1, 1, frames=2)
    ids = [json.loads((tmp_path / "json" / f"clips_{s}.json").read_text())["images"][0]["id"] for s in ("val", "test")]
    assert ids[0] != ids[1]
    frames = [(tmp_path / "clips" / s / "0000" / "000000.jpg").read_bytes() for s in ("val", "test")]
    assert frames[0] != frames[1]


def test_same_clips_are_rendered_once_and_others_not_overwritten(tmp_path, monkeypatch):
    path = write_clips(tmp_path, "val", SMALL, 1, 1, frames=2)
    before = files(tmp_path)
    monkeypatch.setattr(clip_writer, "render_clip", lambda *_: pytest.fail("rendered again"))
    assert write_clips(tmp_path, "val", SMALL, 1, 1, frames=2) == path
    with pytest.raises(DatasetError, match=r"another dataset .*frames"):
        write_clips(tmp_path, "val", SMALL, 1, 1, frames=3)
    with pytest.raises(DatasetError, match=r"another dataset .*fps"):
        write_clips(tmp_path, "val", SMALL, 1, 1, frames=2, fps=5.0)
    assert files(tmp_path) == before
    path.unlink()
    with pytest.raises(DatasetError, match=r"clips/val exists but .*clips_val\.json does not"):
        write_clips(tmp_path, "val", SMALL, 1, 1, frames=2)


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(settings, seed, index, frames, fps):
        yield from render_clip(settings, seed, index, frames, fps)
        raise KeyboardInterrupt

    monkeypatch.setattr(clip_writer, "render_clip", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_clips(tmp_path, "val", SMALL, 0, 2, frames=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("../x", SMALL, 0, 1), "split is"),
        (("val", SMALL, 0, 0), "count is 0"),
        (("val", SMALL, 0, 1, 1), "frames is 1"),
        (("val", SMALL, 0, 1, 5, 0.0), "fps is 0.0"),
        (("val", SMALL, 0, 50_000, 100), "count × frames is 5000000"),
        (("val", SMALL, 0, 1, 5, 12.0, -1), "workers is -1"),
    ],
)
def test_invalid_arguments_are_named_and_nothing_is_written(tmp_path, arguments, text):
    with pytest.raises(ValueError, match=text):
        write_clips(tmp_path / "new", *arguments)
    assert not (tmp_path / "new").exists()


@pytest.fixture
def command(monkeypatch, capsys):
    path = Path(__file__).parents[2] / "tools" / "make_clips.py"
    spec = importlib.util.spec_from_file_location("make_clips", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["make_clips.py", *map(str, arguments)])
        module.main()
        return capsys.readouterr().out

    return run


def test_command_writes_clips(tmp_path, command):
    said = command("--out", tmp_path, "--split", "demo", "--count", 1, "--frames", 3, "--size", "64x48", "--seed", 5)
    assert str(tmp_path / "json" / "clips_demo.json") in said
    assert [path.name for path in sorted((tmp_path / "clips/demo/0000").iterdir())] == [
        f"{n:06d}.jpg" for n in range(3)
    ]
    info = json.loads((tmp_path / "json" / "clips_demo.json").read_text())["info"]
    assert (info["seed"], info["settings"]["width"], info["settings"]["max_people"]) == (5, 64, 8)


def test_command_explains_bad_values(tmp_path, command):
    with pytest.raises(ValueError, match="--size is 'big'"):
        command("--out", tmp_path / "new", "--size", "big")
    with pytest.raises(ValueError, match="frames is 0"):
        command("--out", tmp_path / "new", "--frames", 0)
