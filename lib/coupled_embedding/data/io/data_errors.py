"""Broken photos and annotations: one policy, and a log of what was left out.

Strict stops at the first problem; tolerant leaves out what is broken, counts it and tells it.
``DATASET.BAD_INPUT`` chooses; docs/data_checks.md says what is left out, and how little.
"""

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from coupled_embedding.utils.atomic import write_whole
from coupled_embedding.utils.errors import DatasetError, UserError

SHOWN = 5  # problems that a report spells out
LOG = "bad_input.json"  # all problems of a run, in its folder
PHOTO = "photo"  # the field of problems with a photo's file, beside those of annotation files


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a photo or an annotation.

    Attributes:
        file: the photo or the annotation file.
        text: what is wrong, with ids.
        field: of the annotation file's entry, such as ``bbox``; `PHOTO` for the photo itself.
        image_id, annotation_id: as in the annotation file, where they are known.
    """

    file: str
    text: str
    field: str = PHOTO
    image_id: int | None = None
    annotation_id: int | float | str | None = None

    def __str__(self) -> str:
        # JSON can name files that no terminal can print
        return f"{self.file}: {self.text}".encode("utf-8", "backslashreplace").decode()


class BadInputError(DatasetError):
    """A photo or annotation is broken; its only argument is the `Problem`."""

    @property
    def problem(self) -> Problem:
        """What is wrong."""
        return self.args[0]


def photo_problem(error: DatasetError, path: Path, image_id: int | None) -> Problem:
    """Return what is wrong with a record's photo, from the error of reading it; an image id of None: it has none."""
    if isinstance(error, BadInputError):
        return replace(error.problem, image_id=image_id)
    return Problem(str(path), str(error).removeprefix(f"{path}: "), PHOTO, image_id)


class BadInput:
    """What happens to broken input, and what was met so far.

    Args:
        tolerant: leave out what is broken, instead of stopping.
        scored: whether the annotations are for scoring; then ``tolerant`` is of photos alone, as
            a score on mended annotations would be no score.
    """

    def __init__(self, tolerant: bool = False, scored: bool = False) -> None:
        self.tolerant, self.scored = tolerant, scored
        self._problems: dict[Problem, None] = {}  # in the order met
        self._told: set[Problem] = set()

    @property
    def problems(self) -> list[Problem]:
        """Every problem met, once."""
        return list(self._problems)

    @property
    def unreadable(self) -> set[int | None]:
        """Image ids of the photos that could not be read."""
        return {problem.image_id for problem in self._problems if problem.field == PHOTO}

    def judge(self, problem: Problem) -> None:
        """Raise BadInputError unless tolerant of this kind of problem."""
        if not self.tolerant or (self.scored and problem.field != PHOTO):
            advice = "DATASET.BAD_INPUT tolerant would leave it out"
            if self.scored and problem.field != PHOTO:
                advice = "annotations that are scored must be sound; tools/check_dataset.py lists all that are not"
            if problem.field == PHOTO and problem.image_id is not None:
                advice = f"image {problem.image_id}; {advice}"
            raise BadInputError(replace(problem, text=f"{problem.text} ({advice})"))

    def meet(self, problem: Problem) -> None:
        """Raise BadInputError, or remember the problem if tolerant of it."""
        self.judge(problem)
        self.remember([problem])

    def remember(self, problems: Iterable[Problem]) -> None:
        """Add problems that were met elsewhere."""
        self._problems |= dict.fromkeys(problems)

    def report(self, heading: str, problems: Iterable[Problem], folder: Path | None = None) -> str:
        """Remember problems, write all met so far to a folder, and return lines about those not told before.

        Args:
            heading: what it is about; the count goes behind it.
            problems: those to tell of; nothing is told or written where there is none.
            folder: of the run; None: the log is not written.
        """
        met = list(dict.fromkeys(problems))
        if not met:
            return ""
        self.remember(met)
        new = [problem for problem in met if problem not in self._told]
        self._told |= set(new)
        lines = [f"{heading}: {len(met)}" + (f", {len(new)} of them new" if len(new) < len(met) else "")]
        lines += [f"  {problem}" for problem in new[:SHOWN]]
        where = write_log(self.problems, folder) if folder else ""
        if where or len(new) > SHOWN:
            rest = f"and {len(new) - SHOWN} more" if len(new) > SHOWN else "all"
            lines.append(f"  {rest}{where and f' in {where}'}; tools/check_dataset.py checks a whole data set")
        return "\n".join(lines)


def build_bad_input(cfg: CfgNode, training: bool) -> BadInput:
    """Build the policy of a config: ``auto`` is tolerant in training and strict in testing."""
    policy = cfg.DATASET.BAD_INPUT
    return BadInput(training if policy == "auto" else policy == "tolerant", scored=not training)


def write_log(problems: Iterable[Problem], folder: Path) -> str:
    """Add problems to a folder's log, which survives a run's restart.

    Returns:
        The log's path, or why it was not written: a full disk must not stop a training.
    """
    path = folder / LOG
    entries = [asdict(problem) for problem in problems]
    with suppress(OSError, ValueError, TypeError, KeyError):  # none yet, or not one of ours
        earlier = json.loads(path.read_bytes())["problems"]
        known = {_key(entry) for entry in earlier}
        entries = earlier + [entry for entry in entries if _key(entry) not in known]
    try:
        write_whole(path, json.dumps({"count": len(entries), "problems": entries}, indent=1), "the log")
    except UserError as error:
        return f"{path}, which could not be written ({error.__cause__})"
    return str(path)


def _key(entry: Any) -> str:
    """Return an entry of the log as text: damaged logs hold what no set takes."""
    return json.dumps(entry, sort_keys=True)
