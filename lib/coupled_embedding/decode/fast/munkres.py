"""Minimum-cost assignment with the choice of the `munkres` package 1.1.4 among equal costs.

Costs of grouping are full of ties, so the order in which zeros are found decides who joins
whom. This follows the package's order on float32 or float64 costs, rounding included (tests
compare the two), at compiled speed.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

_STAR, _PRIME = 1, 2


@njit(cache=True, nogil=True)
def munkres_columns(cost: NDArray[np.floating]) -> NDArray[np.int64]:
    """Assign each row a column of its own so that the total cost is least.

    Args:
        cost: (rows, columns) float32 or float64, finite, with no more rows than columns.

    Returns:
        (rows,) column of each row.
    """
    rows, n = cost.shape
    c = np.zeros((n, n), cost.dtype)  # missing rows cost nothing
    c[:rows] = cost
    for i in range(n):
        c[i] -= c[i].min()
    marked = np.zeros((n, n), np.uint8)
    row_covered = np.zeros(n, np.bool_)
    column_covered = np.zeros(n, np.bool_)
    _star_first_zeros(c, marked)
    while True:
        row_covered[:] = False
        column_covered[:] = False
        covered = 0
        for j in range(n):
            for i in range(n):
                if marked[i, j] == _STAR:
                    column_covered[j] = True
                    covered += 1
                    break
        if covered >= n:
            break
        row, column = _prime_until_free(c, marked, row_covered, column_covered)
        _augment(marked, row, column)
    result = np.empty(rows, np.int64)
    for i in range(rows):
        for j in range(n):
            if marked[i, j] == _STAR:
                result[i] = j
    return result


@njit(cache=True, nogil=True)
def _star_first_zeros(c, marked):
    n = c.shape[0]
    row_used = np.zeros(n, np.bool_)
    column_used = np.zeros(n, np.bool_)
    for i in range(n):
        for j in range(n):
            if c[i, j] == 0 and not column_used[j] and not row_used[i]:
                marked[i, j] = _STAR
                row_used[i] = True
                column_used[j] = True
                break


@njit(cache=True, nogil=True)
def _find_zero(c, row_covered, column_covered, row0, column0):
    # rows from row0 on, cyclically; within the first row that has one, the LAST uncovered zero
    # in the cyclic order from column0: the package's inner loop does not stop at the first
    n = c.shape[0]
    for step in range(n):
        i = (row0 + step) % n
        if row_covered[i]:
            continue
        found = -1
        for back in range(n):
            j = (column0 + back) % n
            if c[i, j] == 0 and not column_covered[j]:
                found = j
        if found >= 0:
            return i, found
    return -1, -1


@njit(cache=True, nogil=True)
def _prime_until_free(c, marked, row_covered, column_covered):
    n = c.shape[0]
    row, column = 0, 0
    while True:
        row, column = _find_zero(c, row_covered, column_covered, row, column)
        if row < 0:
            _shift_costs(c, row_covered, column_covered)
            row, column = 0, 0
            continue
        marked[row, column] = _PRIME
        star = -1
        for j in range(n):
            if marked[row, j] == _STAR:
                star = j
                break
        if star < 0:
            return row, column
        column = star
        row_covered[row] = True
        column_covered[column] = False


@njit(cache=True, nogil=True)
def _shift_costs(c, row_covered, column_covered):
    n = c.shape[0]
    least = np.inf
    for i in range(n):
        if not row_covered[i]:
            for j in range(n):
                if not column_covered[j] and c[i, j] < least:
                    least = c[i, j]
    for i in range(n):
        for j in range(n):
            if row_covered[i]:
                c[i, j] += least
            if not column_covered[j]:
                c[i, j] -= least


@njit(cache=True, nogil=True)
def _augment(marked, row, column):
    # walk prime, star, prime, ...: stars of the path go, its primes become stars
    n = marked.shape[0]
    path = np.empty((2 * n + 1, 2), np.int64)
    path[0, 0], path[0, 1] = row, column
    last = 0
    while True:
        star = -1
        for i in range(n):
            if marked[i, path[last, 1]] == _STAR:
                star = i
                break
        if star < 0:
            break
        path[last + 1, 0], path[last + 1, 1] = star, path[last, 1]
        for j in range(n):
            if marked[star, j] == _PRIME:
                path[last + 2, 0], path[last + 2, 1] = star, j
                break
        last += 2
    for p in range(last + 1):
        i, j = path[p]
        marked[i, j] = 0 if marked[i, j] == _STAR else _STAR
    for i in range(n):
        for j in range(n):
            if marked[i, j] == _PRIME:
                marked[i, j] = 0
