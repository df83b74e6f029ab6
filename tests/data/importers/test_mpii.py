"""MPII's annotation file and its JSON conversions: joints, places, splits, groups, oddities, and what is malformed."""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mpii_file import EMPTY, NAMES, cells, image, rectangle, release, structs, write_mpii
from other_formats import draw
from scipy.io import savemat

from coupled_embedding.data.coco import load_records
from coupled_embedding.data.importers import ImportOptions, import_dataset
from coupled_embedding.data.schema import load_schema
from coupled_embedding.utils.errors import DatasetError, UserError

HEAD = (11, 6, 21, 26)  # in MATLAB's pixels
WHOLE = {number: (10 + number, 20 + 2 * number, 1.0) for number in range(16)}
PERSON = rectangle(WHOLE, (20, 30), 0.25, HEAD)


@pytest.fixture
def write(tmp_path: Path):
    """write(images, train, single, ...): write the file beside the images; return its path."""

    def run(images, train, single=None, **changes) -> Path:
        for one in images:
            draw(tmp_path / "images" / str(one["image"][0, 0]["name"]), (64, 48))
        content = release(images, train, single or [()] * len(images), **changes)
        return write_mpii(tmp_path / "mpii_human_pose_v1_u12_1.mat", content)

    return run


def entries(folder: Path, split: str) -> dict:
    return json.loads((folder / "annotations" / f"{split}.json").read_text())


def test_a_person_is_read_as_annotated_from_pixel_0(write, tmp_path, convert) -> None:
    hidden = WHOLE | {3: (5, 7, np.uint8(0)), 8: (9.5, 11, EMPTY), 9: (30, 40), 15: (1, 2, "0"), 0: (3, 4, "1")}
    del hidden[12]
    path = write([image("015601864.jpg", [rectangle(hidden, (20, 30), 0.25, HEAD)], 3.0)], [1])
    assert convert(path, "--out", tmp_path / "out", "--name", "mpii") == 0
    schema = load_schema(tmp_path / "out/mpii.yaml")
    (record,) = load_records(schema, "train")
    joints = dict(zip(schema.joints, record.keypoints[0].tolist(), strict=True))
    assert joints["right_knee"] == [10, 21, 2]
    assert joints["left_hip"] == [4, 6, 1]
    assert joints["neck"] == [8.5, 10, 2]
    assert joints["head"] == [29, 39, 2]
    assert joints["left_wrist"] == [0, 1, 1]
    assert joints["right_ankle"] == [2, 3, 2]
    assert joints["right_shoulder"] == [0, 0, 0]
    content = entries(tmp_path / "out", "train")
    (written,) = content["annotations"]
    assert (written["head_box"], written["center"], written["scale"]) == ([10, 5, 10, 20], [19, 29], 0.25)
    # around joints and head box
    assert written["bbox"] == [0, 1, 29, 46]
    assert content["images"] == [
        {"id": 1, "file_name": "015601864.jpg", "width": 64, "height": 48, "activity": "act 0", "video": 3}
    ]


def test_the_schema_is_the_shipped_one(write, tmp_path, convert, capsys) -> None:
    path = write([image("a.jpg", [PERSON], 1.0), image("b.jpg", [PERSON], 7.0)], [1, 1])
    assert convert(path, "--out", tmp_path / "out", "--name", "mine") == 0
    schema, shipped = load_schema(tmp_path / "out/mine.yaml"), load_schema("datasets/mpii.yaml")
    for name in ("joints", "flip_pairs", "skeleton", "sigmas", "grouping_order", "colors", "evaluator"):
        assert getattr(schema, name) == getattr(shipped, name)
    assert [name.replace("upper_neck", "neck").replace("head_top", "head") for name in NAMES] == list(schema.joints)
    assert list(schema.splits) == ["train", "val"]
    # the shipped schema finds the same files in a folder with the images in images/
    assert [r.path.name for r in load_records(shipped, "val", root=str(tmp_path / "out"))] == ["b.jpg"]
    out = capsys.readouterr().out
    assert "val: the 1 images of every 7th video, not the split of published scores" in out
    assert "not the benchmark's list of groups" in out


