"""Write a synthetic crowd as a dataset folder in CrowdPose's layout."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from coupled_embedding.utils.errors import DatasetError
from synthetic_crowd.labels import OUTSIDE
from synthetic_crowd.scene import Scene, render_scene
from synthetic_crowd.settings import MOST_SCENES, CrowdSettings
from synthetic_crowd.skeleton import JOINT_NAMES, SKELETON_EDGES

GENERATOR_VERSION = 5  # raise it whenever the same seed draws other pixels or labels
_ID_BLOCKS = 2_000
_JPEG_QUALITY = 95
_CATEGORY = 1


def write_dataset(
    root: Path | str, split: str, settings: CrowdSettings, seed: int, count: int, workers: int = 0
) -> Path:
    """Render `count` scenes into `root` and return the path of their annotation file.

    Layout: root/json/synthetic_{split}.json and root/images/{image id}.jpg. Splits of one root have image
    ids and scenes of their own even with the same seed. A split that is already there with the same
    settings, seed, count and generator version is left as it is: rendering happens once. Everything is
    written to a temporary folder in `root` first, so an interrupted run leaves no half dataset. `workers`
    > 0 renders in that many processes; the files are the same.

    Raises ValueError for a bad split name, seed, count or workers, and DatasetError if the annotation file
    exists and describes another dataset, or if an image of it is already there.
    """
    check_arguments(split, seed, count, workers)
    info = {
        "description": "synthetic crowd",
        "version": GENERATOR_VERSION,
        "split": split,
        "seed": seed,
        "count": count,
        "settings": asdict(settings),
    }
    stream = split_seed(split, seed)
    scenes = [(index, partial(render_scene, settings, stream, index)) for index in range(count)]
    return write_scenes(Path(root), split, info, scenes, workers)


def write_scenes(
    root: Path, split: str, info: dict[str, Any], scenes: Sequence[tuple[int, Callable[[], Scene]]], workers: int
) -> Path:
    """Render scenes, given as (number, function), into `root` as write_dataset does; those without people are left out.

    A scene's image id is first_image_id(split) + number. `info` describes the dataset: DatasetError if the
    annotation file exists and holds another one.
    """
    target = annotation_path(root, split)
    if target.exists():
        check_same(target, info)
        return target
    root.mkdir(parents=True, exist_ok=True)
    with scratch_folder(root, split) as scratch:
        (scratch / "images").mkdir()
        images, annotations = [], []
        for image, people in _rendered(scratch, split, scenes, workers):
            if people:
                images.append(image)
                annotations.extend(people)
        document = {"info": info, "images": images, "annotations": annotations, "categories": [category()]}
        (scratch / target.name).write_text(json.dumps(document))
        _publish(scratch, root, target)
    return target


def annotation_path(root: Path, split: str) -> Path:
    """The annotation file of a split."""
    return root / "json" / f"synthetic_{split}.json"


def check_arguments(split: str, seed: int, count: int, workers: int) -> None:
    """Raise ValueError naming the argument that is wrong."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", split):
        raise ValueError(f"split is {split!r}; it must be letters, digits, '-' and '_'")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be 0 or more")
    if not 1 <= count <= MOST_SCENES:
        raise ValueError(f"count is {count}; it must be from 1 to {MOST_SCENES}")
    if workers < 0:
        raise ValueError(f"workers is {workers}; it must be 0 (this process) or more")


def check_same(target: Path, info: dict[str, Any]) -> None:
    """Raise DatasetError unless the annotation file holds the dataset that `info` describes."""
    present = read_info(target)
    if present != info:
        names = [name for name in info if present.get(name) != info[name]]
        raise DatasetError(
            f"{target} already holds another dataset (different {', '.join(names)}); "
            "choose another folder or split, or delete that one first"
        )


def read_info(target: Path) -> dict[str, Any]:
    """What an annotation file says that it holds, {} if nothing; DatasetError if it is none."""
    try:
        info = json.loads(target.read_text()).get("info")
    except (ValueError, AttributeError) as error:
        raise DatasetError(f"{target} exists but is not an annotation file ({error}); move it away first") from error
    return info if isinstance(info, dict) else {}


