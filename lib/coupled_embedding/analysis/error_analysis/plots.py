"""The plots of the error analysis. Values may be NaN or infinite: such a point is left out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from coupled_embedding.analysis.error_analysis.tags import ScaleFit
from coupled_embedding.analysis.plot_style import BLUE, GRID, INK, RED, SOFT, add_tip, plot_style

if TYPE_CHECKING:  # matplotlib is imported when something is drawn
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = "osD^vP"
_MOST_NUMBERS = 10  # rows or columns that have space for numbers
_LEAST_LABELLED = 6  # percent of a stacked bar that are wide enough for their number


@dataclass(frozen=True)
class Series:
    """A line, or a part of stacked bars: name, color, and a share of 1 for each category."""

    name: str
    color: str
    values: Sequence[float]


def percent(value: float, digits: int = 1) -> str:
    """Return a share as percent without the sign, n/a for NaN."""
    return f"{100 * value:.{digits}f}" if math.isfinite(value) else "n/a"


def _new_figure(width: float, height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _finite(values: Sequence[float], factor: float = 1.0) -> list[float]:
    return [factor * value if math.isfinite(value) else 0.0 for value in values]


@plot_style()
def line_plot(series: Sequence[Series], labels: Sequence[tuple[str, str]], x_label: str) -> "Figure":
    """Draw lines over categories, shares as 0 to 100 percent; ``labels``: a category's name and a remark below it."""
    figure, axes = _new_figure(5.2, 3.8)
    for line, marker in zip(series, cycle(_MARKERS)):
        points = [(x, 100 * value) for x, value in enumerate(line.values) if math.isfinite(value)]
        style: dict[str, Any] = {"color": line.color, "marker": marker, "markersize": 5}
        axes.plot(*np.array(points).reshape(-1, 2).T, linewidth=1.8, label=line.name, **style)
        for x, y in points:
            add_tip(axes.plot([x], [y], **style)[0], f"{line.name}: {y:.1f}")
    axes.set_xticks(range(len(labels)), [f"{name}\n{remark}" for name, remark in labels])
    axes.set(xlim=(-0.5, max(len(labels), 1) - 0.5), ylim=(0, 100), xlabel=x_label, ylabel="percent")
    axes.grid(axis="y")
    if labels:
        figure.legend(loc="outside upper left")
    else:
        axes.text(0.5, 0.5, "no images with people", transform=axes.transAxes, ha="center", color=SOFT)
    return figure


@plot_style()
def bar_plot(bars: Sequence[tuple[str, float, str]], x_label: str, signed: bool = False) -> "Figure":
    """Draw horizontal bars of (name, share, color) with their percents; not signed, the axis ends at 100."""
    figure, axes = _new_figure(5.2, 0.34 * len(bars) + 0.6)
    names, shares, colors = zip(*bars)
    drawn = axes.barh(names, _finite(shares, 100), 0.7, color=colors)
    texts = [f"{100 * share:+.1f}" if signed and math.isfinite(share) else percent(share) for share in shares]
    axes.bar_label(drawn, texts, padding=3)
    axes.axvline(0, color=SOFT, linewidth=0.8)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel=x_label, **({} if signed else {"xlim": (0, 100)}))
    axes.grid(axis="x")
    axes.invert_yaxis()
    return figure


@plot_style()
def stacked_bars(series: Sequence[Series], labels: Sequence[tuple[str, str]], remarks: str) -> "Figure":
    """Draw a horizontal bar of shares, which add up to 1, for each category.

    Args:
        series: a share for each category.
        labels: the categories' names, and a remark on the right of each.
        remarks: heading of the remarks.
    """
    figure, axes = _new_figure(5.2, 0.27 * len(labels) + 0.9)
    places, left = np.arange(len(labels)), np.zeros(len(labels))
    for part in series:
        values = np.array(_finite(part.values, 100))
        bars = axes.barh(places, values, 0.8, left, color=part.color, edgecolor="white", linewidth=0.5, label=part.name)
        texts = [f"{value:.0f}" if value >= _LEAST_LABELLED else "" for value in values]
        axes.bar_label(bars, texts, label_type="center", fontsize=7.5, color=_text_color(part.color))
        for bar, value in zip(bars, values):
            add_tip(bar, f"{part.name}: {value:.1f}")
        left += values
    for place, remark in zip([*places, -0.8], [*(remark for _, remark in labels), remarks]):
        axes.text(101.5, place, remark, va="center", fontsize=8, color=SOFT)
    axes.set_yticks(places, [name for name, _ in labels])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set(xlim=(0, 100), ylim=(len(labels) - 0.5, -0.5), xlabel="percent of the joints")
    figure.legend(loc="outside upper left", ncols=len(series), columnspacing=1.2, handlelength=1.2)
    return figure


