"""Small plots as SVG text: lines, bars, stacked shares, a matrix, columns, a cloud of points.

Values may be NaN or infinite: such a point is left out. All text that comes from outside is escaped.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

INK, SOFT, GRID = "#1f2937", "#6b7280", "#e5e7eb"
_LEFT, _TOP, _BOTTOM = 46, 14, 46


@dataclass(frozen=True)
class Series:
    """A line or a kind of share.

    Attributes:
        name: for the legend.
        color: CSS colour.
        values: one for each place on the axis, shares of 1.
        dashed: whether its line is.
    """

    name: str
    color: str
    values: Sequence[float]
    dashed: bool = False


def _svg(width: float, height: float, parts: Sequence[str], label: str) -> str:
    body = "\n".join(parts)
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">\n{body}\n</svg>'


def _text(x: float, y: float, text: str, anchor: str = "middle", color: str = SOFT, size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" font-size="{size}">{escape(text)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, color: str = GRID, width: float = 1) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" stroke-width="{width:g}"/>'


def _rect(x: float, y: float, width: float, height: float, color: str, tip: str = "", radius: float = 2) -> str:
    title = f"<title>{escape(tip)}</title>" if tip else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}" rx="{radius:g}" '
        f'fill="{color}">{title}</rect>'
    )


def percent(value: float, digits: int = 1) -> str:
    """Return a share as percent without the sign, n/a for NaN."""
    return f"{100 * value:.{digits}f}" if math.isfinite(value) else "n/a"


def legend(series: Sequence[Series]) -> str:
    """Return the names of series with their colours, as HTML."""
    items = (f'<span><i style="background:{_swatch(s)}"></i>{escape(s.name)}</span>' for s in series)
    return f'<p class="legend">{"".join(items)}</p>'


def _swatch(series: Series) -> str:
    stripes = f"repeating-linear-gradient(90deg,{series.color} 0 3px,#fff 3px 5px)"
    return stripes if series.dashed else series.color


def line_chart(series: Sequence[Series], labels: Sequence[tuple[str, str]], label: str, axis: str) -> str:
    """Draw lines over categories, shares from 0 to 100 percent.

    Args:
        series: a value for each category.
        labels: the categories' names and what stands below them in smaller letters.
        label: what the plot shows, for screen readers.
        axis: what the categories are.
    """
    width, height = 520, 290
    right, bottom = width - 12, height - _BOTTOM - 16
    step = (right - _LEFT) / max(len(labels), 1)
    xs = [_LEFT + step * (i + 0.5) for i in range(len(labels))]

    def level(value: float) -> float:
        return bottom - (bottom - _TOP) * min(max(value, 0.0), 1.0)

    parts = [_line(_LEFT, level(v / 4), right, level(v / 4)) for v in range(5)]
    parts += [_text(_LEFT - 8, level(v / 4) + 4, f"{25 * v}", "end") for v in range(5)]
    for x, (name, below) in zip(xs, labels):
        parts += [_text(x, bottom + 18, name, color=INK), _text(x, bottom + 33, below, size=10)]
    parts.append(_text((_LEFT + right) / 2, height - 6, axis, size=11))
    for line in series:
        points = [(x, level(v), v) for x, v in zip(xs, line.values) if math.isfinite(v)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
        dash = ' stroke-dasharray="6 4"' if line.dashed else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{line.color}" stroke-width="2.5"{dash}/>')
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{line.color}" stroke="#fff" stroke-width="1.5">'
            f"<title>{escape(line.name)}: {percent(v)}</title></circle>"
            for x, y, v in points
        ]
    return _svg(width, height, parts, label)


def bar_chart(bars: Sequence[tuple[str, float, str]], label: str, signed: bool = False) -> str:
    """Draw horizontal bars of (name, share, colour) with their percents; signed ones start in the middle if need be."""
    width, row, left = 520, 30, 150
    finite = [value for _, value, _ in bars if math.isfinite(value)]
    low, high = min([0.0, *finite]), max([0.0, *finite])
    span = (high - low) if signed else 1.0
    scale = (width - left - 70) / (span or 1.0)
    zero = left + (-low * scale + (46 if low < 0 else 0) if signed else 0)
    parts = []
    for number, (name, value, color) in enumerate(bars):
        y = number * row + 4
        parts.append(_text(left - 10, y + 16, name, "end", INK, 13))
        if not math.isfinite(value):
            parts.append(_text(zero + 6, y + 16, "n/a", "start"))
            continue
        length = value * scale
        parts.append(_rect(min(zero, zero + length), y, abs(length), row - 8, color))
        text = f"{100 * value:+.1f}" if signed else percent(value)
        end = zero + length + (-6 if length < 0 else 6)
        parts.append(_text(end, y + 16, text, "end" if length < 0 else "start", INK, 13))
    parts.append(_line(zero, 0, zero, len(bars) * row, "#9ca3af"))
    return _svg(width, len(bars) * row + 4, parts, label)


def stacked_bars(series: Sequence[Series], labels: Sequence[tuple[str, str]], label: str) -> str:
    """Draw a horizontal bar of shares for each category; names and remarks as in `line_chart`."""
    width, row, left, right = 520, 26, 118, 456
    parts = []
    for number, (name, below) in enumerate(labels):
        y, x = number * row + 3, float(left)
        parts += [_text(left - 8, y + 14, name, "end", INK), _text(right + 6, y + 14, below, "start", size=10)]
        for kind in series:
            value = kind.values[number]
            if math.isfinite(value):
                length = value * (right - left)
                parts.append(_rect(x, y, length, row - 6, kind.color, f"{kind.name}: {percent(value)}", 0))
                x += length
    return _svg(width, len(labels) * row + 4, parts, label)


def matrix(values: Sequence[Sequence[float]], label: str) -> str:
    """Draw a square matrix of values from -1 (orange) over 0 (white) to 1 (blue), cells numbered from 1."""
    size, cell = len(values), 40
    parts = []
    for i, row in enumerate(values):
        parts += [_text(24, 42 + cell * i + 6, str(i + 1), "end"), _text(32 + cell * (i + 0.5), 16, str(i + 1))]
        for j, value in enumerate(row):
            x, y = 32 + cell * j, 22 + cell * i
            parts.append(_rect(x, y, cell - 2, cell - 2, diverging(value), radius=3))
            if size <= 16:
                shown = f"{value:.2f}".replace("0.", ".") if math.isfinite(value) else "–"
                parts.append(_text(x + 19, y + 23, shown, color="#fff" if abs(value) > 0.6 else INK, size=11))
    return _svg(36 + cell * size, 26 + cell * size, parts, label)


def diverging(value: float) -> str:
    """Return the colour of a value in [-1, 1]; grey for NaN."""
    if not math.isfinite(value):
        return GRID
    end = (37, 99, 180) if value >= 0 else (217, 107, 39)
    share = min(abs(value), 1.0)
    return "#" + "".join(f"{round(255 + (channel - 255) * share):02x}" for channel in end)


def columns(values: Sequence[float], label: str, axis: str, color: str, digits: int = 2) -> str:
    """Draw columns from 0 to the largest value, each with its number, numbered from 1 below."""
    width, height = 400, 190
    step = (width - 20) / max(len(values), 1)
    top = max([v for v in values if math.isfinite(v)], default=0.0) or 1.0
    bottom = height - 40
    parts = []
    for number, value in enumerate(values):
        x = 10 + step * number
        tall = (bottom - 22) * value / top if math.isfinite(value) else 0.0
        shown = f"{value:.{digits}f}" if math.isfinite(value) else "–"
        parts.append(_rect(x + step * 0.12, bottom - tall, step * 0.76, tall, color))
        parts.append(_text(x + step / 2, bottom - tall - 5, shown, color=INK, size=10 if len(values) > 10 else 11))
        parts.append(_text(x + step / 2, bottom + 16, str(number + 1)))
    parts.append(_text(width / 2, height - 6, axis, size=11))
    return _svg(width, height, parts, label)


@dataclass(frozen=True)
class Band:
    """A line with a band about it: x, then the band's lower end, the line and the upper end."""

    x: Sequence[float]
    lower: Sequence[float]
    middle: Sequence[float]
    upper: Sequence[float]


