"""Label Studio: whose a keypoint is, where images are, which annotation counts, and what is malformed."""

import json
from pathlib import Path

import pytest
from other_formats import ONE, Person, draw, ls_person, ls_region, ls_task

from coupled_embedding.data.coco import load_records
from coupled_embedding.data.schema import load_schema

SIZE = (64, 48)
OTHER = [(1.0, 2.0, 2), (3.0, 4.0, 1), (5.0, 6.0, 2), (0.0, 0.0, 0)]


@pytest.fixture
def write(tmp_path: Path):
    """write(task, ...): write export.json; a.png and deep/b.png lie in images/."""
    draw(tmp_path / "images/a.png", SIZE)
    draw(tmp_path / "images/deep/b.png", SIZE)

    def text(*tasks: object) -> Path:
        (tmp_path / "export.json").write_text(json.dumps(tasks))
        return tmp_path / "export.json"

    return text


def both(grouping: str = "parent") -> list[dict]:
    return [region for i, joints in enumerate((ONE, OTHER)) for region in ls_person(Person(joints), i, SIZE, grouping)]


def point(name: str, key: str, x: float = 50, y: float = 50, **more: object) -> dict:
    return ls_region("keypointlabels", name, key, SIZE, {"x": x, "y": y, "width": 0.5}, **more)


def records_of(folder: Path):
    return load_records(load_schema(folder / "mine.yaml"), "all")


@pytest.fixture
def people_of(write, tmp_path, convert):
    """people_of(regions): convert one task; return its people's joints: those labelled, by name."""

    def run(regions: list[dict], *arguments: str) -> list[dict]:
        path = write(ls_task(1, "/data/upload/1/a.png", regions))
        assert convert(path, "--out", tmp_path / "out", "--name", "mine", *arguments) == 0
        schema = load_schema(tmp_path / "out/mine.yaml")
        (record,) = load_records(schema, "all")
        return [
            {name: joint for name, joint in zip(schema.joints, person.tolist(), strict=True) if joint[2]}
            for person in record.keypoints
        ]

    return run


def test_one_person_needs_no_grouping(people_of) -> None:
    box = ls_person(Person(ONE), 0, SIZE)[0]
    assert people_of([box, point("nose", "a", 25), point("tail", "b")]) == [{"nose": [16, 24, 2], "tail": [32, 24, 2]}]


def test_one_person_needs_no_rectangle(people_of) -> None:
    assert people_of([point("nose", "a", 25), point("tail", "b")]) == [{"nose": [16, 24, 2], "tail": [32, 24, 2]}]


def test_keypoints_may_hang_below_each_other_or_share_a_text(people_of) -> None:
    meta = {"meta": {"text": ["second"]}}
    regions = [point("nose", "a"), point("tail", "b", parentID="a"), point("ear", "c", parentID="b")]
    found = people_of([*regions, point("nose", "d", 0, 0, **meta), point("tail", "e", 0, 100, **meta)])
    assert [sorted(person) for person in found] == [["ear", "nose", "tail"], ["nose", "tail"]]
    assert found[1] == {"nose": [0, 0, 2], "tail": [0, 48, 2]}


def test_hidden_keypoints_have_label_1(people_of) -> None:
    hidden = point("nose", "a")
    hidden["value"]["hidden"] = True
    choice = {"id": "b", "type": "choices", "value": {"choices": ["occluded"]}}
    (person,) = people_of([hidden, point("tail", "b"), point("ear", "c"), choice])
    assert {name: joint[2] for name, joint in person.items()} == {"nose": 1, "tail": 1, "ear": 2}


def test_joints_in_use_have_coco_s_order_where_all_are_coco_s(people_of, tmp_path) -> None:
    people_of([point("right_wrist", "a"), point("nose", "b"), point("left_wrist", "c")])
    schema = load_schema(tmp_path / "out/mine.yaml")
    assert schema.joints == ("nose", "left_wrist", "right_wrist")
    assert schema.flip_pairs == ((1, 2),)


def test_given_joints_leave_out_other_keypoints(people_of, capsys) -> None:
    assert people_of([point("nose", "a"), point("ball", "b")], "--joints", "neck", "nose") == [{"nose": [32, 24, 2]}]
    assert "1 keypoints of other classes left out" in capsys.readouterr().out


def test_a_turned_rectangle_becomes_the_box_around_its_corners(write, tmp_path, convert) -> None:
    values = {"x": 50, "y": 50, "width": 25, "height": 25, "rotation": 90}
    regions = [ls_region("rectanglelabels", "person", "box", SIZE, values), point("nose", "a", parentID="box")]
    path = write(ls_task(1, "a.png", regions))
    assert convert(path, "--out", tmp_path / "out", "--name", "mine") == 0
    assert records_of(tmp_path / "out")[0].boxes[0] == pytest.approx([20, 24, 12, 16], abs=1e-3)


def test_rectangles_of_other_classes_are_left_out_with_their_keypoints(write, tmp_path, convert, refused) -> None:
    regions = both()
    regions[0]["value"]["rectanglelabels"] = ["dog"]
    path = write(ls_task(1, "a.png", regions))
    assert "dog (0), person (1); choose the people's" in refused(path, "--out", tmp_path / "out")
    assert convert(path, "--out", tmp_path / "out", "--name", "mine", "--class", "person") == 0
    assert len(records_of(tmp_path / "out")[0].keypoints) == 1


