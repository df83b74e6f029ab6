"""Validate one split: read every annotation and image, and list what is invalid or looks wrong."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from coupled_embedding.analysis.dataset_validation.check_images import UNREADABLE, Warnings, check_images, duplicates
from coupled_embedding.analysis.dataset_validation.split_statistics import SplitStatistics
from coupled_embedding.data.audit import issue_of, people_of, split_warnings, suspicious
from coupled_embedding.data.coco import annotation_file, read_split, record_of
from coupled_embedding.data.io.data_errors import IMAGE, DataErrorPolicy, DataIssue
from coupled_embedding.data.joint_sides import unpaired_joints
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.data.test_dataset import aspect_error


@dataclass(frozen=True)
class SplitValidation:
    """What validation found in a split."""

    schema: KeypointSchema
    split: str
    file: Path  # its annotations
    statistics: SplitStatistics
    warnings: dict[str, list[DataIssue]]  # kind -> each thing that is invalid or looks wrong; empty: the split is clean
    images_read: int


def validate_split(
    schema: KeypointSchema,
    split: str,
    root: str = "",
    image_ids: Sequence[int] = (),
    images: bool = True,
    workers: int = 0,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> SplitValidation:
    """Read a split's annotations and images and list what is invalid or looks wrong.

    Args:
        schema, split: of the data set, and the split's name.
        root: folder of the data set; empty: the schema's.
        image_ids: check only these images; empty: all.
        images: whether to read the images, too, in a number of worker processes.
        progress: called with the number of images read and of all.

    Raises:
        DatasetError: the annotation file cannot be read at all, or an image kills its process.
    """
    policy, statistics = DataErrorPolicy(skip=True), SplitStatistics(schema.num_joints)
    records: list[ImageRecord] = []
    for image, entries in read_split(schema, split, root, image_ids, policy):
        records.append(record_of(image, entries, schema))
        statistics.add(records[-1], entries)
    states = []
    for state in check_images(records, workers) if images and records else ():
        states.append(state)
        progress(len(states), len(records))
    warnings: dict[str, list[DataIssue]] = defaultdict(list)
    for issue in policy.issues:
        warnings[UNREADABLE if issue.field == IMAGE else f"invalid entries: {issue.field}"].append(issue)
    found = [warning for state in states for warning in state.warnings] + duplicates(records[: len(states)], states)
    file = annotation_file(schema, split, root)
    for text in policy.warnings:
        issue = DataIssue(str(file), text.removeprefix(f"{file}: "), "category_id")
        warnings["categories"].append(issue)
    for kind, issue in found + _annotation_warnings(records, schema, file):
        warnings[kind].append(issue)
    return SplitValidation(schema, split, file, statistics, dict(warnings), len(states))


def _annotation_warnings(records: Sequence[ImageRecord], schema: KeypointSchema, file: Path) -> Warnings:
    """Return what is wrong with the split as a whole, images that cannot be tested, suspicious people."""
    people, found = people_of(records, schema), []
    if not people.labelled.any():
        text = f"none of the {len(people.labelled)} people has a labelled joint, so there is no person to learn from"
        found.append(("no person to learn from", DataIssue(str(file), text, "keypoints")))
    elif not (people.labelled & ~people.crowds & (people.counts > 0)).any():
        text = "every person with a labelled joint has iscrowd 1 or num_keypoints 0, so scores are n/a"
        found.append(("no person who counts in scores", DataIssue(str(file), text, "iscrowd")))
    for text in split_warnings(people):
        found.append(("the people as a whole", DataIssue(str(file), text, "annotations")))
    for text in unpaired_joints(schema):
        found.append(("joints without a flip pair", DataIssue(str(file), text, "flip_pairs")))
    for record in records:
        if text := aspect_error((record.width, record.height)):
            found.append(("images too long to test", DataIssue(str(record.path), text, "width", record.image_id)))
    for kind, rows in suspicious(people):
        found += [(kind.name, issue_of(people, kind, row)) for row in rows]
    return found
