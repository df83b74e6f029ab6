"""Imported data sets as files: a COCO-format file for each split, and the schema that names them."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from coupled_embedding.data.images import read_file
from coupled_embedding.data.importers.joints import schema_fields
from coupled_embedding.data.importers.parts import ImportedDataset, ImportedImage, ImportedPerson
from coupled_embedding.data.people import box_areas, joint_boxes
from coupled_embedding.data.schema import load_schema, schema_from_dict
from coupled_embedding.utils.atomic import atomic_write
from coupled_embedding.utils.errors import DatasetError, UserError, escape_control

_DECIMALS = 3  # of pixels


def write_dataset(dataset: ImportedDataset, folder: Path, name: str, copy: bool = False) -> list[str]:
    """Write ``NAME.yaml`` and ``annotations/SPLIT.json`` into a folder; return what was written, a line each.

    The schema names the images where they are; with ``copy`` they are copied to ``images/SPLIT``.

    Raises:
        UserError: a file or folder to write exists, or cannot be written.
        DatasetError: the joints, the name or a split cannot be those of a schema.
    """
    root = Path(os.path.abspath(folder))
    path = root / f"{name}.yaml"
    files = {split: root / "annotations" / f"{split}.json" for split in dataset.splits}
    copies = {split: root / "images" / split for split in dataset.splits} if copy else {}
    for target in (path, *files.values(), *copies.values()):
        if target.exists():
            raise UserError(f"{target} exists; delete it first to convert again, or give another --out")
    bases = {split: _base(images) for split, images in dataset.splits.items()}
    fields, review = _known_fields(dataset) if dataset.schema else schema_fields(dataset.joints)
    splits = {
        split: {"annotations": f"annotations/{split}.json", "images": _inside(copies.get(split, bases[split]), root)}
        for split in dataset.splits
    }
    content = {"name": name, **fields, "root": str(root), "splits": splits}
    schema = schema_from_dict(content, str(path))
    category = {"id": 1, "name": "person", "keypoints": list(schema.joints)}
    category["skeleton"] = [[a + 1, b + 1] for a, b in schema.skeleton]
    counts: Counter[str] = Counter()
    lines = []
    for split, images in dataset.splits.items():
        if copy:
            _copy(images, bases[split], copies[split])
        entries = _entries(images, bases[split], counts)
        atomic_write(files[split], json.dumps({**entries, "categories": [category]}), "the annotations")
        lines.append(f"{files[split]}: {_summary(images)}")
    review = [*dataset.notes, *_computed(counts), *review]
    head = [f"converted from {dataset.source} ({dataset.kind}); to review:", *review]
    comment = "".join(f"# {escape_control(line).replace(chr(10), ' ')}\n" for line in head)
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=118, allow_unicode=True)
    atomic_write(path, comment + text, "the schema")
    return [*lines, f"{path}: schema of {schema.num_joints} joints; to review:", *(f"  {line}" for line in review)]


def _known_fields(dataset: ImportedDataset) -> tuple[dict[str, Any], list[str]]:
    """Return the fields of a schema that is a file already; nothing of them is to review."""
    fields = load_schema(dataset.schema).to_dict()
    fields["held_out"] = [split for split in fields["held_out"] if split in dataset.splits]
    return {key: value for key, value in fields.items() if key not in ("name", "root", "splits")}, []


def _base(images: Sequence[ImportedImage]) -> Path:
    """Return the innermost folder that holds all images."""
    return Path(os.path.commonpath([image.path.parent for image in images]))


def _inside(folder: Path, root: Path) -> str:
    return folder.relative_to(root).as_posix() if folder.is_relative_to(root) else str(folder)


def _copy(images: Sequence[ImportedImage], base: Path, folder: Path) -> None:
    for image in images:
        atomic_write(folder / image.path.relative_to(base), read_file(image.path), "this image")


def _entries(images: Sequence[ImportedImage], base: Path, counts: Counter[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the images and annotations; ids from 1 where the source has none."""
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    keep = all("id" in person.fields for image in images for person in image.people)
    for order, image in enumerate(images, 1):
        name = image.path.relative_to(base).as_posix()
        entry = {"id": order, "file_name": name, "width": image.width, "height": image.height, **image.fields}
        entries.append(entry)
        for person in image.people:
            annotation = _annotation(person, counts) | {"image_id": entry["id"]}
            annotations.append(annotation if keep else annotation | {"id": len(annotations) + 1})
    return {"images": entries, "annotations": annotations}


def _annotation(person: ImportedPerson, counts: Counter[str]) -> dict[str, Any]:
    """Return a COCO annotation; box, area and ignored region are made where the source has none."""
    labelled = person.keypoints[:, 2] > 0
    joints = np.where(labelled[:, None], person.keypoints, 0)
    box = [round(float(v), _DECIMALS) for v in person.box or joint_boxes(joints[None])[0]]
    keypoints = [v for x, y, label in joints.tolist() for v in (round(x, _DECIMALS), round(y, _DECIMALS), int(label))]
    annotation = {"id": 0, "category_id": 1, "iscrowd": 0, "num_keypoints": int(labelled.sum()), "keypoints": keypoints}
    annotation |= {"bbox": box, "area": round(float(box_areas(box)[0]), _DECIMALS), **person.fields}
    counts["boxes"] += person.box is None
    counts["areas"] += "area" not in person.fields
    if (
        not annotation["num_keypoints"]
        and not annotation["iscrowd"]
        and "segmentation" not in annotation
        and box[2] * box[3] > 0
    ):
        x, y, width, height = box
        annotation["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
        counts["regions"] += 1
    return annotation


def _computed(counts: Counter[str]) -> list[str]:
    texts = {
        "boxes": "boxes computed: the smallest around the labelled joints",
        "areas": "areas computed: 0.53 · width · height of the box",
        "regions": "people without a labelled joint: their boxes are regions that training ignores",
    }
    return [f"{counts[key]} {text}" for key, text in texts.items() if counts[key]]


def _summary(images: Sequence[ImportedImage]) -> str:
    people = [person for image in images for person in image.people]
    labelled = sum(bool((person.keypoints[:, 2] > 0).any()) for person in people)
    empty = sum(not image.people for image in images)
    return f"{len(images)} images ({empty} without people), {len(people)} people ({labelled} with labelled joints)"


def default_name(source: Path) -> str:
    """Return a data set's name for a source: its file's or folder's; DatasetError if that is none."""
    path = Path(os.path.abspath(source))
    stem = path.name if path.is_dir() else path.stem
    if stem.lower() in ("data", "dataset", "annotations", "_annotations.coco", "result"):
        stem = path.parent.name
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in stem).strip("._")
    if not name:
        raise DatasetError(f"{source}: gives no name for the data set; give one with --name")
    return name
