"""All figures of a data set, summed up from its photos."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from coupled_embedding.analysis.error_analysis.crowding import PhotoBin, bins_by_crowd_index, bins_by_people, people_of
from coupled_embedding.analysis.error_analysis.grouping_accuracy import GroupingTally
from coupled_embedding.analysis.error_analysis.keypoint_errors import KINDS, Errors, find_errors
from coupled_embedding.analysis.error_analysis.observe import PhotoFindings
from coupled_embedding.analysis.error_analysis.oracles import AS_FOUND, RUNS
from coupled_embedding.analysis.error_analysis.separation import Separation
from coupled_embedding.analysis.error_analysis.tag_figures import TagFigures, tag_figures
from coupled_embedding.analysis.error_analysis.tally import for_json, share, total
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.evaluation import GroundTruth, ap_of_groups, poses_to_results, score_results

Results = list[dict[str, Any]]

# what a repair is called -> the kinds of joints that it moves
REPAIRS = {**{kind: (kind,) for kind in KINDS[1:]}, "all four": KINDS[1:]}
NO_BACKGROUND, NO_MISSED = "background", "missed people"


@dataclass(frozen=True)
class TagShares:
    """How tags tell people apart; see `Separation` for what is counted.

    Attributes:
        joints_right: share of pairs' joints on their person's side of the hyperplane.
        separable_pairs: share of pairs with all joints on their sides.
        close_pairs: share of pairs whose mean tags are nearer than the grouping threshold.
        nearest: share of joints nearest to their own person's mean.
        astray: share of joints at the threshold or farther from it.
    """

    joints_right: float
    separable_pairs: float
    close_pairs: float
    nearest: float
    astray: float


@dataclass(frozen=True)
class GroupingShares:
    """What grouping does with the true joints; see `GroupingTally` for what is counted.

    Attributes:
        detected: share of labelled joints with a candidate.
        together: share of judged joints in the group with most of their person's.
        one_to_one: the same where a group belongs to one person.
    """

    detected: float
    together: float
    one_to_one: float


@dataclass(frozen=True)
class Row:
    """Some photos.

    Attributes:
        label: which.
        photos, people: their number, and that of people with a labelled joint.
        ap: of each of `oracles.RUNS`.
        tags, grouping: shares.
        errors: of each kind, the share among labelled joints of matched people.
        missed: share of the people to be found whom nobody found.
        background, surplus: found people that fit nobody, or somebody who is taken, per photo.
    """

    label: str
    photos: int
    people: int
    ap: dict[str, float]
    tags: TagShares
    grouping: GroupingShares
    errors: dict[str, float]
    missed: float
    background: float
    surplus: float


@dataclass(frozen=True)
class Diagnosis:
    """What limits a network on a data set. Scores and shares are in [0, 1], NaN where there are none.

    Attributes:
        evaluator: whose rules score.
        joints: K names.
        tag_dims: D; layers: 1, or 2 with the mirrored photo.
        runs: the scores of each of `oracles.RUNS`.
        all: all photos.
        by_crowd_index, by_people: photos with people, sorted.
        tags: figures of the tags.
        error_counts: joint name -> how many of each of `KINDS`.
        ap_gained: by each repair alone.
    """

    evaluator: str
    joints: tuple[str, ...]
    tag_dims: int
    layers: int
    runs: dict[str, dict[str, float]]
    all: Row
    by_crowd_index: list[Row]
    by_people: list[Row]
    tags: TagFigures
    error_counts: dict[str, list[int]]
    ap_gained: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for a JSON file, which knows no NaN: None instead."""
        content: dict[str, Any] = for_json(asdict(self))
        return content


