"""The scores of a set of results, as every evaluator returns them."""

import math
from collections import defaultdict
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Scores:
    """A benchmark's scores of a set of results.

    Attributes:
        values: name -> score in [0, 1], in the order in which the benchmark prints them; NaN
            where no person counts, so that nothing can be scored (COCO's tools print -1).
        reasons: name -> why a score is NaN.
        notes: lines on what was counted, to print below.
    """

    values: dict[str, float]
    reasons: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def main(self) -> float:
        """The score by which methods are compared, the first: AP, or the mean PCK."""
        return next(iter(self.values.values()))

    def to_dict(self) -> dict[str, float | None]:
        """Return the scores for a JSON file, which knows no NaN: None instead."""
        return {name: None if math.isnan(value) else value for name, value in self.values.items()}

    def table(self) -> str:
        """Return a Markdown table of one row, in percent as papers print them; n/a for NaN, with the reason below."""
        cells = ["n/a" if math.isnan(value) else f"{100 * value:.1f}" for value in self.values.values()]
        widths = [max(len(name), len(cell), 3) for name, cell in zip(self.values, cells)]
        rows = [list(self.values), ["-" * (width - 1) + ":" for width in widths], cells]
        lines = [f"| {' | '.join(cell.rjust(width) for cell, width in zip(row, widths))} |" for row in rows]
        by_reason: dict[str, list[str]] = defaultdict(list)
        for name, reason in self.reasons.items():
            by_reason[reason].append(name)
        notes = [*self.notes, *(f"n/a: {', '.join(names)}: {reason}" for reason, names in by_reason.items())]
        return "\n".join([*lines, *([""] if notes else []), *notes])