def test_people_and_images_of_all_kinds(write, tmp_path, convert, capsys) -> None:
    """No annorect, fields that some people lack, no joints, nothing at all, and the test part without joints."""
    images = [
        image("empty.jpg"),
        image("some.jpg", [PERSON, rectangle({}, (30, 20), 0.1), {"x1": 3.0}, rectangle({7: (8, 9)}, None, None)]),
        image("test.jpg", [rectangle({}, (30, 20), 0.1), rectangle({}, (31, 20), 0.1)]),
        image("unknown.jpg", [{"x1": 1.0}]),
    ]
    path = write(images, [1, 1, 0, 1], act=None)
    assert convert(path, "--out", tmp_path / "out", "--name", "mpii") == 0
    schema = load_schema(tmp_path / "out/mpii.yaml")
    (record,) = load_records(schema, "train")
    assert record.path.name == "some.jpg"
    assert record.ids == (2001, 2002, 2004)
    assert (record.keypoints[..., 2] > 0).sum(1).tolist() == [16, 0, 1]
    # without a joint: a region that training ignores, a square of the person's height
    assert record.boxes[1].tolist() == [19, 9, 20, 20]
    assert record.ignored == ([[19, 9, 39, 9, 39, 29, 19, 29]],)
    lonely = entries(tmp_path / "out", "train")["annotations"][2]
    assert lonely["center"] == [7, 8]
    (record,) = load_records(schema, "test")
    assert len(record.keypoints) == 2
    assert not record.keypoints.any()
    assert [a["group"] for a in entries(tmp_path / "out", "test")["annotations"]] == [1, 1]
    assert schema.held_out == ("test",)
    out = capsys.readouterr().out
    for text in (
        "2 images without annotated people left out",
        "2 people without joints, box and center left out",
        "1 people without a center or scale",
        "1 people with joints and without a head box",
    ):
        assert text in out


def test_groups_are_neighbors_that_are_not_single(write, tmp_path, convert, capsys) -> None:
    places = [(10, 10), (40, 10), (1000, 10), (1030, 10), (20, 20), (500, 500)]
    people = [rectangle(WHOLE, place, 0.25, HEAD) for place in places]
    path = write([image("a.jpg", people, 1.0)], [1], [[5]])
    assert convert(path, "--out", tmp_path / "out", "--name", "mpii") == 0
    people = entries(tmp_path / "out", "train")["annotations"]
    assert [person.get("group") for person in people] == [1, 1, 2, 2, None, None]
    assert [person["single_person"] for person in people] == [0, 0, 0, 0, 1, 0]
    assert "1 people that are neither single nor near another one" in capsys.readouterr().out


def test_single_people_are_a_data_set_of_their_own(write, tmp_path, convert) -> None:
    unlabelled = rectangle({}, (30, 20), 0.1)
    images = [
        image("a.jpg", [PERSON, PERSON, unlabelled], 1.0),
        image("b.jpg", [PERSON], 2.0),
        image("c.jpg", [unlabelled, unlabelled], 3.0),
    ]
    path = write(images, [1, 1, 0], [[2, 3], [], [1, 2]])
    assert convert(path, "--out", tmp_path / "out", "--name", "single", "--format", "mpii-single") == 0
    schema = load_schema(tmp_path / "out/single.yaml")
    assert [(r.path.name, r.ids) for r in load_records(schema, "train")] == [("a.jpg", (1002,))]
    assert [(r.path.name, r.ids) for r in load_records(schema, "test")] == [("c.jpg", (3001, 3002))]
    assert schema.evaluator == load_schema("datasets/mpii_single.yaml").evaluator


NEAR = rectangle(WHOLE, (40, 30), 0.25, HEAD)


