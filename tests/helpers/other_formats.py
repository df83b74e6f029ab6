"""Known people in the formats of other tools, written from those formats' descriptions."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import cv2
import numpy as np
from hypothesis import strategies as st

JOINTS = ("nose", "left_hand", "right_hand", "tail")
FLIP = [0, 2, 1, 3]
EDGES = [(1, 0), (2, 0), (0, 3)]  # numbers from 0


@dataclass
class Person:
    """Joints (x, y, label) in pixels; a joint of label 0 is nowhere."""

    joints: list[tuple[float, float, int]]

    @property
    def tight(self) -> tuple[float, float, float, float]:
        """The box x, y, width, height of the labelled joints."""
        low, high = (f([(x, y) for x, y, label in self.joints if label], 0) for f in (np.min, np.max))
        return (*low.tolist(), *(high - low).tolist())

    @property
    def box(self) -> tuple[float, float, float, float]:
        """A box a quarter pixel larger on each side."""
        x, y, width, height = self.tight
        return x - 0.25, y - 0.25, width + 0.5, height + 0.5


@dataclass
class Scene:
    name: str
    people: list[Person]
    size: tuple[int, int] = (64, 48)


@dataclass
class Written:
    """A written data set: what is converted, with which further arguments, and how exact it is."""

    source: Path
    arguments: list[str] = field(default_factory=list)
    tolerance: float = 2e-3


Splits = dict[str, list[Scene]]


ONE = [(10.25, 20.5, 2), (30.0, 4.75, 2), (0.0, 0.0, 0), (40.5, 40.5, 2)]


def people(labels: Sequence[int] = (0, 1, 2)) -> st.SearchStrategy[list[Person]]:
    """Different people with at least a labelled joint, at quarters of pixels inside 64×48."""
    x, y = (st.integers(2, 4 * side - 2).map(lambda n: n / 4) for side in (64, 48))
    joint = st.tuples(x, y, st.sampled_from(labels)).map(lambda j: j if j[2] else (0.0, 0.0, 0))
    person = st.tuples(*[joint] * len(JOINTS)).map(list).filter(lambda j: any(label for *_, label in j) and j != ONE)
    return st.lists(st.builds(Person, person), max_size=3, unique_by=lambda p: tuple(p.joints))


def splits(labels: Sequence[int] = (0, 1, 2), names: Sequence[str] = ("train", "val")) -> st.SearchStrategy[Splits]:
    """Splits of two scenes of 64×48 each; the first of all has a person."""
    return st.tuples(*[people(labels)] * (2 * len(names))).map(
        lambda drawn: {
            split: [Scene(f"{split}_{i}.png", drawn[2 * n + i] + [Person(ONE)] * (n == i == 0)) for i in range(2)]
            for n, split in enumerate(names)
        }
    )


def draw(path: Path, size: tuple[int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(path.name))
    cv2.imwrite(str(path), rng.integers(0, 256, (size[1], size[0], 3), np.uint8))


# ---- YOLO


def yolo_line(person: Person, size: tuple[int, int], values: int = 3, number: int = 0) -> str:
    (width, height), (x, y, w, h) = size, person.box
    words = [str(number), *(f"{v:.6f}" for v in ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height))]
    for a, b, label in person.joints:
        words += [f"{a / width:.6f}", f"{b / height:.6f}", str(label)][:values]
    return " ".join(words)


def write_yolo(folder: Path, data: Splits, values: int = 3, head: str = "", names: str = "{0: person}") -> Written:
    for split, scenes in data.items():
        for scene in scenes:
            draw(folder / "images" / split / scene.name, scene.size)
            labels = folder / "labels" / split / f"{Path(scene.name).stem}.txt"
            labels.parent.mkdir(parents=True, exist_ok=True)
            if scene.people:
                labels.write_text("".join(yolo_line(p, scene.size, values) + "\n" for p in scene.people))
    lines = [f"{split}: images/{split}" for split in data]
    head = (
        head
        or f"path: .\nkpt_shape: [{len(JOINTS)}, {values}]\nflip_idx: {FLIP}\nkpt_names: {{0: [{', '.join(JOINTS)}]}}"
    )
    (folder / "data.yaml").write_text("\n".join([head, *lines, f"names: {names}", ""]))
    return Written(folder)


# ---- CVAT


def svg() -> str:
    """A skeleton's drawing, as CVAT has it in a label."""
    circles = [
        f'<circle r="1.5" cx="{i}" cy="{i}" data-type="element node" data-element-id="{i + 1}" data-node-id="{i + 1}" '
        f'data-label-name="{name}"></circle>'
        for i, name in enumerate(JOINTS)
    ]
    lines = [
        f'<line x1="1" y1="2" data-type="edge" data-node-from="{a + 1}" data-node-to="{b + 1}"></line>'
        for a, b in EDGES
    ]
    return "".join([*lines, *circles]).replace("<", "&lt;").replace(">", "&gt;")


