"""Which images each rank trains with, and the batches that workers bring."""

import shutil
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coupled_embedding.builders import build_train_dataset
from coupled_embedding.config import load_config
from coupled_embedding.data import loader
from coupled_embedding.data.dataset import TrainDataset
from coupled_embedding.data.loader import StepBatchSampler, train_batches
from coupled_embedding.data.schema import schema_from_dict
from coupled_embedding.data.transforms import Augmentation
from coupled_embedding.utils.errors import DatasetError

COUNTS = {"num_images": st.integers(12, 60), "images": st.integers(1, 4), "accumulate": st.integers(1, 3)}


def sampled(num_images, images, accumulate=1, ranks=1, last_step=0, **options):
    """Return every rank's list of batches."""
    return [
        list(StepBatchSampler(num_images, images, accumulate, rank, ranks, last_step=last_step, **options))
        for rank in range(ranks)
    ]


def step_images(by_rank, step, accumulate):
    """Return the images of one step over all ranks and passes, sorted."""
    batches = [batch for batches in by_rank for batch in batches[step * accumulate : (step + 1) * accumulate]]
    return sorted(key.image for batch in batches for key in batch)


@given(**COUNTS, ranks=st.integers(1, 4))
def test_every_image_comes_once_an_epoch_but_for_a_remainder_that_is_too_small(num_images, images, accumulate, ranks):
    sampler = StepBatchSampler(num_images, images, accumulate, 0, ranks)
    steps = sampler.steps_per_epoch
    by_rank = sampled(num_images, images, accumulate, ranks, last_step=2 * steps)
    parts = ranks * accumulate
    remainder = num_images % (parts * images)
    left_out = remainder if remainder < parts else 0
    for epoch in range(2):
        batches = [
            b for batches in by_rank for b in batches[epoch * steps * accumulate : (epoch + 1) * steps * accumulate]
        ]
        taken = [key.image for batch in batches for key in batch]
        assert {key.epoch for batch in batches for key in batch} == {epoch}
        assert len(taken) == len(set(taken)) == num_images - left_out
        assert set(taken) <= set(range(num_images))


@given(num_images=st.integers(24, 60), images=st.integers(1, 3), ranks=st.integers(1, 4), seed=st.integers(0, 99))
def test_many_ranks_train_with_the_images_of_one(num_images, images, ranks, seed):
    steps = num_images // (images * ranks)
    many = sampled(num_images, images, 1, ranks, last_step=steps, seed=seed)
    passes = sampled(num_images, images, ranks, 1, last_step=steps, seed=seed)
    one = sampled(num_images, images * ranks, 1, 1, last_step=steps, seed=seed)
    for step in range(steps):
        taken = step_images(one, step, 1)
        assert step_images(many, step, 1) == taken
        assert step_images(passes, step, ranks) == taken


@given(num_images=st.integers(24, 90), images=st.integers(1, 3), accumulate=st.integers(1, 3), ranks=st.just(4))
def test_each_pass_of_many_ranks_holds_the_images_of_ones(num_images, images, accumulate, ranks):
    # batch statistics over all ranks are those of a pass: 6 images in 2 passes are 3 and 3, whoever holds them
    steps = StepBatchSampler(num_images, images, accumulate, 0, ranks).steps_per_epoch
    many = sampled(num_images, images, accumulate, ranks, last_step=steps)
    (one,) = sampled(num_images, images * ranks, accumulate, last_step=steps)
    for pass_, together in enumerate(one):
        assert [key for batches in many for key in batches[pass_]] == together


@given(**COUNTS, ranks=st.integers(1, 4))
def test_every_pass_of_a_step_gets_an_even_share_and_knows_the_whole(num_images, images, accumulate, ranks):
    steps = StepBatchSampler(num_images, images, accumulate, 0, ranks).steps_per_epoch
    by_rank = sampled(num_images, images, accumulate, ranks, last_step=steps)
    for step in range(steps):
        batches = [b for batches in by_rank for b in batches[step * accumulate : (step + 1) * accumulate]]
        sizes = [len(batch) for batch in batches]
        assert 1 <= min(sizes) <= max(sizes) <= images
        assert max(sizes) - min(sizes) <= 1
        assert {key.step_images for batch in batches for key in batch} == {sum(sizes)}
        if step < num_images // (ranks * accumulate * images):
            assert set(sizes) == {images}


