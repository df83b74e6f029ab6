"""Names that nothing has yet, and videos that appear whole, with the sound of their source."""

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from coupled_embedding.commands.outputs import OutputFolder, VideoFile
from coupled_embedding.data.sources import Video


@pytest.fixture
def ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """ffmpeg on the PATH."""
    program = imageio_ffmpeg.get_ffmpeg_exe()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ffmpeg").symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return program


def write(path: Path, source: Path | None = None, size: tuple[int, int] = (96, 64)) -> VideoFile:
    with VideoFile(path, 12, source) as video:
        for gray in (10, 120, 240):
            video.write(np.full((size[1], size[0], 3), gray, np.uint8))
            assert not path.exists()
    return video


def streams(program: str, path: Path) -> str:
    return subprocess.run([program, "-i", str(path)], capture_output=True, text=True, check=False).stderr


def means(path: Path) -> list[float]:
    return [float(frame.mean()) for frame in Video.open(path).frames()]


def test_inputs_of_one_name_get_numbers_and_no_file_is_overwritten(tmp_path):
    (tmp_path / "b.predictions.json").touch()
    outputs = OutputFolder(tmp_path)
    names = ["x/a.jpg", "y/a.png", "A.mp4", "b.jpg", "c.d.jpg", "camera 0"]
    assert [outputs.stem(name).name for name in names] == ["a", "a_2", "A_3", "b_2", "c.d", "camera_0"]


def test_a_video_is_written_without_ffmpeg(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    video = write(tmp_path / "new/clip.mp4")
    assert means(tmp_path / "new/clip.mp4") == pytest.approx([10, 120, 240], abs=4)
    assert Video.open(tmp_path / "new/clip.mp4").rate == 12
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["clip.mp4"]
    assert video.note == ""


def test_with_ffmpeg_browsers_can_show_it_and_the_sound_is_kept(tmp_path, ffmpeg, write_video):
    silent = write_video("silent.mp4", [0] * 6, rate=12)
    sound = tmp_path / "sound.mp4"
    command = [ffmpeg, "-v", "error", "-i", str(silent), "-f", "lavfi", "-i", "sine", "-t", "0.5", str(sound)]
    subprocess.run(command, check=True)
    # of odd sides, which H.264 has not
    write(tmp_path / "loud.mp4", sound, (95, 63))
    assert "Video: h264" in streams(ffmpeg, tmp_path / "loud.mp4")
    assert "Audio: aac" in streams(ffmpeg, tmp_path / "loud.mp4")
    assert means(tmp_path / "loud.mp4") == pytest.approx([10, 120, 240], abs=4)
    write(tmp_path / "quiet.mp4", silent)
    assert "Audio" not in streams(ffmpeg, tmp_path / "quiet.mp4")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_failing_ffmpeg_leaves_the_video_and_a_note(tmp_path, monkeypatch):
    program = tmp_path / "bin/ffmpeg"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho no such codec >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/bin:/usr/bin")
    video = write(tmp_path / "clip.mp4")
    assert "without sound; ffmpeg failed: no such codec" in video.note
    assert len(means(tmp_path / "clip.mp4")) == 3


def test_a_video_without_frames_leaves_no_file(tmp_path):
    with VideoFile(tmp_path / "clip.mp4", 10):
        pass
    assert not list(tmp_path.iterdir())


def test_an_error_leaves_no_part_of_a_video(tmp_path):
    def fail() -> None:
        with VideoFile(tmp_path / "clip.mp4", 10) as video:
            video.write(np.zeros((64, 96, 3), np.uint8))
            raise ValueError("late")

    with pytest.raises(ValueError, match="late"):
        fail()
    assert not list(tmp_path.iterdir())
