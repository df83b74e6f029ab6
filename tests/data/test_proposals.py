"""Drawn boxes: their statistics, the kinds of poses that they depend on, fits and files."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coupled_embedding.data.coco import load_records
from coupled_embedding.data.dataset import SampleKey, TrainDataset
from coupled_embedding.data.fit_proposals import (
    fit_mixture,
    fit_proposals,
    load_proposals,
    paired_shifts,
    proposals_text,
)
from coupled_embedding.data.person_crops import PersonBox, ProposedRegions, person_crops, square_region
from coupled_embedding.data.proposals import (
    Mixture,
    PoseProposals,
    ReleasedProposals,
    box_shifts,
    match_boxes,
    normalized_pose,
)
from coupled_embedding.data.schema import load_schema
from coupled_embedding.data.transforms import Augmentation
from coupled_embedding.utils.errors import DatasetError

JOINTS = ("left_shoulder", "right_shoulder", "left_hip", "right_hip", "foot")
BOX = (30.0, 40.0, 100.0, 200.0)
# of the released program, left, top, right, bottom
MEANS = np.array([-0.0142, 0.0043, 0.0154, -0.0013])
DEVIATIONS = np.array([0.1158, 0.068, 0.1337, 0.0711])


def standing(x=0.0, y=0.0, length=40.0, foot=(0, 2)):
    """A pose with its torso's middle at a place, and its foot so many torsos from there."""
    torso = [[-5, -length / 2], [5, -length / 2], [-4, length / 2], [4, length / 2]]
    points = np.array([*torso, [foot[0] * length, foot[1] * length]]) + np.array([x, y])
    return np.hstack((points, np.full((5, 1), 2)))


def draws(proposals, count, box=BOX, pose=None, seed=0):
    rng = np.random.default_rng(seed)
    pose = standing() if pose is None else pose
    return np.array([proposals.propose(rng, box, pose) for _ in range(count)])


def is_part(boxes, box=BOX):
    """Whether boxes have the first box's shape and lie inside it."""
    same_shape = np.isclose(boxes[:, 2] / box[2], boxes[:, 3] / box[3])
    low, high = boxes[:, :2] - box[:2], np.array(box[:2]) + box[2:] - boxes[:, :2] - boxes[:, 2:]
    return same_shape & (low > -1e-9).all(1) & (high > -1e-9).all(1)


def test_released_draws_have_the_released_moments_and_parts_of_boxes_their_share():
    boxes = draws(ReleasedProposals(), 20000)
    parts = is_part(boxes)
    assert parts.mean() == pytest.approx(0.15, abs=0.01)  # four standard errors
    shares = boxes[parts, 2] / BOX[2]
    assert 0.85 < shares.min() < 0.86
    assert 0.99 < shares.max() < 1
    assert shares.mean() == pytest.approx(0.925, abs=0.004)
    # a part lies anywhere in what is left of the box
    room = (boxes[parts, :2] - BOX[:2]) / (1 - shares[:, None]) / BOX[2:]
    np.testing.assert_allclose(room.mean(0), 0.5, atol=0.025)
    shifts = box_shifts(np.tile(BOX, (int((~parts).sum()), 1)), boxes[~parts])
    np.testing.assert_allclose(shifts.mean(0), MEANS, atol=4 * DEVIATIONS.max() / 130)
    np.testing.assert_allclose(shifts.std(0), DEVIATIONS, rtol=0.03)
    assert abs(np.corrcoef(shifts.T) - np.eye(4)).max() < 0.04


@given(
    box=st.tuples(*[st.floats(-500, 500)] * 2, *[st.floats(0, 500)] * 2),
    seed=st.integers(0, 1000),
)
def test_drawn_boxes_never_vanish_and_follow_the_seed(box, seed):
    first, again = (draws(ReleasedProposals(), 5, box, seed=seed) for _ in range(2))
    assert np.array_equal(first, again)
    assert np.isfinite(first).all()
    assert (first[:, 2:] >= 2).all()