def test_an_uneven_remainder_is_sharded():
    # 3 ranks of 4: one step of 12, then 5 images as 2 + 2 + 1
    by_rank = sampled(17, 4, ranks=3, last_step=2)
    assert [len(batches[1]) for batches in by_rank] == [2, 2, 1]
    assert {key.step_images for batches in by_rank for key in batches[1]} == {5}


def test_a_remainder_with_less_than_one_image_each_is_left_out():
    sampler = StepBatchSampler(14, 4, 1, 0, 3)
    assert sampler.steps_per_epoch == 1
    assert StepBatchSampler(15, 4, 1, 0, 3).steps_per_epoch == 2


@given(**COUNTS, ranks=st.integers(1, 4))
def test_a_partial_step_is_dropped_on_demand_unless_it_is_all_there_is(num_images, images, accumulate, ranks):
    whole = images * accumulate * ranks
    dropped = StepBatchSampler(num_images, images, accumulate, 0, ranks, drop_last=True)
    assert dropped.steps_per_epoch == max(1, num_images // whole)
    by_rank = sampled(num_images, images, accumulate, ranks, 2 * dropped.steps_per_epoch, drop_last=True)
    for step in range(2 * dropped.steps_per_epoch):
        assert len(step_images(by_rank, step, accumulate)) == min(whole, num_images)


def test_cocos_epoch_has_the_released_programs_iterations():
    assert StepBatchSampler(64115, 10, 1, 0, 8, drop_last=True).steps_per_epoch == 801


def test_epochs_and_seeds_have_other_orders():
    def order(seed, epoch):
        (batches,) = sampled(20, 20, last_step=2, seed=seed)
        return [key.image for key in batches[epoch]]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
    assert order(1, 0) != list(range(20))


@given(**COUNTS, data=st.data())
def test_a_resumed_sampler_goes_on_where_the_whole_one_would(num_images, images, accumulate, data):
    steps = 2 * StepBatchSampler(num_images, images, accumulate).steps_per_epoch + 1
    first = data.draw(st.integers(0, steps))
    (whole,) = sampled(num_images, images, accumulate, last_step=steps)
    (rest,) = sampled(num_images, images, accumulate, last_step=steps, first_step=first)
    assert rest == whole[first * accumulate :]
    assert len(StepBatchSampler(num_images, images, accumulate, first_step=first, last_step=steps)) == len(rest)


def test_too_few_images_are_an_error():
    with pytest.raises(DatasetError, match="5 images are too few for 3 ranks with 2 forward passes"):
        StepBatchSampler(5, 10, 2, 0, 3)
    assert StepBatchSampler(6, 10, 2, 0, 3).steps_per_epoch == 1


def dataset_of(records):
    return TrainDataset(records, (0, 2, 1), Augmentation(color=0.2), 32, (4, 2), max_people=4, seed=3)


def load(dataset, workers, **options):
    sampler = StepBatchSampler(
        len(dataset), 3, last_step=2 * StepBatchSampler(len(dataset), 3).steps_per_epoch, **options
    )
    return list(train_batches(dataset, sampler, workers, pin_memory=False))


def test_workers_bring_the_same_batches_as_none(make_records):
    dataset = dataset_of(make_records(7))
    alone, helped = load(dataset, 0), load(dataset, 2)
    assert [batch.image_ids for batch in alone] == [batch.image_ids for batch in helped]
    assert [len(batch.image_ids) for batch in alone] == [3, 3, 1] * 2
    for one, two in zip(alone, helped, strict=True):
        tensors = zip(
            [one.images, one.scales, *one.joints, *one.masks], [two.images, two.scales, *two.joints, *two.masks]
        )
        assert all(torch.equal(a, b) for a, b in tensors)


def test_batches_hold_the_plans_images_augmented_differently_each_epoch(make_records):
    dataset = dataset_of(make_records(6, people=1))
    (planned,) = sampled(6, 3, last_step=4)
    batches = load(dataset, 0)
    assert [batch.image_ids for batch in batches] == [[100 + key.image for key in keys] for keys in planned]
    images = {(n // 2, i): batch.images[k] for n, batch in enumerate(batches) for k, i in enumerate(batch.image_ids)}
    assert all(not torch.equal(images[0, i], images[1, i]) for i in range(100, 106))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("wrong", [{"path": "gone.png"}, {"height": 33}])
def test_an_unreadable_image_is_named_whatever_the_workers(make_records, workers, wrong):
    records = make_records(4)
    if "path" in wrong:
        wrong = {"path": records[2].path.with_name(wrong["path"])}
    records[2] = replace(records[2], **wrong)
    with pytest.raises(DatasetError, match=rf"^\S*{records[2].path.name}: .*\S$"):
        load(dataset_of(records), workers)


SCHEMA = schema_from_dict(
    {"name": "x", "joints": ["a", "b", "c"], "flip_pairs": [["b", "c"]], "skeleton": [], "sigmas": [0.1] * 3}, "x"
)


def test_the_config_builds_the_samples(make_records):
    options = ["DATASET.INPUT_SIZE", "64", "DATASET.MAX_PEOPLE", "4", "SEED", "8", "AUGMENT.EXACT_FLIP", "True"]
    dataset = build_train_dataset(load_config(None, options), make_records(3), SCHEMA, (4, 2))
    assert (dataset.input_size, dataset.strides, dataset.max_people, dataset.seed) == (64, (4, 2), 4, 8)
    assert dataset.flip_index == (0, 2, 1)
    assert dataset.augmentation == Augmentation(exact_flip=True)
    assert len(dataset) == 2


@pytest.mark.parametrize(
    ("option", "kept"),
    [
        (["DATASET.TRAIN_IMAGES", "all"], [100, 101, 102, 103, 104, 105]),
        (["DATASET.TRAIN_IMAGES", "annotated"], [101, 102, 103, 104, 105]),
        (["DATASET.TRAIN_IMAGES", "labelled"], [102, 104, 105]),
        ([], [101, 102, 103, 104, 105]),
        (["DATASET.ONLY_WITH_PEOPLE", "True"], [102, 104, 105]),
        (["DATASET.ONLY_WITH_PEOPLE", "False"], [100, 101, 102, 103, 104, 105]),
    ],
)
def test_images_are_chosen_by_what_is_annotated(make_records, option, kept):
    records = make_records(6)  # 0, 1, 2, 0, 1, 2 people
    records[1].keypoints[..., 2] = 0
    records[3] = replace(records[3], annotations=1)  # a crowd region
    dataset = build_train_dataset(load_config(None, option), records, SCHEMA, (4,))
    assert [record.image_id for record in dataset.records] == kept


def test_too_little_shared_memory_is_an_error_before_a_process_starts(make_records, monkeypatch):
    records = make_records(4)
    dataset = TrainDataset(records, (0, 2, 1), Augmentation(), 32, (4,))
    sampler = StepBatchSampler(4, 2, last_step=2)
    # 3 ranks of 2 processes with 4 batches of 2 images each
    needed = 3 * 2 * 4 * 2 * (3 * 32**2 + 8**2)
    usage = shutil.disk_usage("/")
    for free in (needed, needed - 1):
        monkeypatch.setattr(loader.shutil, "disk_usage", lambda folder, free=free: usage._replace(free=free))
        if free == needed:
            assert len(list(train_batches(dataset, sampler, 2, False, local_ranks=3))) == 2
        else:
            with pytest.raises(
                DatasetError, match=r"/dev/shm: .* need 0 MB; give the container more .docker run --shm"
            ):
                train_batches(dataset, sampler, 2, False, local_ranks=3)
    assert len(list(train_batches(dataset, sampler, 0, False, local_ranks=3))) == 2
