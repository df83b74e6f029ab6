"""Batches of equal shape, results in order, and never more read ahead than allowed; with a network that is none."""

from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count

import torch
from hypothesis import given
from hypothesis import strategies as st

from coupled_embedding.data.geometry import resize_geometry
from coupled_embedding.data.outputs import Pose
from coupled_embedding.data.test_dataset import group_by_shape
from coupled_embedding.decode.batching import ImageInput, predict_in_order

SIDE = 64
SIZES = [(64, 64), (100, 64), (64, 300), (640, 64)]


class Recording:
    """A pipeline whose pose of an image has the image's number as its score."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(2)

    def start(self, batch, pool, times) -> Future:
        numbers = [int(image[0, 0, 0]) for image in batch.images[0]]
        self.batches.append(numbers)
        times.seconds["network"] = 3.0 * len(numbers)
        return pool.submit(lambda: [[Pose(torch.zeros(1, 3).numpy(), number)] for number in numbers])


def inputs(sizes, read: list[int]):
    for number, size in zip(count(), sizes):
        read.append(number)
        geometry = resize_geometry(size, SIDE)
        pixels = torch.full((geometry.base_size[1], geometry.base_size[0], 3), number)
        yield ImageInput((pixels, pixels), geometry, seconds=number)


sizes = st.lists(st.sampled_from(SIZES), max_size=25)


@given(sizes=sizes, limit=st.integers(1, 5), window=st.integers(0, 8), depth=st.integers(0, 3))
def test_every_image_is_predicted_once_and_results_come_in_order(sizes, limit, window, depth):
    pipeline, read = Recording(), list[int]()
    found = list(predict_in_order(pipeline, inputs(sizes, read), SIDE, limit, window, depth))
    assert [int(one.poses[0].score) for one in found] == list(range(len(sizes)))
    assert [one.time["load"] for one in found] == list(range(len(sizes)))
    assert all(one.time["network"] == 3.0 for one in found)
    shapes = [resize_geometry(size, SIDE).base_size for size in sizes]
    assert all(len({shapes[number] for number in batch}) == 1 for batch in pipeline.batches)
    assert sorted(number for batch in pipeline.batches for number in batch) == list(range(len(sizes)))


@given(sizes=sizes, limit=st.integers(1, 5))
def test_without_a_window_batches_are_those_of_a_test(sizes, limit):
    pipeline = Recording()
    list(predict_in_order(pipeline, inputs(sizes, []), SIDE, limit))
    expected = group_by_shape([resize_geometry(size, SIDE).base_size for size in sizes], limit, SIDE)
    assert sorted(pipeline.batches) == sorted(expected)


@given(sizes=sizes, limit=st.integers(1, 5), window=st.integers(1, 8), depth=st.integers(0, 3))
def test_no_more_than_the_window_and_the_batches_in_work_are_read_ahead(sizes, limit, window, depth):
    read = list[int]()
    for number, _ in enumerate(predict_in_order(Recording(), inputs(sizes, read), SIDE, limit, window, depth)):
        assert len(read) - number <= window + depth * limit + 1


@given(sizes=sizes)
def test_a_camera_waits_for_no_other_frame(sizes):
    read = list[int]()
    for number, _ in enumerate(predict_in_order(Recording(), inputs(sizes, read), SIDE, 4, window=1)):
        assert len(read) == number + 1