def diagnose(
    findings: Mapping[int, PhotoFindings],
    records: Sequence[ImageRecord],
    truth: GroundTruth,
    schema: KeypointSchema,
    engine: str = "pycocotools",
    max_detections: int = 0,
) -> Diagnosis:
    """Sum up what `observe` found.

    Args:
        findings: by image id.
        records: the photos.
        truth: their annotated people, as the benchmark counts them.
        schema: joints and rules.
        engine: who computes scores.
        max_detections: people per photo in the results, best first; 0: all.

    Raises:
        DatasetError: the annotations are not public.
    """
    by_crowd = bins_by_crowd_index(records)
    bins = [PhotoBin("all", tuple(findings)), *by_crowd, *bins_by_people(records)]

    def results_of(run: str) -> Results:
        return poses_to_results({i: f.runs[run] for i, f in findings.items()}, truth.categories.result, max_detections)

    runs: dict[str, dict[str, float]] = {}
    ap: dict[str, list[float]] = {}
    for run in RUNS:  # one run's results in memory at a time
        results = results_of(run)
        runs[run] = score_results(truth, results, schema, engine).values
        parts = ap_of_groups(truth, results, schema, [part.image_ids for part in bins[1:]], engine)
        ap[run] = [runs[run]["AP"], *parts]
    errors = find_errors(truth, results_of(AS_FOUND), schema)
    people = {record.image_id: people_of(record) for record in records}
    rows = [_row(part, {run: ap[run][i] for run in RUNS}, findings, people, errors) for i, part in enumerate(bins)]
    first = next(iter(findings.values()), None)
    dims = first.dims if first else 1
    return Diagnosis(
        schema.evaluator,
        schema.joints,
        dims,
        first.layers if first else 1,
        runs,
        rows[0],
        rows[1 : 1 + len(by_crowd)],
        rows[1 + len(by_crowd) :],
        tag_figures([f.tags for f in findings.values()], dims),
        _error_counts(errors, schema),
        _ap_gained(errors, schema, runs[AS_FOUND]["AP"], engine),
    )


def _error_counts(errors: Errors, schema: KeypointSchema) -> dict[str, list[int]]:
    counts = np.zeros((schema.num_joints, len(KINDS)), np.int64)
    for photo in errors.photos.values():
        counts += photo.counts()
    return dict(zip(schema.joints, counts.tolist(), strict=True))


def _row(
    photo_bin: PhotoBin,
    ap: dict[str, float],
    findings: Mapping[int, PhotoFindings],
    people: Mapping[int, int],
    errors: Errors,
) -> Row:
    ids = photo_bin.image_ids
    photos = [errors.photos[i] for i in ids]
    kinds = [sum(int((photo.kinds == kind).sum()) for photo in photos) for kind in range(len(KINDS))]
    missed = sum(len(photo.missed) for photo in photos)
    return Row(
        photo_bin.label,
        len(ids),
        sum(people[i] for i in ids),
        ap,
        tag_shares(total(Separation, (findings[i].separation for i in ids))),
        grouping_shares(total(GroupingTally, (findings[i].grouping for i in ids))),
        {kind: share(count, sum(kinds)) for kind, count in zip(KINDS, kinds, strict=True)},
        share(missed, missed + sum(len(photo.matched) for photo in photos)),
        share(sum(len(photo.background) for photo in photos), len(ids)),
        share(sum(len(photo.surplus) for photo in photos), len(ids)),
    )


def tag_shares(counts: Separation) -> TagShares:
    """Return the shares of counts."""
    return TagShares(
        share(counts.pair_joints_right, counts.pair_joints),
        share(counts.separable_pairs, counts.pairs),
        share(counts.close_pairs, counts.pairs),
        share(counts.joints_nearest, counts.joints),
        share(counts.joints_astray, counts.joints),
    )


def grouping_shares(counts: GroupingTally) -> GroupingShares:
    """Return the shares of counts."""
    return GroupingShares(
        share(counts.detected, counts.labelled),
        share(counts.together, counts.judged),
        share(counts.one_to_one, counts.judged),
    )


def _ap_gained(errors: Errors, schema: KeypointSchema, before: float, engine: str) -> dict[str, float]:
    """Return what the AP gains by each repair alone."""
    cases = {name: (errors.truth, errors.repaired(kinds)) for name, kinds in REPAIRS.items()}
    cases[NO_BACKGROUND] = (errors.truth, errors.without_background())
    cases[NO_MISSED] = (errors.without_missed(), list(errors.results))
    groups = [tuple(errors.truth.images)]
    after = {name: ap_of_groups(truth, results, schema, groups, engine)[0] for name, (truth, results) in cases.items()}
    return {name: ap - before for name, ap in after.items()}
