"""Cards with histograms: bars of the right height and length, and nothing beyond the card."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coupled_embedding.visualize.histograms import Histogram, bars_card, histogram_card, sheet_of_cards, text_card

COLOR = (0, 0, 255)


def bar_heights(image, bars):
    """Pixels of the bars' colour in the middle of each bar, of a card of the usual margins."""
    left, right = 58, image.shape[1] - 20
    centers = (left + (np.arange(bars) + 0.5) * (right - left) / bars).astype(int)
    return (image[:, centers] == COLOR).all(2).sum(0)


@given(counts=st.lists(st.integers(0, 10**6), min_size=1, max_size=40).filter(any))
def test_bars_are_as_tall_as_their_counts(counts):
    heights = bar_heights(histogram_card(Histogram("a", "b", counts, [], COLOR)), len(counts))
    tallest = heights.max()
    expected = np.array(counts) / max(counts) * tallest
    assert np.abs(heights - expected).max() <= 3
    assert (heights[np.array(counts) == 0] == 0).all()


def test_nothing_counted_is_an_empty_card():
    image = histogram_card(Histogram("nothing", "", [], []))
    assert (image.shape, image.dtype) == ((320, 560, 3), np.uint8)


def test_shares_become_lengths():
    image = bars_card("joints", "", ["a", "b"], [(0.5, 0.25), (0.0, 0.0)])
    row = image[66 + 59]  # the middle of the first bar
    strong = (row == (150, 160, 40)).all(1).sum()
    width = 560 - 128 - 76
    assert abs(strong - width / 2) <= 2
    assert not (image[66 + 177] == (150, 160, 40)).all(1).any()


def test_cards_lie_in_rows():
    cards = [text_card(f"{n}", "", [("name", "value")]) for n in range(3)]
    sheet = sheet_of_cards(cards, columns=2, gap=10)
    assert sheet.shape == (2 * 320 + 30, 2 * 560 + 30, 3)
    np.testing.assert_array_equal(sheet[10:330, 580:1140], cards[1])
    assert (sheet[340:660, 580:] != 255).any(2).all()


@pytest.mark.parametrize("title", ["写真", "a very long title " * 9])
def test_any_title_fits(title):
    assert (text_card(title, title, [])[:, -20:] == 255).all()