@settings(max_examples=30)
@given(
    rows=st.lists(st.tuples(*[st.floats(-50, 50)] * 2, *[st.floats(3, 90)] * 2), min_size=1, max_size=5),
    data=st.data(),
)
def test_shifts_lead_from_one_box_to_the_other(rows, data):
    true = np.array(rows)
    count = len(rows)
    found = np.array(data.draw(st.lists(st.sampled_from(rows), min_size=count, max_size=count))) + np.arange(1, 5)
    for box, shifts, target in zip(true, box_shifts(true, found), found, strict=True):
        one = Mixture(np.ones(1), shifts[None], 1e-18 * np.eye(4)[None])
        proposals = PoseProposals(JOINTS, np.zeros((1, 5, 2)), (one,), one)
        np.testing.assert_allclose(draws(proposals, 1, box)[0], target, atol=1e-5)


# ---- by pose


def test_a_torso_is_normalized_to_its_middle_and_length():
    pose = standing(200, 100, 40, (1.5, 2))
    expected = [[-0.125, -0.5], [0.125, -0.5], [-0.1, 0.5], [0.1, 0.5], [1.5, 2]]
    np.testing.assert_allclose(normalized_pose(pose, JOINTS), expected)
    pose[[0, 4], 2] = 0  # one shoulder is enough
    found = normalized_pose(pose, JOINTS)
    assert np.isnan(found[[0, 4]]).all()
    np.testing.assert_allclose(found[2:4].mean(0) + found[1], 0, atol=1e-12)


@pytest.mark.parametrize("missing", [(0, 1), (2, 3), (0, 1, 2, 3)])
def test_without_shoulders_or_hips_there_is_no_torso(missing):
    pose = standing()
    pose[list(missing), 2] = 0
    assert normalized_pose(pose, JOINTS) is None
    assert normalized_pose(standing(length=0.5), JOINTS) is None


def narrow(left):
    return Mixture(np.ones(1), np.array([[left, 0, 0, 0]]), 1e-8 * np.eye(4)[None])


def test_boxes_follow_the_kind_of_the_pose():
    kinds = [normalized_pose(standing(foot=(0, 2)), JOINTS), normalized_pose(standing(foot=(2, 0)), JOINTS)]
    proposals = PoseProposals(JOINTS, np.array(kinds), (narrow(-0.1), narrow(-0.2)), narrow(-0.3))
    lying, no_torso, no_foot = standing(70, 30, 10, (1.8, 0.3)), standing(), standing()
    no_torso[:4, 2] = 0
    no_foot[4] = 0
    for pose, left in ((standing(), 20), (lying, 10), (no_torso, 0), (no_foot, 20)):
        assert draws(proposals, 1, pose=pose)[0, 0] == pytest.approx(left, abs=0.1)


def test_mixtures_draw_from_each_part_by_its_weight():
    spread = np.diag([0.01, 0.04, 0.01, 0.01]) ** 2
    spread[0, 1] = spread[1, 0] = 0.00001
    mixture = Mixture(np.array([0.25, 0.75]), np.array([[-1.0, 0, 0, 0], [1.0, 0, 0, 0]]), np.stack((spread, spread)))
    rng = np.random.default_rng(1)
    drawn = np.array([mixture.draw(rng) for _ in range(4000)])
    first = drawn[:, 0] < 0
    assert first.mean() == pytest.approx(0.25, abs=0.03)
    np.testing.assert_allclose(np.cov(drawn[~first].T), spread, atol=2e-4)


def test_a_fit_finds_the_parts_of_a_mixture():
    rng = np.random.default_rng(2)
    means = np.array([[-0.5, 0, 0.1, 0], [0.4, 0.1, 0, -0.2]])
    deviations = np.array([[0.05, 0.1, 0.02, 0.1], [0.1, 0.02, 0.05, 0.05]])
    chosen = (rng.random(3000) < 0.7).astype(int)
    mixture = fit_mixture(rng.normal(means[chosen], deviations[chosen]), 2, rng)
    order = np.argsort(mixture.means[:, 0])
    np.testing.assert_allclose(mixture.weights[order], [0.3, 0.7], atol=0.03)
    np.testing.assert_allclose(mixture.means[order], means, atol=0.015)
    for found, expected in zip(mixture.covariances[order], deviations, strict=True):
        np.testing.assert_allclose(found, np.diag(expected) ** 2, atol=1.5e-3)