@pytest.mark.parametrize(
    ("text", "single"),
    [
        ("b.jpg\n\n  c.jpg \n", [2001, 2002, 3001]),
        (json.dumps(["b.jpg", "images/c.jpg"]), [2001, 2002, 3001]),
        (json.dumps({"images": [{"file_name": "b.jpg"}, {"file_name": "c.jpg"}]}), [2001, 2002, 3001]),
        # as the common split's file, an entry for each person
        (
            json.dumps([{"image": "b.jpg", "center": [40.4, 29.5]}, {"image": "c.jpg", "center": [20, 30]}]),
            [2002, 3001],
        ),
    ],
)
def test_a_list_says_what_is_for_validation(write, tmp_path, convert, capsys, text, single) -> None:
    images = [image("a.jpg", [PERSON], 7.0), image("b.jpg", [PERSON, NEAR], 1.0), image("c.jpg", [PERSON], 1.0)]
    path = write(images, [1, 1, 1], [[1], [1, 2], [1]])
    (tmp_path / "val.txt").write_text(text)
    for kind in ("mpii", "mpii-single"):
        arguments = (path, "--out", tmp_path / kind, "--name", "x", "--val", tmp_path / "val.txt", "--format", kind)
        assert convert(*arguments) == 0
        assert "val: the 2 images of" in capsys.readouterr().out
    for folder, ids in (("mpii", [2001, 2002, 3001]), ("mpii-single", single)):
        assert [a["id"] for a in entries(tmp_path / folder, "val")["annotations"]] == ids
        assert [a["id"] for a in entries(tmp_path / folder, "train")["annotations"]] == [1001]


def test_images_of_a_video_are_not_in_two_splits(write, tmp_path, convert) -> None:
    videos = [float(v) for v in (1, 7, 7, 8, 14, 15, 0, 7)]
    images = [image(f"{n}.jpg", [PERSON], video) for n, video in enumerate(videos)]
    assert convert(write(images, [1] * 8), "--out", tmp_path / "out", "--name", "mpii") == 0
    assert [i["video"] for i in entries(tmp_path / "out", "train")["images"]] == [1, 8, 15]
    assert [i["video"] for i in entries(tmp_path / "out", "val")["images"]] == [7, 7, 14, 0, 7]


coordinate = st.integers(1, 200).map(lambda n: n / 4)
visibility = st.sampled_from([0.0, 1.0, np.uint8(0), np.uint8(1), True, "0", "1", EMPTY, None, np.array([[1]])])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.dictionaries(st.integers(0, 15), st.tuples(coordinate, coordinate, visibility), min_size=1),
        min_size=1,
        max_size=4,
    )
)
def test_any_joints_survive(tmp_path, people) -> None:
    draw(tmp_path / "images/a.jpg", (64, 48))
    rectangles = [
        rectangle({n: (x, y) if v is None else (x, y, v) for n, (x, y, v) in joints.items()}, (9, 9), 1.0, HEAD)
        for joints in people
    ]
    path = write_mpii(tmp_path / "a.mat", release([image("a.jpg", rectangles, 1.0)], [1], [()]))
    (read,) = import_dataset(path, ImportOptions()).splits["train"]
    assert len(read.people) == len(people)
    for person, joints in zip(read.people, people, strict=True):
        expected = np.zeros((16, 3))
        for number, (x, y, v) in joints.items():
            value = None if v is None or np.size(v) == 0 else int(np.ravel(v)[0])
            expected[number] = x - 1, y - 1, 1 if value == 0 else 2
        assert np.array_equal(person.keypoints, expected)


# ---- what is malformed


def broken(**changes) -> dict:
    return {**PERSON, **changes}


def points(*entries_: dict) -> dict:
    return broken(annopoints=structs([{"point": structs(entries_)}]))


