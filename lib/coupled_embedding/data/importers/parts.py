"""What every importer returns, and what several need: classes, split names, the images' files."""

import math
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.images import read_file, read_image
from coupled_embedding.data.io.headers import read_header, read_orientation
from coupled_embedding.data.io.segmentation import MAX_COORDINATE
from coupled_embedding.utils.errors import DatasetError, short_repr

Pairs = tuple[tuple[int, int], ...]

# tools' names of splits -> those of this project's commands
_SPLITS = {"valid": "val", "validation": "val", "default": "all", "": "all"}


@dataclass(frozen=True)
class ImportOptions:
    """What a source does not say.

    Attributes:
        images: folder or zip file of the images, where they do not lie where the format has them.
        classes: names or numbers of the classes that are people; empty: the source has one only.
        joints: joint names, for sources that have none, or no order of them.
        held_out: file that lists the validation images; MPII alone.
    """

    images: Path | None = None
    classes: tuple[str, ...] = ()
    joints: tuple[str, ...] = ()
    held_out: Path | None = None


@dataclass(frozen=True)
class Joints:
    """What a source says of its K joints.

    Attributes:
        names: K names.
        pairs: joints that change places in a flipped image, as numbers; None: the source does not say.
        edges: joints that a drawing connects, as numbers; None: the source does not say.
    """

    names: tuple[str, ...]
    pairs: Pairs | None = None
    edges: Pairs | None = None


@dataclass(frozen=True)
class ImportedPerson:
    """A person.

    Attributes:
        keypoints: (K, 3) float64: x, y in pixels of the image, label 0 (none), 1 (hidden) or 2 (visible).
        box: x, y, width, height in pixels; None: the source has none.
        fields: of the COCO annotation, as the source has them.
    """

    keypoints: NDArray[np.float64]
    box: tuple[float, float, float, float] | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ImportedImage:
    """An image.

    Attributes:
        path: absolute, of a file or of one inside a zip file.
        width, height: in pixels, as the annotations see the image.
        people: in the source's order.
        fields: of the COCO image entry, as the source has them.
    """

    path: Path
    width: int
    height: int
    people: Sequence[ImportedPerson] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class ImportedDataset:
    """A data set as a source has it.

    Attributes:
        kind: name of the format.
        source: the file that describes it.
        joints: of its people.
        splits: name -> images.
        notes: what was assumed or left out, a line each.
        schema: file of a schema with these joints, whose fields it has; empty: none.
    """

    kind: str
    source: Path
    joints: Joints
    splits: dict[str, list[ImportedImage]]
    notes: list[str] = field(default_factory=list)
    schema: str = ""


def split_name(text: str) -> str:
    """Return a split's name as this project's commands have it: ``Validation`` and ``valid`` are ``val``."""
    lower = text.strip().lower()
    return _SPLITS.get(lower, lower)


def choose_classes(names: Mapping[int, str], wanted: Sequence[str], where: str) -> list[int]:
    """Return the numbers of the classes that are people.

    Args:
        names: number -> name of the source's classes with joints.
        wanted: names or numbers; empty: there is one class only.
        where: what names them, for the error.

    Raises:
        DatasetError: there are several and none is wanted, or one that is wanted is not there.
    """
    listed = ", ".join(f"{name} ({number})" for number, name in names.items())
    if not wanted:
        if len(names) != 1:
            raise DatasetError(f"{where}: several classes have joints: {listed}; choose the people's with --class NAME")
        return list(names)
    chosen: list[int] = []
    for one in wanted:
        found = [n for n, name in names.items() if name == one] or [n for n in names if str(n) == one]
        if not found:
            raise DatasetError(f"{where}: --class: no class '{one}'; there are {listed}")
        chosen += found
    return sorted(set(chosen))


def others_left_out(kind: str, count: int, source: Path) -> list[str]:
    """Return the note on annotations of classes that were not chosen; none for none."""
    return [f"{source}: {count} {kind} of other classes left out (--class chooses)"] if count else []


def number(text: Any, where: str) -> float:
    """Return a finite number of a coordinate's size, from a number or a text; DatasetError for anything else."""
    try:
        value = math.nan if isinstance(text, bool) else float(text)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not abs(value) <= MAX_COORDINATE:
        raise DatasetError(f"{where}: expected a number within ±{MAX_COORDINATE}, got {short_repr(text)}")
    return value


def side(text: Any, where: str) -> int:
    """Return a width or height in pixels, from a number or a text; DatasetError for anything else."""
    value = number(text, where)
    if value < 1 or value != int(value):
        raise DatasetError(f"{where}: expected a whole number of pixels from 1, got {short_repr(text)}")
    return int(value)


def upright_size(path: Path) -> tuple[int, int]:
    """Return (width, height) of an image file as it is shown, turned by its EXIF orientation; DataError: none."""
    content = read_file(path)
    size = read_header(content).size
    if size is None:
        height, width = read_image(path).shape[:2]
        return width, height
    return size[::-1] if read_orientation(content) >= 5 else size


class ImageFinder:
    """Finds images by the names that a source has for them.

    Args:
        folders: where to look, in this order; folders or zip files, some of which may not exist.
        source: what names the images, for errors.
    """

    def __init__(self, folders: Iterable[Path], source: Path) -> None:
        self.folders = list(dict.fromkeys(Path(os.path.abspath(folder)) for folder in folders))
        self.source = source
        self._members: dict[Path, set[str]] = {}
        for path in self.folders:
            if path.suffix.lower() == ".zip" and path.is_file():
                try:
                    with zipfile.ZipFile(path) as archive:
                        self._members[path] = set(archive.namelist())
                except (OSError, zipfile.BadZipFile) as error:
                    raise DatasetError(f"{path}: cannot read this archive of images ({error})") from error

    def find(self, names: Sequence[str], entry: str) -> Path:
        """Return the path of the first name that a folder has.

        Args:
            names: possible names, with slashes, the best first.
            entry: of the source, for the error.

        Raises:
            DatasetError: no folder has it, or a name leaves the folder.
        """
        for name in names:
            if not name or ".." in PurePosixPath(name).parts or os.path.isabs(name):
                text = f"the image's name {short_repr(name)} must be a path inside the images' folder"
                raise DatasetError(f"{self.source}: {entry}: {text}")
            for folder in self.folders:
                if self._has(folder, name):
                    return folder / name
        folders = ", ".join(map(str, self.folders))
        raise DatasetError(
            f"{self.source}: {entry}: no image {short_repr(names[0])} in {folders}; give the images' folder (or zip "
            "file) with --images"
        )

    def _has(self, folder: Path, name: str) -> bool:
        members = self._members.get(folder)
        if members is None:
            return os.path.isfile(folder / name)
        return name in members or f"{folder.stem}/{name}" in members
