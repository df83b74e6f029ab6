"""From images to an error analysis: perfect maps, real networks of all kinds, sets with few or no people."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from runs import CPU
from yacs.config import CfgNode

from coupled_embedding.analysis.error_analysis import analyze_errors, oracles, write_analysis
from coupled_embedding.analysis.error_analysis.collect import analyze_image, collect
from coupled_embedding.analysis.error_analysis.keypoint_errors import KINDS
from coupled_embedding.analysis.error_analysis.oracles import ORACLE, ORACLE_HEATMAPS, PREDICTED, RUNS
from coupled_embedding.analysis.error_analysis.page import page
from coupled_embedding.analysis.error_analysis.summary import summarize
from coupled_embedding.analysis.upper_bound import perfect_maps
from coupled_embedding.builders import build_eval_job, build_model, build_schema
from coupled_embedding.data.geometry import resize_geometry
from coupled_embedding.data.io.data_errors import DataErrorPolicy
from coupled_embedding.data.outputs import Pose
from coupled_embedding.decode.options import DecodeOptions
from coupled_embedding.decode.pipeline import PipelineOptions
from coupled_embedding.engine.evaluate import EvalJob, EvalOptions, evaluate
from coupled_embedding.evaluation import ap_of_groups, score_results
from coupled_embedding.utils.errors import DatasetError, NonFiniteError, UserError

STRIDES = (4, 2)


def perfect_images(records, schema):
    images = {}
    for record in records:
        geometry = resize_geometry((record.width, record.height), 256)
        images[record.image_id] = analyze(record, perfect_maps(record, geometry, STRIDES), geometry, schema)
    return images


def analyze(record, maps, geometry, schema, **options):
    pipeline = PipelineOptions(schema.flip_index, DecodeOptions(schema.grouping_order, **options))
    network = SimpleNamespace(strides=STRIDES)
    return analyze_image(
        EvalJob(network, pipeline, EvalOptions(256), schema, "all", [record], Path()), record, maps, geometry
    )


@pytest.mark.parametrize("evaluator", ["coco", "crowdpose"])
def test_perfect_maps_are_all_good(crowd, evaluator: str) -> None:
    people = [crowd.person(4, 8), crowd.person(90, 30), crowd.person(170, 130), crowd.person(60, 60, 2)]
    records, truth, schema = crowd(people, images=3, evaluator=evaluator)
    d = summarize(perfect_images(records, schema), records, truth, schema)
    assert d.evaluator == evaluator
    assert ("AP_L" in d.runs[PREDICTED]) == (evaluator == "coco")
    assert [d.runs[run]["AP"] for run in RUNS] == pytest.approx([1.0] * 4)
    assert list(d.all.errors.values()) == [1, 0, 0, 0, 0]
    assert (d.all.images, d.all.people, d.all.background, d.all.surplus) == (3, 4, 0, 0)
    assert len(d.all.shares) == 9
    bad = {"joints far from their own mean tag", "pairs too close", "people missed"}
    assert {name for name, share in d.all.shares.items() if share == 0} == bad
    assert all(share == 1 for name, share in d.all.shares.items() if name not in bad)
    assert list(d.ap_gained.values()) == pytest.approx([0] * 7)
    assert [(row.label, row.images, row.people) for row in d.by_people] == [("1", 1, 1), ("3–4", 1, 3)]
    assert [row.images for row in d.by_crowd_index] == [2]
    assert d.error_counts["neck"] == [4, 0, 0, 0, 0]
    assert (d.tag_dims, d.views, d.tags.people) == (1, 1, 4)


def test_one_inverted_person_shows_everywhere(crowd) -> None:
    people = [crowd.person(4, 8), crowd.person(90, 30), crowd.person(60, 60, 2)]
    records, truth, schema = crowd(people, images=2)
    images = perfect_images(records, schema)
    poses = [Pose(pose.keypoints.copy(), pose.score) for pose in images[2].runs[PREDICTED]]
    poses[0].keypoints[[1, 2]] = poses[0].keypoints[[2, 1]]
    nowhere = Pose(poses[0].keypoints * 0 + (5, 250, 1), 1.0)
    images[2] = replace(images[2], runs={**images[2].runs, PREDICTED: [*poses, nowhere]})
    d = summarize(images, records, truth, schema)
    assert d.runs[PREDICTED]["AP"] < 0.95
    assert d.error_counts["left_hand"] == d.error_counts["right_hand"] == [2, 0, 1, 0, 0]
    assert d.all.errors["inversion"] == pytest.approx(2 / 15)
    alone, pair = d.by_people
    assert (alone.label, alone.errors["inversion"], pair.errors["inversion"]) == ("1", pytest.approx(0.4), 0)
    assert (alone.background, pair.background, d.all.background) == (1, 0, 0.5)
    assert pair.ap[PREDICTED] == pytest.approx(1)
    assert alone.ap[PREDICTED] < 0.5
    gained = {name for name, value in d.ap_gained.items() if value > 1e-9}
    assert gained == {"inversion", "all four", "background"}
    assert d.ap_gained["inversion"] == d.ap_gained["all four"]
    assert d.runs[ORACLE_HEATMAPS]["AP"] == pytest.approx(1)


def test_no_people_at_all(crowd) -> None:
    records, truth, schema = crowd([], images=2)
    d = summarize(perfect_images(records, schema), records, truth, schema)
    assert math.isnan(d.runs[PREDICTED]["AP"])
    assert (d.all.people, d.by_people, d.by_crowd_index, d.tags.scale) == (0, [], [], None)
    assert "n/a" in page(d, "no people", "")
    empty = summarize({}, [], replace(truth, images={}), schema)
    assert empty.all.images == 0
    json.dumps(empty.to_dict(), allow_nan=False)


def test_maps_that_are_not_finite_are_refused(crowd) -> None:
    records, _, schema = crowd([crowd.person(4, 8)])
    geometry = resize_geometry((256, 256), 256)
    maps = perfect_maps(records[0], geometry, STRIDES)
    maps.tags[0].values[:] = math.nan
    with pytest.raises(NonFiniteError):
        analyze(records[0], maps, geometry, schema)


@pytest.mark.parametrize(("cost", "together"), [("ce", 1), ("ae", 2)])
def test_grouping_is_analyzed_with_the_options_of_decode(crowd, cost: str, together: int) -> None:
    records, _, schema = crowd([crowd.person(4, 8, labels=[2, 2, 0, 0, 0])])
    geometry = resize_geometry((256, 256), 256)
    maps = perfect_maps(records[0], geometry, STRIDES)
    # the hand is weak; far below lies a strong one that is no one's, with a tag two thirds of a step away
    hand = maps.heatmaps[1].copy()
    maps.heatmaps[1] = 0.2 * hand + 1.4 * np.roll(hand, 80, axis=0)
    tags = maps.tags[0].values
    tags[40:, :, 1] = tags[:30, :, 1].max() + 0.66
    found = analyze(records[0], maps, geometry, schema, cost=cost)
    assert (found.grouping.counted, found.grouping.together) == (2, together)
    # decode takes the same hand
    at_hand = [np.hypot(*(pose.keypoints[1, :2] - (9, 58))) < 5 for pose in found.runs[PREDICTED]]
    assert at_hand[0] == (cost == "ae")


def test_people_beyond_the_limit_are_not_together(crowd) -> None:
    records, _, schema = crowd([crowd.person(4, 8), crowd.person(90, 30)])
    geometry = resize_geometry((256, 256), 256)
    maps = perfect_maps(records[0], geometry, STRIDES)
    for limit, together in ((0, 10), (1, 6)):  # then all joints of the second stay alone
        found = analyze(records[0], maps, geometry, schema, max_joined=limit)
        assert (found.grouping.counted, found.grouping.together) == (10, together)


def untrained_job(cfg: CfgNode, folder: Path) -> EvalJob:
    """Return the evaluation of an untrained network, whose peaks are noise, on the tiny crowd's test split."""
    torch.manual_seed(0)
    network = build_model(cfg, build_schema(cfg).num_joints)
    for name, parameter in network.named_parameters():  # heads start near 0, which detects nothing
        if "head" in name and parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    torch.save(network.state_dict(), folder / "untrained.pth")
    return build_eval_job(cfg, folder / "untrained.pth", "test", CPU)