PLACE = "RELEASE.annolist(2).annorect(1)"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("person", "error"),
    [
        (points({"x": 1.0, "y": 2.0, "id": 16.0}), ".annopoints.point(1).id: expected a joint's number from 0"),
        (points({"x": 1.0, "y": 2.0, "id": 1.5}), ".annopoints.point(1).id: expected a joint's number from 0"),
        (points({"x": 1.0, "y": 2.0}), ".annopoints.point(1).id: expected a joint's number from 0 to 15, got"),
        (points(*[{"x": 1.0, "y": 2.0, "id": 3.0}] * 2), ".annopoints.point(2).id: joint 3 is there twice"),
        (points({"x": "left", "y": 2.0, "id": 1.0}), ".annopoints.point(1).x: expected a number within"),
        (points({"x": np.inf, "y": 2.0, "id": 1.0}), ".annopoints.point(1).x: expected a number within"),
        (points({"x": 1.0, "y": np.ones((1, 2)), "id": 1.0}), ".annopoints.point(1).y: expected a number"),
        (
            points({"x": 1.0, "y": 2.0, "id": 1.0, "is_visible": 7.0}),
            ".annopoints.point(1).is_visible: expected 0 or 1, got 7",
        ),
        (broken(annopoints=3.0), ".annopoints: expected a struct with a field 'point', got"),
        (broken(annopoints=structs([{"point": 3.0}])), ".annopoints.point(1): expected a struct, got 3.0"),
        (broken(objpos="here"), ".objpos: expected a struct with a field 'x'"),
        (broken(scale=structs([{"a": 1.0}])), ".scale: expected a number"),
        (broken(x1=np.nan), ".x1: expected a number"),
    ],
)
def test_a_malformed_person_is_named(write, tmp_path, refused, person, error) -> None:
    path = write([image("a.jpg", [PERSON], 1.0), image("b.jpg", [person], 1.0)], [1, 1])
    assert f"{path}: {PLACE}{error}" in refused(path, "--out", tmp_path / "out")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"annolist": None}, "RELEASE.annolist: no images; is this MPII's annotation file?"),
        ({"annolist": 3.0}, "RELEASE.annolist(1): expected a struct, got 3.0"),
        ({"img_train": None}, "RELEASE.img_train: expected an element for each of the 1 images, got 0"),
        ({"img_train": np.ones((1, 2))}, "RELEASE.img_train: expected an element for each of the 1 images, got 2"),
        ({"img_train": np.array([[2.0]])}, "RELEASE.img_train: expected 0 or 1, got 2"),
        ({"single_person": cells([1.0, 1.0])}, "RELEASE.single_person: expected an element for each of the 1 images"),
        ({"single_person": cells([2.0])}, "RELEASE.single_person(1): expected numbers of the image's 1 people, got 2"),
        ({"single_person": cells(["all"])}, "RELEASE.single_person(1)(1): expected a number"),
        ({"act": structs([{"act_name": 3.0}])}, "RELEASE.act(1).act_name: expected a text, got"),
        ({"annolist": structs([image("../a.jpg", [PERSON])])}, "the image's name '../a.jpg' must be a path inside"),
        (
            {"annolist": structs([image("gone.jpg", [PERSON])])},
            "RELEASE.annolist(1).image.name: no image 'gone.jpg' in",
        ),
        (
            {"annolist": structs([{"image": EMPTY, "annorect": structs([PERSON])}])},
            "the image's name '' must be a path",
        ),
    ],
)
def test_a_malformed_release_is_named(write, tmp_path, refused, changes, error) -> None:
    path = write([image("a.jpg", [PERSON], 1.0)], [1], **changes)
    text = refused(path, "--out", tmp_path / "out")
    assert str(path) in text
    assert error in text


@pytest.mark.bad_input
def test_files_that_are_no_annotation_file_are_refused(tmp_path, refused) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(b"")
    assert f"{path}: cannot read this MATLAB file" in refused(path, "--out", tmp_path / "out")
    path.write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM" + bytes(400))
    assert "a MATLAB 7.3 file; save it again in MATLAB with -v7" in refused(path, "--out", tmp_path / "out")
    savemat(path, {"other": 1})
    assert f"{path}: no variable 'RELEASE'" in refused(path, "--out", tmp_path / "out")
    savemat(path, {"RELEASE": "text"})
    assert f"{path}: RELEASE: expected a struct with a field 'annolist'" in refused(path, "--out", tmp_path / "out")
    savemat(tmp_path / "b.mat", {"RELEASE": 1})
    assert "expected one MATLAB file, found 2" in refused(tmp_path, "--out", tmp_path / "out", "--format", "mpii")


