"""MPII's MATLAB annotation file, in the layout of the real one: nested arrays of structs, cells, characters."""

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
