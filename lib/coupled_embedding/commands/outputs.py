"""The files that `predict` leaves: names that nothing has yet, and videos with the sound of their source."""

import re
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import cv2

from coupled_embedding.data.sources import Pixels
from coupled_embedding.utils.errors import UserError

IMAGE, JSON, LINES, VIDEO = ".jpg", ".predictions.json", ".predictions.jsonl", ".mp4"
HEATMAPS, TAGS = ".heatmaps.jpg", ".tags.jpg"
HEATMAPS_VIDEO, TAGS_VIDEO = ".heatmaps.mp4", ".tags.mp4"
ENDINGS = (IMAGE, JSON, LINES, VIDEO, HEATMAPS, TAGS, HEATMAPS_VIDEO, TAGS_VIDEO)


@dataclass
class OutputFolder:
    """Names for the files of each input; an input whose name is taken, by an earlier one or a file, gets a number."""

    folder: Path
    taken: set[str] = field(default_factory=set)

    def stem(self, source: str) -> Path:
        """Return the path, without an ending, of an input's files: ``FOLDER/NAME``, ``FOLDER/NAME_2`` and so on."""
        name = re.sub(r"\s+", "_", Path(source).stem) if source.startswith("camera ") else Path(source).stem
        stem, number = name, 1
        while stem.lower() in self.taken or any((self.folder / (stem + ending)).exists() for ending in ENDINGS):
            number += 1
            stem = f"{name}_{number}"
        self.taken.add(stem.lower())
        return self.folder / stem


def with_ending(stem: Path, ending: str) -> Path:
    """Return a file's path; unlike ``with_suffix`` it keeps the dots of a name."""
    return stem.with_name(stem.name + ending)


class VideoFile:
    """Writes an MP4 file; with ffmpeg on the PATH as H.264, which browsers show, and with its source's sound.

    A context manager: the file appears when it ends, whole; with an error it does not.

    Args:
        path: of the file.
        rate: frames per second.
        source: video whose sound is kept; None: there is none.

    Raises:
        UserError: it cannot be written.
    """

    def __init__(self, path: Path, rate: float, source: Path | None = None) -> None:
        self.path, self.rate, self.source = path, rate, source
        self.note = ""  # why there is no sound, if ffmpeg failed
        self._part = path.with_name(f".{path.stem}.part.mp4")
        self._mixed = path.with_name(f".{path.stem}.mixed.mp4")
        self._writer: cv2.VideoWriter | None = None

    def __enter__(self) -> "VideoFile":
        return self

    def write(self, frame: Pixels) -> None:
        """Add a frame (h, w, 3) uint8 BGR, all of one size."""
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._part), code, self.rate, (frame.shape[1], frame.shape[0]))
            if not self._writer.isOpened():
                raise UserError(
                    f"{self.path}: cannot write this video (OpenCV has no MPEG-4 encoder here, or the disk is full)"
                )
        self._writer.write(frame)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is None:
            return
        self._writer.release()
        if error is None:
            program = shutil.which("ffmpeg")
            mixed = bool(program) and self._mix(str(program))
            (self._mixed if mixed else self._part).replace(self.path)
        for path in (self._part, self._mixed):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _mix(self, program: str) -> bool:
        """Encode the video for browsers, with its source's sound; False if ffmpeg fails."""
        sound = ["-i", str(self.source), "-map", "0:v:0", "-map", "1:a?", "-c:a", "aac"] if self.source else []
        # H.264 has even sides
        picture = ["-c:v", "libx264", "-crf", "20", "-pix_fmt", "yuv420p", "-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2"]
        command = [program, "-v", "error", "-nostdin", "-y", "-i", str(self._part), *sound, *picture, str(self._mixed)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            self.note = f"{self.path}: without sound; ffmpeg failed: {done.stderr.strip()[-200:]}"
        return not done.returncode
