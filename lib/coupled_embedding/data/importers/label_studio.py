"""Label Studio's JSON export: keypoints and rectangles in percent of the image, grouped to people by the annotator."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from coupled_embedding.data.importers.parts import (
    ImageFinder,
    ImportedDataset,
    ImportedImage,
    ImportedPerson,
    ImportOptions,
    Joints,
    choose_classes,
    number,
    others_left_out,
    side,
    upright_size,
)
from coupled_embedding.data.schema import load_schema
from coupled_embedding.data.sources import IMAGES
from coupled_embedding.utils.errors import DatasetError, short_repr

_EXPORT = "export the project as 'JSON' (not JSON-MIN or CSV)"
_GROUP = (
    "drag each keypoint onto its person's rectangle in the list of regions (its parentID), connect them by a relation, "
    "or give both the same text in the region's meta information"
)
# choices per keypoint region that say how visible it is, whatever the control is called
_LABELS = {"visible": 2, "occluded": 1, "hidden": 1, "invisible": 1, "not visible": 1}

Region = dict[str, Any]


def read_label_studio(source: Path, options: ImportOptions) -> ImportedDataset:
    """Read a JSON export of Label Studio.

    Args:
        source: the JSON file, or a folder with one.
        options: ``images`` default to ``images/`` beside the file, then the file's folder; ``joints`` chooses and
            orders the keypoint labels; ``classes`` are of rectangles.

    Raises:
        DatasetError: the file, a task or region is malformed, a keypoint belongs to no person, or an image is missing.
    """
    paths = sorted(source.glob("*.json")) if source.is_dir() else [source]
    if len(paths) != 1:
        raise DatasetError(f"{source}: expected one JSON file, found {len(paths)}; name the file")
    path = paths[0]
    try:
        tasks = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: cannot read this file ({error})") from error
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise DatasetError(f"{path}: expected a list of tasks; {_EXPORT}")
    notes: list[str] = []
    results = list(_results(path, tasks, notes))
    reader = _Reader.of(path, [region for _, regions in results for region in regions], options, notes)
    images: list[ImportedImage] = []
    used: dict[Path, int] = {}
    for task, regions in results:
        image = reader.image(task, regions)
        other = used.setdefault(image.path, task["id"])
        if other != task["id"]:
            raise DatasetError(f"{path}: tasks {other} and {task['id']} have the same image {image.path}")
        images.append(image)
    notes += others_left_out("rectangles", reader.counts["rectangles"], path)
    notes += others_left_out("keypoints", reader.counts["keypoints"], path)
    return ImportedDataset("label-studio", path, reader.joints, {"all": images}, notes)


def _results(path: Path, tasks: list[Any], notes: list[str]) -> Iterator[tuple[dict[str, Any], list[Region]]]:
    """Yield each annotated task with its one annotation's regions and relations."""
    left_out = 0
    for row, task in enumerate(tasks, 1):
        where = f"{path}: task {short_repr(task.get('id', f'number {row}'))}"
        if "id" not in task or not isinstance(task.get("annotations"), list) or not isinstance(task.get("data"), dict):
            raise DatasetError(f"{where}: has no 'id', 'annotations' or 'data'; {_EXPORT}")
        found = [a for a in task["annotations"] if isinstance(a, dict) and not a.get("was_cancelled")]
        if len(found) > 1:
            found = [a for a in found if a.get("ground_truth")] or found
        if len(found) > 1:
            raise DatasetError(
                f"{where}: has {len(found)} annotations; mark one of them as ground truth, or delete the others"
            )
        left_out += not found
        for annotation in found:
            regions = annotation.get("result")
            if not isinstance(regions, list) or not all(isinstance(region, dict) for region in regions):
                raise DatasetError(f"{where}: 'result' must be a list of regions, got {short_repr(regions)}")
            yield task, regions
    if left_out:
        notes.append(f"{path}: {left_out} tasks without a submitted annotation left out")


