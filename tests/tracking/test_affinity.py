"""OKS over common joints and the similarity of tags, against plain loops and the evaluation's OKS."""

import math
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coupled_embedding.evaluation import oks_matrix
from coupled_embedding.tracking.affinity import Observation, affinities, shared_oks, tag_similarity

SIGMAS = np.array([0.05, 0.1, 0.08])
seeds = st.integers(0, 2**31)


def people(rng, count, missing=0.3):
    keypoints = np.concatenate([rng.uniform(0, 30, (count, 3, 2)), rng.random((count, 3, 1)) + 0.01], 2)
    keypoints[rng.random((count, 3)) < missing] = 0
    return keypoints


def oks_by_loops(earlier, later, area, tolerance):
    total, shared = 0.0, 0
    for a, b, sigma in zip(earlier, later, SIGMAS, strict=True):
        if a[2] > 0 and b[2] > 0:
            shared += 1
            squared = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2
            total += math.exp(-squared / (2 * area * (2 * sigma * tolerance) ** 2))
    return total / shared if shared else 0.0


@given(seeds, st.integers(0, 5), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_shared_oks_equals_loops(seed, first, second):
    rng = np.random.default_rng(seed)
    earlier, later = people(rng, first), people(rng, second)
    areas, tolerances = rng.uniform(1, 2000, first), rng.uniform(0.5, 4, first)
    expected = [[oks_by_loops(a, b, areas[n], tolerances[n]) for b in later] for n, a in enumerate(earlier)]
    result = shared_oks(earlier, later, areas, SIGMAS, tolerances)
    np.testing.assert_allclose(result, np.reshape(expected, (first, second)), atol=1e-12)


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_of_complete_poses_it_is_the_evaluations_oks(seed):
    rng = np.random.default_rng(seed)
    earlier, later, areas = people(rng, 4, 0), people(rng, 3, 0), rng.uniform(10, 900, 4)
    np.testing.assert_allclose(
        shared_oks(earlier, later, areas, SIGMAS), oks_matrix(earlier, areas, later, SIGMAS), rtol=1e-9
    )


def test_a_box_without_area_counts_as_a_pixel():
    pose = np.array([[[5.0, 5, 1], [0, 0, 0], [0, 0, 0]]])
    moved = pose + np.array([0.1, 0, 0])
    expected = math.exp(-(0.1**2) / (2 * (2 * SIGMAS[0]) ** 2))
    assert shared_oks(pose, moved, np.array([0.0]), SIGMAS)[0, 0] == pytest.approx(expected)


def test_similarity_of_tags():
    tags = np.array([[0.0, 0.0], [3.0, 4.0]])
    expected = [[1.0, math.exp(-25 / 8)], [math.exp(-25 / 8), 1.0]]
    np.testing.assert_allclose(tag_similarity(tags, tags, 2.0), expected)


def pose_at(x):
    return np.array([[x, 10.0, 1.0], [x + 5, 20.0, 1.0], [x, 40.0, 1.0]])


def seen(*places, tag=None, every=1):
    return deque(Observation(1 + n * every, pose_at(x), 400.0, tag) for n, x in enumerate(places))


def affinity(history, frame, x, tags=None):
    return float(affinities([history], frame, pose_at(x)[None], tags, SIGMAS, 0.5, 5)[0, 0])


def test_people_are_expected_where_their_motion_leads():
    walking = seen(10, 14, 18)
    assert affinity(walking, 4, 22) == pytest.approx(1.0)
    assert affinity(walking, 4, 22) > affinity(walking, 4, 18)
    assert affinity(seen(10, 18, every=2), 4, 22) == pytest.approx(1.0)


def test_nobody_is_expected_farther_than_the_window_leads():
    # the window is 5 frames: from frame 3 on at most to frame 8
    far = [affinity(seen(10, 14, 18), frame, 38) for frame in (8, 20)]
    assert far[0] == pytest.approx(1 / math.sqrt(1 + 0.3 * 4))
    assert far[1] == pytest.approx(1 / math.sqrt(1 + 0.3 * 16))


def test_out_of_sight_more_is_tolerated_and_less_is_sure():
    still = seen(10, 10, 10)
    assert affinity(still, 4, 10) > affinity(still, 8, 10)
    assert affinity(still, 4, 30) < affinity(still, 8, 30)


def test_the_best_observation_of_the_window_counts():
    rng = np.random.default_rng(0)
    history = deque(
        Observation(n + 1, pose_at(10) + rng.normal(0, 1, (3, 3)) * (1, 1, 0), 400.0, None) for n in range(4)
    )
    whole = affinity(history, 5, 10)
    # the same velocity, fewer observations in between
    assert whole >= affinity(deque([history[0], history[-1]]), 5, 10)


def test_tags_count_where_both_sides_have_them():
    tag, other = np.array([1.0, 0.0]), np.array([[1.0, 1.0]])
    plain = affinity(seen(10, 10), 3, 11)
    assert affinity(seen(10, 10, tag=tag), 3, 11) == pytest.approx(plain)
    assert affinity(seen(10, 10), 3, 11, other) == pytest.approx(plain)
    assert affinity(seen(10, 10, tag=tag), 3, 11, other) == pytest.approx(plain * math.exp(-1 / (2 * 0.25)))


def test_tracks_of_unequal_length_keep_their_rows():
    tracks = [seen(100), seen(10, 10, 10), seen(200, 200)]
    found = np.stack([pose_at(x) for x in (10, 200, 100)])
    result = affinities(tracks, 4, found, None, SIGMAS, 0.5, 5)
    assert result.argmax(1).tolist() == [2, 0, 1]
    for row, track in enumerate(tracks):
        np.testing.assert_allclose(result[row], affinities([track], 4, found, None, SIGMAS, 0.5, 5)[0])