def test_few_shifts_have_fewer_parts():
    shifts = np.random.default_rng(0).normal(0, 0.1, (45, 4))
    mixture = fit_mixture(shifts, 5, np.random.default_rng(0))
    assert len(mixture.weights) == 2
    one = fit_mixture(shifts[:21], 5, np.random.default_rng(0))
    np.testing.assert_allclose(one.means[0], shifts[:21].mean(0))
    np.testing.assert_allclose(one.covariances[0], np.cov(shifts[:21].T, bias=True) + 1e-6 * np.eye(4))


@pytest.fixture(scope="module")
def pairs():
    """Shifts and poses of two kinds, whose detected boxes are off differently; some without a torso."""
    rng = np.random.default_rng(3)
    shifts, poses = [], []
    for number in range(400):
        lying = number % 2
        pose = standing(*rng.uniform(0, 300, 2), rng.uniform(20, 90), (2, 0) if lying else (0, 2))
        if number % 10 == 0:
            pose[0, 2] = 0
        if number % 20 == 5:
            pose[:4, 2] = 0
        poses.append(pose)
        shifts.append(rng.normal((-0.2, 0, 0, 0.3) if lying else (0.1, -0.1, 0, 0), 0.02))
    return np.array(shifts), np.array(poses)


def test_a_fit_draws_what_each_kind_of_pose_was_detected_with(pairs):
    proposals = fit_proposals(*pairs, JOINTS, clusters=2, parts=1)
    for foot, means in (((2, 0), (-0.2, 0, 0, 0.3)), ((0, 2), (0.1, -0.1, 0, 0))):
        boxes = draws(proposals, 500, pose=standing(foot=foot))
        shifts = box_shifts(np.tile(BOX, (500, 1)), boxes)
        np.testing.assert_allclose(shifts.mean(0), means, atol=0.01)
        np.testing.assert_allclose(shifts.std(0), 0.02, atol=0.004)
    again = fit_proposals(*pairs, JOINTS, clusters=2, parts=1)
    assert proposals_text(again) == proposals_text(proposals)


def test_small_clusters_draw_as_all_do(pairs):
    shifts, poses = pairs
    some = np.r_[np.arange(0, 200, 2), [1, 3]]
    proposals = fit_proposals(shifts[some], poses[some], JOINTS, clusters=2, parts=1)
    small = proposals.cluster(standing(foot=(2, 0)))
    assert proposals.mixtures[small] is proposals.pooled


@pytest.mark.parametrize(
    ("count", "joints", "clusters", "message"),
    [
        (10, JOINTS, 2, "10 pairs of an annotated and a detected box; proposals need 20 or more"),
        (40, JOINTS, 50, "38 paired people have a labelled torso; 50 clusters need more"),
        (40, ("a", "b", "hip", "d", "e"), 2, "joints named shoulder and hip"),
    ],
)
def test_what_cannot_be_fitted_is_an_error(pairs, count, joints, clusters, message):
    with pytest.raises(DatasetError, match=message):
        fit_proposals(pairs[0][:count], pairs[1][:count], joints, clusters)


# ---- pairs, files, training


def test_boxes_are_paired_one_to_one_by_their_overlap():
    true = np.array([[0, 0, 10, 10], [8, 0, 10, 10], [100, 0, 10, 10.0]])
    found = np.array([[7, 0, 10, 10], [1, 0, 10, 10], [2, 0, 10, 10], [100, 6, 10, 10.0]])
    assert match_boxes(true, found) == [(0, 1), (1, 0)]
    assert match_boxes(true, found, 0.2) == [(0, 1), (1, 0), (2, 3)]
    assert match_boxes(true, found[:0]) == match_boxes(true[:0], found) == []


def test_pairs_are_of_people_with_joints(tiny_crowd):
    schema = load_schema("datasets/synthetic.yaml")
    records = load_records(schema, "train", str(tiny_crowd))
    boxes = {
        record.image_id: [PersonBox(tuple((box * np.array([1, 1, 1.1, 1])).tolist())) for box in record.boxes]
        for record in records
    }
    shifts, poses = paired_shifts(records, boxes)
    assert 0 < len(shifts) == len(poses) <= sum(len(record.boxes) for record in records)
    assert (poses[..., 2] > 0).any(1).all()
    assert np.isclose(shifts, (0, 0, 0.1, 0), atol=1e-4).all(1).mean() > 0.8  # neighbors may overlap more
    assert [len(part) for part in paired_shifts(records, {})] == [0, 0]