@contextmanager
def scratch_folder(root: Path, split: str) -> Iterator[Path]:
    """A temporary folder in `root`, on the same file system, that is gone afterwards."""
    scratch = Path(tempfile.mkdtemp(prefix=f".synthetic_{split}_", dir=root))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _publish(scratch: Path, root: Path, target: Path) -> None:
    """Move the finished files into place, the annotation file last: without it the dataset does not exist."""
    (root / "images").mkdir(exist_ok=True)
    target.parent.mkdir(exist_ok=True)
    for image in (scratch / "images").iterdir():
        os.replace(image, root / "images" / image.name)
    os.replace(scratch / target.name, target)


def split_seed(split: str, seed: int) -> int:
    """The seed of a split's scenes: a hash, so that no two splits share a scene regardless of their seeds."""
    return int.from_bytes(sha256(f"{split}:{seed}".encode()).digest()[:8], "big")


def first_image_id(split: str) -> int:
    """The id of a split's first image; splits start a million ids apart."""
    return (zlib.crc32(split.encode()) % _ID_BLOCKS) * MOST_SCENES + 1


def _rendered(
    scratch: Path, split: str, scenes: Sequence[tuple[int, Callable[[], Scene]]], workers: int
) -> Iterator[tuple[dict, list[dict]]]:
    """Render all scenes in order, here or in worker processes."""
    task = partial(_render_one, scratch, first_image_id(split))
    if workers == 0:
        yield from map(task, scenes)
        return
    # spawn: a forked copy of a process whose torch or OpenCV threads run may hang
    with multiprocessing.get_context("spawn").Pool(workers, cv2.setNumThreads, (1,)) as pool:
        yield from pool.imap(task, scenes, chunksize=16)


def _render_one(scratch: Path, first_id: int, entry: tuple[int, Callable[[], Scene]]) -> tuple[dict, list[dict]]:
    """Render one scene, write its image if it has people, and return its image entry and annotations."""
    number, render = entry
    scene, image_id = render(), first_id + number
    path = scratch / "images" / f"{image_id}.jpg"
    if len(scene.keypoints):
        write_image(path, scene.image)
    height, width = scene.image.shape[:2]
    image = {"file_name": path.name, "id": image_id, "height": height, "width": width}
    return image | {"crowdIndex": scene.crowd_index}, [
        annotation(scene, person, image_id) for person in range(len(scene.keypoints))
    ]


def write_image(path: Path, image: np.ndarray) -> None:
    """Write a JPEG; DatasetError if that fails."""
    if not cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]):
        raise DatasetError(f"cannot write {path}: is the disk full?")


def annotation(scene: Scene, person: int, image_id: int) -> dict[str, Any]:
    """One person's entry. Ids are image id · 100 + number, unique across splits too."""
    keypoints = np.round(scene.keypoints[person].astype(float), 2)
    return {
        "num_keypoints": int((keypoints[:, 2] > OUTSIDE).sum()),
        "iscrowd": 0,
        "keypoints": [
            int(value) if column % 3 == 2 else value for column, value in enumerate(keypoints.ravel().tolist())
        ],
        "image_id": image_id,
        "bbox": [round(value, 2) for value in scene.boxes[person].tolist()],
        "category_id": _CATEGORY,
        "id": image_id * 100 + person,
        "area": float(scene.areas[person]),
        "segmentation": _segmentation(scene.person_map == person + 1),
    }


def _segmentation(mask: np.ndarray) -> dict[str, Any]:
    """A mask as COCO's uncompressed run lengths: counts of 0s and 1s in turn, column by column."""
    flat = np.concatenate([[0], mask.ravel(order="F").astype(np.int8), [0]])
    changes = np.flatnonzero(np.diff(flat))
    edges = (
        np.concatenate([[0], changes, [mask.size]])
        if mask.ravel(order="F")[-1] == 0
        else np.concatenate([[0], changes])
    )
    return {"size": list(mask.shape), "counts": np.diff(edges).tolist()}


def category() -> dict[str, Any]:
    """CrowdPose's category; its skeleton counts joints from 1."""
    edges = [[first + 1, second + 1] for first, second in SKELETON_EDGES]
    return {
        "supercategory": "person",
        "id": _CATEGORY,
        "name": "person",
        "keypoints": list(JOINT_NAMES),
        "skeleton": edges,
    }