def cloud(points: Sequence[tuple[float, float]], band: Band, label: str, axes: tuple[str, str], color: str) -> str:
    """Draw points, a band through them and the diagonal, both axes from 0 to 1 or the largest value."""
    width, height, left, bottom = 400, 330, 44, 284
    top = max([1.0, *(value for point in points for value in point if math.isfinite(value))])

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (width - left - 10) * x / top, bottom - (bottom - _TOP) * y / top

    ticks = [round(top * i / 4, 2) for i in range(5)]
    parts = []
    for tick in ticks:
        (x, _), (_, y) = place(tick, 0), place(0, tick)
        parts += [_line(left, y, width - 10, y), _text(left - 6, y + 4, f"{tick:g}", "end")]
        parts.append(_text(x, bottom + 17, f"{tick:g}"))
    parts.append(_line(*place(0, 0), *place(top, top), "#9ca3af", 1.5))
    dots = (place(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y))
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{color}" fill-opacity="0.35"/>' for x, y in dots]
    edge = [place(x, y) for x, y in (*zip(band.x, band.upper), *zip(band.x[::-1], band.lower[::-1]))]
    parts.append(f'<polygon points="{_path(edge)}" fill="{color}" fill-opacity="0.22"/>')
    middle = _path([place(x, y) for x, y in zip(band.x, band.middle)])
    parts.append(f'<polyline points="{middle}" fill="none" stroke="{color}" stroke-width="2.5"/>')
    parts += [_text((left + width) / 2, height - 8, axes[0], size=11), _text(left, 10, axes[1], "start", size=11)]
    return _svg(width, height, parts, label)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
