"""Images that an epoch has more or less often than once, and their copies."""

from collections import Counter
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coupled_embedding.data.dataset import SampleKey, TrainDataset
from coupled_embedding.data.loader import StepBatchSampler
from coupled_embedding.data.transforms import Augmentation
from coupled_embedding.utils.errors import DatasetError

# shares such as a third and a tenth end just beside whole numbers when they are added
SHARES = st.builds(Fraction, st.integers(1, 70), st.sampled_from([1, 2, 3, 7, 10, 20]))
WEIGHTS = st.lists(SHARES, min_size=1, max_size=40).filter(lambda shares: sum(shares) >= 1)
RANKS, ACCUMULATE, IMAGES = st.integers(1, 4), st.integers(1, 3), st.integers(1, 4)
SEEDS = st.integers(0, 999)


def sampler_of(shares, images, accumulate=1, rank=0, ranks=1, **options):
    weights = None if shares is None else np.array([float(share) for share in shares])
    count = options.pop("num_images", None) or len(shares)
    return StepBatchSampler(count, images, accumulate, rank, ranks, weights=weights, **options)


def epoch_keys(shares, seed, epoch=0):
    """Return one epoch's keys, all in one batch."""
    whole = int(sum(shares))
    sampler = sampler_of(shares, whole, seed=seed, first_step=epoch, last_step=epoch + 1)
    assert sampler.steps_per_epoch == 1
    (keys,) = sampler
    return keys


@given(shares=WEIGHTS, seed=SEEDS, epoch=st.integers(0, 3))
@example(shares=[Fraction(1, 10)] * 10, seed=0, epoch=0)  # in floating point 0.9999999999999999
def test_an_epoch_has_each_image_its_weights_whole_number_of_times_or_once_more(shares, seed, epoch):
    keys = epoch_keys(shares, seed, epoch)
    counts = Counter(key.image for key in keys)
    assert len(keys) == int(sum(shares))
    assert counts.keys() <= set(range(len(shares)))
    for image, share in enumerate(shares):
        assert share - 1 < counts[image] < share + 1
    assert {key.epoch for key in keys} == {epoch}


@given(shares=WEIGHTS, seed=SEEDS)
def test_copies_number_the_repetitions_of_an_image(shares, seed):
    copies = {}
    for key in epoch_keys(shares, seed):
        copies.setdefault(key.image, []).append(key.copy)
    assert all(sorted(numbers) == list(range(len(numbers))) for numbers in copies.values())


def test_over_many_epochs_an_image_comes_as_often_as_its_weight_says():
    shares = [Fraction(1, 4)] * 6 + [Fraction(5, 2)] * 3 + [Fraction(1)] * 2
    counts = Counter(key.image for epoch in range(400) for key in epoch_keys(shares, 1, epoch))
    means = np.array([counts[image] for image in range(len(shares))]) / 400
    np.testing.assert_allclose(means, [float(share) for share in shares], atol=0.1)


@given(shares=WEIGHTS, images=IMAGES, accumulate=ACCUMULATE, ranks=RANKS, seed=SEEDS)
def test_ranks_and_passes_share_an_epoch_out_without_loss_or_repetition(shares, images, accumulate, ranks, seed):
    total, parts = int(sum(shares)), ranks * accumulate
    if total < parts:
        with pytest.raises(DatasetError, match=f"{total} images are too few for {ranks} ranks with {accumulate}"):
            sampler_of(shares, images, accumulate, 0, ranks)
        return
    steps = sampler_of(shares, images, accumulate, 0, ranks).steps_per_epoch
    by_rank = [
        list(sampler_of(shares, images, accumulate, rank, ranks, seed=seed, last_step=steps)) for rank in range(ranks)
    ]
    assert {len(batches) for batches in by_rank} == {steps * accumulate}
    taken = [(key.image, key.copy) for batches in by_rank for batch in batches for key in batch]
    remainder = total % (parts * images)
    assert len(taken) == len(set(taken)) == total - (remainder if remainder < parts else 0)
    # the same epoch, whoever trains with it
    assert set(taken) <= {(key.image, key.copy) for key in epoch_keys(shares, seed)}
    for step in range(steps):
        batches = [b for batches in by_rank for b in batches[step * accumulate : (step + 1) * accumulate]]
        assert {key.step_images for batch in batches for key in batch} == {sum(map(len, batches))}


