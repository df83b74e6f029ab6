"""Which format a source has, what is written where, and what is never overwritten."""

import json
from pathlib import Path
from zipfile import ZipFile

import pytest
from other_formats import ONE, Person, Scene, cvat_xml, write_cvat, write_label_studio, write_roboflow, write_yolo

from coupled_embedding.data.coco import load_records
from coupled_embedding.data.images import read_record_image
from coupled_embedding.data.schema import load_schema

SPLITS = {"train": [Scene("a.png", [Person(ONE)])], "val": [Scene("b.png", [])]}


def test_a_folder_of_two_formats_is_ambiguous(tmp_path, convert, refused) -> None:
    write_yolo(tmp_path, SPLITS)
    (tmp_path / "annotations.xml").write_text(cvat_xml(""))
    error = refused(tmp_path, "--out", tmp_path / "out")
    assert f"{tmp_path}: of which format? data.yaml says yolo, annotations.xml says cvat; choose with --format" in error
    assert convert(tmp_path, "--out", tmp_path / "out", "--format", "yolo") == 0
    assert convert(tmp_path / "data.yaml", "--out", tmp_path / "other") == 0


def test_coco_and_label_studio_differ_by_what_is_in_the_file(tmp_path, refused) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf {"images": 1}')
    (tmp_path / "b.json").write_text('  [{"id": 1}]')
    error = refused(tmp_path, "--out", tmp_path / "out")
    assert "a.json says coco, b.json says label-studio" in error
    assert "'images' must be a list" in refused(tmp_path / "a.json", "--out", tmp_path / "out")
    assert "task 1: has no" in refused(tmp_path / "b.json", "--out", tmp_path / "out")


@pytest.mark.parametrize("name", ["", "a.txt", "a.json", "a.zip", "gone"])
def test_an_unknown_source_is_refused(tmp_path, refused, name) -> None:
    if name not in ("", "gone"):
        (tmp_path / name).write_text("words")
    error = refused(tmp_path / name if name else tmp_path, "--out", tmp_path / "out")
    assert {"a.zip": "unpack this archive", "gone": "no such file"}.get(name, "of no known format; looked for") in error


@pytest.mark.parametrize("taken", ["mine.yaml", "annotations/val.json", "images/train"])
def test_nothing_is_overwritten(tmp_path, refused, taken) -> None:
    write_yolo(tmp_path / "set", SPLITS)
    (tmp_path / "out" / taken).parent.mkdir(parents=True)
    (tmp_path / "out" / taken).write_text("mine")
    error = refused(tmp_path / "set", "--out", tmp_path / "out", "--name", "mine", "--copy")
    assert f"{tmp_path / 'out' / taken} exists; delete it first to convert again" in error
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == [Path(taken).name]
    assert (tmp_path / "out" / taken).read_text() == "mine"


def test_images_are_copied_on_request_alone(tmp_path, convert) -> None:
    write_yolo(tmp_path / "set", SPLITS)
    assert convert(tmp_path / "set", "--out", tmp_path / "out", "--copy") == 0
    assert load_schema(tmp_path / "out/set.yaml").split("val").images == "images/val"
    assert (tmp_path / "out/images/val/b.png").read_bytes() == (tmp_path / "set/images/val/b.png").read_bytes()
    (record,) = load_records(load_schema(tmp_path / "out/set.yaml"), "train", root=str(tmp_path / "out"))
    assert record.path == tmp_path / "out/images/train/a.png"


def test_the_result_may_lie_beside_the_images(tmp_path, convert) -> None:
    write_yolo(tmp_path / "set", SPLITS)
    assert convert(tmp_path / "set", "--out", tmp_path / "set") == 0
    assert load_schema(tmp_path / "set/set.yaml").split("val").images == "images/val"


@pytest.mark.parametrize("copy", [[], ["--copy"]])
@pytest.mark.parametrize("top", ["", "frames/", "elsewhere/"])
def test_images_may_be_in_a_zip_file(tmp_path, convert, refused, top, copy) -> None:
    write_cvat(tmp_path / "set", SPLITS)
    with ZipFile(tmp_path / "frames.zip", "w") as archive:
        for path in (tmp_path / "set").rglob("*.png"):
            archive.write(path, f"{top}{path.name}")
    source = tmp_path / "set/annotations.xml"
    arguments = (source, "--out", tmp_path / "out", "--name", "mine", "--images", tmp_path / "frames.zip", *copy)
    if top == "elsewhere/":
        assert "no image 'a.png' in" in refused(*arguments)
        return
    assert convert(*arguments) == 0
    (record,) = load_records(load_schema(tmp_path / "out/mine.yaml"), "train")
    assert read_record_image(record).shape == (48, 64, 3)


def test_the_name_is_the_source_s(tmp_path, convert, refused) -> None:
    for number, (source, write) in enumerate(
        (("my set", write_cvat), ("b", write_roboflow), ("c", write_label_studio))
    ):
        written = write(tmp_path / source, SPLITS)
        out = tmp_path / f"out{number}"
        assert convert(written.source, "--out", out, *written.arguments) == 0
        (path,) = out.glob("*.yaml")
        assert load_schema(path).name == path.stem == ("my_set", "b", "export")[number]
    assert convert(tmp_path / "my set/annotations.xml", "--out", tmp_path / "again") == 0
    assert (tmp_path / "again/my_set.yaml").is_file()
    assert "name: 'a/b' cannot be part" in refused(tmp_path / "b", "--out", tmp_path / "new", "--name", "a/b")


def test_images_of_several_folders_keep_their_folders(tmp_path, convert) -> None:
    write_yolo(tmp_path / "set", SPLITS)
    text = (tmp_path / "set/data.yaml").read_text()
    (tmp_path / "set/data.yaml").write_text(text.replace("train: images/train", "train: [images/train, images/val]"))
    assert convert(tmp_path / "set", "--out", tmp_path / "out") == 0
    content = json.loads((tmp_path / "out/annotations/train.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["train/a.png", "val/b.png"]
    assert [r.path.is_file() for r in load_records(load_schema(tmp_path / "out/set.yaml"), "train")] == [True, True]
