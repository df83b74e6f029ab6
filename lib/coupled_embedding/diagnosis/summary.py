"""All figures of a data set, summed up from its photos."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.records import ImageRecord
from coupled_embedding.diagnosis.crowding import PhotoBin, bins_by_crowd_index, bins_by_people, people_of
from coupled_embedding.diagnosis.grouping_accuracy import GroupingTally
from coupled_embedding.diagnosis.keypoint_errors import KINDS, Errors, find_errors
from coupled_embedding.diagnosis.observe import PhotoFindings
from coupled_embedding.diagnosis.oracles import AS_FOUND, RUNS
from coupled_embedding.diagnosis.separation import Separation
from coupled_embedding.diagnosis.tag_figures import TagFigures, tag_figures
from coupled_embedding.diagnosis.tally import for_json, share, total
from coupled_embedding.evaluation import GroundTruth, Scores, ap_of_groups, poses_to_results, score_results
from coupled_embedding.keypoints import KeypointSchema

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
    results = {
        run: poses_to_results({i: f.runs[run] for i, f in findings.items()}, truth.person_category, max_detections)
        for run in RUNS
    }
    scores = {run: score_results(truth, found, schema, engine) for run, found in results.items()}
    errors = find_errors(truth, results[AS_FOUND], schema)
    rows = _rows(findings, records, truth, schema, results, errors, engine)
    first = next(iter(findings.values()), None)
    counts = [photo.counts() for photo in errors.photos.values()]
    by_joint: NDArray[np.int64] = np.sum(counts, 0) if counts else np.zeros((schema.num_joints, len(KINDS)), np.int64)
    dims = first.dims if first else 1
    return Diagnosis(
        schema.evaluator,
        schema.joints,
        dims,
        first.layers if first else 1,
        {run: score.values for run, score in scores.items()},
        *rows,
        tag_figures([f.tags for f in findings.values()], dims),
        dict(zip(schema.joints, by_joint.tolist(), strict=True)),
        _ap_gained(errors, schema, scores[AS_FOUND], engine),
    )


def _rows(
    findings: Mapping[int, PhotoFindings],
    records: Sequence[ImageRecord],
    truth: GroundTruth,
    schema: KeypointSchema,
    results: Mapping[str, Results],
    errors: Errors,
    engine: str,
) -> tuple[Row, list[Row], list[Row]]:
    """Return the rows of all photos, by crowd index and by people."""
    everything = PhotoBin("all", tuple(record.image_id for record in records))
    by_crowd, by_people = bins_by_crowd_index(records), bins_by_people(records)
    bins = [everything, *by_crowd, *by_people]
    groups = [photo_bin.image_ids for photo_bin in bins]
    ap = {run: ap_of_groups(truth, found, schema, groups, engine) for run, found in results.items()}
    people = {record.image_id: people_of(record) for record in records}
    rows = [
        _row(photo_bin, {run: ap[run][i] for run in ap}, findings, people, errors) for i, photo_bin in enumerate(bins)
    ]
    return rows[0], rows[1 : len(by_crowd) + 1], rows[len(by_crowd) + 1 :]


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


def _ap_gained(errors: Errors, schema: KeypointSchema, before: Scores, engine: str) -> dict[str, float]:
    """Return what the AP gains by each repair alone."""
    cases = {name: (errors.truth, errors.repaired(kinds)) for name, kinds in REPAIRS.items()}
    cases[NO_BACKGROUND] = (errors.truth, errors.without_background())
    cases[NO_MISSED] = (errors.without_missed(), list(errors.results))
    groups = [tuple(errors.truth.images)]
    after = {name: ap_of_groups(truth, results, schema, groups, engine)[0] for name, (truth, results) in cases.items()}
    return {name: ap - before.main for name, ap in after.items()}
