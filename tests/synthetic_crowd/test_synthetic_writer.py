import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from coupled_embedding.utils.errors import DatasetError
from synthetic_crowd import CrowdSettings, render_scene, write_dataset, writer

SMALL = CrowdSettings(width=64, height=64, max_people=4)


def test_written_dataset_reads_back_with_pycocotools(tmp_path):
    path = write_dataset(tmp_path, "val", SMALL, 3, 6)
    assert path == tmp_path / "json" / "synthetic_val.json"
    coco = COCO(str(path))
    for index, image in enumerate(coco.loadImgs(sorted(coco.getImgIds()))):
        scene = render_scene(SMALL, writer.split_seed("val", 3), index)
        pixels = cv2.imread(str(tmp_path / "images" / image["file_name"]))
        assert pixels.shape == (image["height"], image["width"], 3)
        assert np.abs(pixels.astype(float) - scene.image).mean() < 8
        assert image["crowdIndex"] == pytest.approx(scene.crowd_index)
        people = coco.loadAnns(sorted(coco.getAnnIds(imgIds=image["id"])))
        assert len(people) == len(scene.keypoints)
        for number, person in enumerate(people):
            np.testing.assert_allclose(np.reshape(person["keypoints"], (14, 3)), scene.keypoints[number], atol=0.006)
            np.testing.assert_allclose(person["bbox"], scene.boxes[number], atol=0.006)
            assert person["num_keypoints"] == (scene.keypoints[number, :, 2] > 0).sum()
            np.testing.assert_array_equal(coco.annToMask(person), scene.person_map == number + 1)
            assert person["area"] == scene.areas[number]


def test_fields_are_crowdposes(tmp_path):
    document = json.loads(write_dataset(tmp_path, "val", SMALL, 3, 2).read_text())
    assert set(document["images"][0]) == {"file_name", "id", "height", "width", "crowdIndex"}
    assert set(document["annotations"][0]) == {
        "num_keypoints", "iscrowd", "keypoints", "image_id", "bbox", "category_id", "id", "area", "segmentation",
    }  # fmt: skip
    (category,) = document["categories"]
    assert len(category["keypoints"]) == 14
    assert {joint for edge in category["skeleton"] for joint in edge} == set(range(1, 15))


def test_splits_share_neither_scenes_nor_ids(tmp_path):
    splits = {
        name: json.loads(write_dataset(tmp_path, name, SMALL, 0, 4).read_text()) for name in ("train", "val", "test")
    }
    ids = [entry["id"] for document in splits.values() for entry in document["images"]]
    people = [entry["id"] for document in splits.values() for entry in document["annotations"]]
    assert len(set(ids)) == 12
    assert len(set(people)) == len(people)
    pixels = {path.read_bytes() for path in (tmp_path / "images").iterdir()}
    assert len(pixels) == 12


def test_same_seed_in_another_split_is_another_stream():
    seeds = {writer.split_seed(split, seed) for split in ("train", "val", "test") for seed in range(20)}
    assert len(seeds) == 60
    blocks = [writer.first_image_id(split) for split in ("train", "val", "test", "trainval", "minitrain", "demo")]
    assert len(set(blocks)) == 6
    assert max(blocks) < 2**31 - 1_000_000


def test_workers_write_the_same_files(tmp_path):
    alone = write_dataset(tmp_path / "alone", "val", SMALL, 1, 3)
    helped = write_dataset(tmp_path / "helped", "val", SMALL, 1, 3, workers=1)
    assert alone.read_bytes() == helped.read_bytes()
    for image in (tmp_path / "alone" / "images").iterdir():
        assert image.read_bytes() == (tmp_path / "helped" / "images" / image.name).read_bytes()


def test_same_dataset_is_rendered_once(tmp_path, monkeypatch):
    path = write_dataset(tmp_path, "val", SMALL, 3, 2)
    monkeypatch.setattr(writer, "render_scene", lambda *_: pytest.fail("rendered again"))
    assert write_dataset(tmp_path, "val", SMALL, 3, 2) == path


@pytest.mark.parametrize(
    ("change", "named"),
    [({"count": 3}, "count"), ({"seed": 4}, "seed"), ({"settings": CrowdSettings(width=64, height=80)}, "settings")],
)
def test_another_dataset_is_not_overwritten(tmp_path, change, named):
    arguments = {"settings": SMALL, "seed": 3, "count": 2}
    before = write_dataset(tmp_path, "val", **arguments).read_bytes()
    with pytest.raises(DatasetError, match=f"another dataset .*{named}"):
        write_dataset(tmp_path, "val", **arguments | change)
    assert (tmp_path / "json" / "synthetic_val.json").read_bytes() == before


def test_a_strange_annotation_file_is_not_overwritten(tmp_path):
    target = tmp_path / "json" / "synthetic_val.json"
    target.parent.mkdir()
    target.write_text("notes")
    with pytest.raises(DatasetError, match="not an annotation file"):
        write_dataset(tmp_path, "val", SMALL, 0, 1)
    assert target.read_text() == "notes"


def test_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(settings, seed, index):
        if index == 2:
            raise KeyboardInterrupt
        return render_scene(settings, seed, index)

    monkeypatch.setattr(writer, "render_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path, "val", SMALL, 0, 4)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("../x", SMALL, 0, 1), "split"), (("val", SMALL, -1, 1), "seed"), (("val", SMALL, 0, 0), "count"),
        (("val", SMALL, 0, 1, -2), "workers"),
    ],
)  # fmt: skip
def test_invalid_arguments_are_named_and_nothing_is_written(tmp_path, arguments, named):
    with pytest.raises(ValueError, match=f"{named} is .*must be"):
        write_dataset(tmp_path / "new", *arguments)
    assert not (tmp_path / "new").exists()


@pytest.fixture
def command(monkeypatch, capsys):
    import importlib.util

    path = Path(__file__).parents[2] / "tools" / "make_synthetic.py"
    spec = importlib.util.spec_from_file_location("make_synthetic", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["make_synthetic.py", *map(str, arguments)])
        module.main()
        return capsys.readouterr().out

    return run


def test_command_writes_a_dataset_and_a_sheet(tmp_path, command):
    sheet = tmp_path / "sheet.png"
    chosen = ("--split", "val", "--count", 3, "--size", "64x48", "--sheet-labels")
    said = command("--out", tmp_path / "crowd", "--sheet", sheet, *chosen)
    assert str(tmp_path / "crowd" / "json" / "synthetic_val.json") in said
    assert len(list((tmp_path / "crowd" / "images").glob("*.jpg"))) == 3
    assert cv2.imread(str(sheet)).shape == (48, 3 * 64, 3)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--sheet", "x.png", "--size", "big"), "--size is 'big'"),
        (("--sheet", "x.png", "--crowd-index", "2"), "crowd_index is 2.0"),
        (("--sheet", "x.png", "--count", "0"), "--count 0"),
    ],
)
def test_command_explains_bad_values(command, arguments, text):
    with pytest.raises(ValueError, match=text):
        command(*arguments)
