"""YOLO-pose folders: where images and labels are, whose joints have which names, and what is malformed."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from other_formats import FLIP, JOINTS, ONE, Person, Scene, draw, write_yolo, yolo_line
from PIL import Image

from coupled_embedding.data.coco import load_records
from coupled_embedding.data.schema import load_schema

COCO_FLIP = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
TRAIN, PERSON = "train: images/train", "names: [person]"
SHAPE = f"kpt_shape: [4, 3]\nflip_idx: {FLIP}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set of two images, the second without people."""
    write_yolo(tmp_path / "set", {"train": [Scene("a.png", [Person(ONE)]), Scene("b.png", [])]})
    return tmp_path / "set"


def rewrite(folder: Path, *lines: str) -> None:
    (folder / "data.yaml").write_text("\n".join(lines))


def records_of(out: Path, split: str = "train"):
    (schema,) = out.glob("*.yaml")
    return load_records(load_schema(schema), split)


@pytest.mark.parametrize(
    "train",
    [
        "images/train",
        "[images/train]",
        "../images/train",
        "list.txt",
        "dots.txt",
        "long.txt",
        "[list.txt, images/train]",
    ],
)
@pytest.mark.parametrize("path", ["", "path: .", "path: ../datasets/moved", "path: {}"])
def test_images_are_found_as_ultralytics_does(folder, tmp_path, convert, train, path) -> None:
    inside = [f"images/train/{name}.png" for name in "ab"]
    (folder / "list.txt").write_text("\n".join(inside) + "\n")
    (folder / "dots.txt").write_text("\ufeff" + "\r\n".join(f"./{name}" for name in inside))
    (folder / "long.txt").write_text("\n".join(str(folder / name) for name in inside))
    rewrite(folder, path.format(folder), f"train: {train}", "names: [person]", SHAPE)
    assert convert(folder, "--out", tmp_path / "out") == 0
    first, second = records_of(tmp_path / "out")
    assert [first.path, second.path] == [folder / name for name in inside]
    assert np.abs(first.keypoints[0] - ONE).max() < 2e-3
    assert len(second.keypoints) == 0


def test_the_last_images_folder_of_a_path_is_that_of_the_labels(tmp_path, convert) -> None:
    write_yolo(tmp_path / "images/set", {"train": [Scene("a.png", [Person(ONE)])]})
    assert convert(tmp_path / "images/set", "--out", tmp_path / "out") == 0
    assert len(records_of(tmp_path / "out")[0].keypoints) == 1


def test_without_an_images_folder_labels_lie_beside_images(tmp_path, convert) -> None:
    draw(tmp_path / "set/all/a.b.png", (64, 48))
    (tmp_path / "set/all/a.b.txt").write_text(yolo_line(Person(ONE), (64, 48)))
    rewrite(tmp_path / "set", "train: all", "names: [person]", SHAPE)
    assert convert(tmp_path / "set", "--out", tmp_path / "out") == 0
    assert len(records_of(tmp_path / "out")[0].keypoints) == 1


def test_sizes_are_those_of_the_upright_image(folder, tmp_path, convert) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (48, 64)).save(folder / "images/train/a.png", exif=exif)
    assert convert(folder, "--out", tmp_path / "out") == 0
    record = records_of(tmp_path / "out")[0]
    assert (record.width, record.height) == (64, 48)


def test_formats_without_a_known_header_are_decoded(folder, tmp_path, convert) -> None:
    cv2.imwrite(str(folder / "images/train/a.tif"), np.zeros((48, 64, 3), np.uint8))
    (folder / "images/train/a.png").unlink()
    assert convert(folder, "--out", tmp_path / "out") == 0
    assert [(r.width, r.height) for r in records_of(tmp_path / "out")] == [(64, 48), (64, 48)]


