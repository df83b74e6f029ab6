"""tools/split_annotations.py: every image and annotation goes to one of the two files; what is wrong is said."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import split_annotations

Split = Callable[..., int]


def annotations(count: int, people: int = 2) -> dict:
    """Return the content of a file of images 100, 101, ... with 0, 1, ... people, and further fields."""
    return {
        "info": {"year": 2026},
        "images": [{"id": 100 + n, "file_name": f"{n}.jpg", "width": 20, "height": 10} for n in range(count)],
        # in another order than the images
        "annotations": [
            {"id": 10 * n + p, "image_id": 100 + n, "bbox": [n, p, 3, 4]} for p in range(people) for n in range(count)
        ],
        "categories": [{"id": 1, "name": "person"}],
    }


@pytest.fixture(scope="session")
def split() -> Split:
    """split(folder, content or text, argument, ...): run the command on folder/all.json; return its exit code."""

    def run(folder: Path, content: object, *arguments: str, out: tuple[str, str] = ("train.json", "val.json")) -> int:
        (folder / "all.json").write_text(content if isinstance(content, str) else json.dumps(content))
        files = [str(folder / name) for name in out]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["split_annotations.py", str(folder / "all.json"), *arguments, "--out", *files])
            try:
                split_annotations.main()
            except SystemExit as ended:
                return int(ended.code or 0)
        return 0

    return run


def parts(folder: Path) -> list[dict]:
    return [json.loads((folder / name).read_text()) for name in ("train.json", "val.json")]


@given(count=st.integers(2, 40), data=st.data())
def test_every_nth_image_is_for_validation_and_nothing_is_lost(
    tmp_path_factory: pytest.TempPathFactory, split: Split, count: int, data: st.DataObject
) -> None:
    folder, content = tmp_path_factory.mktemp("split"), annotations(count)
    every = data.draw(st.integers(2, count))
    assert split(folder, content, "--every", str(every)) == 0
    train, val = parts(folder)
    assert [image["id"] - 100 for image in val["images"]] == list(range(every - 1, count, every))
    for key in ("images", "annotations"):
        assert all(entry in content[key] for part in (train, val) for entry in part[key])
        assert len(train[key]) + len(val[key]) == len(content[key])
    for part in (train, val):
        ids = [image["id"] for image in part["images"]]
        assert ids == sorted(ids)  # the file's order
        kept = [a["id"] for a in part["annotations"]]
        assert kept == [a["id"] for a in content["annotations"] if a["image_id"] in ids]
        assert (part["info"], part["categories"]) == (content["info"], content["categories"])


@pytest.mark.parametrize("most", [1, 3, 5, 9])
def test_no_more_images_than_asked_for_are_held_out(tmp_path: Path, split: Split, most: int) -> None:
    content = annotations(35)
    assert split(tmp_path, content, "--every", "7", "--most", str(most)) == 0
    train, val = parts(tmp_path)
    held_out = [106, 113, 120, 127, 134][:most]
    assert [image["id"] for image in val["images"]] == held_out
    assert [image["id"] for image in train["images"]] == [n for n in range(100, 135) if n not in held_out]
    assert len(train["annotations"]) + len(val["annotations"]) == len(content["annotations"])


def test_a_limit_below_zero_is_refused(tmp_path: Path, split: Split, capsys: pytest.CaptureFixture[str]) -> None:
    assert split(tmp_path, annotations(20), "--most", "-1") == 2
    assert "--most: expected a number from 0 on, got -1" in capsys.readouterr().err
    assert not (tmp_path / "train.json").exists()


def test_every_tenth_by_default_and_the_counts_are_printed(
    tmp_path: Path, split: Split, capsys: pytest.CaptureFixture[str]
) -> None:
    assert split(tmp_path, annotations(25), out=("new/train.json", "val.json")) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        f"{tmp_path / 'new' / 'train.json'}: 23 images, 46 annotations",
        f"{tmp_path / 'val.json'}: 2 images, 4 annotations",
    ]


@pytest.mark.parametrize("every", ["1", "0", "-3", "6"])
def test_a_share_that_leaves_a_file_empty_is_refused(
    tmp_path: Path, split: Split, capsys: pytest.CaptureFixture[str], every: str
) -> None:
    assert split(tmp_path, annotations(5), "--every", every) == 2
    assert f"every {every}: expected 2 to 5, the number of images in {tmp_path / 'all.json'}" in capsys.readouterr().err
    assert not (tmp_path / "train.json").exists()


@pytest.mark.parametrize(
    ("name", "out"),
    [
        ("train.json", ("train.json", "x.json")),
        ("val.json", ("x.json", "val.json")),
        ("all.json", ("x.json", "all.json")),
    ],
)
def test_existing_files_are_kept(
    tmp_path: Path, split: Split, capsys: pytest.CaptureFixture[str], name: str, out: tuple[str, str]
) -> None:
    (tmp_path / name).write_text("mine")
    assert split(tmp_path, annotations(20), out=out) == 2
    assert f"{tmp_path / name} exists; delete it first to write it again" in capsys.readouterr().err
    assert not (tmp_path / "x.json").exists()
    assert (tmp_path / name).read_text() == ("mine" if name != "all.json" else json.dumps(annotations(20)))


def test_both_parts_in_one_file_are_refused(tmp_path: Path, split: Split, capsys: pytest.CaptureFixture[str]) -> None:
    assert split(tmp_path, annotations(20), out=("a.json", "sub/../a.json")) == 2
    assert "--out: expected two different files" in capsys.readouterr().err
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "cannot read this annotation file"),
        ({"images": []}, "'annotations' must be a list in a COCO-format annotation file"),
        ({"annotations": []}, "'images' must be a list in a COCO-format annotation file"),
        ([], "'images' must be a list in a COCO-format annotation file"),
        ({"images": ["a.jpg", "b.jpg"], "annotations": []}, "image 'a.jpg' has no 'id' that is a number or a text"),
        ({"images": [{"id": 1}, {"id": [2]}], "annotations": []}, "has no 'id' that is a number or a text"),
        ({"images": [{"id": 1}, {}], "annotations": []}, "image {} has no 'id' that is a number or a text"),
        ({"images": [{"id": 1}, {"id": 1}], "annotations": []}, "image 1 is listed twice"),
        ({"images": [{"id": 1}, {"id": 2}], "annotations": ["x"]}, "annotation 'x' is of none of the images"),
        (
            {"images": [{"id": 1}, {"id": 2}], "annotations": [{"id": 7, "image_id": 3}]},
            "annotation {'id': 7, 'image_id': 3} is of none of the images",
        ),
        (
            {"images": [{"id": 1}, {"id": 2}], "annotations": [{"id": 7, "image_id": [1]}]},
            "annotation {'id': 7, 'image_id': [1]} is of none of the images",
        ),
    ],
)
def test_what_is_wrong_with_the_file_is_said(
    tmp_path: Path, split: Split, capsys: pytest.CaptureFixture[str], content: object, text: str
) -> None:
    assert split(tmp_path, content, "--every", "2") == 2
    error = capsys.readouterr().err
    assert text in error
    assert str(tmp_path / "all.json") in error
    assert not (tmp_path / "train.json").exists()
