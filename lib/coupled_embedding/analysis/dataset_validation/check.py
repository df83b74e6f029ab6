"""The whole check of one split."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coupled_embedding.analysis.dataset_validation.findings import Findings, broken, of_people, of_shapes, of_split
from coupled_embedding.analysis.dataset_validation.photos import PhotoState, photo_findings, read_photos
from coupled_embedding.analysis.dataset_validation.statistics import Statistics
from coupled_embedding.data.coco import annotation_file, read_split, record_of
from coupled_embedding.data.io.data_errors import BadInput
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema


@dataclass(frozen=True)
class SplitCheck:
    """What was found in a split.

    Attributes:
        schema: of the data set.
        split: its name.
        file: its annotations.
        statistics: what is there.
        findings: kind -> each thing that is broken or looks wrong; empty: the split is clean.
        photos_read: photos that were opened.
    """

    schema: KeypointSchema
    split: str
    file: Path
    statistics: Statistics
    findings: Findings
    photos_read: int


def check_split(
    schema: KeypointSchema,
    split: str,
    root: str = "",
    image_ids: Sequence[int] = (),
    photos: bool = True,
    workers: int = 0,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> SplitCheck:
    """Read a split's annotations and photos and list what is broken or looks wrong.

    Args:
        root: folder of the data set; empty: the schema's.
        image_ids: check only these photos; empty: all.
        photos: whether to open the photos, too.
        workers: processes that read them.
        progress: called with the number of photos read and of all.

    Raises:
        DatasetError: the annotation file cannot be read at all, or a photo kills its process.
    """
    bad_input = BadInput(tolerant=True)
    statistics = Statistics(np.zeros((schema.num_joints, 2), np.int64))
    findings: Findings = defaultdict(list)
    records: list[ImageRecord] = []
    for image, entries in read_split(schema, split, root, image_ids, bad_input):
        record = record_of(image, entries, schema)
        records.append(record)
        statistics.add(record, entries)
    file = annotation_file(schema, split, root)
    findings |= of_split(records, schema, file) | of_shapes(records) | of_people(records, schema)
    states: list[PhotoState] = []
    for state in read_photos(records, workers) if photos and records else ():
        states.append(state)
        progress(len(states), len(records))
    bad_input.remember(state.problem for state in states if state.problem)
    for kind, problem in photo_findings(records[: len(states)], states):
        findings[kind].append(problem)
    found = {**broken(bad_input.problems), **findings}
    return SplitCheck(schema, split, file, statistics, found, len(states))
