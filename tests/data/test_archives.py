"""Images inside zip files."""

import json
import os
import struct
import zipfile

import numpy as np
import pytest
from invalid_images import encoded, smooth_image

from coupled_embedding.data.coco import load_records
from coupled_embedding.data.dataset import TrainDataset
from coupled_embedding.data.images import read_record_image
from coupled_embedding.data.io import archives
from coupled_embedding.data.io.archives import inside_archive, read_member
from coupled_embedding.data.loader import StepBatchSampler, train_batches
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import schema_from_dict
from coupled_embedding.data.transforms import Augmentation
from coupled_embedding.utils.errors import DatasetError

pytestmark = pytest.mark.bad_input

COUNT = 6


def schema(root):
    return schema_from_dict(
        {
            "name": "x",
            "joints": ["a", "b", "c"],
            "flip_pairs": [["b", "c"]],
            "skeleton": [],
            "sigmas": [0.1] * 3,
            "root": str(root),
            "splits": {"train": {"annotations": "train.json", "images": "train2017.zip"}},
        },
        "x.yaml",
    )


@pytest.fixture(params=["", "train2017/"], ids=["flat", "with_a_folder"])
def records(request, tmp_path):
    """Records of a data set whose images are inside train2017.zip, in a folder of the same name as in COCO's or not."""
    with zipfile.ZipFile(tmp_path / "train2017.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(COUNT):
            archive.writestr(f"{request.param}{number} é.png", encoded(".png", smooth_image() + np.uint8(number)))
    images = [{"id": n, "file_name": f"{n} é.png", "width": 40, "height": 32} for n in range(COUNT)]
    (tmp_path / "train.json").write_text(json.dumps({"images": images}))
    return load_records(schema(tmp_path), "train")


def test_a_split_of_a_zip_file_needs_no_unpacking(records, tmp_path):
    for number, record in enumerate(records):
        np.testing.assert_array_equal(read_record_image(record), smooth_image() + np.uint8(number))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.json", "train2017.zip"]


def test_forked_processes_read_at_once(records):
    dataset = TrainDataset(records, (0, 2, 1), Augmentation((1, 1), 0, 0, 0), 32, (4,))
    read_record_image(records[0])  # this process has its handle before the others fork
    sampler = StepBatchSampler(COUNT, 2, last_step=9)
    alone, helped = (list(train_batches(dataset, sampler, workers, False)) for workers in (0, 2))
    assert [batch.image_ids for batch in alone] == [batch.image_ids for batch in helped]
    assert all((a.images == b.images).all() for a, b in zip(alone, helped, strict=True))


def test_an_archive_is_opened_once_a_process(records, monkeypatch):
    archives._opened.cache_clear()
    opened = []
    monkeypatch.setattr(zipfile, "ZipFile", lambda path: opened.append(path) or _real(path))
    for record in records * 2:
        read_record_image(record)
    assert len(opened) == 1
    # what a forked process would see: another number, so a handle of its own
    monkeypatch.setattr(os, "getpid", lambda: -1)
    read_record_image(records[0])
    assert len(opened) == 2


_real = zipfile.ZipFile


def test_paths_are_split_at_the_archive(tmp_path):
    assert inside_archive(tmp_path / "a.zip" / "b" / "c.jpg") == (tmp_path / "a.zip", "b/c.jpg")
    assert inside_archive(tmp_path / "a" / "c.jpg") is None
    (tmp_path / "folder.zip").mkdir()
    assert inside_archive(tmp_path / "folder.zip" / "c.jpg") is None
    (tmp_path / "folder.zip" / "c.png").write_bytes(encoded(".png"))
    assert read_record_image(_record(tmp_path / "folder.zip" / "c.png")).shape == (32, 40, 3)


def _record(path):
    return ImageRecord(1, path, 40, 32, np.zeros((0, 3, 3), np.float32), np.zeros((0, 4), np.float32))


def to_flat(path, content=b"x" * 5000, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("image.png", content)
    return bytearray(path.read_bytes())


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda path, whole: path.unlink(), r"cannot read this archive \(No such file"),
        (lambda path, whole: path.write_bytes(b""), "the archive is damaged"),
        (lambda path, whole: path.write_bytes(whole[: len(whole) // 2]), "the archive is damaged"),
        (lambda path, whole: path.write_bytes(b"<html>404</html>"), "the archive is damaged"),
        # a flipped byte in the middle of the image, a member that claims to be encrypted, an unknown compression
        (lambda path, whole: path.write_bytes(whole[:45] + bytes([whole[45] ^ 255]) + whole[46:]), "is damaged"),
        (lambda path, whole: path.write_bytes(changed(whole, 8, 1)), "cannot be unpacked .*encrypted"),
        (lambda path, whole: path.write_bytes(changed(whole, 10, 77)), "cannot be unpacked"),
    ],
)
def test_a_missing_or_damaged_archive_is_named(tmp_path, harm, reason):
    archives._opened.cache_clear()
    path = tmp_path / "images.zip"
    harm(path, to_flat(path))
    with pytest.raises(DatasetError, match=rf"images\.zip/image\.png: .*{reason}"):
        read_record_image(_record(path / "image.png"))


def changed(whole, offset, value):
    """Change a field of the directory's entry, and the same one of the member's own header."""
    whole = bytearray(whole)
    entry = whole.rindex(b"PK\1\2")
    for place in (entry + offset, offset - 2):
        whole[place : place + 2] = struct.pack("<H", value)
    return bytes(whole)


def test_an_image_that_is_not_in_the_archive_is_named_with_what_is(tmp_path):
    to_flat(tmp_path / "images.zip")
    with pytest.raises(DatasetError, match=r"holds neither 'no\.png' nor 'images/no\.png', but 'image\.png'"):
        read_record_image(_record(tmp_path / "images.zip" / "no.png"))


def test_a_member_that_unpacks_beyond_the_limit_is_refused(tmp_path):
    to_flat(tmp_path / "bomb.zip", bytes(10**6))
    with pytest.raises(DatasetError, match=r"bomb\.zip/image\.png: unpacks to 1000000 bytes; the limit is 1000"):
        read_member(tmp_path / "bomb.zip", "image.png", 1000)