def test_names_of_coco_only_with_its_flips(tmp_path, convert, capsys) -> None:
    person = Person([(float(i + 1), 5.0, 2) for i in range(17)])
    for number, (flip, expected) in enumerate(((COCO_FLIP, "right_ankle"), (list(range(17)), "joint_16"))):
        head = f"kpt_shape: [17, 3]\nflip_idx: {flip}"
        write_yolo(tmp_path / "set", {"train": [Scene("a.png", [person])]}, head=head)
        assert convert(tmp_path / "set", "--out", tmp_path / f"{number}", "--name", "mine") == 0
        schema = load_schema(tmp_path / f"{number}/mine.yaml")
        assert schema.joints[16] == expected
        assert list(schema.flip_index) == flip
        assert "joint names: " in capsys.readouterr().out


def test_names_can_be_given_and_pairs_come_from_them_without_flip_idx(folder, tmp_path, convert) -> None:
    rewrite(folder, TRAIN, "nc: 1", "kpt_shape: [4, 3]")
    assert convert(folder, "--out", tmp_path / "out", "--joints", "nose", "l_wrist", "r_wrist", "neck") == 0
    schema = load_schema(tmp_path / "out/set.yaml")
    assert schema.flip_pairs == ((1, 2),)
    assert schema.sigmas == (0.026, 0.062, 0.062, 0.079)  # COCO's, and CrowdPose's neck


@pytest.mark.parametrize("names", ["{0: [nose, left_hand, right_hand, tail]}", "[nose, left_hand, right_hand, tail]"])
def test_joint_names_by_class_or_for_all(folder, tmp_path, convert, names) -> None:
    rewrite(folder, TRAIN, "names: {0: person}", SHAPE, f"kpt_names: {names}")
    assert convert(folder, "--out", tmp_path / "out") == 0
    assert load_schema(tmp_path / "out/set.yaml").joints == JOINTS


def test_two_values_have_no_visibility(folder, tmp_path, convert, capsys) -> None:
    rewrite(folder, TRAIN, PERSON, f"kpt_shape: [4, 2]\nflip_idx: {FLIP}")
    label = "0 0.5 0.5 0.5 0.5 0.25 0.5 0 0 -0.01 -0.01 0.5 0\n"
    (folder / "labels/train/a.txt").write_text(label + label)
    assert convert(folder, "--out", tmp_path / "out") == 0
    (person,) = records_of(tmp_path / "out")[0].keypoints
    assert person.tolist() == [[16, 24, 2], [0, 0, 0], [0, 0, 0], [32, 0, 2]]
    printed = capsys.readouterr().out
    assert "joints at (0, 0) or below 0 are not labelled (2)" in printed
    assert "1 labels left out that are equal to another one of their image" in printed


def test_one_class_of_several_is_chosen(folder, tmp_path, convert, refused, capsys) -> None:
    label = yolo_line(Person(ONE), (64, 48))
    (folder / "labels/train/b.txt").write_text(f"1{label[1:]}\n2{label[1:]}\n")
    rewrite(folder, TRAIN, "names: [player, referee, ball]", SHAPE)
    error = refused(folder, "--out", tmp_path / "out")
    assert "several classes have joints: player (0), referee (1), ball (2); choose the people's with --class" in error
    assert "no class 'dog'" in refused(folder, "--out", tmp_path / "out", "--class", "dog")
    assert convert(folder, "--out", tmp_path / "out", "--class", "player", "1") == 0
    assert [len(record.keypoints) for record in records_of(tmp_path / "out")] == [1, 1]
    assert "1 labels of other classes left out" in capsys.readouterr().out


def test_people_without_joints_become_ignored_regions(folder, tmp_path, convert, capsys) -> None:
    (folder / "labels/train/b.txt").write_text("0 0.5 0.5 0.25 0.25" + " 0.1 0.1 0" * 4)
    assert convert(folder, "--out", tmp_path / "out") == 0
    record = records_of(tmp_path / "out")[1]
    assert record.ignored == ([[24, 18, 40, 18, 40, 30, 24, 30]],)
    assert "1 people without a labelled joint: their boxes are regions that training ignores" in capsys.readouterr().out


GOOD = "0 0.5 0.5 0.5 0.5" + " 0.5 0.5 2" * 4


