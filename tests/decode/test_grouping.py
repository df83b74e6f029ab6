import numpy as np
import pytest
from candidates import entries, peaks, random_candidates
from hypothesis import given, settings
from hypothesis import strategies as st

from coupled_embedding.decode import reference
from coupled_embedding.decode.grouping import ASSIGNMENTS, assign_munkres, assign_scipy
from coupled_embedding.decode.grouping import group as group_candidates
from coupled_embedding.decode.options import DecodeOptions

seeds = st.integers(0, 2**31)


def group(candidates, order, **options):
    return group_candidates(candidates, DecodeOptions(tuple(order), **options))


def expected_joints(people, joints):
    expected = np.zeros((len(people), joints, 3), np.float32)
    for number, person in enumerate(people):
        for joint, values in person.joints.items():
            expected[number, joint] = values
    return expected


@given(
    seeds,
    st.integers(1, 6),
    st.sampled_from([1, 3, 8, 14]),
    st.sampled_from([1, 2, 5, 12]),
    st.sampled_from([1, 2, 8, 16]),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.sampled_from(["ce", "ae", "distance"]),
    st.sampled_from(["munkres", "scipy"]),
    st.sampled_from([0, 1, 4]),
    st.randoms(use_true_random=False),
)
@settings(max_examples=250, deadline=None)
def test_people_equal_the_reference_grouping(
    seed, joints, most, people, dim, threshold, cost, assignment, max_joined, shuffler
):
    candidates = random_candidates(seed, joints, most, people, dim)
    order = list(range(joints))
    shuffler.shuffle(order)
    options = DecodeOptions(
        tuple(order), tag_threshold=threshold, cost=cost, assignment=assignment, max_joined=max_joined
    )
    slow = reference.group_peaks([entries(c) for c in candidates], options)
    groups = group_candidates(candidates, options)
    np.testing.assert_array_equal(groups.joints, expected_joints(slow, joints))
    found = [[joint in person.joints for joint in range(joints)] for person in slow]
    assert groups.found.tolist() == found
    np.testing.assert_array_equal(groups.tags, np.array([p.mean_tag for p in slow], np.float32).reshape(-1, dim))


def test_the_first_joint_starts_a_person_per_candidate_in_score_order():
    groups = group([peaks((1, 2, 0.9, 0.0), (3, 4, 0.5, 0.0))], [0])
    assert groups.joints[:, 0].tolist() == [[1, 2, pytest.approx(0.9)], [3, 4, 0.5]]


def test_no_candidates_are_no_people():
    groups = group([peaks(dim=4)] * 3, [2, 1, 0])
    assert groups.joints.shape == (0, 3, 3)
    assert groups.found.shape == (0, 3)
    assert groups.tags.shape == (0, 4)


@pytest.mark.parametrize(("distance", "joins"), [(0.0, True), (0.99, True), (1.0, False), (1.4, False), (3.0, False)])
def test_a_pair_joins_only_below_the_threshold(distance, joins):
    for threshold in (1.0, 2.0):
        candidates = [peaks((0, 0, 0.5, 0.0)), peaks((1, 1, 0.5, distance * threshold))]
        assert len(group(candidates, [0, 1], tag_threshold=threshold).joints) == (1 if joins else 2)


def test_distances_are_euclidean_over_all_dimensions():
    near, far = np.full(8, 0.35), np.full(8, 0.36)  # lengths 0.99 and 1.02
    for tag, count in ((near, 1), (far, 2)):
        groups = group([peaks((0, 0, 0.5, np.zeros(8)), dim=8), peaks((1, 1, 0.5, tag), dim=8)], [0, 1])
        assert len(groups.joints) == count


def test_distance_is_to_the_mean_over_the_joints_so_far():
    candidates = [peaks((0, 0, 0.5, 0.0)), peaks((1, 1, 0.5, 0.9)), peaks((2, 2, 0.5, 1.4))]
    groups = group(candidates, [0, 1, 2])
    assert groups.found.tolist() == [[True, True, True]]  # 1.4 − 0.45 is near, 1.4 − 0 would not be
    assert groups.tags[0, 0] == pytest.approx((0.0 + 0.9 + 1.4) / 3)
    assert len(group(candidates, [0, 2, 1]).joints) == 2


def test_a_cell_beyond_the_threshold_can_win_a_column_and_be_turned_away():
    # the only candidate rounds to distance 1, wins person 0, and still starts a person
    candidates = [peaks((0, 0, 0.5, 0.0)), peaks((1, 1, 0.9, 1.2), (2, 2, 0.2, 0.9))]
    groups = group(candidates, [0, 1])
    assert groups.joints[:, 1, :2].tolist() == [[0, 0], [1, 1], [2, 2]]


def test_the_cost_ignores_distance_inside_a_rounding_step():
    # both round to 0; the better score takes the person, though its tag is farther
    groups = group([peaks((0, 0, 0.5, 0.0)), peaks((1, 1, 0.9, 0.4), (2, 2, 0.8, 0.0))], [0, 1])
    assert groups.joints[:, 1, :2].tolist() == [[1, 1], [2, 2]]


def test_a_step_of_distance_outweighs_any_score_by_the_cost_of_associative_embedding():
    candidates = [peaks((0, 0, 0.5, 0.0)), peaks((1, 1, 1.5, 0.6), (2, 2, 0.2, 0.0))]
    ce, ae = (group(candidates, [0, 1], cost=name) for name in ("ce", "ae"))
    assert ce.joints[0, 1, :2].tolist() == [1, 1]
    assert ae.joints[0, 1, :2].tolist() == [2, 2]


def test_people_beyond_the_limit_are_not_joined():
    first = peaks((0, 0, 0.9, 0.0), (1, 1, 0.8, 5.0))
    second = peaks((2, 2, 0.9, 5.0), (3, 3, 0.8, 0.0))
    assert group([first, second], [0, 1]).found.tolist() == [[True, True]] * 2
    limited = group([first, second], [0, 1], max_joined=1)
    assert limited.found.tolist() == [[True, True], [True, False], [False, True]]


def test_scipy_lets_the_nearer_tag_win_among_equal_costs():
    people = peaks((0, 0, 0.5, 0.4), (9, 9, 0.5, 0.0))
    second = peaks((1, 1, 0.5, 0.0), (2, 2, 0.5, 0.4))
    joints = group([people, second], [0, 1], assignment="scipy").joints
    assert joints[:, 1, :2].tolist() == [[2, 2], [1, 1]]


@given(seeds, st.integers(1, 20), st.integers(1, 20))
@settings(max_examples=200, deadline=None)
def test_both_solvers_reach_the_same_total_cost(seed, rows, people):
    random = np.random.default_rng(seed)
    distances = (random.integers(0, 12, (rows, people)) / 4).astype(np.float32)
    rounded = np.rint(distances)
    cost = np.full((rows, max(rows, people)), 1e5, np.float32)
    cost[:, :people] = np.where(rounded <= 1, rounded - random.integers(2, 17, (rows, 1)) / 16, 1e5)
    totals = []
    for name, solver in ASSIGNMENTS.items():
        columns = solver(cost, distances)
        assert sorted(set(columns.tolist())) == sorted(columns.tolist()), name
        totals.append(cost[np.arange(rows), columns].sum(dtype=np.float64))
    assert totals[0] == totals[1]


def test_solvers_by_name():
    assert ASSIGNMENTS["munkres"] is assign_munkres
    assert ASSIGNMENTS["scipy"] is assign_scipy
