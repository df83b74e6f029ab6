"""The statistics of a split as one figure."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coupled_embedding.analysis.dataset_validation.check import SplitCheck

MANY = 30  # people an image; more share the last bar
LISTED = 30  # joints with a bar of their own; more are shown sorted, as a curve
_BLUE, _RED, _PURPLE, _PALE = "#3a84c4", "#d6785a", "#a06080", "#bcd4ea"


def plot_statistics(check: SplitCheck) -> Figure:
    """Plot people an image, scales, crowd indices and labelled joints beside the counts, on one page."""
    counted = check.statistics
    figure = Figure(figsize=(11.7, 10.3), layout="constrained")
    counts, joints, people, scales, crowds, labelled = figure.subplots(3, 2).flat
    _counts(counts, check)
    _joints(joints, check)
    _whole_numbers(people, counted.people_per_photo, 0, MANY)
    people.set(title="People an image", ylabel="images", xlabel="labelled people" + _median(counted.people_per_photo))
    top = max(1.5, max(counted.scales, default=0.0))
    scales.hist(counted.scales, np.linspace(0, top, 31).tolist(), color=_RED)
    scales.set(title="Person scale", xlabel="√(box area) / short side" + _median(counted.scales), ylabel="people")
    crowds.hist(counted.crowd_indices, np.linspace(0, 1, 21).tolist(), color=_PURPLE)
    source = "" if not counted.computed_crowd_indices else f" ({counted.computed_crowd_indices} by CrowdPose's formula)"
    crowds.set(title="Crowd index", xlabel=f"crowd index{source}{_median(counted.crowd_indices)}", ylabel="images")
    _whole_numbers(labelled, counted.joints_per_person, 1, max(check.schema.num_joints, 1))
    labelled.set(title="Labelled joints a person", xlabel="joints" + _median(counted.joints_per_person))
    labelled.set_ylabel("people")
    return figure


def _counts(axes: Axes, check: SplitCheck) -> None:
    counted = check.statistics
    findings = sum(len(problems) for problems in check.findings.values())
    rows = {
        "images": counted.photos,
        "images opened": check.photos_read,
        "images with labelled people": sum(n > 0 for n in counted.people_per_photo),
        "people": counted.people,
        "people with labelled joints": counted.labelled_people,
        "crowd regions": counted.crowds,
        "labelled joints": int(counted.joints.sum()),
        "findings": findings,
    }
    axes.axis("off")
    axes.set_title(f"{check.schema.name} {check.split}  ({check.file.name})")
    for place, (name, value) in enumerate(rows.items()):
        y = 0.92 - place * 0.12
        axes.text(0.05, y, name, transform=axes.transAxes)
        axes.text(0.95, y, f"{value:,}", ha="right", transform=axes.transAxes)


def _joints(axes: Axes, check: SplitCheck) -> None:
    """Plot the share of labelled people who have each joint: seen (dark), hidden (light)."""
    names = check.schema.joints
    hidden, seen = (check.statistics.joints / max(check.statistics.labelled_people, 1)).T
    places = np.arange(len(names))
    axes.barh(places, seen, 1 if len(names) > LISTED else 0.8, color=_BLUE, label="seen")
    axes.barh(places, hidden, 1 if len(names) > LISTED else 0.8, left=seen, color=_PALE, label="hidden")
    step = -(-len(names) // LISTED)
    axes.set_yticks(places[::step], names[::step], fontsize=7)
    axes.invert_yaxis()
    axes.set(title="Joints", xlabel="share of labelled people", xlim=(0, 1))
    axes.legend(fontsize=7, loc="lower right")


def _whole_numbers(axes: Axes, values: Sequence[int], first: int, last: int) -> None:
    """Plot how often each whole number is met; what is above ``last`` shares its bar."""
    shown = np.clip(np.asarray(values, int), first, last)
    end = max(int(shown.max(initial=first)), first + 4)
    axes.hist(shown, [n - 0.5 for n in range(first, end + 2)], color=_BLUE, rwidth=0.9)
    if max(values, default=0) > last:
        ticks = [tick for tick in axes.get_xticks() if first <= tick < last]
        axes.set_xticks([*ticks, last], [*(f"{tick:g}" for tick in ticks), f"{last}+"])
    axes.set_xlim(first - 0.7, end + 0.7)


def _median(values: Sequence[float]) -> str:
    return f"; median {np.median(values):.3g}" if len(values) else "; nobody is labelled"
