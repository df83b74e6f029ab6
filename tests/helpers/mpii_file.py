"""MPII's MATLAB annotation file, in the layout of the real one: nested arrays of structs, cells, characters."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

EMPTY = np.zeros((0, 0))
NAMES = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax", "upper_neck",
    "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
)  # fmt: skip


def structs(entries: Sequence[Mapping[str, Any]], fields: Sequence[str] = ()) -> np.ndarray:
    """Return a 1×N array of structs; fields that an entry lacks are []. MATLAB writes none as []."""
    if not entries:
        return EMPTY
    names = list(fields) or list(dict.fromkeys(name for entry in entries for name in entry))
    array = np.empty((1, len(entries)), [(name, object) for name in names])
    for place, entry in enumerate(entries):
        for name in names:
            array[0, place][name] = entry.get(name, EMPTY)
    return array


def cells(values: Sequence[Any]) -> np.ndarray:
    """Return an N×1 array of cells."""
    array = np.empty((len(values), 1), object)
    for place, value in enumerate(values):
        array[place, 0] = value
    return array


def rectangle(
    joints: Mapping[int, tuple], center: tuple | None = None, scale: float | None = 1.0, head: tuple | None = None
) -> dict[str, Any]:
    """Return an element of annorect.

    Args:
        joints: id -> x, y and is_visible, the last one as the file has it, or missing.
        center, head: objpos and x1, y1, x2, y2, in MATLAB's pixels.
    """
    entry: dict[str, Any] = dict(zip(("x1", "y1", "x2", "y2"), map(float, head), strict=True)) if head else {}
    if joints:
        points = [
            {"x": float(x), "y": float(y), "id": float(number), **({"is_visible": rest[0]} if rest else {})}
            for number, (x, y, *rest) in joints.items()
        ]
        entry["annopoints"] = structs([{"point": structs(points, ("x", "y", "id", "is_visible"))}])
    entry |= {} if scale is None else {"scale": scale}
    if center is not None:
        entry["objpos"] = structs([{"x": float(center[0]), "y": float(center[1])}])
    return entry


def image(name: str, people: Sequence[Mapping[str, Any]] = (), video: float | None = None) -> dict[str, Any]:
    """Return an element of annolist."""
    entry = {"image": structs([{"name": name}]), "annorect": structs(people)}
    return entry | ({"frame_sec": 1.0, "vididx": video} if video is not None else {})


def release(
    images: Sequence[Mapping[str, Any]], train: Sequence[int], single: Sequence[Sequence[int]], **changes: Any
) -> dict[str, Any]:
    """Return the struct RELEASE."""
    acts = [{"cat_name": "sports", "act_name": "" if i % 2 else f"act {i}", "act_id": -1.0} for i in range(len(images))]
    fields = {
        "annolist": structs(images, ("image", "annorect", "frame_sec", "vididx")),
        "img_train": np.array([train], np.uint8),
        "version": "12",
        "single_person": cells([np.array([one], np.uint8).T if len(one) else EMPTY for one in single]),
        "act": structs(acts).T,
        "video_list": cells(["a", "b"]).T,
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}


def write_mpii(path: Path, content: Mapping[str, Any]) -> Path:
    """Write the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"RELEASE": structs([content])}, do_compression=True)
    return path


def of_crowd(source: Path, annotations: Sequence[Path], out: Path, images: int = 0) -> Path:
    """Write a rendered crowd, or CrowdPose's files, as MPII has its own; the images of the last file are the test part.

    Pelvis and thorax are the middles of hips and shoulders, the head box is a square around head and neck, and a person
    is single if the center of no other one is within their height.

    Args:
        source: folder of the images.
        images: of each file; 0: all.
    """
    entries, train, single = [], [], []
    for number, path in enumerate(annotations):
        content = json.loads(path.read_text())
        for one in content["images"][: images or None]:
            people = [_rectangle(a) for a in content["annotations"] if a["image_id"] == one["id"]]
            centers = np.array([center for _, center, _ in people]).reshape(-1, 2)
            heights = np.array([height for *_, height in people])
            gaps = np.linalg.norm(centers[:, None] - centers, axis=-1) + np.diag(np.full(len(people), np.inf))
            alone = (gaps > heights[:, None]).all(1)
            is_train = number < len(annotations) - 1
            hidden = ("x1", "y1", "x2", "y2", "annopoints")
            shown = [{k: v for k, v in person.items() if is_train or k not in hidden} for person, *_ in people]
            (out / "images").mkdir(parents=True, exist_ok=True)
            shutil.copy(source / one["file_name"], out / "images" / one["file_name"])
            entries.append(image(one["file_name"], shown, float(len(entries))))
            train.append(int(is_train))
            single.append([place for place, is_alone in enumerate(alone, 1) if is_alone])
    return write_mpii(out / "mpii_human_pose_v1_u12_1.mat", release(entries, train, single))


def _rectangle(annotation: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[float, float], float]:
    """Return the element of annorect of one of CrowdPose's people, its center and its height."""
    joints = np.reshape(annotation["keypoints"], (14, 3)) + np.array([1, 1, 0])
    pelvis, thorax = joints[6:8].mean(0), joints[0:2].mean(0)
    order = [11, 9, 7, 6, 8, 10, None, None, 13, 12, 5, 3, 1, 0, 2, 4]
    points = {n: (thorax if n == 7 else pelvis) if k is None else joints[k] for n, k in enumerate(order)}
    middle, side = (joints[12, :2] + joints[13, :2]) / 2, np.linalg.norm(joints[12, :2] - joints[13, :2])
    x, y, width, height = annotation["bbox"]
    center = (x + 1 + width / 2, y + 1 + height / 2)
    labels = {n: (float(u), float(v), float(int(seen) == 2)) for n, (u, v, seen) in points.items() if seen}
    head = (*(middle - side * 0.7), *(middle + side * 0.7))
    return rectangle(labels, center, height / 200, head), center, height
