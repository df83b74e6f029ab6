"""What is wrong with a split: a list by kind, each entry with file and ids."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from coupled_embedding.data.audit import people_of, problem_of, suspicious, unpaired_joints
from coupled_embedding.data.io.data_errors import PHOTO, Problem
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.data.test_dataset import shape_problem

Findings = dict[str, list[Problem]]


def broken(problems: Sequence[Problem]) -> Findings:
    """Return by kind what the reader refused."""
    found: Findings = defaultdict(list)
    for problem in problems:
        kind = "photos that cannot be read" if problem.field == PHOTO else f"broken entries: {problem.field}"
        found[kind].append(problem)
    return found


def of_people(records: Sequence[ImageRecord], schema: KeypointSchema) -> Findings:
    """Return by kind what looks wrong with annotations."""
    people = people_of(records, schema)
    return {kind.name: [problem_of(people, kind, row) for row in rows] for kind, rows in suspicious(people)}


def of_shapes(records: Sequence[ImageRecord]) -> Findings:
    """Return the photos that cannot be tested."""
    found: Findings = defaultdict(list)
    for record in records:
        if too_long := shape_problem((record.width, record.height)):
            found["photos too long to test"].append(Problem(str(record.path), too_long, "width", record.image_id))
    return found


def of_split(records: Sequence[ImageRecord], schema: KeypointSchema, file: Path) -> Findings:
    """Return what is wrong with the split or its schema as a whole."""
    people = people_of(records, schema)
    found: Findings = defaultdict(list)
    if not people.labelled.any():
        text = f"none of the {len(people.labelled)} people has a labelled joint, so there is nobody to learn from"
        found["nobody to learn from"].append(Problem(str(file), text, "keypoints"))
    elif not (people.labelled & ~people.crowds & (people.counts > 0)).any():
        text = "every person with a labelled joint has iscrowd 1 or num_keypoints 0, so scores are n/a"
        found["nobody for an evaluator to find"].append(Problem(str(file), text, "iscrowd"))
    for text in unpaired_joints(schema):
        found["joints without a flip pair"].append(Problem(str(file), text, "flip_pairs"))
    return found
