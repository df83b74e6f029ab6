"""Weights of joints, data sets that do not label all of them, and widths by scale: from records to targets."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from coupled_embedding.data.dataset import SampleKey, TrainDataset, collate
from coupled_embedding.data.targets import WIDTHS, build_targets
from coupled_embedding.data.transforms import Augmentation

SIGMA, REACH = 2, 7
PEOPLE, JOINTS = 3, 2
SHARES = st.floats(0, 1, width=32).filter(lambda share: share == 0 or share > 1e-6)

# ---- targets


@st.composite
def crowds(draw):
    """Draw two images' joints (2, M, K, 3), confidences (2, M, K), scales (2, M) and which joints are labelled."""
    places = draw(arrays(np.float32, (2, PEOPLE, JOINTS, 2), elements=st.floats(-3, 12, width=32)))
    labels = draw(arrays(np.float32, (2, PEOPLE, JOINTS, 1), elements=st.sampled_from([0.0, 1.0, 2.0])))
    confidence = draw(arrays(np.float32, (2, PEOPLE, JOINTS), elements=SHARES))
    scales = draw(arrays(np.float64, (2, PEOPLE), elements=st.floats(0, 1.2)))
    annotated = draw(arrays(np.bool_, (2, JOINTS)))
    return np.concatenate((places, labels), -1), confidence, scales, annotated


def factor(scale, beta):
    return min(max(scale / beta, 0.3), 1.5) if beta else 1.0


def gaussian(joint, x, y, height, width, stretch):
    """Return a joint's Gaussian at a cell; 0 outside its window or if the joint is invisible."""
    column, row = math.trunc(float(joint[0])), math.trunc(float(joint[1]))
    if joint[2] == 0 or not (0 <= column < width and 0 <= row < height) or max(abs(x - column), abs(y - row)) > REACH:
        return 0.0
    return math.exp(-((x - column) ** 2 + (y - row) ** 2) / (2 * (SIGMA * stretch) ** 2))


def slow_targets(joints, confidence, scales, beta, height, width):
    """Return an image's heatmaps, and the weights of their cells, cell by cell."""
    heatmaps, weights = np.zeros((JOINTS, height, width)), np.ones((JOINTS, height, width))
    for k, y, x in np.ndindex(heatmaps.shape):
        values = [
            gaussian(person[k], x, y, height, width, factor(scale, beta))
            for person, scale in zip(joints, scales, strict=True)
        ]
        heatmaps[k, y, x] = largest = max(values)
        if largest > 0:
            # of one person that of the joint; where several meet, the largest weighted Gaussian's share of the largest
            weighted = max(float(c) * value for c, value in zip(confidence[:, k], values, strict=True))
            weights[k, y, x] = weighted / largest
    return heatmaps, weights


def tensors(*values):
    return [torch.from_numpy(value) for value in values]


def mask_of(height=10, width=9, batch=2):
    """A mask whose left columns are ignored."""
    mask = torch.ones(batch, height, width, dtype=torch.bool)
    mask[..., :3] = False
    return mask


@given(crowd=crowds(), beta=st.sampled_from([0.0, 0.2, 0.4]))
@settings(max_examples=40, deadline=None)
def test_heatmaps_and_weights_equal_loops(crowd, beta):
    joints, confidence, scales, annotated = crowd
    mask = mask_of()
    places, weights, people, labelled = tensors(joints, confidence, scales, annotated)
    targets = build_targets([places], [mask], people, confidence=weights, annotated=labelled, beta=beta)
    assert targets.masks[0].shape == targets.heatmaps[0].shape == (2, JOINTS, 10, 9)
    assert targets.confidence is weights
    for n in range(2):
        heatmaps, expected = slow_targets(joints[n], confidence[n], scales[n], beta, 10, 9)
        expected = expected * mask[n].numpy() * annotated[n][:, None, None]
        np.testing.assert_allclose(targets.heatmaps[0][n], heatmaps, rtol=1e-4, atol=1e-30)
        certain = (heatmaps == 0) | (heatmaps > 1e-30)  # else in float32 not normal numbers
        np.testing.assert_allclose(targets.masks[0][n].numpy()[certain], expected[certain], atol=1e-5)


