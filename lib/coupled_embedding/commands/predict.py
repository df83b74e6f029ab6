"""Find the people of images, videos or a camera; draw them and write their joints.

coupled-embedding predict crowd.jpg
coupled-embedding predict images/ "more/*.png" match.mp4 --out outputs/predict --track
coupled-embedding predict 0 --model outputs/synthetic_ce_small/best.pth --size 256 --no-flip

(python tools/predict.py is the same.) An image leaves NAME.jpg and NAME.predictions.json, a video NAME.mp4 and
NAME.predictions.jsonl, a line a frame; a camera is read until Ctrl-C. A name that is taken gets a number.
"""

import argparse
import itertools
import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from coupled_embedding.commands.field_videos import FieldVideos
from coupled_embedding.commands.outputs import (
    HEATMAPS,
    HEATMAPS_VIDEO,
    IMAGE,
    JSON,
    LINES,
    TAGS,
    TAGS_VIDEO,
    VIDEO,
    OutputFolder,
    VideoFile,
    with_ending,
)
from coupled_embedding.data.sources import Video, expand, is_camera, is_video
from coupled_embedding.networks.model_file import DEFAULT_MODEL
from coupled_embedding.poses import Poses
from coupled_embedding.predictor import Predictor, assign_ids
from coupled_embedding.tracking import Tracker
from coupled_embedding.utils.cli import add_predictor_options, command
from coupled_embedding.utils.errors import DatasetError, UserError
from coupled_embedding.visualize import save_image


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="image, video, folder, glob, or a camera's number")
    add_predictor_options(parser, DEFAULT_MODEL)
    parser.add_argument("--out", default="outputs/predict", type=Path, metavar="DIR", help="folder to write to")
    parser.add_argument("--min-score", type=float, help="leave out people below (default: 0.1, and 40 %% of the best)")
    parser.add_argument("--heatmaps", action="store_true", help="also draw the heatmaps, to NAME.heatmaps.jpg or .mp4")
    parser.add_argument("--tags", action="store_true", help="also draw the tags as colors, to NAME.tags.jpg or .mp4")
    parser.add_argument("--json-only", action="store_true", help="draw nothing")
    parser.add_argument("--track", action="store_true", help="give people ids over a video, or over images in order")
    return parser.parse_args()


@dataclass
class Run:
    """What is predicted with, and what was done."""

    args: argparse.Namespace
    predictor: Predictor
    outputs: OutputFolder
    done: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def images(self, paths: Sequence[Any]) -> None:
        """Predict images, and write their files; those that cannot be read are noted."""
        tracker = self._tracker()
        with tqdm(total=len(paths), unit="image", desc="predict") as bar:

            def skip(error: DatasetError) -> None:
                self.failed.append(str(error))
                bar.update()

            for poses in self.predictor.stream(list(paths), on_error=skip):
                self._write_image(self._chosen(poses, tracker))
                bar.update()

    def _write_image(self, poses: Poses) -> None:
        stem = self.outputs.stem(poses.source)
        poses.save(with_ending(stem, JSON))
        if not self.args.json_only:
            save_image(with_ending(stem, IMAGE), poses.draw(min_score=0.0))
        if self.args.heatmaps or self.args.tags:
            fields = self.predictor.fields(poses.source)
            if self.args.heatmaps:
                save_image(with_ending(stem, HEATMAPS), fields.draw_heatmaps())
            if self.args.tags:
                save_image(with_ending(stem, TAGS), fields.draw_tags())
        self.done["images"] += 1

    def video(self, source: Any) -> None:
        """Predict a video or a camera, and write its files frame by frame; Ctrl-C ends a camera."""
        video = Video.open(source)
        stem, tracker = self.outputs.stem(video.name), self._tracker()
        sound = None if is_camera(source) else Path(source)
        drawn = nullcontext() if self.args.json_only else VideoFile(with_ending(stem, VIDEO), video.rate, sound)
        fields = FieldVideos(stem, video.rate, self.args.heatmaps, self.args.tags)
        interrupts = [KeyboardInterrupt] if is_camera(source) else []
        with new_file(with_ending(stem, LINES)) as lines, drawn as file, fields, suppress(*interrupts):
            found = self.predictor.stream(video, keep_frames=fields.wanted or not self.args.json_only)
            for poses in tqdm(found, total=video.count or None, unit="frame", desc=Path(video.name).name):
                chosen = self._chosen(poses, tracker)
                record = {"frame": poses.frame, "seconds": round((poses.frame or 0) / video.rate, 4)} | chosen.to_dict()
                lines.write(json.dumps(record, allow_nan=False) + "\n")
                if file:
                    file.write(chosen.draw(min_score=0.0))
                if fields.wanted and poses.pixels is not None:
                    fields.write(self.predictor.fields(poses.pixels))
                self.done["frames"] += 1
        self.done["videos"] += 1
        self.notes += fields.notes + ([file.note] if file and file.note else [])

    def _chosen(self, poses: Poses, tracker: Tracker | None) -> Poses:
        chosen = poses.filtered(self.args.min_score)
        chosen = assign_ids(chosen, tracker) if tracker else chosen
        self.done["people"] += len(chosen)
        return chosen

    def _tracker(self) -> Tracker | None:
        return Tracker(self.predictor.schema.sigmas) if self.args.track else None

    def report(self, seconds: float) -> str:
        """Return what was written where, a line each."""
        lines = [f"warning: {line}" for line in [*self.failed, *self.notes]]
        parts, is_drawn = [], not self.args.json_only
        if images := self.done["images"]:
            endings = [IMAGE] * is_drawn + [JSON] + [HEATMAPS] * self.args.heatmaps + [TAGS] * self.args.tags
            parts.append(f"{counted(images, 'image')} (NAME{', NAME'.join(endings)})")
        if videos := self.done["videos"]:
            endings = [VIDEO] * is_drawn + [LINES]
            endings += [HEATMAPS_VIDEO] * self.args.heatmaps + [TAGS_VIDEO] * self.args.tags
            frames = counted(self.done["frames"], "frame")
            parts.append(f"{counted(videos, 'video')} of {frames} (NAME{', NAME'.join(endings)})")
        count = images + self.done["frames"]
        speed = f"{count / seconds:.2g} images/s"
        lines.append(f"{self.outputs.folder}: {' and '.join(parts)}; {self.done['people']} people; {speed}")
        return "\n".join(lines)


def counted(number: int, what: str) -> str:
    """Return a number of things in words."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def new_file(path: Path) -> TextIO:
    """Open a text file that does not exist yet; UserError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("x", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot write this file ({error.strerror})") from error


@command
def main() -> None:
    """Predict, draw, write, report."""
    args = parse()
    inputs = expand(args.inputs)
    predictor = Predictor.from_pretrained(
        args.model, tuple(args.options), args.device, flip=args.flip, scales=args.scales, size=args.size
    )
    run, start = Run(args, predictor, OutputFolder(args.out)), time.perf_counter()
    for videos, parts in itertools.groupby(inputs, is_video):
        if not videos:
            run.images(list(parts))
        for source in parts if videos else ():
            run.video(source)
    if run.failed and not run.done["images"] + run.done["frames"]:
        raise UserError("\n".join(run.failed))
    print(run.report(time.perf_counter() - start))
