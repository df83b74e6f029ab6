"""CVAT's own format, "CVAT for images 1.1": an XML file with a skeleton element for each person."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from coupled_embedding.data.importers.parts import (
    ImageFinder,
    ImportedDataset,
    ImportedImage,
    ImportedPerson,
    ImportOptions,
    Joints,
    Pairs,
    choose_classes,
    number,
    others_left_out,
    side,
    split_name,
)
from coupled_embedding.utils.errors import DatasetError, short_repr

Element = ElementTree.Element
NAME = "annotations.xml"  # in an export
_EXPORT = "export the task as 'CVAT for images 1.1'"


def read_cvat(source: Path, options: ImportOptions) -> ImportedDataset:
    """Read an export of CVAT for images.

    Args:
        source: the XML file, or the folder in which it is ``annotations.xml``.
        options: ``images`` default to ``images/`` beside the file, then the file's folder; subsets may have folders
            of their own in it.

    Raises:
        DatasetError: the file or an element is malformed, or an image is missing.
    """
    path = source / NAME if source.is_dir() else source
    if options.joints:
        raise DatasetError(f"--joints: {path} names its joints")
    root = _parse(path)
    if root.tag != "annotations" or root.find("track") is not None:
        what = "a video's tracks" if root.tag == "annotations" else f"a <{root.tag}>"
        raise DatasetError(f"{path}: holds {what}, no images' annotations; {_EXPORT}")
    reader = _Reader.of(path, root, options)
    subset = next((e.text or "" for e in root.iterfind("meta/task/subset")), "")
    splits: dict[str, list[ImportedImage]] = {}
    for element in root.iterfind("image"):
        own = element.get("subset") or subset
        splits.setdefault(split_name(own), []).append(reader.image(element, own, options.images))
    if not splits:
        raise DatasetError(f"{path}: no <image> elements; {_EXPORT}")
    return ImportedDataset(
        "cvat", path, reader.joints, splits, others_left_out("skeletons", reader.counts["others"], path)
    )


def _parse(path: Path) -> Element:
    try:
        content = path.read_bytes()
        if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
            raise DatasetError(f"{path}: declares a document type or entities, which CVAT's files do not have")
        return ElementTree.fromstring(content)
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise DatasetError(f"{path}: cannot read this XML file ({error})") from error


@dataclass
class _Reader:
    path: Path
    joints: Joints
    people: set[str]  # labels of the skeletons that are people
    finders: dict[str, ImageFinder] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, path: Path, root: Element, options: ImportOptions) -> "_Reader":
        """Read the labels."""
        skeletons = _skeletons(root)
        if not skeletons:
            raise DatasetError(
                f"{path}: no skeleton labels: the joints must be points of a skeleton, which makes them one person; "
                f"{_EXPORT}"
            )
        names = dict(enumerate(skeletons))
        chosen = [names[i] for i in choose_classes(names, options.classes, str(path))]
        found = {skeletons[name].names for name in chosen}
        if len(found) != 1:
            raise DatasetError(f"{path}: --class: the skeletons {', '.join(chosen)} have different joints")
        return cls(path, skeletons[chosen[0]], set(chosen))

    def image(self, element: Element, subset: str, images: Path | None) -> ImportedImage:
        """Read an image element."""
        name = element.get("name", "")
        entry = f"<image id={short_repr(element.get('id'))} name={short_repr(name)}>"
        where = f"{self.path}: {entry}"
        width, height = (side(element.get(key), f"{where}: {key}") for key in ("width", "height"))
        if subset not in self.finders:
            folders = [images] if images else [self.path.parent / "images", self.path.parent]
            folders = [inner for folder in folders for inner in ((folder / subset, folder) if subset else (folder,))]
            self.finders[subset] = ImageFinder(folders, self.path)
        path = self.finders[subset].find([name], entry)
        return ImportedImage(path, width, height, list(self._people(element, where)))

    def _people(self, image: Element, where: str) -> Iterator[ImportedPerson]:
        for order, skeleton in enumerate(image.iterfind("skeleton"), 1):
            label = skeleton.get("label", "")
            if label in self.people:
                yield ImportedPerson(self._keypoints(skeleton, f"{where}: skeleton {order} ('{label}')"))
            else:
                self.counts["others"] += 1

    def _keypoints(self, skeleton: Element, where: str) -> np.ndarray:
        keypoints = np.zeros((len(self.joints.names), 3))
        places = {name: place for place, name in enumerate(self.joints.names)}
        seen = set()
        for points in skeleton.iterfind("points"):
            name = points.get("label", "")
            if name not in places:
                raise DatasetError(f"{where}: '{name}' is none of the skeleton's joints ({', '.join(places)})")
            if name in seen:
                raise DatasetError(f"{where}: '{name}' is there twice")
            seen.add(name)
            outside, occluded = (_flag(points, key, f"{where}: '{name}'") for key in ("outside", "occluded"))
            if outside:
                continue
            words = points.get("points", "").split(",")
            if len(words) != 2:
                raise DatasetError(
                    f"{where}: '{name}': expected points=\"x,y\", got {short_repr(points.get('points'))}"
                )
            x, y = (number(word, f"{where}: '{name}'") for word in words)
            keypoints[places[name]] = x, y, 1 if occluded else 2
        return keypoints


def _flag(element: Element, key: str, where: str) -> bool:
    value = element.get(key, "0")
    if value not in ("0", "1"):
        raise DatasetError(f"{where}: {key} must be 0 or 1, got {short_repr(value)}")
    return value == "1"


def _skeletons(root: Element) -> dict[str, Joints]:
    """Return the skeleton labels: name -> joints, in the order of the labels in the file's head."""
    labels = [label for label in root.iterfind("meta//label") if label.findtext("name")]
    found: dict[str, Joints] = {}
    for label in labels:
        name = label.findtext("name", "")
        parts = [part.findtext("name", "") for part in labels if part.findtext("parent") == name]
        if parts:
            found[name] = Joints(tuple(parts), edges=_edges(label.findtext("svg") or "", parts))
    return found


def _edges(svg: str, joints: list[str]) -> Pairs | None:
    """Return the edges of a skeleton's drawing: lines between numbered nodes, which name their joints."""
    tags = [
        (m[1], dict(re.findall(r'([\w-]+)="([^"]*)"', m[2]))) for m in re.finditer(r"<(circle|line)\b([^>]*)>", svg)
    ]
    nodes = {
        tag["data-node-id"]: joints.index(tag["data-label-name"])
        for kind, tag in tags
        if kind == "circle" and "data-node-id" in tag and tag.get("data-label-name") in joints
    }
    ends = [(tag.get("data-node-from"), tag.get("data-node-to")) for kind, tag in tags if kind == "line"]
    edges = [(nodes[a], nodes[b]) for a, b in ends if a in nodes and b in nodes]
    return tuple(edges) or None
