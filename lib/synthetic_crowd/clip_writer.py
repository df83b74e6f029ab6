"""Write clips of a synthetic crowd: frames in a folder a clip, and COCO annotations with identities."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from itertools import count as numbers
from pathlib import Path
from typing import Any

import cv2

from coupled_embedding.utils.errors import DatasetError
from synthetic_crowd.clips import FPS, check_clip, render_clip
from synthetic_crowd.settings import MOST_SCENES, CrowdSettings
from synthetic_crowd.writer import (
    GENERATOR_VERSION,
    annotation,
    category,
    check_arguments,
    check_same,
    first_image_id,
    scratch_folder,
    split_seed,
    write_image,
)

CLIPS_VERSION = 1  # raise it whenever the same seed draws other clips of the same generator version
_PEOPLE = 100  # track ids of clips start that far apart


def write_clips(
    root: Path | str,
    split: str,
    settings: CrowdSettings,
    seed: int,
    count: int,
    frames: int = 60,
    fps: float = FPS,
    workers: int = 0,
) -> Path:
    """Render `count` clips of `frames` frames each into `root` and return the path of their annotation file.

    Layout: root/json/clips_{split}.json and root/clips/{split}/{clip}/{frame}.jpg, both numbers from 0. The
    annotation file is COCO's, with a list `videos` (id, name, fps, length), with `video_id` and `frame_id`
    (from 0) of each image, and with `track_id` of each annotation: the person, unique in the file. Clips that are
    already there with the same arguments are left as they are. `workers` > 0 renders in that many processes;
    the files are the same. An interrupted run leaves nothing.

    Raises ValueError for a bad split name, seed, count, frames, fps or workers, and DatasetError if the
    annotation file exists and describes other clips, or if the split's folder exists without it.
    """
    check_arguments(split, seed, count, workers)
    check_clip(seed, 0, frames, fps)
    if count * frames > MOST_SCENES:
        raise ValueError(f"count × frames is {count * frames}; it must be at most {MOST_SCENES}")
    root = Path(root)
    target, folder = root / "json" / f"clips_{split}.json", root / "clips" / split
    info = {
        "description": "clips of the synthetic crowd",
        "version": [GENERATOR_VERSION, CLIPS_VERSION],
        "split": split,
        "seed": seed,
        "count": count,
        "frames": frames,
        "fps": fps,
        "settings": asdict(settings),
    }
    if target.exists():
        check_same(target, info)
        return target
    if folder.exists():
        raise DatasetError(f"{folder} exists but {target} does not: choose another folder or split, or delete it first")
    root.mkdir(parents=True, exist_ok=True)
    with scratch_folder(root, split) as scratch:
        task = partial(_render_one, scratch / "frames", split, settings, seed, frames, fps)
        clips = _joined(_mapped(task, count, workers), first_image_id(split))
        videos = [{"id": n, "name": f"{split}/{n:04d}", "fps": fps, "length": frames} for n in range(count)]
        document = {"info": info, "videos": videos, **clips, "categories": [category()]}
        (scratch / target.name).write_text(json.dumps(document))
        for place in (target, folder):
            place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(scratch / "frames", folder)
        os.replace(scratch / target.name, target)
    return target


def _mapped(task: partial, count: int, workers: int) -> Iterable[list[tuple[dict, list[dict]]]]:
    """Render all clips in order, here or in worker processes."""
    if workers == 0:
        return map(task, range(count))
    # spawn: a forked copy of a process whose torch or OpenCV threads run may hang
    with multiprocessing.get_context("spawn").Pool(workers, cv2.setNumThreads, (1,)) as pool:
        return pool.map(task, range(count), chunksize=1)


def _render_one(
    scratch: Path, split: str, settings: CrowdSettings, seed: int, frames: int, fps: float, index: int
) -> list[tuple[dict, list[dict]]]:
    """Render a clip, write its frames, and return the image entry and the annotations of each, still without ids."""
    (scratch / f"{index:04d}").mkdir(parents=True)
    entries = []
    for number, frame in enumerate(render_clip(settings, split_seed(split, seed), index, frames, fps)):
        name = f"{index:04d}/{number:06d}.jpg"
        write_image(scratch / name, frame.scene.image)
        height, width = frame.scene.image.shape[:2]
        image = {"file_name": f"{split}/{name}", "height": height, "width": width, "video_id": index}
        people = [
            annotation(frame.scene, person, 0) | {"track_id": index * _PEOPLE + int(track)}
            for person, track in enumerate(frame.ids)
        ]
        entries.append((image | {"frame_id": number, "crowdIndex": frame.scene.crowd_index}, people))
    return entries


def _joined(clips: Iterable[list[tuple[dict, list[dict]]]], first_id: int) -> dict[str, list[dict[str, Any]]]:
    """Number the images and annotations of all clips as the dataset's writer does."""
    images, annotations = [], []
    entries = (entry for clip in clips for entry in clip)
    for image_id, (image, people) in zip(numbers(first_id), entries):
        images.append(image | {"id": image_id})
        annotations += [p | {"image_id": image_id, "id": image_id * 100 + n} for n, p in enumerate(people)]
    return {"images": images, "annotations": annotations}
