"""Which format a data set has, by the files that it consists of."""

from collections.abc import Callable
from pathlib import Path

from coupled_embedding.data.importers import cvat
from coupled_embedding.data.importers.coco_json import ROBOFLOW, coco_files, read_coco, read_roboflow, roboflow_files
from coupled_embedding.data.importers.label_studio import read_label_studio
from coupled_embedding.data.importers.mpii import mpii_files, read_mpii, read_mpii_single
from coupled_embedding.data.importers.mpii_json import is_list, list_files, read_mpii_json
from coupled_embedding.data.importers.parts import ImportedDataset, ImportOptions
from coupled_embedding.data.importers.yolo import config_files, read_yolo
from coupled_embedding.utils.errors import DatasetError

FORMATS: dict[str, Callable[[Path, ImportOptions], ImportedDataset]] = {
    "yolo": read_yolo,
    "cvat": cvat.read_cvat,
    "coco": read_coco,
    "roboflow": read_roboflow,
    "label-studio": read_label_studio,
    "mpii": read_mpii,
    "mpii-single": read_mpii_single,
    "mpii-json": read_mpii_json,
}
_SIGNS = (
    f"data.yaml (yolo), {cvat.NAME} (cvat), {ROBOFLOW} beside images (roboflow), annotations/*.json or *.json with an "
    "object (coco), *.json with a list of tasks (label-studio) or of MPII's people (mpii-json), *.mat (mpii)"
)


def import_dataset(source: Path, options: ImportOptions, kind: str = "") -> ImportedDataset:
    """Read a data set of another tool.

    Args:
        source: its folder, or the file in it that describes it.
        options: what the source does not say.
        kind: a key of `FORMATS`; empty: found by the source's files.

    Raises:
        DatasetError: the source is missing or malformed, its format is unknown or ambiguous, or it has no person with
            a labelled joint.
    """
    if not source.exists():
        raise DatasetError(f"{source}: no such file or folder")
    if source.suffix.lower() == ".zip":
        raise DatasetError(f"{source}: unpack this archive and give its folder")
    kind = kind or _kind(source)
    if options.held_out and kind not in ("mpii", "mpii-single"):
        raise DatasetError("--val: lists the validation images of MPII's annotation file, and of no other format")
    dataset = FORMATS[kind](source, options)
    if empty := [split for split, images in dataset.splits.items() if not images]:
        raise DatasetError(f"{source}: split '{empty[0]}' has no images")
    people = [person for images in dataset.splits.values() for image in images for person in image.people]
    if not any((person.keypoints[:, 2] > 0).any() for person in people):
        raise DatasetError(
            "\n".join(
                [f"{source}: none of {len(people)} people has a labelled joint: nothing to learn from", *dataset.notes]
            )
        )
    return dataset


def _kind(source: Path) -> str:
    found = _signs_of_folder(source) if source.is_dir() else _signs_of_file(source)
    if len(found) == 1:
        return next(iter(found))
    if not found:
        raise DatasetError(f"{source}: of no known format; looked for {_SIGNS}; --format chooses")
    signs = ", ".join(f"{path.name} says {kind}" for kind, path in found.items())
    raise DatasetError(f"{source}: of which format? {signs}; choose with --format, or name the file")


def _signs_of_folder(folder: Path) -> dict[str, Path]:
    """Return the formats that a folder's files show: name -> first such file."""
    others = [path for path in coco_files(folder) if path.name != ROBOFLOW]
    signs = {
        "yolo": config_files(folder),
        "cvat": [path for path in [folder / cvat.NAME] if path.is_file()],
        "roboflow": roboflow_files(folder),
        "coco": [path for path in others if _first_character(path) == b"{"],
        "label-studio": [p for p in folder.glob("*.json") if _first_character(p) == b"[" and not is_list(p)],
        "mpii": mpii_files(folder),
        "mpii-json": list_files(folder),
    }
    return {kind: paths[0] for kind, paths in signs.items() if paths}


def _signs_of_file(path: Path) -> dict[str, Path]:
    kinds = {".yaml": "yolo", ".yml": "yolo", ".xml": "cvat", ".mat": "mpii"}
    if path.suffix.lower() == ".json":
        by_content = {b"{": "roboflow" if path.name == ROBOFLOW else "coco", b"[": "label-studio"}
        kind = "mpii-json" if is_list(path) else by_content.get(_first_character(path), "")
    else:
        kind = kinds.get(path.suffix.lower(), "")
    return {kind: path} if kind else {}


def _first_character(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(1000).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    except OSError:
        return b""
