"""The statistics of a split as one picture."""

from collections.abc import Sequence

import numpy as np

from coupled_embedding.data_check.check import SplitCheck
from coupled_embedding.visualize.histograms import Histogram, bars_card, histogram_card, sheet_of_cards, text_card
from coupled_embedding.visualize.palette import Image

_MANY = 30  # people a photo; more share the last bar
_SCALE_STEP, _SCALE_END = 0.05, 1.5


def draw_statistics(check: SplitCheck) -> Image:
    """Draw people a photo, scales, crowd indices and labelled joints beside the counts, on one sheet."""
    counted = check.statistics
    findings = sum(len(problems) for problems in check.findings.values())
    rows = [
        ("photos", f"{counted.photos:,}"),
        ("photos opened", f"{check.photos_read:,}"),
        ("photos with labelled people", f"{sum(n > 0 for n in counted.people_per_photo):,}"),
        ("people", f"{counted.people:,}"),
        ("people with labelled joints", f"{counted.labelled_people:,}"),
        ("crowd regions", f"{counted.crowds:,}"),
        ("labelled joints", f"{int(counted.joints.sum()):,}"),
        ("findings", f"{findings:,}" if findings else "none"),
    ]
    people = max(counted.labelled_people, 1)
    shares = [(seen / people, hidden / people) for hidden, seen in counted.joints.tolist()]
    cards = [
        text_card(f"{check.schema.name} {check.split}", check.file.name, rows),
        bars_card("Joints", "share of labelled people: seen (dark), hidden (light)", check.schema.joints, shares),
        histogram_card(_whole("People a photo", "photos by labelled people", counted.people_per_photo, 0, _MANY)),
        histogram_card(_scales(counted.scales)),
        histogram_card(_crowd_indices(counted.crowd_indices, counted.computed_crowd_indices)),
        histogram_card(
            _whole(
                "Labelled joints a person",
                "people by labelled joints",
                counted.joints_per_person,
                1,
                check.schema.num_joints,
            )
        ),
    ]
    return sheet_of_cards(cards)


def _whole(title: str, note: str, values: Sequence[int], first: int, last: int) -> Histogram:
    """Return a bar for each whole number; what is above ``last`` shares its bar."""
    last = max(min(max(values, default=first), last), first + 4)
    counts = np.bincount(np.clip(values, first, last).astype(int) - first, minlength=last - first + 1)
    more = max(values, default=0) > last
    step = next(s for s in (1, 2, 5) if (last - first + 1) / s <= 18)
    ticks = [(n - first + 0.5, f"{n}") for n in range(first, last, step) if last - n >= step / 2 + 0.5]
    ticks.append((last - first + 0.5, f"{last}+" if more else f"{last}"))
    return Histogram(title, note + _median(values), counts.tolist(), ticks)


def _scales(values: Sequence[float]) -> Histogram:
    edges = np.arange(0, _SCALE_END + _SCALE_STEP / 2, _SCALE_STEP)
    counts, _ = np.histogram(np.minimum(values, _SCALE_END - 1e-6), edges)
    ticks = [(n * 0.25 / _SCALE_STEP, f"{n * 0.25:g}") for n in range(7)]
    ticks[-1] = (ticks[-1][0], f"{_SCALE_END:g}+" if max(values, default=0) > _SCALE_END else ticks[-1][1])
    note = "sqrt(box area) / short side of the photo" + _median(values, 2)
    return Histogram("Person scale", note, counts.tolist(), ticks, (90, 120, 214))


def _crowd_indices(values: Sequence[float], computed: int) -> Histogram:
    counts, _ = np.histogram(np.clip(values, 0, 1), np.linspace(0, 1, 21))
    source = "CrowdPose's formula" if computed == len(values) else "the file's"
    if 0 < computed < len(values):
        source = f"the file's, {computed} by CrowdPose's formula"
    ticks = [(4 * n, f"{n / 5:g}") for n in range(6)]
    return Histogram("Crowd index", f"{source}{_median(values, 2)}", counts.tolist(), ticks, (128, 96, 160))


def _median(values: Sequence[float], digits: int = 0) -> str:
    return f"; median {np.median(values):.{digits}f}" if len(values) else "; nobody is labelled"
