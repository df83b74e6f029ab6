"""Images of all kinds, valid and invalid, through reading, training samples and their loader."""

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from invalid_images import (
    BROKEN,
    HEIGHT,
    WIDTH,
    animated_gif,
    animated_png,
    animated_webp,
    encoded,
    png,
    smooth_image,
    turned_jpeg,
    write,
)

from coupled_embedding.data.dataset import SampleKey, TrainDataset
from coupled_embedding.data.images import read_image, read_record_image
from coupled_embedding.data.io.data_errors import DataErrorPolicy
from coupled_embedding.data.io.headers import read_header
from coupled_embedding.data.loader import StepBatchSampler, train_batches
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.transforms import Augmentation
from coupled_embedding.utils.errors import DatasetError

pytestmark = pytest.mark.bad_input

RED = [0, 0, 255]  # blue, green, red


def record(path: Path, size=(WIDTH, HEIGHT)) -> ImageRecord:
    return ImageRecord(101, path, *size, np.ones((1, 3, 3), np.float32), np.ones((1, 4), np.float32))


def dataset_of(records, skip=False, **options):
    return TrainDataset(
        records, (0, 2, 1), Augmentation(color=0.2), 32, (4, 2), max_people=4, policy=DataErrorPolicy(skip), **options
    )


# name -> content, size, a pixel (row, column) and its color, tolerance
VALID = {
    "one_pixel.png": (png(1, 1, b"\0\xff\0\0"), (1, 1), (0, 0), RED, 0),
    "long.png": (png(20_000, 20, (b"\0" + b"\xff\0\0" * 20_000) * 20), (20_000, 20), (19, 19_999), RED, 0),
    "gray.png": (encoded(".png", smooth_image()[..., 0]), (40, 32), (3, 4), [30] * 3, 0),
    "alpha.png": (
        encoded(".png", np.dstack([smooth_image(), np.zeros((HEIGHT, WIDTH), np.uint8)])),
        (40, 32),
        (3, 4),
        smooth_image()[3, 4].tolist(),
        0,
    ),
    "sixteen_bits.png": (
        encoded(".png", smooth_image().astype(np.uint16) * 257),
        (40, 32),
        (3, 4),
        smooth_image()[3, 4].tolist(),
        0,
    ),
    "turned.jpg": (turned_jpeg(), (40, 32), (30, 2), smooth_image()[30, 2].tolist(), 8),
    "progressive.jpg": (
        encoded(".jpg", None, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        (40, 32),
        (30, 2),
        smooth_image()[30, 2].tolist(),
        8,
    ),
    "with an appendix.jpg": (encoded(".jpg") + b"more" * 99, (40, 32), (30, 2), smooth_image()[30, 2].tolist(), 8),
    "with a thumbnail.jpg": (
        encoded(".jpg")[:2] + b"\xff\xe2\x00\x08ab\xff\xd9\0\0" + encoded(".jpg")[2:],
        (40, 32),
        (30, 2),
        smooth_image()[30, 2].tolist(),
        8,
    ),
    "animated.gif": (animated_gif(), (2, 2), (0, 0), RED, 0),
    "animated.png": (animated_png(), (3, 2), (0, 0), RED, 0),
    "animated.webp": (animated_webp(), (40, 32), (3, 4), smooth_image()[3, 4].tolist(), 8),
    "fête 写真 😀.png": (encoded(".png"), (40, 32), (3, 4), smooth_image()[3, 4].tolist(), 0),
    "upside_down.bmp": (encoded(".bmp"), (40, 32), (3, 4), smooth_image()[3, 4].tolist(), 0),
}


@pytest.mark.parametrize("name", VALID)
def test_unusual_images_are_read_as_stored_and_trained_on(tmp_path, name):
    content, size, place, color, tolerance = VALID[name]
    stored = record(write(tmp_path / name, content), size)
    image = read_record_image(stored)
    assert (image.shape, image.dtype) == ((size[1], size[0], 3), np.uint8)
    assert np.abs(image[place].astype(int) - color).max() <= tolerance
    assert read_header(content).size == size
    assert not read_header(content).cut
    sample = dataset_of([stored]).sample(SampleKey(0, 0, 1))
    assert sample.image.shape == (32, 32, 3)
    assert sample.skipped == ()


def test_print_colors_become_screen_colors(tmp_path):
    image = pytest.importorskip("PIL.Image")  # torchvision needs it; OpenCV writes no CMYK
    rgb = image.fromarray(smooth_image()[..., ::-1].copy())
    rgb.convert("CMYK").save(tmp_path / "print.jpg", quality=100)
    assert np.abs(read_record_image(record(tmp_path / "print.jpg")).astype(int) - smooth_image()).max() < 12


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_image_is_named_before_it_costs_anything(tmp_path, kind, monkeypatch):
    content, reason = BROKEN[kind]
    path = write(tmp_path / f"{kind} file.jpg", content) if kind != "missing" else tmp_path / "missing file.jpg"
    if "bomb" in kind:
        monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(DatasetError, match=rf"{path.name}: .*({reason}).*DATASET\.ON_INVALID skip"):
        dataset_of([record(path)]).sample(SampleKey(0, 0, 1))


def test_an_image_that_others_may_not_read_is_named():
    # a folder that everybody may enter; pytest's own are closed
    path = Path(os.path.realpath(f"/tmp/locked_{os.getpid()}.png"))
    root = os.geteuid() == 0
    try:
        write(path, encoded(".png")).chmod(0)
        if root:
            os.seteuid(65534)
        with pytest.raises(DatasetError, match=rf"{path.name}: cannot read this image \(Permission denied\)"):
            read_record_image(record(path))
    finally:
        if root:
            os.seteuid(0)
        path.unlink(missing_ok=True)


def test_names_that_are_none_are_errors_and_not_crashes():
    for name in ("a\0b.jpg", "\ud800.jpg", "x" * 5000 + ".jpg"):
        with pytest.raises(DatasetError, match="cannot read this image"):
            read_record_image(record(Path(name)))


def test_images_beyond_the_limit_are_refused_where_nothing_is_annotated(tmp_path):
    path = write(tmp_path / "bomb.png", png(30_000, 30_000))
    with pytest.raises(DatasetError, match=r"bomb\.png: the image is 30000×30000 pixels; at most \d+ are read"):
        read_image(path)


def three(tmp_path, make_records, broken=(1,)):
    """Three records of which some are broken."""
    records = make_records(3, people=1)
    for number in broken:
        records[number].path.write_bytes(b"")
    return records


def same(first, second):
    arrays = [[s.image, *s.joints, *s.masks, s.scales] for s in (first, second)]
    return all(np.array_equal(a, b) for a, b in zip(*arrays, strict=True))


@pytest.mark.parametrize("kind", BROKEN)
def test_the_next_image_takes_the_place_of_a_broken_one(tmp_path, make_records, kind):
    records = make_records(3, people=1)
    broken = tmp_path / f"{kind}.jpg"
    if kind != "missing":
        write(broken, BROKEN[kind][0])
    records[1] = replace(records[1], path=broken)
    sample = dataset_of(records, skip=True).sample(SampleKey(4, 1, 3))
    assert sample.image_id == 102
    (issue,) = sample.skipped
    assert (issue.file, issue.image_id, issue.field) == (str(broken), 101, "image")
    # the same image in both places, augmented by its position, whoever loads it
    twin = dataset_of([records[0], records[2], records[2]]).sample(SampleKey(4, 1, 3))
    assert same(sample, twin)
    assert not same(sample, dataset_of(records).sample(SampleKey(4, 2, 3)))


def test_after_the_last_image_comes_the_first(tmp_path, make_records):
    sample = dataset_of(three(tmp_path, make_records, broken=(1, 2)), skip=True).sample(SampleKey(0, 1, 3))
    assert sample.image_id == 100
    assert [issue.image_id for issue in sample.skipped] == [101, 102]


@pytest.mark.parametrize("workers", [0, 2])
def test_no_image_at_all_is_an_error_and_no_endless_search(tmp_path, make_records, workers):
    dataset = dataset_of(three(tmp_path, make_records, broken=(0, 1, 2)), skip=True)
    with pytest.raises(DatasetError, match=r"none of the 3 images can be read; \S*image_\d\.png: not an image"):
        list(train_batches(dataset, StepBatchSampler(3, 3, last_step=1), workers, pin_memory=False))


@pytest.mark.parametrize("workers", [0, 2])
def test_steps_keep_their_images_and_batches_say_what_was_skipped(tmp_path, make_records, workers):
    records = make_records(9, people=1)
    for number in (2, 3, 7):
        records[number].path.write_bytes(b"")
    dataset = dataset_of(records, skip=True)
    sampler = StepBatchSampler(9, 2, ranks=2, last_step=6)
    ranks = [
        list(train_batches(dataset, StepBatchSampler(9, 2, rank=rank, ranks=2, last_step=6), workers, False))
        for rank in range(2)
    ]
    planned = [[len(keys) for keys in StepBatchSampler(9, 2, rank=rank, ranks=2, last_step=6)] for rank in range(2)]
    assert [[len(batch.image_ids) for batch in batches] for batches in ranks] == planned
    epoch = [batch for batches in ranks for batch in batches[: sampler.steps_per_epoch]]
    assert {issue.image_id for batch in epoch for issue in batch.skipped} == {102, 103, 107}
    assert not {102, 103, 107} & {image_id for batch in epoch for image_id in batch.image_ids}
    # a resumed sampler goes on with the same batches
    (_, *rest) = ranks[0]
    again = list(train_batches(dataset, StepBatchSampler(9, 2, rank=0, ranks=2, first_step=1, last_step=6), 0, False))
    assert all(torch.equal(a.images, b.images) for a, b in zip(rest, again, strict=True))
    assert [batch.skipped for batch in rest] == [batch.skipped for batch in again]


def test_a_region_that_cannot_be_drawn_counts_as_a_broken_image(make_records):
    records = make_records(2, people=1)
    records[0] = replace(records[0], ignored=({"size": [1, 1]},))
    sample = dataset_of(records, skip=True).sample(SampleKey(0, 0, 2))
    assert (sample.image_id, sample.skipped[0].field) == (101, "segmentation")