@pytest.mark.parametrize(
    ("options", "dims", "views"),
    [
        ((), 4, 2),
        (("MODEL.TAG_DIM", "1", "LOSS.COUPLING_WEIGHT", "0", "LOSS.SCALE_ADAPTED", "False"), 1, 2),
        (("TEST.FLIP", "False", "MODEL.HEAD", "plain"), 4, 1),
        (("TEST.SCALES", "[2, 1]", "TEST.REFINE", "none"), 4, 2),
    ],
)
def test_networks_of_all_kinds(tiny, tmp_path: Path, options: tuple[str, ...], dims: int, views: int) -> None:
    job, done = untrained_job(tiny("kinds", *options), tmp_path), []
    d = analyze_errors(job, done.append)
    assert sum(done) == 5
    assert (d.tag_dims, d.views) == (dims, views)
    assert np.shape(d.tags.correlation) == (dims, dims)
    # as tools/test.py has it, to the last digit
    assert d.runs[PREDICTED] == pytest.approx(evaluate(job, CPU).scores.values, nan_ok=True)
    # an oracle of what is right loses nothing
    assert d.all.ap[ORACLE] > 0.5
    assert d.ap_gained["all four"] >= 0
    assert page(d, "kinds", "").count("<svg") >= 10
    assert json.loads(json.dumps(d.to_dict(), allow_nan=False))["all"]["images"] == 5


def test_one_image(tiny, tiny_crowd, tmp_path: Path) -> None:
    content = json.loads((tiny_crowd / "json/synthetic_test.json").read_text())
    chosen = content["images"][0]["id"]
    d = analyze_errors(untrained_job(tiny("one", "DATASET.IMAGE_IDS", f"[{chosen}]"), tmp_path))
    assert d.all.images == 1
    assert len(d.by_people) <= 1