def _text_color(background: str) -> str:
    red, green, blue = (int(background[i : i + 2], 16) for i in (1, 3, 5))
    return "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 140 else INK


@plot_style()
def matrix_plot(values: Sequence[Sequence[float]], axis: str, color_label: str) -> "Figure":
    """Draw a square matrix from -1 (orange) over 0 (white) to 1 (blue), NaN gray; rows and columns count from 1."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize
    from matplotlib.patches import Rectangle

    figure, axes = _new_figure(3.5, 3.1)
    colors = LinearSegmentedColormap.from_list("", [RED, "white", BLUE], N=41).with_extremes(bad=GRID)
    size = len(values)
    for (row, column), value in np.ndenumerate(np.asarray(values, np.float64)):
        text = f"{value:.2f}".replace("0.", ".") if math.isfinite(value) else "–"
        cell = axes.add_patch(Rectangle((column + 0.5, row + 0.5), 1, 1, color=colors((value + 1) / 2), ec="white"))
        add_tip(cell, f"{row + 1}, {column + 1}: {text}")
        if size <= _MOST_NUMBERS:
            color = "white" if abs(value) > 0.6 else INK
            axes.text(column + 1, row + 1, text, ha="center", va="center", fontsize=6.5, color=color)
    ticks = range(1, size + 1, -(-size // _MOST_NUMBERS))
    limits = (0.5, size + 0.5)
    axes.set(aspect="equal", xlabel=axis, ylabel=axis, xticks=ticks, yticks=ticks, xlim=limits, ylim=limits[::-1])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    scale = ScalarMappable(Normalize(-1, 1), colors)
    bar = figure.colorbar(scale, ax=axes, shrink=0.8, label=color_label, ticks=(-1, -0.5, 0, 0.5, 1))
    bar.outline.set_visible(False)
    return figure


@plot_style()
def column_plot(values: Sequence[float], x_label: str, y_label: str, color: str) -> "Figure":
    """Draw columns from 0, numbered from 1 below, each with its number where there is room."""
    figure, axes = _new_figure(3.5, 1.6)
    texts = [f"{value:.2f}" if math.isfinite(value) else "–" for value in values]
    bars = axes.bar(range(1, len(values) + 1), _finite(values), 0.75, color=color)
    for bar, text in zip(bars, texts):
        add_tip(bar, text)
    if len(values) <= _MOST_NUMBERS:
        axes.bar_label(bars, texts, padding=1, fontsize=7)
    axes.set_xticks(range(1, len(values) + 1, len(values) // _MOST_NUMBERS + 1))
    axes.margins(y=0.15)
    axes.set(xlabel=x_label, ylabel=y_label, ylim=(0, None))
    return figure


@plot_style()
def scale_plot(fit: ScaleFit) -> "Figure":
    """Draw encoded against true scales: people, quartiles, the diagonal; both axes from 0 to 1 or the largest value."""
    figure, axes = _new_figure(3.5, 3.8)
    top = max([1.0, *(value for person in fit.people for value in person if math.isfinite(value))])
    axes.plot([0, top], [0, top], color=SOFT, linewidth=1, linestyle="--", label="encoded = true")
    people = np.array(fit.people, np.float64).reshape(-1, 2)
    axes.plot(*people.T, "o", color=BLUE, markersize=3, markeredgewidth=0, alpha=0.35, label="a person")
    axes.fill_between(fit.true, fit.lower, fit.upper, color=BLUE, alpha=0.22, linewidth=0, label="quartiles")
    axes.plot(fit.true, fit.median, color=BLUE, linewidth=2, label="median")
    axes.set(xlim=(0, top), ylim=(0, top), aspect="equal")
    axes.set(xlabel="true scale (input sides)", ylabel="scale that the tags encode (input sides)")
    axes.grid()
    figure.legend(loc="outside upper left", ncols=2)
    return figure
