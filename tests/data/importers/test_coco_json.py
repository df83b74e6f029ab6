"""COCO-format exports: which files, categories and images, and what is malformed."""

import json
from pathlib import Path

import pytest
from other_formats import JOINTS, ONE, Person, Scene, coco_entries, draw, write_cvat_coco, write_roboflow

from coupled_embedding.data.coco import load_records
from coupled_embedding.data.schema import load_schema

PERSON = {"id": 1, "name": "person", "keypoints": list(JOINTS), "skeleton": [[1, 2], [1, 3]]}
SCENES = [Scene("a.png", [Person(ONE)]), Scene("b.png", [])]


@pytest.fixture
def write(tmp_path: Path):
    """write(categories, annotation changes): write all.json with one person, beside its images."""
    for scene in SCENES:
        draw(tmp_path / scene.name, scene.size)

    def text(*categories: dict, **changes: object) -> Path:
        content = coco_entries(SCENES, 1, 1) | ({"categories": list(categories)} if categories else {})
        content["annotations"][0] |= changes
        (tmp_path / "all.json").write_text(json.dumps(content))
        return tmp_path / "all.json"

    return text


def converted(tmp_path: Path, split: str = "all"):
    schema = load_schema(tmp_path / "out/mine.yaml")
    return schema, load_records(schema, split)


@pytest.mark.parametrize("copy", [{}, {"keypoints": list(JOINTS)}])
def test_roboflow_s_row_of_the_supercategory_is_no_class(tmp_path, convert, copy) -> None:
    write_roboflow(tmp_path, {"train": SCENES})
    path = tmp_path / "train/_annotations.coco.json"
    content = json.loads(path.read_text())
    content["categories"][0] |= copy
    path.write_text(json.dumps(content))
    for number, source in enumerate((tmp_path, tmp_path / "train", path)):
        out = tmp_path / f"out{number}"
        assert convert(source, "--out", out, "--name", "mine") == 0
        first = load_records(load_schema(out / "mine.yaml"), "train")[0]
        assert first.keypoints[0].tolist() == [list(joint) for joint in ONE]
        assert first.image_id == 0
        assert first.path == tmp_path / "train/a.png"


def test_crowds_areas_and_ids_stay_as_they_are(write, tmp_path, convert) -> None:
    square = [[0, 0, 4, 0, 4, 4, 0, 4]]
    path = write(PERSON, id=77, area=123.5, iscrowd=1, num_keypoints=0, segmentation=square)
    content = json.loads(path.read_text())
    content["annotations"].append(coco_entries(SCENES, 1, 1)["annotations"][0] | {"id": 5, "area": 99})
    content["images"][0]["crowdIndex"] = 0.25
    path.write_text(json.dumps(content))
    assert convert(path, "--out", tmp_path / "out", "--name", "mine") == 0
    schema, (first, _) = converted(tmp_path)
    assert first.ignored == (square,)
    assert (first.ids, first.areas, first.crowd_index) == ((5,), (99.0,), 0.25)
    assert schema.skeleton == ((0, 1), (0, 2))
    written = json.loads((tmp_path / "out/annotations/all.json").read_text())["annotations"]
    assert [(a["id"], a["iscrowd"], a["area"]) for a in written] == [(77, 1, 123.5), (5, 0, 99)]


def test_missing_ids_areas_and_counts_are_made(write, tmp_path, convert) -> None:
    path = write(PERSON)
    content = json.loads(path.read_text())
    for key in ("id", "area", "num_keypoints"):
        del content["annotations"][0][key]
    path.write_text(json.dumps(content))
    assert convert(path, "--out", tmp_path / "out", "--name", "mine") == 0
    (annotation,) = json.loads((tmp_path / "out/annotations/all.json").read_text())["annotations"]
    *_, width, height = Person(ONE).box
    assert annotation["area"] == pytest.approx(0.53 * width * height)
    assert (annotation["id"], annotation["num_keypoints"]) == (1, 3)


