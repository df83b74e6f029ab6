"""Lists of images that are held out of training for validation."""

import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from coupled_embedding.data.importers.parts import number
from coupled_embedding.utils.errors import DatasetError, short_repr

Point = tuple[float, float]


@dataclass(frozen=True)
class HeldOut:
    """Images, by their names without folders.

    Attributes:
        source: the file.
        centers: name -> centers of the people that are held out, as the file has them; None: all people.
    """

    source: Path
    centers: dict[str, list[Point] | None] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return PurePosixPath(name).name in self.centers

    def has_person(self, name: str, center: Point | None) -> bool:
        """Whether a person of a held-out image is held out: all are, or one within a pixel is listed."""
        centers = self.centers[PurePosixPath(name).name]
        if centers is None or center is None:
            return True
        return any(abs(x - center[0]) <= 1 and abs(y - center[1]) <= 1 for x, y in centers)


def read_held_out(path: Path) -> HeldOut:
    """Read a list of images: a name a line, or JSON.

    JSON is a list of names, or of entries with ``image`` and, each for one person, ``center`` (MPII's common split
    files are such); or a COCO-format file, whose images count.

    Raises:
        DatasetError: the file cannot be read, or is none of these, or lists no image.
    """
    found = HeldOut(path)
    for place, entry in enumerate(read_list(path)):
        name, center = _entry(entry, f"{path}: entry {place}")
        if name and found.centers.setdefault(name, [] if center else None) is not None and center:
            found.centers[name] = [*(found.centers[name] or []), center]
    if not found.centers:
        raise DatasetError(f"{path}: lists no image")
    return found


def read_list(path: Path) -> list[Any]:
    """Return a file's list: of JSON, that of ``images`` in a JSON object, or the lines; DatasetError: it is none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        is_json = text.lstrip()[:1] in ("[", "{")
        content = json.loads(text) if is_json else [line for line in text.splitlines() if line.strip()]
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: cannot read this list of images ({error})") from error
    if isinstance(content, dict):
        content = content.get("images")
    if not isinstance(content, list):
        raise DatasetError(f"{path}: expected a list of images, or a COCO-format file with 'images'")
    return content


def _entry(entry: Any, where: str) -> tuple[str, Point | None]:
    center = None
    if isinstance(entry, dict):
        values = entry.get("center")
        if isinstance(values, list) and len(values) == 2:
            center = number(values[0], f"{where}: center"), number(values[1], f"{where}: center")
        entry = entry.get("image", entry.get("file_name"))
    if not isinstance(entry, str):
        raise DatasetError(f"{where}: expected an image's name, or an entry with 'image', got {short_repr(entry)}")
    return PurePosixPath(entry.strip()).name, center
