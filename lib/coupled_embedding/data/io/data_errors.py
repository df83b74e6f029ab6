"""Invalid images and annotations: one policy, and a collection of what was skipped.

DATASET.ON_INVALID chooses between raising an error at the first one and skipping it; docs/data_checks.md says
what is skipped, and how little.
"""

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from coupled_embedding.utils.atomic import atomic_write
from coupled_embedding.utils.errors import DatasetError, UserError

LISTED = 5  # issues that a report spells out
LOG = "invalid_data.json"  # all issues of a run, in its folder
IMAGE = "image"  # the field of issues of an image file, besides those of annotation files


@dataclass(frozen=True)
class DataIssue:
    """One thing that is wrong with an image or an annotation.

    Attributes:
        file: the image or the annotation file.
        text: what is wrong, with ids.
        field: of the annotation file's entry, such as ``bbox``; `IMAGE` for the image itself.
        image_id, annotation_id: as in the annotation file, where they are known.
    """

    file: str
    text: str
    field: str = IMAGE
    image_id: int | None = None
    annotation_id: int | float | str | None = None

    def __str__(self) -> str:
        # JSON can name files that no terminal can print
        return f"{self.file}: {self.text}".encode("utf-8", "backslashreplace").decode()


class DataError(DatasetError):
    """An image or annotation is invalid; the only argument is the `DataIssue`."""

    @property
    def issue(self) -> DataIssue:
        """What is wrong."""
        return self.args[0]


def image_issue(error: DatasetError, path: Path, image_id: int | None) -> DataIssue:
    """Return what is wrong with a record's image, from the error of reading it; None: the image has no id."""
    if isinstance(error, DataError):
        return replace(error.issue, image_id=image_id)
    return DataIssue(str(path), str(error).removeprefix(f"{path}: "), IMAGE, image_id)


class DataErrorPolicy:
    """What happens to invalid data, and the issues so far.

    Args:
        skip: leave out what is invalid, instead of raising an error.
        scored: whether the annotations are for scoring; then images alone can be skipped, as a score on repaired
            annotations would be no score.
    """

    def __init__(self, skip: bool = False, scored: bool = False) -> None:
        self.skip, self.scored = skip, scored
        self.warnings: list[str] = []  # what can be read, but looks wrong with a file as a whole
        self.oriented: dict[DataIssue, None] = {}  # images with an EXIF orientation, in order
        self._issues: dict[DataIssue, None] = {}
        self._reported: set[DataIssue] = set()

    @property
    def issues(self) -> list[DataIssue]:
        """Every issue, once."""
        return list(self._issues)

    @property
    def unreadable(self) -> set[int | None]:
        """Ids of the images that could not be read."""
        return {issue.image_id for issue in self._issues if issue.field == IMAGE}

    def raise_if_strict(self, issue: DataIssue) -> None:
        """Raise DataError unless this kind of issue is skipped."""
        if not self.skip or (self.scored and issue.field != IMAGE):
            advice = "DATASET.ON_INVALID skip would leave it out"
            if self.scored and issue.field != IMAGE:
                advice = "annotations that are scored must be valid; tools/check_dataset.py lists all that are not"
            if issue.field == IMAGE and issue.image_id is not None:
                advice = f"image {issue.image_id}; {advice}"
            raise DataError(replace(issue, text=f"{issue.text} ({advice})"))

    def handle(self, issue: DataIssue) -> None:
        """Raise DataError, or add the issue if it is skipped."""
        self.raise_if_strict(issue)
        self.add([issue])

    def add(self, issues: Iterable[DataIssue]) -> None:
        """Add issues that were found elsewhere."""
        self._issues |= dict.fromkeys(issues)

    def report_oriented(self) -> str:
        """Return a line about images with an EXIF orientation that were not reported before; empty without any."""
        new = [issue for issue in self.oriented if issue not in self._reported]
        self._reported |= set(new)
        return f"warning: {len(new)} images with an EXIF orientation, such as {new[0]}" if new else ""

    def report(self, heading: str, issues: Iterable[DataIssue], folder: Path | None = None) -> str:
        """Add issues, write all so far into a folder, and return lines about those not reported before.

        Args:
            heading: what it is about; the count follows.
            issues: those to report; without any nothing is written, and the text is empty.
            folder: of the run; None: the log is not written.
        """
        found = list(dict.fromkeys(issues))
        if not found:
            return ""
        self.add(found)
        new = [issue for issue in found if issue not in self._reported]
        self._reported |= set(new)
        lines = [f"{heading}: {len(found)}" + (f", {len(new)} of them new" if len(new) < len(found) else "")]
        lines += [f"  {issue}" for issue in new[:LISTED]]
        where = write_log(self.issues, folder) if folder else ""
        if where or len(new) > LISTED:
            rest = f"and {len(new) - LISTED} more" if len(new) > LISTED else "all"
            lines.append(f"  {rest}{where and f' in {where}'}; tools/check_dataset.py checks a whole data set")
        return "\n".join(lines)


def write_log(issues: Iterable[DataIssue], folder: Path) -> str:
    """Add issues to a folder's log, which survives a run's restart.

    Returns:
        The log's path, or why it was not written: a full disk must not stop a training.
    """
    path = folder / LOG
    entries = [asdict(issue) for issue in issues]
    with suppress(OSError, ValueError, TypeError, KeyError):  # there is none yet, or none of ours
        earlier = json.loads(path.read_bytes())["issues"]
        known = {_key(entry) for entry in earlier}
        entries = earlier + [entry for entry in entries if _key(entry) not in known]
    try:
        atomic_write(path, json.dumps({"count": len(entries), "issues": entries}, indent=1), "the log")
    except UserError as error:
        return f"{path}, which could not be written ({error.__cause__})"
    return str(path)


def _key(entry: Any) -> str:
    """Return an entry of the log as text: damaged logs hold what no set takes."""
    return json.dumps(entry, sort_keys=True)