@pytest.mark.parametrize(
    ("skeleton", "expected"), [([[0, 1], [0, 3]], ((0, 1), (0, 3))), ([[1, 9]], ()), ("none", ()), ([[1]], ())]
)
def test_skeletons_may_count_from_0_and_be_wrong(write, tmp_path, convert, skeleton, expected) -> None:
    assert convert(write(PERSON | {"skeleton": skeleton}), "--out", tmp_path / "out", "--name", "mine") == 0
    assert converted(tmp_path)[0].skeleton == expected


def test_categories_without_joint_names_take_given_ones(write, tmp_path, convert, refused) -> None:
    path = write({"id": 1, "name": "person"})
    assert "no category lists 'keypoints', the joints' names; give them" in refused(path, "--out", tmp_path / "out")
    assert convert(path, "--out", tmp_path / "out", "--name", "mine", "--joints", *JOINTS) == 0
    assert converted(tmp_path)[0].joints == JOINTS
    assert "name the joints" in refused(write(PERSON), "--out", tmp_path / "new", "--joints", *JOINTS)


def test_of_several_categories_one_is_chosen(write, tmp_path, convert, refused, capsys) -> None:
    path = write(PERSON, PERSON | {"id": 2, "name": "dog"}, {"id": 3, "name": "ball"})
    content = json.loads(path.read_text())
    content["annotations"] += [{**content["annotations"][0], "id": 10 + n, "category_id": n} for n in (2, 3)]
    path.write_text(json.dumps(content))
    assert "person (1), dog (2)" in refused(path, "--out", tmp_path / "out")
    assert convert(path, "--out", tmp_path / "out", "--name", "mine", "--class", "dog") == 0
    assert converted(tmp_path)[1][0].ids == (12,)
    assert "2 annotations of other classes left out" in capsys.readouterr().out


def test_of_coco_s_annotations_those_with_keypoints_are_read(tmp_path, convert) -> None:
    write_cvat_coco(tmp_path / "set", {"default": SCENES})
    path = tmp_path / "set/annotations/instances_default.json"
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}]}))
    assert convert(tmp_path / "set", "--out", tmp_path / "out", "--name", "mine") == 0
    assert len(converted(tmp_path)[1][0].keypoints) == 1


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"keypoints": [1, 2, 2]}, "annotation 1 of image 1: keypoints: expected 12 numbers, got 3"),
        ({"keypoints": [1, 2, 3] * 4}, "labels must be 0, 1 or 2, got 3"),
        ({"bbox": None}, "annotation 1 of image 1: bbox: expected 4 numbers"),
        ({"category_id": 9, "keypoints": []}, "no category has the id 9"),
        ({"image_id": 9}, "no image has this image_id"),
        ({"segmentation": [[1]], "iscrowd": 1}, "segmentation"),
    ],
)
def test_a_malformed_annotation_is_named(write, tmp_path, refused, changes, error) -> None:
    path = write(PERSON, **changes)
    text = refused(path, "--out", tmp_path / "out")
    assert error in text
    assert str(path) in text


def test_files_without_images_or_lists_are_named(write, tmp_path, refused) -> None:
    path = write(PERSON)
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": [PERSON]}))
    assert "split 'all' has no images" in refused(path, "--out", tmp_path / "out")
    write_cvat_coco(tmp_path / "set", {"train": SCENES, "val": SCENES})
    other = tmp_path / "set/annotations/person_keypoints_val.json"
    other.write_text('{"images": [], "annotations": 1}')
    assert f"{other}: 'annotations' must be a list" in refused(tmp_path / "set", "--out", tmp_path / "out")


def test_images_that_are_missing_or_joints_that_differ_are_named(write, tmp_path, refused) -> None:
    path = write(PERSON)
    (tmp_path / "b.png").unlink()
    error = refused(path, "--out", tmp_path / "out")
    assert f"{path}: image 2: no image 'b.png' in {tmp_path / 'images'}, {tmp_path}; give the images' folder" in error
    write_roboflow(tmp_path / "r", {"train": SCENES, "val": SCENES})
    other = tmp_path / "r/valid/_annotations.coco.json"
    other.write_text(other.read_text().replace("tail", "snout"))
    assert f"{other}: its joints" in refused(tmp_path / "r", "--out", tmp_path / "out")
