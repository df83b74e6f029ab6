"""Histograms as cards on white paper."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from coupled_embedding.visualize.palette import Color, Image, mixed

_PAPER: Color = (255, 255, 255)
_INK: Color = (52, 44, 40)
_QUIET: Color = (140, 130, 124)
_GRID: Color = (236, 232, 229)
_FINE = 2  # cards are drawn so much larger and averaged: OpenCV's letters become smooth
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MARGIN = (58, 66, 20, 46)  # left, top, right, bottom


@dataclass(frozen=True)
class Histogram:
    """Bars side by side.

    Attributes:
        title: what is counted.
        note: a line under it.
        counts: of each bar.
        ticks: place on the axis, in bars from the left border, and what to write there.
        color: of the bars.
    """

    title: str
    note: str
    counts: Sequence[int]
    ticks: Sequence[tuple[float, str]]
    color: Color = (196, 132, 58)


def histogram_card(histogram: Histogram, size: tuple[int, int] = (560, 320)) -> Image:
    """Draw a histogram as a card of (width, height) pixels."""
    card = _Card(size, histogram.title, histogram.note)
    left, top, right, bottom = _MARGIN
    width, height = size[0] - left - right, size[1] - top - bottom
    peak, steps = _scale_of(max(histogram.counts, default=0))
    for step in steps:
        y = top + height - height * step / peak
        card.box(left, y - 0.5, left + width, y + 0.5, _GRID)
        card.text(f"{step}", left - 8, y + 4, 0.42, _QUIET, anchor=1.0)
    bar = width / max(len(histogram.counts), 1)
    gap = 0.5 if bar > 4 else 0.0
    for number, count in enumerate(histogram.counts):
        tall = max(height * count / peak, 1.5) if count else 0
        card.box(
            left + number * bar + gap,
            top + height - tall,
            left + (number + 1) * bar - gap,
            top + height,
            histogram.color,
        )
    card.box(left, top + height - 0.5, left + width, top + height + 0.5, _QUIET)
    for place, text in histogram.ticks:
        card.text(text, left + place * bar, top + height + 20, 0.44, _INK, anchor=0.5)
    return card.image()


def bars_card(
    title: str,
    note: str,
    names: Sequence[str],
    parts: Sequence[tuple[float, float]],
    size: tuple[int, int] = (560, 320),
) -> Image:
    """Draw a named bar for each pair of shares (0 to 1), from left to right: the first dark, the second light."""
    card = _Card(size, title, note)
    left, top, right, bottom = 128, _MARGIN[1], 76, 18
    width, height = size[0] - left - right, size[1] - top - bottom
    row = height / max(len(names), 1)
    strong: Color = (150, 160, 40)
    for number, (name, (first, second)) in enumerate(zip(names, parts, strict=True)):
        y = top + number * row
        letters = float(np.clip(row / 36, 0.3, 0.42))
        card.text(name.replace("_", " "), left - 10, y + row / 2 + 9 * letters, letters, _INK, anchor=1.0)
        card.box(left, y + 0.18 * row, left + width, y + 0.82 * row, _GRID)
        card.box(left, y + 0.18 * row, left + width * (first + second), y + 0.82 * row, mixed(strong, _PAPER, 0.5))
        card.box(left, y + 0.18 * row, left + width * first, y + 0.82 * row, strong)
        card.text(f"{first + second:.0%}", left + width + 8, y + row / 2 + 9 * letters, letters, _QUIET)
    return card.image()


def text_card(title: str, note: str, rows: Sequence[tuple[str, str]], size: tuple[int, int] = (560, 320)) -> Image:
    """Draw names with values, a row each."""
    card = _Card(size, title, note)
    step = min((size[1] - _MARGIN[1] - 20) / max(len(rows), 1), 30)
    for number, (name, value) in enumerate(rows):
        y = _MARGIN[1] + 18 + number * step
        card.text(name, 24, y, 0.48, _INK)
        card.text(value, size[0] - 24, y, 0.48, _INK, anchor=1.0)
        card.box(24, y + 8.5, size[0] - 24, y + 9.5, _GRID)
    return card.image()


def sheet_of_cards(cards: Sequence[Image], columns: int = 2, gap: int = 16) -> Image:
    """Lay cards of one size out in rows on a grey sheet."""
    height, width = cards[0].shape[:2]
    rows = -(-len(cards) // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), (238, 235, 233), np.uint8)
    for number, card in enumerate(cards):
        row, column = divmod(number, columns)
        top, left = gap + row * (height + gap), gap + column * (width + gap)
        sheet[top : top + height, left : left + width] = card
    return sheet


def _scale_of(largest: int) -> tuple[float, list[int]]:
    """Return the axis' end, a little above the largest count, and round numbers up to it."""
    raw = max(largest, 1) / 5
    power = 10 ** int(np.floor(np.log10(raw)))
    step = max(next(int(power * m) for m in (1, 2, 5, 10) if power * m >= raw) if raw >= 1 else 1, 1)
    return max(largest, 1) * 1.04, list(range(0, max(largest, 1) + 1, step))


class _Card:
    """A card to draw on in its own pixels."""

    def __init__(self, size: tuple[int, int], title: str, note: str) -> None:
        self.size = size
        self.pixels = np.full((size[1] * _FINE, size[0] * _FINE, 3), _PAPER, np.uint8)
        self.text(title, 24, 32, 0.62, _INK, weight=1.6)
        self.text(note, 24, 52, 0.42, _QUIET)

    def box(self, left: float, top: float, right: float, bottom: float, color: Color) -> None:
        x, y, x2, y2 = (round(v * _FINE) for v in (left, top, right, bottom))
        if x2 > x and y2 > y:
            self.pixels[max(y, 0) : y2, max(x, 0) : x2] = color

    def text(
        self, text: str, x: float, y: float, size: float, color: Color, anchor: float = 0.0, weight: float = 1.0
    ) -> None:
        """Write with the baseline at y; anchor 0: x is the left end, 1: the right end."""
        thick = max(round(weight * _FINE * 0.75), 1)
        # the letters are OpenCV's own, which are Latin only
        plain = text.encode("ascii", "replace").decode()
        room = self.size[0] - 28 if anchor == 0 else self.size[0]
        wide = cv2.getTextSize(plain, _FONT, size * _FINE, thick)[0][0] / _FINE
        if anchor == 0 and x + wide > room:
            size *= max((room - x) / wide, 0.6)
            wide *= max((room - x) / wide, 0.6)
            if x + wide > room:
                plain = plain[: int(len(plain) * (room - x) / wide) - 4] + "..."
        place = (round((x - anchor * wide) * _FINE), round(y * _FINE))
        cv2.putText(self.pixels, plain, place, _FONT, size * _FINE, color, thick, cv2.LINE_AA)

    def image(self) -> Image:
        return np.asarray(cv2.resize(self.pixels, self.size, interpolation=cv2.INTER_AREA), np.uint8)
