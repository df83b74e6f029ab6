"""Suppression of poses: against loops over the definitions, and what single parameters do."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from coupled_embedding.config.rules import POSE_NMS_NAMES
from coupled_embedding.data.outputs import Pose
from coupled_embedding.evaluation import OksNMS, ParametricNMS, build_pose_nms, pose_nms_text
from coupled_embedding.evaluation.pose_nms_presets import PRESETS
from coupled_embedding.utils.errors import UserError

SIGMAS = (0.05, 0.08, 0.1, 0.06, 0.09, 0.1)
K = len(SIGMAS)


# ---- the definitions, one pair and one joint after the other


def box(pose):
    found = [(x, y) for x, y, score in pose if score > 0]
    if not found:
        return 0.0, 0.0
    xs, ys = [x for x, _ in found], [y for _, y in found]
    return max(xs) - min(xs), max(ys) - min(ys)


def slow_distance(nms, better, other):
    """d of RMPE, and the number of close joints."""
    width, height = box(better)
    total, close = 0.0, 0
    for (x, y, c), (u, v, e) in zip(better, other, strict=True):
        if c <= 0 or e <= 0:
            continue
        pixels = math.dist((x, y), (u, v))
        if nms.gate_pixels:
            near = pixels <= nms.gate_pixels
        else:  # a box around the joint, of a tenth of the pose's sides
            near = abs(x - u) <= nms.alpha * width / 2 and abs(y - v) <= nms.alpha * height / 2
        if near:
            total += math.tanh(c / nms.sigma1) * math.tanh(e / nms.sigma1)
        total += nms.lam * math.exp(-(pixels**2 if nms.squared else pixels) / nms.sigma2)
        close += pixels <= min(nms.alpha * max(width, height), nms.match_pixels)
    return total, close


def slow_parametric(nms, poses, scores):
    """What stays, as (row, pose, score), in the order in which it is picked."""
    left, kept = list(range(len(poses))), []
    while left:
        best = max(left, key=lambda row: (scores[row], -row))
        gone = []
        for row in left:
            d, close = slow_distance(nms, poses[best], poses[row])
            if row != best and (d > nms.eta or (nms.match_joints and close >= nms.match_joints)):
                gone.append(row)
        left = [row for row in left if row != best and row not in gone]
        merged = slow_merge(nms, poses[best], [poses[row] for row in [best, *gone]])
        if max(j[2] for j in poses[best]) < nms.min_score or max(j[2] for j in merged) < nms.min_score:
            continue
        score = scores[best]
        if nms.rescore:
            joints = [max(j[2], 0) for j in merged]
            score = sum(joints) / len(joints) + score + 1.25 * max(joints)
        kept.append((best, merged, score))
    return sorted(kept, key=lambda entry: -entry[2]) if nms.rescore else kept


def slow_merge(nms, pose, cluster):
    merged = []
    for number, (x, y, score) in enumerate(pose):
        votes = [
            p[number] for p in cluster if p[number][2] > 0 and math.dist(p[number][:2], (x, y)) <= nms.merge_pixels
        ]
        total = sum(s for _, _, s in votes)
        if not nms.merge_pixels or score <= 0:
            merged.append([x, y, score])
        else:
            weighted = [sum(vote[i] * vote[2] for vote in votes) / total for i in range(3)]
            merged.append(weighted)
    return merged


def slow_oks(nms, first, second):
    area = (np.prod(box(first)) + np.prod(box(second))) / 2
    values = [
        math.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * (area + np.spacing(1)) * (2 * sigma) ** 2))
        for (x, y, c), (u, v, e), sigma in zip(first, second, nms.sigmas, strict=True)
        if c > nms.joint_score and e > nms.joint_score
    ]
    return sum(values) / len(values) if values else 0.0


def people(most=6):
    """Poses on a grid of quarter pixels, where distances at a limit are exact; some joints are missing."""
    places = arrays(np.int64, (K, 2), elements=st.integers(0, 200)).map(lambda a: a / 4)
    near = st.tuples(places, arrays(np.int64, (K, 2), elements=st.integers(-3, 3))).map(lambda t: t[0] + t[1])
    joint_scores = arrays(np.float64, (K, 1), elements=st.sampled_from([-0.1, 0.0, 0.05, 0.3, 0.45, 0.8, 1.0]))
    return (
        st.integers(0, most)
        .flatmap(lambda n: st.lists(st.tuples(near, joint_scores), min_size=n, max_size=n))
        .map(lambda drawn: np.array([np.hstack(pose) for pose in drawn], np.float64).reshape(-1, K, 3))
    )


@st.composite
def crowds(draw):
    """Poses with copies that were moved by up to two pixels, and scores with ties."""
    poses = draw(people())
    if len(poses):
        sources = draw(st.lists(st.integers(0, len(poses) - 1), max_size=4))
        shifts = [draw(arrays(np.int64, (K, 2), elements=st.integers(-8, 8))) / 4 for _ in sources]
        copies = [np.hstack((poses[s, :, :2] + shift, poses[s, :, 2:])) for s, shift in zip(sources, shifts)]
        poses = np.concatenate((poses, np.array(copies).reshape(-1, K, 3)))
    scores = draw(arrays(np.float64, len(poses), elements=st.sampled_from([0.1, 0.25, 0.5, 0.625, 0.9])))
    return poses, scores


PARAMETRIC = ("paper", "released", "released_wholebody")


@settings(max_examples=60, deadline=None)
@given(crowd=crowds(), preset=st.sampled_from(PARAMETRIC))
def test_distances_are_the_papers_sums(crowd, preset):
    poses, _ = crowd
    nms = build_pose_nms(preset, SIGMAS)
    expected = [[slow_distance(nms, a, b)[0] for b in poses.tolist()] for a in poses.tolist()]
    np.testing.assert_allclose(nms.distances(poses), np.reshape(expected, (len(poses), len(poses))), atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(
    crowd=crowds(),
    preset=st.sampled_from(PARAMETRIC),
    # no sums of six joints' values end there
    changes=st.fixed_dictionaries(
        {"eta": st.sampled_from([0.70314, 2.14159, 3.6003, 22.48]), "match_joints": st.integers(0, 4)}
    ),
)
def test_what_stays_is_what_the_loops_keep(crowd, preset, changes):
    poses, scores = crowd
    nms = replace(build_pose_nms(preset, SIGMAS), **changes)
    kept, expected = nms.apply(poses, scores), slow_parametric(nms, poses.tolist(), scores.tolist())
    if not nms.rescore:
        assert kept.rows.tolist() == [row for row, _, _ in expected]
    # sums in another order may swap equal scores
    by_row = {row: (pose, score) for row, pose, score in expected}
    assert sorted(kept.rows) == sorted(by_row)
    assert (np.diff(kept.scores) <= 0).all()
    for row, pose, score in zip(kept.rows.tolist(), kept.keypoints, kept.scores):
        np.testing.assert_allclose(pose, by_row[row][0], atol=1e-12)
        assert score == pytest.approx(by_row[row][1], abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(crowd=crowds(), threshold=st.sampled_from([0.1, 0.53, 0.9]))
def test_oks_suppression_keeps_what_the_loop_keeps(crowd, threshold):
    poses, scores = crowd
    nms = OksNMS(SIGMAS, threshold)
    similar = [[slow_oks(nms, a, b) for b in poses.tolist()] for a in poses.tolist()]
    np.testing.assert_allclose(nms.similarities(poses), np.reshape(similar, (len(poses), len(poses))), atol=1e-12)
    left, kept = list(range(len(poses))), []
    while left:
        best = max(left, key=lambda row: (scores[row], -row))
        kept.append(best)
        left = [row for row in left if row != best and similar[best][row] <= threshold]
    result = nms.apply(poses, scores)
    assert result.rows.tolist() == kept
    assert np.array_equal(result.keypoints, poses[kept])
    assert np.array_equal(result.scores, scores[kept])


@settings(max_examples=40, deadline=None)
@given(crowd=crowds())
def test_soft_suppression_lowers_scores_by_all_better_poses(crowd):
    poses, scores = crowd
    nms = OksNMS(SIGMAS, 0.9, soft=True)
    left, expected = dict(enumerate(scores.tolist())), []
    while left:
        best = max(left, key=lambda row: (left[row], -row))
        expected.append((best, left.pop(best)))
        for row in left:
            left[row] *= math.exp(-(slow_oks(nms, poses[best].tolist(), poses[row].tolist()) ** 2) / 0.9)
    kept = nms.apply(poses, scores)
    np.testing.assert_allclose(kept.scores, [score for _, score in expected], atol=1e-12)
    assert sorted(kept.rows) == list(range(len(poses)))


@settings(max_examples=40, deadline=None)
@given(crowd=crowds(), name=st.sampled_from([*PARAMETRIC, "oks"]))
def test_what_was_suppressed_once_is_left_alone_without_merging(crowd, name):
    nms = build_pose_nms(name, SIGMAS, [] if name == "oks" else ["merge_pixels=0"])
    nms = nms if name == "oks" else replace(nms, rescore=False)
    once = nms.apply(*crowd)
    twice = nms.apply(once.keypoints, once.scores)
    assert twice.rows.tolist() == list(range(len(once.rows)))
    assert np.array_equal(once.keypoints, twice.keypoints)


# ---- single cases with known numbers


def pose(x=0.0, y=0.0, score=0.5, joints=1.0):
    """A pose 50 wide and 100 high at a place."""
    places = [[0, 0], [50, 0], [25, 30], [0, 50], [50, 70], [25, 100]]
    return Pose(np.array([[x + a, y + b, joints] for a, b in places], np.float64), score)


def test_equal_poses_are_as_like_as_can_be_and_far_ones_not_at_all():
    nms = ParametricNMS(sigma1=0.5, lam=2)
    keypoints = np.array([pose().keypoints, pose().keypoints, pose(x=1000).keypoints])
    most = K * (math.tanh(2) ** 2 + 2)
    np.testing.assert_allclose(nms.distances(keypoints)[0], [most, most, 0], atol=1e-12)


@pytest.mark.parametrize(("dx", "dy", "near"), [(2.5, 5, True), (2.75, 5, False), (2.5, 5.25, False)])
def test_the_papers_joints_are_near_within_a_box_of_a_tenth_of_the_pose(dx, dy, near):
    nms = ParametricNMS(lam=1e-9)
    keypoints = np.array([pose().keypoints, pose(dx, dy).keypoints])
    assert nms.distances(keypoints)[0, 1] == pytest.approx(K * math.tanh(1) ** 2 if near else 0, abs=1e-6)


def test_the_released_presets_have_its_values():
    released = build_pose_nms("released", SIGMAS)
    assert (released.sigma1, released.lam, released.sigma2, released.eta) == (1, 1.7, 2.65, 22.48)
    assert (released.min_score, released.match_joints, released.alpha) == (0.3, 5, 0.1)
    assert (released.gate_pixels, released.match_pixels, released.merge_pixels) == (1, 7, 15)
    body = build_pose_nms("released_wholebody", SIGMAS)
    assert (body.lam, body.sigma2, body.eta, body.min_score) == (1.65, 8, 3.6, 0.01)
    assert (body.match_joints, body.alpha) == (3, 0.15)
    oks = build_pose_nms("oks", SIGMAS)
    assert (oks.threshold, oks.joint_score, oks.sigmas) == (0.9, 0.2, SIGMAS)


def test_released_poses_are_averaged_by_score_and_get_its_written_score():
    nms = build_pose_nms("released", SIGMAS)
    kept = nms([pose(score=0.5, joints=0.6), pose(x=2, score=0.9, joints=0.8), pose(x=500, score=0.4, joints=0.5)])
    assert [p.score for p in kept] == pytest.approx([(0.6**2 + 0.8**2) / 1.4 * 2.25 + 0.9, 0.5 * 2.25 + 0.4])
    np.testing.assert_allclose(kept[0].keypoints[0], [2 * 0.8 / 1.4, 0, (0.6**2 + 0.8**2) / 1.4])


def test_joints_are_averaged_within_the_reach_alone():
    nms = build_pose_nms("released", SIGMAS)
    other = pose(score=0.4)
    other.keypoints[0, 0] = 15.25
    (kept,) = nms([pose(), other])
    assert kept.keypoints[0].tolist() == [0, 0, 1]
    other.keypoints[0, 0] = 15
    (kept,) = nms([pose(), other])
    assert kept.keypoints[0].tolist() == [7.5, 0, 1]


def test_five_close_joints_suffice_and_seven_pixels_are_the_limit():
    nms = build_pose_nms("released", SIGMAS)
    four = pose(x=7)
    four.keypoints[:2, :2] += 100
    assert len(nms([pose(), pose(x=7)])) == 1
    assert len(nms([pose(), pose(x=7.25)])) == 2
    assert len(nms([pose(), four])) == 2


def test_missing_joints_at_the_origin_are_compared_with_nothing():
    first, second = pose(100, 100), pose(300, 300, 0.4)
    for one in (first, second):
        one.keypoints[1:] = 0
    for name in ("oks", *PARAMETRIC):
        assert len(build_pose_nms(name, SIGMAS)([first, second])) == 2, name


def test_a_pose_without_joints_is_kept_unless_a_score_is_asked_for():
    nothing = Pose(np.zeros((K, 3)), 0.3)
    for name in ("paper", "oks", "oks_soft"):
        assert [p.score for p in build_pose_nms(name, SIGMAS)([nothing, nothing])] == [0.3, 0.3], name
    assert build_pose_nms("released", SIGMAS)([nothing]) == []


def test_other_things_known_of_a_pose_stay():
    tagged = replace(pose(), tag=np.ones(3, np.float32))
    (kept,) = build_pose_nms("released", SIGMAS)([tagged, pose(score=0.2)])
    assert kept.tag is tagged.tag


def test_thousands_of_poses_are_compared_in_blocks_with_the_same_result():
    rng = np.random.default_rng(0)
    keypoints = np.concatenate((rng.uniform(0, 300, (700, K, 2)), rng.uniform(0, 1, (700, K, 1))), -1)
    nms = ParametricNMS(sigma2=400)
    some = rng.choice(700, 20, replace=False)
    np.testing.assert_allclose(nms.distances(keypoints)[np.ix_(some, some)], nms.distances(keypoints[some]))


# ---- by name


def test_the_option_knows_the_presets():
    assert set(POSE_NMS_NAMES) == {"none", *PRESETS}


def test_parameters_go_over_a_presets_and_a_file_holds_them(tmp_path):
    nms = build_pose_nms("released", SIGMAS, ["eta=7", "lambda=2.5", "match_joints=3"])
    assert (nms.eta, nms.lam, nms.match_joints, nms.sigma2) == (7, 2.5, 3, 2.65)
    path = tmp_path / "fitted.yaml"
    path.write_text(pose_nms_text("released", nms, "of a test\nin two lines"))
    assert build_pose_nms(str(path), SIGMAS) == nms
    assert build_pose_nms(str(path), SIGMAS, ["eta=8"]) == replace(nms, eta=8)
    oks = build_pose_nms("oks", SIGMAS, ["threshold=0.5"])
    path.write_text(pose_nms_text("oks", oks))
    assert build_pose_nms(str(path), SIGMAS) == oks


@pytest.mark.parametrize(
    ("choice", "parameters", "message"),
    [
        ("best", [], "'best' is none of oks, .*nor a .yaml or .json file"),
        ("paper", ["etta=3"], "etta: 'paper' has no such parameter; it has sigma1, sigma2, lambda, eta"),
        ("paper", ["squared=1"], "no such parameter"),
        ("paper", ["eta"], "eta: expected a number, got ''"),
        ("paper", ["eta=nan"], "eta: expected a number"),
        ("paper", ["eta=-1"], "eta: expected a number above 0, got -1"),
        ("released", ["match_joints=2.5"], "match_joints: expected a whole number, got 2.5"),
        ("released", ["merge_pixels=-2"], "merge_pixels: expected 0 or more"),
        ("oks", ["threshold=1.5"], "threshold: expected a number above 0 up to 1, got 1.5"),
        ("oks", ["eta=1"], "eta: 'oks' has no such parameter; it has threshold, joint_score"),
        ("no/file.yaml", [], "no/file.yaml: no such file"),
    ],
)
def test_wrong_names_and_values_are_errors(choice, parameters, message):
    with pytest.raises(UserError, match=message):
        build_pose_nms(choice, SIGMAS, parameters, "here")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "preset: expected one of oks"),
        ("eta: 3", "preset: expected one of oks"),
        ("preset: [paper]", "preset: expected one of oks"),
        ("preset: paper\neta: many", "eta: expected a number, got 'many'"),
        ("preset: paper\neta: true", "eta: expected a number, got True"),
        ("preset: paper\n3: 4", "3: 'paper' has no such parameter"),
        ("preset: {", "cannot read this suppression"),
        ("preset: paper\neta: " + "9" * 400, "eta: expected a number"),
    ],
)
def test_wrong_files_are_errors_that_name_them(text, message, tmp_path):
    path = tmp_path / "fitted.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        build_pose_nms(str(path), SIGMAS)
