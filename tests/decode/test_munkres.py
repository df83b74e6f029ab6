import munkres
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from coupled_embedding.decode.fast.munkres import munkres_columns


def few_values(random, rows, columns):
    return random.integers(0, 4, (rows, columns))


def grouping_costs(random, rows, columns):
    costs = random.integers(0, 2, (rows, columns)) - random.random((rows, 1))
    return np.where(random.random((rows, columns)) < 0.4, 1e5, costs)


def equal_scores(random, rows, columns):
    costs = np.where(random.random((rows, columns)) < 0.3, 0.0, 1e5)
    return costs - random.integers(0, 3, (rows, 1)) * 0.25 * (costs < 10)


def padded_columns(random, rows, columns):
    costs = grouping_costs(random, rows, columns)
    costs[:, random.integers(0, columns + 1) :] = 1e5
    return costs


def any_floats(random, rows, columns):
    return random.standard_normal((rows, columns))


def all_equal(random, rows, columns):
    return np.full((rows, columns), random.choice([0.0, -0.7, 1e5]))


KINDS = [few_values, grouping_costs, equal_scores, padded_columns, any_floats, all_equal]


def columns_of_package(cost):
    assignment = munkres.Munkres().compute(cost.copy())
    assert [row for row, _ in assignment] == list(range(len(cost)))
    return [column for _, column in assignment]


def hundreds(random, rows, columns):
    costs = 100 * random.integers(0, 4, (rows, columns)) - random.random((rows, 1))
    return np.where(np.arange(columns) < random.integers(1, columns + 1), costs, 1e10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [*KINDS, hundreds])
def test_choice_is_that_of_the_package(kind, dtype):
    random = np.random.default_rng([*KINDS, hundreds].index(kind))
    for _ in range(500):
        columns = int(random.integers(1, 11))
        rows = int(random.integers(1, columns + 1))
        cost = kind(random, rows, columns).astype(dtype)
        assert munkres_columns(cost).tolist() == columns_of_package(cost), cost.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_choice_is_that_of_the_package_in_a_crowd(kind):
    random = np.random.default_rng(100 + KINDS.index(kind))
    for rows, columns in ((30, 30), (17, 40), (1, 25)):
        cost = kind(random, rows, columns).astype(np.float32)
        assert munkres_columns(cost).tolist() == columns_of_package(cost)


@given(st.integers(0, 2**31), st.sampled_from(KINDS), st.integers(1, 30), st.integers(0, 30))
@settings(max_examples=200, deadline=None)
def test_total_cost_is_the_least(seed, kind, rows, more):
    # eighths keep sums exact regardless of the order of subtractions
    cost = (np.round(8 * kind(np.random.default_rng(seed), rows, rows + more)) / 8).astype(np.float32)
    columns = munkres_columns(cost)
    assert len(set(columns.tolist())) == rows
    assert ((columns >= 0) & (columns < rows + more)).all()
    best = cost[linear_sum_assignment(cost)].sum(dtype=np.float64)
    assert cost[np.arange(rows), columns].sum(dtype=np.float64) == best


def test_the_cost_matrix_is_left_alone():
    cost = np.random.default_rng(0).random((4, 6)).astype(np.float32)
    before = cost.copy()
    munkres_columns(cost)
    np.testing.assert_array_equal(cost, before)


def test_among_equal_costs_the_choice_is_the_packages_not_scipys():
    cost = np.array([[0, 0, 0], [1, 0, 0], [0, 0, 1]], np.float32)
    assert munkres_columns(cost).tolist() == columns_of_package(cost) == [2, 1, 0]
    assert linear_sum_assignment(cost)[1].tolist() != [2, 1, 0]