@given(crowd=crowds())
def test_a_cell_weighs_at_most_what_the_surest_joint_that_reaches_it_does(crowd):
    joints, confidence, scales, _ = crowd
    places, weights, people = tensors(joints, confidence, scales)
    (mask,) = build_targets([places], [torch.ones(2, 12, 14)], people, confidence=weights).masks
    assert mask.min() >= 0
    assert mask.max() <= 1 + 1e-6
    alone = build_targets([places[:, :1]], [torch.ones(2, 12, 14)], people[:, :1], confidence=weights[:, :1])
    for n, k in np.ndindex(2, JOINTS):
        reached = alone.heatmaps[0][n, k] > 0
        assert alone.masks[0][n, k][reached].numpy() == pytest.approx(confidence[n, 0, k], rel=1e-6)
        assert (alone.masks[0][n, k][~reached] == 1).all()


@given(crowd=crowds(), beta=st.sampled_from([0.0, 0.3]))
def test_whole_confidence_changes_nothing(crowd, beta):
    joints, confidence, scales, _ = crowd
    places, people = tensors(joints, scales)
    plain = build_targets([places], [mask_of()], people, beta=beta)
    whole = build_targets([places], [mask_of()], people, confidence=torch.ones(confidence.shape), beta=beta)
    assert torch.equal(plain.heatmaps[0], whole.heatmaps[0])
    assert torch.equal(plain.masks[0][:, None].expand_as(whole.masks[0]).float(), whole.masks[0])


def test_masks_stay_as_they_are_without_weights():
    joints, scales = torch.rand(2, PEOPLE, JOINTS, 3), torch.rand(2, PEOPLE)
    masks = [mask_of(), mask_of(20, 18)]
    for beta in (0.0, 0.4):
        targets = build_targets([joints, 2 * joints], masks, scales, beta=beta)
        assert all(found is given_ for found, given_ in zip(targets.masks, masks, strict=True))
        assert targets.confidence is None


def test_each_resolution_has_its_own_weights():
    joints = torch.tensor([[[[3.0, 4.0, 2.0]]]])
    masks = [torch.ones(1, 16, 16), torch.ones(1, 32, 32)]
    targets = build_targets([joints, 2 * joints], masks, torch.ones(1, 1), confidence=torch.tensor([[[0.25]]]))
    for resolution, (mask, heatmap) in enumerate(zip(targets.masks, targets.heatmaps, strict=True), 1):
        assert mask.shape == (1, 1, 16 * resolution, 16 * resolution)
        assert (mask == torch.where(heatmap > 0, 0.25, 1)).all()


def test_what_a_data_set_does_not_label_is_ignored_whole():
    joints = torch.tensor([[[[3.0, 4.0, 2.0], [8.0, 8.0, 0.0]]]])
    annotated = torch.tensor([[True, False]])
    (mask,) = build_targets([joints], [mask_of(batch=1)], torch.ones(1, 1), annotated=annotated).masks
    assert torch.equal(mask[:, 0], mask_of(batch=1).float())
    assert not mask[:, 1].any()


@pytest.mark.parametrize(("scale", "stretch"), [(0.4, 1), (0.2, 0.5), (0.6, 1.5), (0.05, WIDTHS[0]), (2, WIDTHS[1])])
def test_a_gaussian_is_as_wide_as_the_person_is_large(scale, stretch):
    joints = torch.tensor([[[[20.0, 0.0, 2.0]]]])
    scales = torch.tensor([[scale]], dtype=torch.float64)
    (row,) = build_targets([joints], [torch.ones(1, 1, 41)], scales, beta=0.4).heatmaps[0][0, 0]
    assert row[20] == 1
    assert row[22].item() == pytest.approx(math.exp(-0.5 / stretch**2), rel=1e-5)
    assert not row[:13].any()
    assert not row[28:].any()


# ---- samples and batches

FLIP_INDEX = (0, 2, 1)


def dataset_of(records, flip=0.0, **options):
    augmentation = Augmentation(flip=flip, translate=0.0)
    return TrainDataset(records, FLIP_INDEX, augmentation, 32, (4, 2), seed=5, **options)


