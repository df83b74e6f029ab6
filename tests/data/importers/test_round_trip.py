"""People written in the format of another tool are the people that the reader finds in what was converted."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from other_formats import (
    EDGES,
    JOINTS,
    ONE,
    Person,
    Scene,
    Splits,
    Written,
    splits,
    write_cvat,
    write_cvat_coco,
    write_label_studio,
    write_roboflow,
    write_yolo,
)

from coupled_embedding.data.coco import load_records
from coupled_embedding.data.schema import load_schema

FORMATS: dict[str, Callable[[Path, Splits], Written]] = {
    "yolo": write_yolo,
    "cvat": write_cvat,
    "coco": write_cvat_coco,
    "roboflow": write_roboflow,
    "label-studio": write_label_studio,
}


def check(written: Written, data: Splits, kind: str, convert: Callable[..., int], folder: Path) -> None:
    """Convert and compare."""
    assert convert(written.source, "--out", folder / "out", "--name", "mine", *written.arguments) == 0
    schema = load_schema(folder / "out/mine.yaml")
    assert schema.joints == JOINTS
    assert schema.flip_pairs == ((1, 2),)
    if kind in ("cvat", "coco", "roboflow"):
        assert {frozenset(pair) for pair in schema.skeleton} == {frozenset(pair) for pair in EDGES}
    if kind == "label-studio":  # it has no splits
        data = {"all": [scene for scenes in data.values() for scene in scenes]}
    assert set(schema.splits) == set(data)
    for split, scenes in data.items():
        records = load_records(schema, split)
        by_name = {scene.name: scene for scene in scenes}
        names = [record.path.name.split("-")[-1] for record in records]
        assert sorted(names) == sorted(by_name)
        for record, name in zip(records, names, strict=True):
            scene = by_name[name]
            assert record.path.is_file()
            assert (record.width, record.height) == scene.size
            expected = np.array([person.joints for person in scene.people]).reshape(-1, len(JOINTS), 3)
            assert record.keypoints.shape == expected.shape
            assert np.abs(record.keypoints - expected).max(initial=0) <= written.tolerance
            boxes = np.array([person.box if kind != "cvat" else person.tight for person in scene.people]).reshape(-1, 4)
            assert np.abs(record.boxes - boxes).max(initial=0) <= 3 * written.tolerance


@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=15, deadline=None)
@given(data=splits())
def test_people_come_back(kind: str, convert, data: Splits) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        check(FORMATS[kind](folder, data), data, kind, convert, folder)


@settings(max_examples=15, deadline=None)
@given(data=splits(labels=(0, 2)))
def test_yolo_without_visibility(convert, data: Splits) -> None:
    with tempfile.TemporaryDirectory() as name:
        check(write_yolo(Path(name), data, values=2), data, "yolo", convert, Path(name))


@settings(max_examples=15, deadline=None)
@given(data=splits(), grouping=st.sampled_from(["relation", "meta"]))
def test_label_studio_without_parents(convert, data: Splits, grouping: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        check(write_label_studio(Path(name), data, grouping), data, "label-studio", convert, Path(name))


@pytest.mark.parametrize("kind", FORMATS)
def test_what_was_assumed_is_printed_and_in_the_schema(kind, tmp_path, convert, capsys) -> None:
    data = {"train": [Scene("a.png", [Person(ONE)])], "val": [Scene("b.png", [])]}
    written = FORMATS[kind](tmp_path, data)
    assert convert(written.source, "--out", tmp_path / "out", "--name", "mine", *written.arguments) == 0
    printed, schema = capsys.readouterr().out, (tmp_path / "out/mine.yaml").read_text()
    sigmas = "1 of 4 joints have COCO's or CrowdPose's, by their names; 0.067, the mean of COCO's, for left_hand"
    for text in (sigmas, *(["flip_pairs: 1, found by the names"] if kind != "yolo" else [])):
        assert text in printed
        assert text in schema
    assert ("boxes computed" in printed) == (kind == "cvat")
    assert ("areas computed" in printed) == (kind in ("yolo", "cvat", "label-studio"))
    split = "all" if kind == "label-studio" else "train"
    assert f"next: python tools/check_dataset.py --schema {tmp_path}/out/mine.yaml --split {split}" in printed
    content = json.loads((tmp_path / f"out/annotations/{split}.json").read_text())
    assert content["categories"][0]["keypoints"] == list(JOINTS)
