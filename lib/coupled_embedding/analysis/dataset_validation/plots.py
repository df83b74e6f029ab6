"""The statistics of a split as one figure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from coupled_embedding.analysis.dataset_validation.validate import SplitValidation
from coupled_embedding.analysis.plot_style import BLUE, GREEN, PURPLE, RED, SKY, plot_style

if TYPE_CHECKING:  # matplotlib is imported when something is drawn
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MANY = 30  # people per image; more share the last bar
LISTED = 30  # joints whose names fit; of more every n-th is named


@plot_style()
def plot_statistics(validation: SplitValidation) -> "Figure":
    """Plot people per image, scales, crowd indices and labelled joints next to the counts, on one page."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    counted = validation.statistics
    figure = Figure(figsize=(10.5, 9.5), layout=ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.12))
    counts, joints, people, scales, crowds, labelled = figure.subplots(3, 2).flat
    _counts(counts, validation)
    _joints(joints, validation)
    _whole_numbers(people, counted.people_per_image, 0, MANY, BLUE)
    people.set(title="People per image", xlabel="labelled people", ylabel="images")
    scales.hist(counted.scales, np.linspace(0, max([1.5, *counted.scales]), 31).tolist(), color=RED)
    scales.set(title="Person scale", xlabel="√(box area) / short side of the image", ylabel="people")
    crowds.hist(counted.crowd_indices, np.linspace(0, 1, 21).tolist(), color=PURPLE)
    computed = counted.computed_crowd_indices
    source = f" ({computed:,} of {len(counted.crowd_indices):,} by CrowdPose's formula)" if computed else ""
    crowds.set(title="Crowd index", xlabel=f"crowd index{source}", ylabel="images with labelled people")
    _whole_numbers(labelled, counted.joints_per_person, 1, max(validation.schema.num_joints, 1), GREEN)
    labelled.set(title="Labelled joints per person", xlabel="joints", ylabel="people")
    distributions = [counted.people_per_image, counted.scales, counted.crowd_indices, counted.joints_per_person]
    for axes, values in zip((people, scales, crowds, labelled), map(np.array, distributions), strict=True):
        axes.set_title(f"median {np.median(values):.3g}" if len(values) else "no labelled people", loc="right", size=9)
        axes.grid(axis="y")
    return figure


def _counts(axes: "Axes", validation: SplitValidation) -> None:
    counted = validation.statistics
    rows = {
        "images": counted.images,
        "images read": validation.images_read,
        "images with labelled people": sum(n > 0 for n in counted.people_per_image),
        "people": counted.people,
        "people with labelled joints": counted.labelled_people,
        "crowd regions": counted.crowds,
        "labelled joints": int(counted.joints.sum()),
        "warnings": sum(map(len, validation.warnings.values())),
    }
    axes.axis("off")
    axes.set_title(f"{validation.schema.name} {validation.split}  ({validation.file.name})")
    for place, (name, value) in enumerate(rows.items()):
        axes.text(0.05, 0.92 - place * 0.12, name, transform=axes.transAxes)
        axes.text(0.95, 0.92 - place * 0.12, f"{value:,}", ha="right", transform=axes.transAxes)


def _joints(axes: "Axes", validation: SplitValidation) -> None:
    """Plot the percentage of labelled people who have each joint: seen (dark), hidden (light)."""
    names = [name.replace("_", " ") for name in validation.schema.joints]
    hidden, seen = (100 * validation.statistics.joints / max(validation.statistics.labelled_people, 1)).T
    places, height = np.arange(len(names)), 1 if len(names) > LISTED else 0.8
    axes.barh(places, seen, height, color=BLUE, label="seen")
    axes.barh(places, hidden, height, left=seen, color=SKY, label="hidden")
    step = -(-len(names) // LISTED)
    axes.set_yticks(places[::step], names[::step], fontsize=7)
    axes.set(title="Joints", xlabel="percent of labelled people", xlim=(0, 100), ylim=(len(names) - 0.5, -0.5))
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.98), ncols=2)


def _whole_numbers(axes: "Axes", values: Sequence[int], first: int, last: int, color: str) -> None:
    """Plot how often each whole number occurs; what is above ``last`` shares its bar."""
    shown = np.clip(np.asarray(values, int), first, last)
    end = max(int(shown.max(initial=first)), first + 4)
    axes.hist(shown, [n - 0.5 for n in range(first, end + 2)], color=color, rwidth=0.9)
    if max(values, default=0) > last:
        ticks = [tick for tick in axes.get_xticks() if first <= tick < last]
        axes.set_xticks([*ticks, last], [*(f"{tick:g}" for tick in ticks), f"{last}+"])
    axes.set_xlim(first - 0.7, end + 0.7)
