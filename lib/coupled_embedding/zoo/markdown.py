"""Markdown tables, and scores as papers print them."""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[Any]], right: Iterable[int] = ()) -> str:
    """Return a Markdown table; the columns ``right``, counted from 0, are right-aligned."""
    right = set(right)
    rule = ["--:" if column in right else "---" for column in range(len(headings))]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in (headings, rule, *rows))


def percent(score: float | None) -> str:
    """Return a score of [0, 1] in percent; None and NaN mean that nothing could be scored."""
    return "n/a" if score is None or math.isnan(score) else f"{100 * score:.1f}"


def mean_and_deviation(scores: Sequence[float | None], digits: int) -> str:
    """Return ``mean ± sample standard deviation`` of scores of [0, 1], in percent."""
    known = [100 * score for score in scores if score is not None and not math.isnan(score)]
    if len(known) < len(scores):
        return "n/a"
    deviation = f"{statistics.stdev(known):.{digits}f}" if len(known) > 1 else "n/a"
    return f"{statistics.mean(known):.{digits}f} ± {deviation}"
