"""The error analysis of a data set, summarized from its images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from coupled_embedding.analysis.error_analysis.collect import ImageAnalysis, collect
from coupled_embedding.analysis.error_analysis.counts import for_json, share, sum_counts
from coupled_embedding.analysis.error_analysis.crowding import bins_by_crowd_index, bins_by_people, num_people
from coupled_embedding.analysis.error_analysis.grouping_accuracy import GroupingCounts
from coupled_embedding.analysis.error_analysis.keypoint_errors import KINDS, ImageErrors, KeypointErrors, find_errors
from coupled_embedding.analysis.error_analysis.oracles import PREDICTED, RUNS
from coupled_embedding.analysis.error_analysis.separation import Separation
from coupled_embedding.analysis.error_analysis.tags import TagSummary, summarize_tags
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.engine.evaluate import EvalJob
from coupled_embedding.evaluation import GroundTruth, ap_of_groups, load_ground_truth, poses_to_results, score_results
from coupled_embedding.utils.errors import DatasetError

# the name of a repair -> the kinds of joints that it moves
REPAIRS = {**{kind: (kind,) for kind in KINDS[1:]}, "all four": KINDS[1:]}
NO_BACKGROUND, NO_MISSED = "background", "missed people"


@dataclass(frozen=True)
class Row:
    """The numbers of some images; scores and shares are in [0, 1], NaN where undefined."""

    label: str
    images: int
    people: int  # with a labelled joint
    ap: dict[str, float]  # of each of `oracles.RUNS`
    shares: dict[str, float]  # those of `GroupingCounts` and `Separation`, and of the people who count the missed ones
    errors: dict[str, float]  # of each kind, the share among labelled joints of matched people
    background: float  # detections per image that fit no person
    surplus: float  # and that fit a person who is taken


@dataclass(frozen=True)
class ErrorAnalysis:
    """What limits a network on a data set."""

    evaluator: str  # whose rules score
    joints: tuple[str, ...]
    tag_dims: int  # D
    views: int  # 1, or 2 with the flipped image
    runs: dict[str, dict[str, float]]  # the scores of each of `oracles.RUNS`
    all: Row
    by_crowd_index: list[Row]  # images with people, in bins
    by_people: list[Row]
    tags: TagSummary
    error_counts: dict[str, list[int]]  # joint name -> how many of each of `KINDS`
    ap_gained: dict[str, float]  # by each repair alone

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers for a JSON file, with None for NaN."""
        content: dict[str, Any] = for_json(asdict(self))
        return content


def analyze_errors(job: EvalJob, progress: Callable[[int], object] = lambda images: None) -> ErrorAnalysis:
    """Run a network over a job's images and summarize what limits it.

    Args:
        job: network and images. An image that its policy skips is left out, of the ground truth too.
        progress: called with the number of images just done.

    Raises:
        DatasetError: the split's annotations are not public, or an image cannot be read and is not skipped.
        NonFiniteError: the network output NaN or infinity.
    """
    truth = load_ground_truth(job.annotations, job.schema, [record.image_id for record in job.records])
    if not truth.annotated:
        raise DatasetError(f"{truth.path}: the file has no 'annotations'; diagnose a split whose people are public")
    images = collect(job, progress)
    records = [record for record in job.records if record.image_id in images]
    if len(records) < len(job.records):
        truth = load_ground_truth(job.annotations, job.schema, list(images))
    return summarize(images, records, truth, job.schema, job.options.oks_backend, job.options.max_detections)


def summarize(
    images: Mapping[int, ImageAnalysis],
    records: Sequence[ImageRecord],
    ground_truth: GroundTruth,
    schema: KeypointSchema,
    oks_backend: str = "pycocotools",
    max_detections: int = 0,
) -> ErrorAnalysis:
    """Summarize what `collect` returned.

    Args:
        images: by image id; records: of the same images; ground_truth: as the benchmark counts their people.
        schema: joints and rules.
        oks_backend: which program computes scores.
        max_detections: people per image in the results, best first; 0: all.
    """
    by_crowd_index, by_people = bins_by_crowd_index(records), bins_by_people(records)
    bins = [("all", list(images)), *by_crowd_index.items(), *by_people.items()]
    runs: dict[str, dict[str, float]] = {}
    ap: dict[str, list[float]] = {}
    for run in RUNS[::-1]:  # one run's results in memory at a time, the predicted ones last
        poses = {image_id: image.runs[run] for image_id, image in images.items()}
        results = poses_to_results(poses, ground_truth.categories.result, max_detections)
        runs[run] = score_results(ground_truth, results, schema, oks_backend).values
        groups = [ids for _, ids in bins[1:]]
        ap[run] = [runs[run]["AP"], *ap_of_groups(ground_truth, results, schema, groups, oks_backend)]
    errors = find_errors(ground_truth, results, schema)
    people = {record.image_id: num_people(record) for record in records}
    rows = []
    for n, (label, ids) in enumerate(bins):
        of_runs, wrong = {run: ap[run][n] for run in RUNS}, [errors.images[i] for i in ids]
        rows.append(_row(label, sum(people[i] for i in ids), of_runs, [images[i] for i in ids], wrong))
    first = next(iter(images.values()), None)
    dims, views = (first.dims, first.views) if first else (1, 1)
    counts = sum((e.counts() for e in errors.images.values()), np.zeros((schema.num_joints, len(KINDS)), np.int64))
    return ErrorAnalysis(
        schema.evaluator,
        schema.joints,
        dims,
        views,
        {run: runs[run] for run in RUNS},
        rows[0],
        rows[1 : 1 + len(by_crowd_index)],
        rows[1 + len(by_crowd_index) :],
        summarize_tags([image.tags for image in images.values()], dims),
        dict(zip(schema.joints, counts.tolist(), strict=True)),
        _ap_gained(errors, schema, runs[PREDICTED]["AP"], oks_backend),
    )


def _row(
    label: str, people: int, ap: dict[str, float], images: Sequence[ImageAnalysis], wrong: Sequence[ImageErrors]
) -> Row:
    kinds = sum((image.counts().sum(0) for image in wrong), np.zeros(len(KINDS), np.int64)).tolist()
    missed = sum(len(image.missed) for image in wrong)
    grouping = sum_counts(GroupingCounts, (image.grouping for image in images)).shares()
    tags = sum_counts(Separation, (image.separation for image in images)).shares()
    return Row(
        label,
        len(images),
        people,
        ap,
        {**grouping, **tags, "people missed": share(missed, missed + sum(len(image.matched) for image in wrong))},
        {kind: share(count, sum(kinds)) for kind, count in zip(KINDS, kinds, strict=True)},
        share(sum(len(image.background) for image in wrong), len(images)),
        share(sum(len(image.surplus) for image in wrong), len(images)),
    )


def _ap_gained(errors: KeypointErrors, schema: KeypointSchema, before: float, oks_backend: str) -> dict[str, float]:
    """Return what the AP gains by each repair alone."""
    truth = errors.ground_truth
    cases = {name: (truth, errors.repaired(kinds)) for name, kinds in REPAIRS.items()}
    cases[NO_BACKGROUND] = (truth, errors.without_background())
    cases[NO_MISSED] = (errors.without_missed(), list(errors.results))
    groups = [tuple(truth.images)]
    return {name: ap_of_groups(*case, schema, groups, oks_backend)[0] - before for name, case in cases.items()}