@pytest.mark.bad_input
# the same bytes in every run: SciPy's reader itself ends the process on a few damaged files
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(128, 4000), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_bytes_are_a_user_error_or_read(tmp_path, changes) -> None:
    draw(tmp_path / "images/a.jpg", (64, 48))
    content = release([image("a.jpg", [PERSON], 1.0)], [1], [()])
    savemat(tmp_path / "whole.mat", {"RELEASE": structs([content])})
    data = bytearray((tmp_path / "whole.mat").read_bytes())
    for place, value in changes:
        data[place % len(data)] = value
    path = tmp_path / "a.mat"
    path.write_bytes(data)
    found = []
    with suppress(UserError):
        found.append(import_dataset(path, ImportOptions()).kind)
    assert found in ([], ["mpii"])


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "lists no image"),
        ("other.jpg", "none of its images is in the training part of MPII"),
        ("[1]", "entry 0: expected an image's name, or an entry with 'image', got 1"),
        ('[{"name": "a"}]', "entry 0: expected an image's name"),
        ("[", "cannot read this list of images"),
        ('{"annotations": []}', "expected a list of images, or a COCO-format file with 'images'"),
        ('[{"image": "a.jpg", "center": ["x", 1]}]', "entry 0: center: expected a number"),
    ],
)
def test_a_malformed_list_is_refused(write, tmp_path, refused, text, error) -> None:
    path = write([image("a.jpg", [PERSON], 1.0)], [1])
    (tmp_path / "val.txt").write_text(text)
    found = refused(path, "--out", tmp_path / "out", "--val", tmp_path / "val.txt")
    assert f"{tmp_path / 'val.txt'}: {error}" in found


def test_other_formats_take_no_list_and_mpii_no_joints(write, tmp_path, refused) -> None:
    path = write([image("a.jpg", [PERSON], 1.0)], [1])
    assert "MPII's joints are known" in refused(path, "--out", tmp_path / "out", "--joints", "nose")
    (tmp_path / "data.yaml").write_text("train: images\nnames: {0: person}\nkpt_shape: [1, 3]\n")
    error = refused(tmp_path / "data.yaml", "--out", tmp_path / "out", "--val", path)
    assert "--val: lists the validation images of MPII's annotation file" in error


# ---- JSON conversions


def listed(name: str, **changes) -> dict:
    joints = [[float(x), float(y)] for x, y, _ in WHOLE.values()]
    entry = {"joints_vis": [1] * 16, "joints": joints, "image": name, "scale": 0.25, "center": [20.0, 30.0]}
    return {key: value for key, value in (entry | changes).items() if value is not None}


@pytest.fixture
def lists(tmp_path: Path):
    """lists(split=entries, ...): write a file for each split, images beside them; return the folder."""

    def run(**splits) -> Path:
        for split, content in splits.items():
            for entry in content:
                draw(tmp_path / "images" / str(entry.get("image")), (64, 48))
            (tmp_path / "annot").mkdir(exist_ok=True)
            (tmp_path / "annot" / f"{split}.json").write_text(json.dumps(content))
        return tmp_path / "annot"

    return run


