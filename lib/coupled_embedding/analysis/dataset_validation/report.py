"""A check as text and as JSON."""

from dataclasses import asdict
from typing import Any

import numpy as np

from coupled_embedding.analysis.dataset_validation.check import SplitCheck
from coupled_embedding.data.io.data_errors import SHOWN


def as_text(check: SplitCheck) -> str:
    """Return counts, a table of joints, and the first findings of each kind."""
    counted = check.statistics
    read = f"{check.photos_read} of them read" if check.photos_read else "none of them read"
    lines = [
        f"{check.schema.name} {check.split} ({check.file})",
        f"{counted.photos} photos, {read}; {counted.people} people, {counted.labelled_people} of them with labelled "
        f"joints; {counted.crowds} crowds; at most {max(counted.people_per_photo, default=0)} labelled people a photo",
        "",
        "| joint | labelled | of people | hidden |",
        "| --- | --: | --: | --: |",
    ]
    for name, (hidden, seen) in zip(check.schema.joints, counted.joints.tolist(), strict=True):
        labelled = hidden + seen
        share = f"{labelled / counted.labelled_people:.0%}" if counted.labelled_people else ""
        lines.append(f"| {name} | {labelled} | {share} | {f'{hidden / labelled:.0%}' if labelled else ''} |")
    for kind, problems in check.findings.items():
        lines += ["", f"{kind}: {len(problems)}"]
        lines += [f"  {problem}" for problem in problems[:SHOWN]]
        if len(problems) > SHOWN:
            lines.append(f"  and {len(problems) - SHOWN} more")
    total = sum(len(problems) for problems in check.findings.values())
    return "\n".join([*lines, "", f"{total} findings" if total else "clean: nothing found"])


def as_json(check: SplitCheck) -> dict[str, Any]:
    """Return everything as plain values."""
    counted = check.statistics
    joints = zip(check.schema.joints, counted.joints.tolist(), strict=True)
    return {
        "schema": check.schema.name,
        "split": check.split,
        "annotations": str(check.file),
        "photos": counted.photos,
        "photos_read": check.photos_read,
        "people": counted.people,
        "labelled_people": counted.labelled_people,
        "crowds": counted.crowds,
        "joints": {name: {"hidden": hidden, "seen": seen} for name, (hidden, seen) in joints},
        "crowd_indices_computed": counted.computed_crowd_indices,
        "quartiles": {
            "people_per_photo": _quartiles(counted.people_per_photo),
            "scale": _quartiles(counted.scales),
            "crowd_index": _quartiles(counted.crowd_indices),
            "joints_per_person": _quartiles(counted.joints_per_person),
        },
        "findings": {kind: [asdict(problem) for problem in problems] for kind, problems in check.findings.items()},
    }


def _quartiles(values: list[Any]) -> list[float]:
    """Return least, quartiles and greatest."""
    return [round(float(v), 4) for v in np.percentile(values, (0, 25, 50, 75, 100))] if values else []
