"""What the network outputs for a video, drawn on its frames: one video of heatmaps, one of tags."""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from coupled_embedding.commands.outputs import HEATMAPS_VIDEO, TAGS_VIDEO, VideoFile, with_ending
from coupled_embedding.decode.fields import NetworkFields
from coupled_embedding.visualize import TagColors

FITTED_FRAMES = 8  # that the colors of tags are fitted to
SEEN = 0.2  # a heatmap this high shows somebody


class FieldVideos:
    """Writes ``NAME.heatmaps.mp4`` and ``NAME.tags.mp4``, as far as they are wanted; a context manager.

    A person keeps the color of their tag over a video: the colors are fitted to the first eight frames from the one on
    that first shows somebody, and kept. At most these frames are in memory.

    Args:
        stem: the files' path without an ending.
        rate: frames per second.
        heatmaps, tags: which are wanted.
    """

    def __init__(self, stem: Path, rate: float, heatmaps: bool, tags: bool) -> None:
        self._heatmaps = VideoFile(with_ending(stem, HEATMAPS_VIDEO), rate) if heatmaps else None
        self._tags = VideoFile(with_ending(stem, TAGS_VIDEO), rate) if tags else None
        self._colors: TagColors | None = None
        self._held: list[NetworkFields] = []
        self._files = ExitStack()

    @property
    def wanted(self) -> bool:
        """Whether anything is written."""
        return bool(self._heatmaps or self._tags)

    @property
    def notes(self) -> list[str]:
        """What went wrong with finished files."""
        return [file.note for file in (self._heatmaps, self._tags) if file and file.note]

    def write(self, fields: NetworkFields) -> None:
        """Add a frame; all are of one size."""
        if self._heatmaps:
            self._heatmaps.write(fields.draw_heatmaps())
        if self._tags:
            self._add_tags(self._tags, fields)

    def _add_tags(self, file: VideoFile, fields: NetworkFields) -> None:
        if self._colors:
            file.write(fields.draw_tags(colors=self._colors))
        elif not self._held and fields.heatmaps.max() < SEEN:
            file.write(fields.draw_tags())  # nothing of which can be seen
        else:
            self._held.append(fields)
            if len(self._held) == FITTED_FRAMES:
                self._release(file)

    def _release(self, file: VideoFile) -> None:
        """Write the frames that waited for their colors."""
        if self._held:
            self._colors = TagColors.fit([(fields.heatmaps_at_tags(), fields.tags) for fields in self._held])
        for fields in self._held:
            file.write(fields.draw_tags(colors=self._colors))
        self._held.clear()

    def __enter__(self) -> "FieldVideos":
        for file in filter(None, (self._heatmaps, self._tags)):
            self._files.enter_context(file)
        self._files.push(self._finish)  # before they end; after an error in it they leave nothing
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.__exit__(kind, error, trace)

    def _finish(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tags and error is None:
            self._release(self._tags)