def cvat_labels(skeleton: str = "person") -> str:
    parts = [
        f"<label><name>{n}</name><type>points</type><attributes></attributes><parent>{skeleton}</parent></label>"
        for n in JOINTS
    ]
    head = f"<name>{skeleton}</name><type>skeleton</type><attributes></attributes><svg>{svg()}</svg>"
    return f"<label>{head}</label>{''.join(parts)}"


def cvat_skeleton(person: Person, label: str = "person", shuffle: int = 0) -> str:
    points = [
        f'<points label="{name}" source="manual" outside="{int(v == 0)}" occluded="{int(v == 1)}" '
        f'points="{x:.2f},{y:.2f}">\n</points>'
        for name, (x, y, v) in zip(JOINTS, person.joints, strict=True)
    ]
    random.Random(shuffle).shuffle(points)  # an export has the order of drawing
    return f'<skeleton label="{label}" source="manual" z_order="0">\n' + "\n".join(points) + "\n</skeleton>"


def cvat_xml(images: str, labels: str = "", subset: str = "") -> str:
    task = f"<task><id>1</id><subset>{subset}</subset><labels>{labels or cvat_labels()}</labels></task>"
    head = '<?xml version="1.0" encoding="utf-8"?>'
    return f"{head}\n<annotations>\n<version>1.1</version>\n<meta>{task}</meta>\n{images}\n</annotations>\n"


def write_cvat(folder: Path, data: Splits) -> Written:
    """A project's export: images with subsets."""
    elements = []
    for split, scenes in data.items():
        subset = {"train": "Train", "val": "Validation"}[split]
        for number, scene in enumerate(scenes):
            draw(folder / "images" / subset / scene.name, scene.size)
            skeletons = "\n".join(cvat_skeleton(p, shuffle=i) for i, p in enumerate(scene.people))
            attributes = f'id="{number}" name={quoteattr(scene.name)} subset="{subset}" task_id="1"'
            size = f'width="{scene.size[0]}" height="{scene.size[1]}"'
            elements.append(f"<image {attributes} {size}>\n{skeletons}\n</image>")
    (folder / "annotations.xml").write_text(cvat_xml("\n".join(elements)))
    return Written(folder, tolerance=6e-3)


# ---- COCO: CVAT's, Roboflow's


def coco_entries(scenes: Sequence[Scene], first: int, category: int) -> dict:
    images, annotations = [], []
    for number, scene in enumerate(scenes, first):
        images.append({"id": number, "file_name": scene.name, "width": scene.size[0], "height": scene.size[1]})
        for person in scene.people:
            x, y, w, h = person.box
            joints = [v for joint in person.joints for v in joint]
            one = {"id": len(annotations) + first, "image_id": number, "category_id": category, "iscrowd": 0}
            one |= {"bbox": [x, y, w, h], "area": w * h, "segmentation": [], "keypoints": joints}
            annotations.append(one | {"num_keypoints": sum(v > 0 for *_, v in person.joints)})
    return {"images": images, "annotations": annotations}