@pytest.mark.parametrize(
    "address",
    [
        "/data/upload/1/a.png",
        "/data/upload/0123abcd-a.png",
        "/data/local-files/?d=some/root/images/a.png",
        "/data/local-files?d=C%3A%5Cdata%5Ca.png",
        "/storage-data/uploaded/?filepath=upload/1/a.png",
        "https://host/data/upload/1/0123abcd-a.png",
        "https://bucket.host/folder/a.png?X-Signature=b.c",
        "s3://bucket/folder/a.png",
        "a.png",
        "/home/user/a.png",
    ],
)
def test_images_are_found_by_the_end_of_their_address(write, tmp_path, convert, address) -> None:
    path = write(ls_task(1, address, both()), ls_task(2, "/data/local-files/?d=deep/b.png", []))
    assert convert(path, "--out", tmp_path / "out", "--name", "mine") == 0
    first, second = records_of(tmp_path / "out")
    assert first.path == tmp_path / "images/a.png"
    assert (second.path, second.width, second.height) == (tmp_path / "images/deep/b.png", *SIZE)
    assert len(second.keypoints) == 0


def test_of_several_annotations_the_ground_truth_counts(write, tmp_path, convert, refused, capsys) -> None:
    task = ls_task(1, "a.png", both())
    cancelled = {**task["annotations"][0], "was_cancelled": True, "result": []}
    unfinished = {**ls_task(2, "deep/b.png", []), "annotations": [cancelled]}
    task["annotations"] += [cancelled, {**task["annotations"][0], "result": []}]
    path = write(task, unfinished)
    assert "task 1: has 2 annotations; mark one of them as ground truth" in refused(path, "--out", tmp_path / "out")
    task["annotations"][0]["ground_truth"] = True
    assert convert(write(task, unfinished), "--out", tmp_path / "out", "--name", "mine") == 0
    (record,) = records_of(tmp_path / "out")
    assert len(record.keypoints) == 2
    assert "1 tasks without a submitted annotation left out" in capsys.readouterr().out


def changed(position: int, **changes: object) -> list[dict]:
    regions = both()
    regions[position] |= changes
    return regions


@pytest.mark.parametrize(
    ("regions", "error"),
    [
        (
            changed(1, parentID=None),
            "region point0_0: keypoint 'nose' belongs to none of the 2 people of the image; drag",
        ),
        (changed(1, parentID="gone"), "region point0_0: no region has its parentID 'gone'"),
        ([*both(), point("nose", "x", parentID="box0")], "region x: the person has a second 'nose'"),
        ([point("a", "a", parentID="b"), point("b", "b", parentID="a")], "region a: its parents lead back to it"),
        (
            [*both("relation"), {"type": "relation", "from_id": "box1", "to_id": "point0_0"}],
            "relations to two rectangles",
        ),
        ([*both(), point("tail", "point0_0", parentID="box1")], "region point0_0: the id of two regions"),
        (changed(1, value={"x": 1, "y": 2, "keypointlabels": []}), "expected one label in 'keypointlabels', got []"),
        (changed(1, value={"x": 1, "keypointlabels": ["nose"]}), "region point0_0: y: expected a number"),
        (changed(1, original_width=None), "task 1: original_width: expected a number"),
        (changed(1, original_width=65), "regions have different original sizes"),
        (changed(1, image_rotation=90), "the image was rotated while it was annotated"),
        (both()[:1], "no annotation has keypoints"),
        (None, "'result' must be a list of regions, got None"),
    ],
)
def test_a_malformed_region_is_named(write, tmp_path, refused, regions, error) -> None:
    path = write(ls_task(1, "a.png", regions))
    text = refused(path, "--out", tmp_path / "out")
    assert error in text
    assert str(path) in text


@pytest.mark.parametrize(
    ("tasks", "error"),
    [
        ([ls_task(1, "a.png", both()), ls_task(2, "/x/a.png", [])], "tasks 1 and 2 have the same image"),
        ([ls_task(1, "c.png", both())], "task 1: no image 'c.png' in "),
        ([ls_task(1, "../a.png", both())], "must be a path inside the images' folder"),
        ([ls_task(1, "a.txt", both())], "task 1: 'data' names 0 images, expected one"),
        (
            [{"image": "a.png", "kp": [], "id": 1}],
            "task 1: has no 'id', 'annotations' or 'data'; export the project as",
        ),
        (["a"], "expected a list of tasks"),
    ],
)
def test_a_malformed_task_is_named(write, tmp_path, refused, tasks, error) -> None:
    assert error in refused(write(*tasks), "--out", tmp_path / "out")


def test_two_rectangles_of_one_text_are_ambiguous(write, tmp_path, refused) -> None:
    meta = {"meta": {"text": ["x"]}}
    boxes = [{**region, **meta} for region in both() if region["type"] == "rectanglelabels"]
    path = write(ls_task(1, "a.png", [*boxes, point("nose", "a", **meta)]))
    assert "region a: 2 rectangles have its meta text 'x'" in refused(path, "--out", tmp_path / "out")
