"""Videos of heatmaps and tags: colors that stay, frames in order, few of them in memory."""

from itertools import pairwise

import numpy as np
import pytest

from coupled_embedding.commands import field_videos
from coupled_embedding.commands.field_videos import FITTED_FRAMES, FieldVideos
from coupled_embedding.data.geometry import resize_geometry
from coupled_embedding.decode.fields import NetworkFields
from coupled_embedding.visualize import TagColors, draw_tags

SIDE = 64
PLACES = {"left": (slice(20, 44), slice(4, 28)), "right": (slice(20, 44), slice(36, 60))}


def fields(number: int = 0, **people: float) -> NetworkFields:
    """A frame, gray by its number, with people whose tags have four values near a number."""
    heatmaps, tags = np.zeros((2, SIDE, SIDE), np.float32), np.zeros((2, SIDE, SIDE, 4), np.float32)
    for place, tag in people.items():
        heatmaps[0][PLACES[place]] = 1
        tags[0][PLACES[place]] = tag * np.array([1, -0.5, 0.25, 0])
    base = np.full((SIDE, SIDE, 3), number, np.uint8)
    return NetworkFields(base, heatmaps, tags, resize_geometry((SIDE, SIDE), SIDE), (SIDE, SIDE))


class Recorder:
    """A video file that keeps its frames."""

    def __init__(self, path, rate, source=None):
        self.path, self.frames, self.error, self.note = path, [], None, ""

    def __enter__(self):
        return self

    def write(self, frame):
        self.frames.append(frame)

    def __exit__(self, kind, error, trace):
        self.error = error


@pytest.fixture
def record(tmp_path, monkeypatch):
    """record(frames): write the tags of frames; return (frames of the video, most frames held)."""
    monkeypatch.setattr(field_videos, "VideoFile", Recorder)

    def run(frames, **wanted):
        videos, held = FieldVideos(tmp_path / "clip", 5, heatmaps=False, tags=True), 0
        with videos:
            for number, one in enumerate(frames, 1):
                videos.write(one)
                held = max(held, number - len(videos._tags.frames))
        return videos._tags.frames, held

    return run


def color(frame: np.ndarray, place: str) -> np.ndarray:
    return frame[PLACES[place]][8:-8, 8:-8].reshape(-1, 3).mean(0)


def test_a_person_keeps_their_color_when_others_come_and_go(record):
    scenes = [{"left": 0.0, "right": 5.0}] * 12 + [{"left": 0.0}] * 6 + [{"left": 0.0, "right": 20.0}] * 6
    frames, _ = record([fields(**scene) for scene in scenes])
    shades = [color(frame, "left") for frame in frames]
    assert all(np.abs(a - b).max() < 1 for a, b in pairwise(shades))
    assert np.abs(shades[0] - color(frames[0], "right")).max() > 60
    # drawn alone, each frame has colors of its own
    alone = [color(fields(**scene).draw_tags(), "left") for scene in (scenes[0], scenes[-8])]
    assert np.abs(alone[0] - alone[1]).max() > 20


def test_frames_come_in_order_and_few_wait(record):
    people = {"left": 0.0, "right": 5.0}
    numbers = range(10, 50)
    frames, held = record([fields(number, **(people if number >= 20 else {})) for number in numbers])
    corners = [int(frame[0, 0, 0]) for frame in frames]
    assert corners == sorted(corners)
    assert len(set(corners)) > 15  # grays are darkened
    assert (len(frames), held) == (len(numbers), FITTED_FRAMES - 1)


def test_colors_are_fitted_from_the_first_frame_that_shows_somebody(record):
    people = {"left": 0.0, "right": 5.0}
    late, _ = record([fields()] * 12 + [fields(**people)] * 10)
    early, _ = record([fields(**people)] * 10)
    assert np.array_equal(late[-1], early[-1])


@pytest.mark.parametrize("count", [0, 1, FITTED_FRAMES - 1, FITTED_FRAMES])
def test_short_videos_are_whole(record, count):
    frames, _ = record([fields(left=0.0, right=5.0)] * count)
    assert len(frames) == count


def test_an_error_leaves_no_file(tmp_path):
    def write_and_fail() -> None:
        with FieldVideos(tmp_path / "clip", 5, heatmaps=True, tags=True) as videos:
            for _ in range(12):
                videos.write(fields(left=0.0, right=5.0))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    assert list(tmp_path.iterdir()) == []


def test_kept_colors_of_one_image_are_those_that_it_gets_alone():
    one = fields(30, left=1.0, right=4.0)
    heatmaps, tags = one.heatmaps_at_tags(), one.tags
    kept = draw_tags(one.base, heatmaps, tags, TagColors.fit([(heatmaps, tags)]))
    assert np.array_equal(kept, draw_tags(one.base, heatmaps, tags))


def test_an_image_counts_as_often_as_it_is_given():
    first, second = (fields(left=tag) for tag in (1.0, 9.0))
    pairs = [(one.heatmaps_at_tags(), one.tags) for one in (first, second)]
    assert TagColors.fit(pairs).mean[0] == pytest.approx(5, abs=1e-4)
    assert TagColors.fit([*pairs, pairs[0], pairs[0]]).mean[0] == pytest.approx(3, abs=1e-4)