def sample_of(record, flip=0.0, **options):
    return dataset_of([record], flip, **options).sample(SampleKey(0, 0, 1))


@pytest.fixture
def weighted(make_records):
    """A record of two people with weights, of a data set that labels two of the joints."""
    (record,) = make_records(1, people=2)
    confidence = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], np.float32)
    return replace(record, confidence=confidence, annotated=np.array([True, True, False]))


def test_samples_carry_weights_in_the_order_of_their_joints(weighted):
    plain, flipped = sample_of(weighted), sample_of(weighted, flip=1.0)
    assert (plain.confidence.shape, plain.confidence.dtype) == ((30, 3), np.float32)
    np.testing.assert_array_equal(plain.confidence[:2], weighted.confidence)
    assert not plain.confidence[2:].any()
    assert plain.annotated.tolist() == [True, True, False]
    np.testing.assert_array_equal(flipped.confidence, plain.confidence[:, [0, 2, 1]])
    assert flipped.annotated.tolist() == [True, False, True]
    # the flip took the joints with it
    np.testing.assert_allclose(flipped.joints[0][:2, 1, 1], plain.joints[0][:2, 2, 1])


def test_the_people_that_are_kept_keep_their_weights(make_records):
    (record,) = make_records(1, people=3)
    record.keypoints[0, :, 2] = 0
    confidence = np.arange(9, dtype=np.float32).reshape(3, 3) / 9
    sample = sample_of(replace(record, confidence=confidence), max_people=2)
    np.testing.assert_array_equal(sample.confidence, confidence[1:])
    assert sample.annotated is None


def test_without_weights_samples_and_batches_have_none(make_records):
    sample = sample_of(make_records(1, people=2)[0])
    batch = collate([sample, sample])
    assert (sample.confidence, sample.annotated, batch.confidence, batch.annotated) == (None,) * 4
    assert batch.targets().masks == batch.masks
    assert batch.to(torch.device("cpu")).confidence is None


def test_a_data_set_with_unlabelled_joints_alone_counts_all_labelled_ones_whole(weighted):
    sample = sample_of(replace(weighted, confidence=None))
    assert sample.confidence[:2].min() == 1
    assert sample.annotated.tolist() == [True, True, False]


def test_samples_without_weights_count_whole_in_a_batch_with_them(weighted, make_records):
    batch = collate([sample_of(make_records(1, people=3)[0]), sample_of(weighted)])
    assert (batch.confidence.shape, batch.confidence.dtype) == ((2, 3, 3), torch.float32)
    assert batch.confidence.shape == batch.joints[0].shape[:3]
    assert (batch.confidence[0] == 1).all()
    np.testing.assert_array_equal(batch.confidence[1, :2], weighted.confidence)
    assert batch.annotated.tolist() == [[True] * 3, [True, True, False]]


def test_a_batchs_targets_weigh_what_its_records_say(weighted):
    record = replace(weighted, keypoints=weighted.keypoints.copy())
    record.keypoints[..., :2] = (20, 16)  # the middle of the image, which no augmentation here moves
    batch = collate([sample_of(record)])
    targets = batch.targets()
    cells = targets.cells[0, 1, 0].tolist()
    # the surer of two people in one place
    assert targets.masks[0][0, 0, cells[1], cells[0]].item() == pytest.approx(0.4)
    assert not targets.masks[0][0, 2].any()
    assert torch.equal(targets.confidence, batch.confidence)
    wide = batch.targets(beta=float(batch.scales[0, :2].max()) / 1.5)
    assert wide.heatmaps[0].sum() > targets.heatmaps[0].sum()


def test_weights_move_with_their_batch(weighted, monkeypatch):
    batch = collate([sample_of(weighted)])
    moved = batch.to(torch.device("meta"))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor.to("meta"))  # there may be no GPU
    for other in (moved, batch.pin_memory()):
        for name in ("images", "scales", "confidence", "annotated"):
            found = getattr(other, name)
            assert found.is_meta, name
            assert found.shape == getattr(batch, name).shape
