"""OKS matrices and the per-image quality."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from coupled_embedding.data.outputs import Pose
from coupled_embedding.evaluation import box_areas, image_quality, oks_matrix

SIGMAS = (0.05, 0.08, 0.1)


def slow_oks(true, areas, found, sigmas):
    matrix = [[0.0] * len(found) for _ in true]
    for n, person in enumerate(true):
        for m, guess in enumerate(found):
            total, labelled = 0.0, 0
            for (x, y, label), (u, v, _), sigma in zip(person, guess, sigmas):
                if label > 0:
                    labelled += 1
                    total += math.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * areas[n] * (2 * sigma) ** 2))
            matrix[n][m] = total / labelled if labelled else 0.0
    return np.array(matrix).reshape(len(true), len(found))


def people(count):
    return arrays(np.float64, (count, 3, 2), elements=st.floats(-50, 400))


@given(data=st.data(), n=st.integers(0, 4), m=st.integers(0, 4))
def test_oks_equals_the_loop_over_the_definition(data, n, m):
    labels = data.draw(arrays(np.int64, (n, 3, 1), elements=st.integers(0, 2)))
    true = np.concatenate([data.draw(people(n)), labels], axis=2)
    found = np.concatenate([data.draw(people(m)), np.ones((m, 3, 1))], axis=2)
    areas = data.draw(arrays(np.float64, n, elements=st.floats(1, 1e5)))
    np.testing.assert_allclose(
        oks_matrix(true, areas, found, SIGMAS), slow_oks(true, areas, found, SIGMAS), rtol=1e-9, atol=1e-300
    )


def person(x, label=2):
    return [[x, 10, label], [x + 5, 40, label], [x + 2, 80, label]]


def pose(x, score=0.5):
    return Pose(np.array(person(x, 1), np.float64), score)


def test_the_same_person_scores_one_even_with_an_area_of_zero():
    assert oks_matrix([person(0)], [0.0], [person(0)], SIGMAS).item() == 1


def test_unlabelled_joints_are_not_compared():
    true = person(0)
    true[1] = [999, 999, 0]
    assert oks_matrix([true], [1000], [person(0)], SIGMAS).item() == 1


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"shape \(N, 3, 3\), got \(1, 2, 3\)"):
        oks_matrix([person(0)], [1], [person(0)[:2]], SIGMAS)
    with pytest.raises(ValueError, match="each of the 1 people, got 2"):
        oks_matrix([person(0)], [1, 2], [person(0)], SIGMAS)


def test_box_areas_follow_crowdpose():
    assert box_areas([[5, 5, 10, 20]]).tolist() == pytest.approx([106])
    assert box_areas(np.zeros((0, 4))).shape == (0,)


class TestImageQuality:
    def test_all_found(self):
        assert image_quality([person(0), person(300)], [900, 900], [pose(300), pose(0)], SIGMAS) == 1

    def test_a_missed_person_counts_zero_and_a_surplus_one_nothing(self):
        assert image_quality([person(0), person(3000)], [900, 900], [pose(0), pose(9000)], SIGMAS) == pytest.approx(0.5)

    def test_no_detections(self):
        assert image_quality([person(0)], [900], [], SIGMAS) == 0

    def test_two_detections_of_one_person_find_one_person(self):
        assert image_quality([person(0), person(3000)], [900, 900], [pose(0), pose(0)], SIGMAS) == pytest.approx(0.5)

    def test_a_better_pair_goes_first_whatever_the_scores(self):
        near, exact = pose(1, score=0.9), pose(0, score=0.1)
        assert image_quality([person(0)], [900], [near, exact], SIGMAS) == 1

    def test_people_without_labels_are_left_out(self):
        assert image_quality([person(0), person(300, label=0)], [900, 900], [pose(0)], SIGMAS) == 1
        assert image_quality([person(0, label=0)], [900], [pose(0)], SIGMAS) is None
        assert image_quality(np.zeros((0, 3, 3)), [], [pose(0)], SIGMAS) is None