def test_a_file_holds_a_fit(pairs, tmp_path):
    proposals = fit_proposals(*pairs, JOINTS, clusters=3)
    path = tmp_path / "proposals.json"
    path.write_text(proposals_text(proposals))
    read = load_proposals(str(path), JOINTS)
    np.testing.assert_allclose(draws(read, 20), draws(proposals, 20), atol=0.02)
    assert isinstance(load_proposals("released", JOINTS), ReleasedProposals)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        ((), [], "not a file of tools/fit_proposals.py"),
        (("format",), "other", "not a file of tools/fit_proposals.py"),
        (("joints",), ["nose"], "joints: these proposals are of .*nose.*the data set has left_shoulder"),
        (("centers",), [[1, 2]], r"centers: expected finite numbers of shape \(2, 5, 2\)"),
        (("centers", 0, 0, 0), "x", "centers: expected finite numbers"),
        (("mixtures",), [], "mixtures: expected a list"),
        (("mixtures", 1), 3, "mixtures: 1: expected weights, means and covariances, got 3"),
        (("pooled", "weights"), [0.5], "pooled: weights: expected shares that sum to 1"),
        (("pooled", "means"), [[0, 0, 0]], r"pooled: means: expected finite numbers of shape \(1, 4\)"),
        (("pooled", "covariances", 0, 0, 0), -1, "pooled: covariances: expected positive definite"),
        (("pooled", "covariances", 0, 0, 0), None, "pooled: covariances: expected finite numbers"),
    ],
)
def test_wrong_files_are_errors_that_name_them(pairs, tmp_path, keys, value, message):
    content = json.loads(proposals_text(fit_proposals(*pairs, JOINTS, clusters=2, parts=1)))
    if keys:
        *outer, last = keys
        node = content
        for key in outer:
            node = node[key]
        node[last] = value
    path = tmp_path / "proposals.json"
    path.write_text(json.dumps(content if keys else value))
    with pytest.raises(DatasetError, match=f"proposals.json: .*{message}"):
        load_proposals(str(path), JOINTS)


def test_files_that_cannot_be_read_are_errors(tmp_path: Path):
    with pytest.raises(DatasetError, match=r"no such file of proposals; AUGMENT\.PROPOSALS is a file or 'released'"):
        load_proposals(str(tmp_path / "none.json"), JOINTS)
    (tmp_path / "half.json").write_text('{"format": ')
    with pytest.raises(DatasetError, match=r"half\.json: cannot read these proposals"):
        load_proposals(str(tmp_path / "half.json"), JOINTS)


def test_crops_are_seen_in_proposed_regions_in_training(tiny_crowd):
    schema = load_schema("datasets/synthetic.yaml")
    crops = person_crops(load_records(schema, "train", str(tiny_crowd)), margin=1.25)
    still = Augmentation((1, 1), 0, 0, 0)
    plain = TrainDataset(crops, schema.flip_index, still, input_size=64, strides=(4,))
    wide = Mixture(np.ones(1), np.array([[-0.5, -0.5, 0.5, 0.5]]), 1e-12 * np.eye(4)[None])
    centers = np.zeros((1, schema.num_joints, 2))
    proposed = ProposedRegions(PoseProposals(schema.joints, centers, (wide,), wide), 1.25)
    varied = TrainDataset(crops, schema.flip_index, still, input_size=64, strides=(4,), propose_region=proposed)
    key = SampleKey(0, 0, 1)
    joints, doubled = (data.sample(key).joints[0][0] for data in (plain, varied))
    labelled = joints[:, 2] > 0
    # the region is twice as large around the same center: joints lie half as far from it
    np.testing.assert_allclose(doubled[labelled, :2] - 8, (joints[labelled, :2] - 8) / 2, atol=0.02)
    rng = np.random.default_rng(0)
    box = crops[0].boxes[0]
    expected = square_region((box[0] - box[2] / 2, box[1] - box[3] / 2, 2 * box[2], 2 * box[3]))
    np.testing.assert_allclose(proposed(rng, crops[0]), expected, rtol=1e-4)