@dataclass
class _Reader:
    path: Path
    joints: Joints
    classes: set[str]  # rectangle labels that are people
    finder: ImageFinder
    counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, path: Path, regions: list[Region], options: ImportOptions, notes: list[str]) -> "_Reader":
        """Read the labels that are used."""
        seen = dict.fromkeys(
            _label(region, "keypointlabels", path) for region in regions if _is(region, "keypointlabels")
        )
        if not seen:
            raise DatasetError(f"{path}: no annotation has keypoints (regions of type 'keypointlabels')")
        names = options.joints or _in_order(list(seen))
        if not options.joints:
            notes.append(
                f"joints: the keypoint labels in use: {', '.join(names)}; --joints gives others, or their order"
            )
        classes = dict.fromkeys(_label(r, "rectanglelabels", path) for r in regions if _is(r, "rectanglelabels"))
        numbered = dict(enumerate(classes))
        chosen = choose_classes(numbered, options.classes, str(path)) if classes or options.classes else []
        folders = [options.images] if options.images else [path.parent / "images", path.parent]
        return cls(path, Joints(tuple(names)), {numbered[i] for i in chosen}, ImageFinder(folders, path))

    def image(self, task: dict[str, Any], regions: list[Region]) -> ImportedImage:
        """Read a task with the regions of its annotation."""
        entry = f"task {short_repr(task['id'])}"
        where = f"{self.path}: {entry}"
        path = self.finder.find(_image_names(task["data"], where), entry)
        drawn = [r for r in regions if _is(r, "keypointlabels") or _is(r, "rectanglelabels")]
        if any(r.get("image_rotation") for r in drawn):
            raise DatasetError(f"{where}: the image was rotated while it was annotated, which is not supported")
        sizes = {
            tuple(side(r.get(f"original_{k}"), f"{where}: original_{k}") for k in ("width", "height")) for r in drawn
        }
        if len(sizes) > 1:
            raise DatasetError(f"{where}: regions have different original sizes; only one image a task is supported")
        width, height = next(iter(sizes)) if sizes else upright_size(path)
        return ImportedImage(path, width, height, list(self._people(regions, width, height, where)))

    def _people(self, regions: list[Region], width: int, height: int, where: str) -> Iterator[ImportedPerson]:
        """Yield the people of rectangles, then those without one."""
        boxes, keypoints = (_by_id(regions, kind, where) for kind in ("rectanglelabels", "keypointlabels"))
        left_out = {
            key for key, region in boxes.items() if _label(region, "rectanglelabels", self.path) not in self.classes
        }
        self.counts["rectangles"] += len(left_out)
        scale = np.array([width, height]) / 100
        labels = _visibility(regions)
        people: dict[str, np.ndarray] = {
            key: np.zeros((len(self.joints.names), 3)) for key in boxes if key not in left_out
        }
        for key, person in _owners(regions, boxes, keypoints, where).items():
            name = _label(keypoints[key], "keypointlabels", self.path)
            if person in left_out or name not in self.joints.names:
                self.counts["keypoints"] += 1
                continue
            joints, place = (
                people.setdefault(person, np.zeros((len(self.joints.names), 3))),
                self.joints.names.index(name),
            )
            if joints[place, 2]:
                raise DatasetError(f"{where}: region {key}: the person has a second '{name}'; {_GROUP}")
            joints[place, :2] = _values(keypoints[key], "xy", where) * scale
            joints[place, 2] = labels.get(key, 1 if keypoints[key]["value"].get("hidden") is True else 2)
        for key, joints in people.items():
            yield ImportedPerson(joints, _box(boxes[key], scale, where) if key in boxes else None)


def _is(region: Region, kind: str) -> bool:
    return region.get("type") == kind


def _label(region: Region, kind: str, path: Path) -> str:
    value = region.get("value")
    labels = value.get(kind) if isinstance(value, dict) else None
    if not isinstance(labels, list) or len(labels) != 1 or not isinstance(labels[0], str):
        raise DatasetError(
            f"{path}: region {region.get('id')}: expected one label in '{kind}', got {short_repr(labels)}"
        )
    return labels[0]


def _by_id(regions: list[Region], kind: str, where: str) -> dict[str, Region]:
    found: dict[str, Region] = {}
    for region in regions:
        if _is(region, kind) and found.setdefault(str(region.get("id")), region) is not region:
            raise DatasetError(f"{where}: region {region.get('id')}: the id of two regions of type '{kind}'")
    return found


def _in_order(names: list[str]) -> list[str]:
    """Return joint names in COCO's order if all are COCO's, else as they first appear."""
    known = load_schema("datasets/coco.yaml").joints
    return sorted(names, key=known.index) if set(names) <= set(known) else names


def _values(region: Region, keys: str | tuple[str, ...], where: str) -> np.ndarray:
    value, place = region["value"], f"{where}: region {region.get('id')}"
    return np.array([number(value.get(key), f"{place}: {key}") for key in keys])


def _box(region: Region, scale: np.ndarray, where: str) -> tuple[float, float, float, float]:
    """Return a rectangle in pixels; around its corners if it is turned about the first one."""
    x, y, width, height = _values(region, ("x", "y", "width", "height"), where)
    if width < 0 or height < 0:
        raise DatasetError(f"{where}: region {region.get('id')}: a rectangle's sides must not be below 0")
    angle = np.deg2rad(number(region["value"].get("rotation") or 0, f"{where}: region {region.get('id')}: rotation"))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) * scale @ turn.T + np.array([x, y]) * scale
    low, high = corners.min(0), corners.max(0)
    return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])


