"""Sums and shares of counts."""

import json
import math

from coupled_embedding.analysis.error_analysis.counts import for_json, share, sum_counts
from coupled_embedding.analysis.error_analysis.separation import Separation


def test_counts_add_up_field_by_field() -> None:
    summed = sum_counts(Separation, (Separation(1, 2, 3, 4, 5, 6, 7, 8), Separation(pairs=10, joints_far=1)))
    assert summed == Separation(11, 2, 3, 4, 5, 6, 7, 9)
    assert sum_counts(Separation, ()) == Separation()


def test_nothing_has_no_share() -> None:
    assert share(1, 4) == 0.25
    assert math.isnan(share(0, 0))


def test_json_gets_null_for_nan_and_infinity() -> None:
    content = for_json({"a": [math.nan, 1.5, (math.inf, "x")], 2: {"b": -math.inf, "c": True}})
    assert json.loads(json.dumps(content, allow_nan=False)) == {
        "a": [None, 1.5, [None, "x"]],
        "2": {"b": None, "c": True},
    }