@given(shares=WEIGHTS, images=IMAGES, accumulate=ACCUMULATE, seed=SEEDS, data=st.data())
def test_a_resumed_sampler_goes_on_where_the_whole_one_would(shares, images, accumulate, seed, data):
    if int(sum(shares)) < accumulate:
        return
    steps = 2 * sampler_of(shares, images, accumulate).steps_per_epoch + 1
    first = data.draw(st.integers(0, steps))
    whole = list(sampler_of(shares, images, accumulate, seed=seed, last_step=steps))
    rest = sampler_of(shares, images, accumulate, seed=seed, first_step=first, last_step=steps)
    assert list(rest) == whole[first * accumulate :]
    assert len(rest) == len(whole) - first * accumulate


def test_copies_of_an_image_do_not_follow_one_another():
    images = [key.image for key in epoch_keys([Fraction(4)] * 25, 0)]
    assert sum(a == b for a, b in pairwise(images)) < 20  # of 75, if they did; by chance 3


def test_epochs_and_seeds_take_other_images():
    shares = [Fraction(1, 2)] * 20

    def taken(seed, epoch):
        return {key.image for key in epoch_keys(shares, seed, epoch)}

    assert taken(1, 0) == taken(1, 0)
    assert taken(1, 0) != taken(1, 1)
    assert taken(1, 0) != taken(2, 0)


def test_without_weights_the_order_is_as_it_always_was():
    # by the program before there were weights: runs from then must resume to the same weights
    epochs = list(sampler_of(None, 9, num_images=9, seed=3, last_step=2))
    assert [key.image for key in epochs[0]] == [7, 0, 2, 1, 4, 6, 5, 3, 8]
    assert [key.image for key in epochs[1]] == [5, 1, 2, 4, 0, 7, 8, 6, 3]
    assert epochs[0][0] == (0, 7, 9, 0)


@given(count=st.integers(1, 30), seed=SEEDS)
def test_weights_of_one_are_every_image_once(count, seed):
    keys = epoch_keys([Fraction(1)] * count, seed)
    assert sorted(key.image for key in keys) == list(range(count))
    assert {key.copy for key in keys} == {0}


# ---- the copies' samples


def arrays_of(sample):
    return [sample.image, *sample.joints, *sample.masks, sample.scales]


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(arrays_of(first), arrays_of(second), strict=True))


def dataset_of(records):
    return TrainDataset(records, (0, 2, 1), Augmentation(), 32, (4, 2), seed=5)


def test_each_copy_is_augmented_differently_and_always_the_same(make_records):
    dataset = dataset_of(make_records(2, people=2))
    samples = [dataset.sample(SampleKey(1, 0, 1, copy)) for copy in range(3)]
    assert not any(same(samples[a], samples[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    again = dataset_of(dataset.records)
    assert all(same(again.sample(SampleKey(1, 0, 1, copy)), sample) for copy, sample in enumerate(samples))


def test_the_first_copy_is_augmented_by_seed_epoch_and_image_alone(make_records):
    records = make_records(3, people=2)
    dataset = dataset_of(records)
    sample = dataset.sample(SampleKey(epoch=4, image=2, step_images=1))
    # as runs before there were copies have it, which must resume to the same weights
    params = dataset.augmentation.sample(np.random.default_rng((5, 4, 2)), (40, 32))
    expected = dataset.build_sample(records[2], params, sample.image, 1)
    assert same(sample, expected)
