"""Hostile annotations and images that once took a reader down, one by one."""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from fuzz_animals import JOINTS, annotations, small_schema

from coupled_embedding.data.coco import join_annotations, load_records
from coupled_embedding.data.images import read_image
from coupled_embedding.utils.errors import DatasetError

pytestmark = pytest.mark.bad_input


def write(folder: Path, kind: str, **changes: Any) -> Path:
    content = annotations()
    content[kind][0] |= changes
    (folder / "hostile.json").write_text(json.dumps(content))
    return folder / "hostile.json"


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("images", {"crowdIndex": 10**400}),
        ("images", {"width": float("inf")}),
        ("images", {"id": float("inf")}),
        ("images", {"id": float("nan")}),
        ("annotations", {"num_keypoints": float("inf")}),
        ("annotations", {"bbox": [10**400, 0.5, 1, 1]}),
        ("annotations", {"keypoints": [10**400] * 9}),
    ],
)
def test_numbers_that_no_float_or_whole_number_can_be(tmp_path: Path, kind: str, changes: dict[str, Any]) -> None:
    write(tmp_path, kind, **changes)
    with pytest.raises(DatasetError, match=r"hostile\.json"):
        load_records(small_schema(tmp_path), "all")


@pytest.mark.parametrize(
    "changes",
    [
        {"images": [{"id": [1]}]},
        {"images": [{"id": {"a": 1}}]},
        {"annotations": [3]},
        {"annotations": ["x"]},
        {"annotations": [[1]]},
        {"annotations": [{"id": [1]}]},
        {"annotations": [{"id": {"a": 1}}]},
    ],
)
def test_joining_entries_that_are_none(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "hostile.json"
    path.write_text(json.dumps({**annotations(), **changes}))
    with pytest.raises(DatasetError, match=r"hostile\.json"):
        join_annotations([path])


@pytest.mark.parametrize("name", ["a\x00b.jpg", "\ud800.jpg"])
def test_image_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    write(tmp_path, "images", file_name=name)
    with pytest.raises(DatasetError):
        read_image(load_records(small_schema(tmp_path), "all")[0].path)


def test_a_polygon_far_outside_its_image(tmp_path: Path) -> None:
    write(tmp_path, "annotations", iscrowd=1, segmentation=[[0, 0, 4, 2**31, 4, 4, 0, 4]])
    with pytest.raises(DatasetError, match=r"hostile\.json: .*within ±100000"):
        load_records(small_schema(tmp_path), "all")


def test_image_ids_with_one_hash(tmp_path: Path) -> None:
    image = annotations()["images"][0]
    images = [{**image, "id": number * (2**61 - 1)} for number in range(100_000)]
    content = {"images": images, "categories": [{"id": 1, "name": "cat", "keypoints": JOINTS}]}
    (tmp_path / "hostile.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"hostile\.json"):
        load_records(small_schema(tmp_path), "all")


def png(width: int, height: int, pixels: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_an_image_of_more_pixels_than_opencv_takes(tmp_path: Path) -> None:
    (tmp_path / "hostile.png").write_bytes(png(40_000, 40_000, zlib.compress(b"")))
    with pytest.raises(DatasetError, match=r"hostile\.png"):
        read_image(tmp_path / "hostile.png")


def test_an_image_with_a_part_that_declares_two_gigabytes(tmp_path: Path) -> None:
    whole = png(60, 40, zlib.compress(bytes(40 * 181)))
    place = whole.index(b"IDAT") - 4
    (tmp_path / "hostile.png").write_bytes(whole[:place] + struct.pack(">I", 2**31 - 1) + whole[place + 4 :])
    with pytest.raises(DatasetError, match=r"hostile\.png"):
        read_image(tmp_path / "hostile.png")


def test_an_image_that_unpacks_to_a_thousand_times_its_size(tmp_path: Path) -> None:
    (tmp_path / "hostile.png").write_bytes(png(30_000, 30_000, zlib.compress(bytes(30_000 * 90_001))))
    with pytest.raises(DatasetError, match=r"hostile\.png"):
        read_image(tmp_path / "hostile.png")