def write_cvat_coco(folder: Path, data: Splits) -> Written:
    joints = [
        {"id": 2 + i, "name": n, "supercategory": "person", "keypoints": [], "skeleton": []}
        for i, n in enumerate(JOINTS)
    ]
    person = {"id": 1, "name": "person", "supercategory": "", "keypoints": list(JOINTS)}
    person["skeleton"] = [[a + 1, b + 1] for a, b in EDGES]
    for split, scenes in data.items():
        for scene in scenes:
            draw(folder / "images" / split / scene.name, scene.size)
        path = folder / "annotations" / f"person_keypoints_{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"categories": [person, *joints], **coco_entries(scenes, 1, 1)}))
    return Written(folder)


def write_roboflow(folder: Path, data: Splits) -> Written:
    names = {"train": "train", "val": "valid", "test": "test"}
    row = {"id": 1, "name": "person", "supercategory": "person", "keypoints": list(JOINTS)}
    row["skeleton"] = [[a + 1, b + 1] for a, b in EDGES]
    for split, scenes in data.items():
        for scene in scenes:
            draw(folder / names[split] / scene.name, scene.size)
        content = {
            "info": {},
            "licenses": [],
            "categories": [{"id": 0, "name": "person", "supercategory": "none"}, row],
        }
        (folder / names[split] / "_annotations.coco.json").write_text(json.dumps(content | coco_entries(scenes, 0, 1)))
    (folder / "README.roboflow.txt").write_text("")
    return Written(folder)


# ---- Label Studio


def ls_region(kind: str, label: str, key: str, size: tuple[int, int], values: dict, **more: object) -> dict:
    value = {**values, kind: [label]}
    sizes = {"original_width": size[0], "original_height": size[1], "image_rotation": 0}
    return {
        **sizes,
        "value": value,
        "id": key,
        "from_name": kind,
        "to_name": "image",
        "type": kind,
        "origin": "manual",
        **more,
    }


def ls_person(person: Person, number: int, size: tuple[int, int], grouping: str = "parent") -> list[dict]:
    """A person's regions: a rectangle, keypoints that refer to it, choices for hidden ones."""
    (width, height), (x, y, w, h) = size, person.box
    box = {
        "x": 100 * x / width,
        "y": 100 * y / height,
        "width": 100 * w / width,
        "height": 100 * h / height,
        "rotation": 0,
    }
    key = f"box{number}"
    meta = {"meta": {"text": [f"person {number}"]}} if grouping == "meta" else {}
    found = [ls_region("rectanglelabels", "person", key, size, box, **meta)]
    for i, (name, (a, b, label)) in enumerate(zip(JOINTS, person.joints, strict=True)):
        if not label:
            continue
        own = f"point{number}_{i}"
        parent = {"parentID": key} if grouping == "parent" else meta
        values = {"x": 100 * a / width, "y": 100 * b / height, "width": 0.5}
        found.append(ls_region("keypointlabels", name, own, size, values, **parent))
        if label == 1:
            choice = {
                "value": {"choices": ["Occluded"]},
                "id": own,
                "from_name": "seen",
                "to_name": "image",
                "type": "choices",
            }
            found.append(choice)
        if grouping == "relation":
            found.append({"from_id": own, "to_id": key, "type": "relation", "direction": "right"})
    return found


def ls_task(number: int, address: str, regions: list[dict], **annotation: object) -> dict:
    fields = {"id": 100 + number, "was_cancelled": False, "ground_truth": False, "result": regions, **annotation}
    return {"id": number, "annotations": [fields], "predictions": [], "data": {"image": address}, "meta": {}}


def write_label_studio(folder: Path, data: Splits, grouping: str = "parent") -> Written:
    tasks = []
    for number, scene in enumerate((scene for scenes in data.values() for scene in scenes), 1):
        name = f"0a1b2c3{number}-{scene.name}"
        draw(folder / "media" / name, scene.size)
        if number % 2:
            address = f"/data/upload/7/{name}"
        else:
            address = f"/data/local-files/?d={quote('media/' + name)}"
        regions = [region for i, p in enumerate(scene.people) for region in ls_person(p, i, scene.size, grouping)]
        tasks.append(ls_task(number, address, regions))
    (folder / "export.json").write_text(json.dumps(tasks))
    arguments = ["--images", str(folder / "media"), "--joints", *JOINTS]
    return Written(folder / "export.json", arguments)