@pytest.mark.parametrize(
    ("label", "error"),
    [
        (
            "0 0.5 0.5 0.5 0.5",
            "line 2: expected 17 numbers (class, box, 4 joints of 3 each: kpt_shape of data.yaml), got 5",
        ),
        (GOOD + " 1", "line 2: expected 17 numbers"),
        (GOOD.replace("0.5", "x", 1), "line 2: expected a number within ±100000, got 'x'"),
        (GOOD.replace("0.5", "nan", 1), "line 2: expected a number within ±100000, got 'nan'"),
        (
            GOOD.replace("0.5 0.5 2", "320 0.5 2", 1),
            "line 2: coordinates must be parts of the image's sides, from 0 to 1",
        ),
        (GOOD.replace("0.5 0.5 0.5 0.5", "0.5 0.5 -0.5 0.5", 1), "line 2: coordinates must be parts"),
        (GOOD.replace("0.5 2", "0.5 3"), "line 2: the visibility of a joint must be 0, 1 or 2, got 3"),
        ("1" + GOOD[1:], "line 2: class 1 is not in 'names'"),
        ("0.5" + GOOD[1:], "line 2: class 0.5 is not in 'names'"),
    ],
)
def test_a_malformed_line_is_named(folder, tmp_path, refused, label, error) -> None:
    (folder / "labels/train/b.txt").write_text(f"{GOOD}\n{label}\n")
    text = refused(folder, "--out", tmp_path / "out")
    assert f"{folder / 'labels/train/b.txt'}: {error}" in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ([TRAIN, PERSON], "data.yaml: kpt_shape: expected [number of joints, 2 or 3], got None"),
        ([TRAIN, PERSON, "kpt_shape: [4, 4]"], "kpt_shape: expected [number of joints, 2 or 3]"),
        ([TRAIN, "names: []", SHAPE], "names: expected the classes' names"),
        (["train: images/none", PERSON, SHAPE], "train: 'images/none' is not there; looked for"),
        (["train: labels", PERSON, SHAPE], "train: no images in 'labels'"),
        (["train: 3", PERSON, SHAPE], "train: expected folders or text files, got 3"),
        (["train: list.txt", PERSON, SHAPE], "list.txt: line 2: no image 'images/train/c.png'"),
        (["train: ", PERSON, SHAPE], "no split: expected train, val or test"),
        ([TRAIN, "path: [a]", PERSON, SHAPE], "path: expected the data set's folder"),
        ([TRAIN, PERSON, "kpt_shape: [4, 3]", "flip_idx: [0, 2, 3, 1]"], "flip_idx: expected for"),
        ([TRAIN, PERSON, "kpt_shape: [4, 3]", "flip_idx: [0, 1]"], "flip_idx: expected for"),
        ([TRAIN, PERSON, SHAPE, "kpt_names: [a, b]"], "kpt_names: expected 4 joint names"),
        ([TRAIN, PERSON, SHAPE, "kpt_names: [a, a, b, c]"], "joints: expected a list of different"),
        ([TRAIN, PERSON, SHAPE, "nc: ["], "cannot read this YOLO data set file"),
    ],
)  # fmt: skip
def test_a_malformed_description_is_named(folder, tmp_path, refused, lines, error) -> None:
    (folder / "list.txt").write_text("images/train/a.png\nimages/train/c.png\n")
    rewrite(folder, *lines)
    assert error in refused(folder / "data.yaml", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_labels_that_are_not_where_they_belong_are_an_error(folder, tmp_path, refused) -> None:
    (folder / "labels").rename(folder / "annotations")
    error = refused(folder, "--out", tmp_path / "out")
    assert "none of 0 people has a labelled joint: nothing to learn from" in error
    assert f"2 of 2 images have no label file (such as {folder / 'labels/train/b.txt'}" in error


def test_an_image_that_cannot_be_read_is_named(folder, tmp_path, refused) -> None:
    (folder / "images/train/b.png").write_bytes(b"no image")
    assert f"{folder / 'images/train/b.png'}: not an image" in refused(folder, "--out", tmp_path / "out")