def test_rows_add_up(tiny, tmp_path: Path) -> None:
    job = untrained_job(tiny("rows"), tmp_path)
    assert list(collect(job)) == [record.image_id for record in job.records]
    d = analyze_errors(job)
    for rows in (d.by_crowd_index, d.by_people):
        assert sum(row.people for row in rows) == d.all.people
        assert all(set(row.ap) == set(RUNS) for row in rows)
    assert list(d.all.errors) == list(KINDS)
    assert sum(d.all.errors.values()) == pytest.approx(1)
    counts = np.sum(list(d.error_counts.values()), 0)
    np.testing.assert_allclose(list(d.all.errors.values()), counts / counts.sum())


@pytest.fixture
def job(tiny, tmp_path: Path) -> EvalJob:
    return untrained_job(tiny("task", "TEST.FLIP", "False"), tmp_path)


def test_images_are_analyzed_and_written(job: EvalJob, tmp_path: Path) -> None:
    done: list[int] = []
    job = replace(job, records=job.records[::2])
    d = analyze_errors(job, done.append)
    assert sum(done) == d.all.images == 3
    html, numbers = write_analysis(d, job, tmp_path / "new" / "folder")
    assert "task: diagnosis" in html.read_text(encoding="utf-8")
    content = json.loads(numbers.read_text(encoding="utf-8"))
    assert (content["name"], content["data_set"], content["split"]) == ("task", "synthetic", "test")
    assert content["by_people"][0]["ap"].keys() == set(RUNS)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"diagnosis\.html: cannot write the error analysis \("):
        write_analysis(d, job, tmp_path / "file" / "below")


def test_images_that_cannot_be_tested_stop_it_or_are_left_out_of_the_truth_too(job: EvalJob, tmp_path: Path) -> None:
    broken, long = replace(job.records[1], path=tmp_path / "none.jpg"), replace(job.records[3], width=9000, height=9)
    for record, text in ((broken, r"none\.jpg: "), (long, "9000×9 pixels; testing takes images up to 32 times")):
        with pytest.raises(DatasetError, match=text):
            analyze_errors(replace(job, records=[record]))
    valid = [job.records[number] for number in (0, 2, 4)]
    policy, done = DataErrorPolicy(skip=True, scored=True), []
    records = [valid[0], broken, valid[1], long, valid[2]]
    d = analyze_errors(replace(job, records=records, policy=policy), progress=done.append)
    assert d.to_dict() == analyze_errors(replace(job, records=valid)).to_dict()
    assert sum(done) == 4  # of the fifth no input was made
    assert policy.unreadable == {broken.image_id, long.image_id}
    none_left = analyze_errors(replace(job, records=[broken, long], policy=policy))
    assert (none_left.all.images, none_left.all.people) == (0, 0)


@pytest.mark.parametrize(("head", "strides"), [("plain", (4,)), ("higher", (4, 2))])
def test_oracles_have_the_networks_resolutions(tiny, tmp_path: Path, monkeypatch, head: str, strides: tuple) -> None:
    seen, real = set(), oracles.perfect_maps
    monkeypatch.setattr(oracles, "perfect_maps", lambda *args: seen.add(args[2]) or real(*args))
    collect(untrained_job(tiny("strides", "MODEL.HEAD", head), tmp_path))
    assert seen == {strides}


def test_secret_annotations_are_refused_before_anything_runs(job: EvalJob, tiny_crowd, tmp_path: Path) -> None:
    content = json.loads((tiny_crowd / "json/synthetic_test.json").read_text())
    del content["annotations"]
    (tmp_path / "secret.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"has no 'annotations'; diagnose a split whose people are public"):
        analyze_errors(
            replace(job, annotations=tmp_path / "secret.json"), progress=lambda images: pytest.fail("it ran")
        )


def test_ap_of_groups_is_that_of_the_images_alone(crowd) -> None:
    people = [crowd.person(10, 10), crowd.person(20, 60, 2), crowd.person(120, 60, 2)]
    _, truth, schema = crowd(people, images=3)
    results = [
        {"image_id": i, "category_id": 1, "keypoints": truth.keypoints[row].tolist(), "score": score}
        for row, i, score in ((0, 1, 0.5), (1, 2, 0.9), (0, 2, 0.95))
    ]
    found = ap_of_groups(truth, results, schema, [[1], [2], [3], [], [1, 2]])
    assert found[0] == pytest.approx(1)
    assert found[1] == pytest.approx(0.5 * 51 / 101)
    assert math.isnan(found[2])
    assert math.isnan(found[3])
    assert found[4] == pytest.approx(score_results(truth, results, schema).main)
    assert ap_of_groups(truth, results, schema, [[1, 2]], "fast") == pytest.approx(found[4:])
    with pytest.raises(DatasetError, match="no image of id 9"):
        ap_of_groups(truth, [{**results[0], "image_id": 9}], schema, [[1]])