def test_lists_of_single_people_are_read_with_a_split_a_file(lists, tmp_path, convert, capsys) -> None:
    places = listed("a.jpg")["joints"]
    places[3], places[5], places[6] = [-1.0, -1.0], [0.0, 0.0], [7.0, 8.0]
    seen = [int(n not in (3, 5, 6)) for n in range(16)]
    folder = lists(
        train=[listed("a.jpg", joints=places, joints_vis=seen), listed("b.jpg"), listed("a.jpg", center=[9.0, 9.0])],
        valid=[listed("c.jpg")],
        test=[listed("d.jpg", joints=None, joints_vis=None)],
    )
    assert convert(folder, "--out", tmp_path / "out", "--name", "mine") == 0
    schema = load_schema(tmp_path / "out/mine.yaml")
    assert list(schema.splits) == ["test", "train", "val"]
    first, second = load_records(schema, "train")
    assert (len(first.keypoints), len(second.keypoints)) == (2, 1)
    assert first.keypoints[0, [3, 5, 6, 7]].tolist() == [[0, 0, 0], [0, 0, 0], [6, 7, 1], [16, 33, 2]]
    ids = {i["id"] for split in schema.splits for i in entries(tmp_path / "out", split)["images"]}
    assert len(ids) == 4
    assert entries(tmp_path / "out", "test")["annotations"][0]["center"] == [19, 29]
    assert entries(tmp_path / "out", "test")["annotations"][0]["bbox"] == [-6, 7.75, 50, 50]
    assert "1 joints hidden" in capsys.readouterr().out


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"joints": [[1, 2]] * 15}, "joints: expected 16×2 numbers, got"),
        ({"joints": [[1, 2], [1]]}, "joints: expected 16×2 numbers, got"),
        ({"joints_vis": ["1"] * 16}, "joints_vis: expected 16 numbers, got"),
        ({"joints_vis": None}, "joints_vis: expected 16 numbers, got None"),
        ({"center": [1, 1e300]}, "center: expected a number within"),
        ({"scale": [1]}, "scale: expected a number, got [1]"),
        ({"scale": 0}, "scale: must be above 0, got 0"),
        ({"image": 7}, "expected an entry with the name of an 'image'"),
    ],
)
def test_a_malformed_entry_is_named(lists, tmp_path, refused, changes, error) -> None:
    folder = lists(train=[listed("a.jpg")])
    (folder / "train.json").write_text(json.dumps([listed("a.jpg"), listed("a.jpg") | changes]))
    assert f"{folder / 'train.json'}: entry 1: {error}" in refused(folder, "--out", tmp_path / "out")


def test_coco_style_files_keep_what_mpii_s_scores_need(tmp_path, convert, refused, capsys) -> None:
    draw(tmp_path / "images/a.jpg", (64, 48))
    joints = [v for x, y, _ in WHOLE.values() for v in (x, y, 2)]
    person = {"id": 9, "image_id": 4, "category_id": 1, "iscrowd": 0, "bbox": [9, 19, 16, 31], "keypoints": joints}
    extras = {"head_box": [10.0, 5.0, 20.0, 25.0], "center": [19.0, 29.0], "scale": 0.25, "group": 1}
    other = {**person, "id": 10, "bbox": [8, 19, 16, 31]}
    content = {
        "images": [{"id": 4, "file_name": "a.jpg", "width": 64, "height": 48}],
        "annotations": [person | extras, other],
        "categories": [{"id": 1, "name": "person", "keypoints": list(NAMES)}],
    }
    source = tmp_path / "all.json"
    source.write_text(json.dumps(content))
    arguments = (source, "--out", tmp_path / "out", "--name", "mine", "--images", tmp_path / "images")
    assert convert(*arguments, "--format", "mpii-json") == 0
    assert "1 of 2 people without head_box" in capsys.readouterr().out
    written = entries(tmp_path / "out", "all")["annotations"]
    assert written[0] == written[0] | extras | {"id": 9}
    assert load_schema(tmp_path / "out/mine.yaml").evaluator == "mpii"
    content["categories"][0]["keypoints"][:2] = ["right_knee", "right_ankle"]
    source.write_text(json.dumps(content))
    assert "not MPII's, in its order" in refused(
        *arguments[:1], "--out", tmp_path / "b", *arguments[5:], "--format", "mpii-json"
    )


def test_a_missing_source_of_images_is_an_error(tmp_path) -> None:
    path = write_mpii(tmp_path / "a.mat", release([image("a.jpg", [PERSON])], [1], [()]))
    with pytest.raises(DatasetError, match=r"no image 'a.jpg' in .*give the images' folder"):
        import_dataset(path, ImportOptions())