def _visibility(regions: list[Region]) -> dict[str, int]:
    """Return the labels, 1 or 2, of keypoints that have a choice of their own; a choice's id is its region's."""
    found = {}
    for region in regions:
        value = region.get("value")
        choices = value.get("choices") if _is(region, "choices") and isinstance(value, dict) else None
        for choice in choices if isinstance(choices, list) else ():
            if str(choice).lower() in _LABELS:
                found[str(region.get("id"))] = _LABELS[str(choice).lower()]
    return found


def _owners(
    regions: list[Region], boxes: dict[str, Region], keypoints: dict[str, Region], where: str
) -> dict[str, str]:
    """Return the person of each keypoint: the id of its rectangle, or of whatever else groups its keypoints."""
    parents = _parents(regions, boxes, keypoints, where)
    owners: dict[str, str] = {}
    for key in keypoints:
        above, seen = key, {key}
        while above in parents and above not in boxes:
            above = parents[above]
            if above in seen:
                raise DatasetError(f"{where}: region {key}: its parents lead back to it")
            seen.add(above)
        owners[key] = above
    grouped = {above for key, above in owners.items() if above != key}
    loose = [key for key, above in owners.items() if above == key and key not in grouped]
    people = {*boxes, *grouped}
    if loose and len(people) > 1:
        name = keypoints[loose[0]]["value"]["keypointlabels"][0]
        raise DatasetError(
            f"{where}: region {loose[0]}: keypoint '{name}' belongs to none of the {len(people)} people of the image; "
            f"{_GROUP}"
        )
    # one person in the image needs no grouping
    return owners | dict.fromkeys(loose, next(iter(people), "the only one"))


def _parents(
    regions: list[Region], boxes: dict[str, Region], keypoints: dict[str, Region], where: str
) -> dict[str, str]:
    """Return region -> the region that it belongs to, by parentID, else a relation, else the same meta text."""
    known = {str(region.get("id")) for region in regions if region.get("id") is not None}
    by_id: dict[str, str] = {}
    for key, region in keypoints.items():
        if (parent := region.get("parentID")) is not None:
            if str(parent) not in known:
                raise DatasetError(f"{where}: region {key}: no region has its parentID {short_repr(parent)}; {_GROUP}")
            by_id[key] = str(parent)
    related: dict[str, str] = {}
    for region in regions:
        ends = [str(region.get("from_id")), str(region.get("to_id"))]
        for one, other in (ends, ends[::-1]) if _is(region, "relation") else ():
            if one in keypoints and other in boxes and related.setdefault(one, other) != other:
                raise DatasetError(f"{where}: region {one}: has relations to two rectangles")
    by_text: dict[str, str] = {}
    first: dict[str, str] = {}
    texts = Counter(_meta(region) for region in boxes.values())
    for key, region in [*boxes.items(), *keypoints.items()]:
        if not (text := _meta(region)) or key in by_id or key in related:
            continue
        if key in keypoints and texts[text] > 1:
            raise DatasetError(f"{where}: region {key}: {texts[text]} rectangles have its meta text {short_repr(text)}")
        if first.setdefault(text, key) != key:
            by_text[key] = first[text]
    return by_text | related | by_id


def _meta(region: Region) -> str:
    meta = region.get("meta")
    text = meta.get("text") if isinstance(meta, dict) else None
    return " ".join(map(str, text)).strip() if isinstance(text, list) else str(text or "").strip()


def _image_names(data: dict[str, Any], where: str) -> list[str]:
    """Return the names that a task's image may have in a folder, the longest first.

    Forms: ``/data/upload/3/0a1b2c3d-name.jpg``, ``/data/local-files/?d=folder/name.jpg``,
    ``/storage-data/uploaded/?filepath=upload/3/0a1b2c3d-name.jpg``, addresses, plain paths.
    """
    texts = [data["image"]] if isinstance(data.get("image"), str) else [v for v in data.values() if isinstance(v, str)]
    found = [path for path in map(_served_path, texts) if Path(path).suffix.lower() in IMAGES]
    if len(found) != 1:
        raise DatasetError(f"{where}: 'data' names {len(found)} images, expected one: {short_repr(data)}")
    words = found[0].split("/")
    names = ["/".join(words[i:]) for i in range(len(words))]
    # an uploaded file's name has eight hexadecimal digits in front
    plain = re.sub(r"^[0-9a-f]{8}-", "", words[-1])
    return names if plain == words[-1] else [*names, plain]


def _served_path(text: str) -> str:
    """Return the path of a file in Label Studio's folders, from the address that a task has for it."""
    try:
        parts = urlsplit(text)
    except ValueError:  # half an IPv6 address
        return text
    query = parse_qs(parts.query)
    if parts.path.rstrip("/") in ("/data/local-files", "/storage-data/uploaded"):
        path = (query.get("d") or query.get("filepath") or [""])[-1]
    else:
        path = unquote(parts.path) if parts.scheme or text.startswith("/data/") else text
    return path.replace("\\", "/").removeprefix("/data/upload/").lstrip("/")
