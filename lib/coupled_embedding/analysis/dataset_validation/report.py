"""A validation as text and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from coupled_embedding.analysis.dataset_validation.validate import SplitValidation
from coupled_embedding.data.io.data_errors import LISTED


def as_text(validation: SplitValidation) -> str:
    """Return counts, a table of joints, and the first warnings of each kind."""
    counted = validation.statistics
    # scripts outside this repository read "N photos, M of them read; P people": these words stay as they are
    summary = f"{counted.images} photos, {validation.images_read or 'none'} of them read; {counted.people} people"
    lines = [
        f"{validation.schema.name} {validation.split} ({validation.file})",
        f"{summary}, {counted.labelled_people} of them with labelled joints; {counted.crowds} crowds; "
        f"at most {max(counted.people_per_image, default=0)} labelled people an image",
        "",
        "| joint | labelled | of people | hidden |",
        "| --- | --: | --: | --: |",
    ]
    for name, (hidden, seen) in zip(validation.schema.joints, counted.joints.tolist(), strict=True):
        labelled = hidden + seen
        share = f"{labelled / counted.labelled_people:.0%}" if counted.labelled_people else ""
        lines.append(f"| {name} | {labelled} | {share} | {f'{hidden / labelled:.0%}' if labelled else ''} |")
    for kind, issues in validation.warnings.items():
        lines += ["", f"{kind}: {len(issues)}", *(f"  {issue}" for issue in issues[:LISTED])]
        lines += [f"  and {len(issues) - LISTED} more"] if len(issues) > LISTED else []
    total = sum(map(len, validation.warnings.values()))
    return "\n".join([*lines, "", f"{total} warnings" if total else "clean: nothing found"])


def as_json(validation: SplitValidation) -> dict[str, Any]:
    """Return everything as plain values."""
    counted = validation.statistics
    joints = zip(validation.schema.joints, counted.joints.tolist(), strict=True)
    return {
        "schema": validation.schema.name,
        "split": validation.split,
        "annotations": str(validation.file),
        "images": counted.images,
        "images_read": validation.images_read,
        "people": counted.people,
        "labelled_people": counted.labelled_people,
        "crowds": counted.crowds,
        "joints": {name: {"hidden": hidden, "seen": seen} for name, (hidden, seen) in joints},
        "crowd_indices_computed": counted.computed_crowd_indices,
        "quartiles": {
            "people_per_image": _quartiles(counted.people_per_image),
            "scale": _quartiles(counted.scales),
            "crowd_index": _quartiles(counted.crowd_indices),
            "joints_per_person": _quartiles(counted.joints_per_person),
        },
        "warnings": {kind: [asdict(issue) for issue in issues] for kind, issues in validation.warnings.items()},
    }


def _quartiles(values: Sequence[float]) -> list[float]:
    """Return minimum, quartiles and maximum."""
    return [round(float(v), 4) for v in np.percentile(values, (0, 25, 50, 75, 100))] if values else []
