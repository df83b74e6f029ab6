"""Filters and orders of the list."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coupled_embedding.browse.selection import ERRORS, ORDERS, ImageFigures, Selection

SHARES = st.sampled_from([0.0, 0.2, 0.25, 0.5, 1.0])
COUNTS = st.integers(0, 3)
FIGURES = st.builds(
    ImageFigures,
    st.integers(0, 10**6),
    st.just("name.jpg"),
    COUNTS,
    SHARES,
    st.booleans(),
    st.none() | SHARES,
    st.just({}) | st.fixed_dictionaries(dict.fromkeys(ERRORS, COUNTS)),
)
LISTS = st.lists(FIGURES, unique_by=lambda image: image.image_id, max_size=12)
LIMITS = {
    **dict.fromkeys(["min_crowd", "max_crowd", "min_oks", "max_oks"], st.none() | SHARES),
    **dict.fromkeys(["min_people", "max_people"], st.none() | COUNTS),
}


@settings(deadline=None)  # machines are busy
@given(LISTS, st.fixed_dictionaries(LIMITS))
def test_limits_include_themselves_and_only_those_that_are_given_count(images, limits):
    chosen = Selection("id", **limits).of(images)
    expected = []
    for image in sorted(images, key=lambda one: one.image_id):
        fits = True
        for name, value in (("crowd", image.crowd_index), ("people", image.people), ("oks", image.oks)):
            low, high = limits[f"min_{name}"], limits[f"max_{name}"]
            if low is not None:
                fits = fits and value is not None and value >= low
            if high is not None:
                fits = fits and value is not None and value <= high
        if fits:
            expected.append(image)
    assert chosen == expected


@settings(deadline=None)  # machines are busy
@given(LISTS, st.sampled_from(sorted(ORDERS)))
def test_orders_begin_with_the_worst_and_equals_are_by_id(images, order):
    listed = Selection(order).of(images)
    assert sorted(listed, key=lambda one: one.image_id) == sorted(images, key=lambda one: one.image_id)
    values = {
        "worst": lambda image: -math.inf if image.oks is None else 1 - image.oks,
        "id": lambda image: -image.image_id,
        "crowd": lambda image: image.crowd_index,
        "people": lambda image: image.people,
    }
    badness = [values.get(order, lambda image: image.errors.get(order, -1))(image) for image in listed]
    for (first, one), (second, other) in zip(
        zip(badness, listed, strict=True), list(zip(badness, listed, strict=True))[1:], strict=False
    ):
        assert first > second or (first == second and one.image_id < other.image_id)


@pytest.mark.parametrize("error", ERRORS)
def test_each_kind_of_error_is_an_order(error):
    assert error in ORDERS
