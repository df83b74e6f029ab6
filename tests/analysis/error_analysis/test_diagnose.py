"""From photos to figures: perfect maps, real networks of all kinds, sets with few or no people."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from yacs.config import CfgNode

from coupled_embedding.analysis.error_analysis import Diagnosis, diagnose, diagnose_task, observe, page, write_diagnosis
from coupled_embedding.analysis.error_analysis.keypoint_errors import KINDS
from coupled_embedding.analysis.error_analysis.observe import ObserveSettings, build_observe_settings, observe_photo
from coupled_embedding.analysis.error_analysis.oracles import AS_FOUND, RUNS
from coupled_embedding.analysis.upper_bound import perfect_maps
from coupled_embedding.data.geometry import fit_geometry
from coupled_embedding.data.io.data_errors import BadInput
from coupled_embedding.data.schema import Pose
from coupled_embedding.decode.aggregate import MergedMaps, PhotoMaps, merge_resolutions
from coupled_embedding.decode.decode import DecodeSettings
from coupled_embedding.decode.pipeline import PoseEstimator, build_estimator_settings
from coupled_embedding.engine.evaluate import TestTask
from coupled_embedding.evaluation import ap_of_groups, load_ground_truth, poses_to_results, score_results
from coupled_embedding.networks.pose_network import build_network
from coupled_embedding.predictor import predict_records
from coupled_embedding.prepare import annotations_of, records_of, schema_of
from coupled_embedding.utils.errors import DatasetError, NotFiniteError, UserError

STRIDES = (4, 2)


def perfect_findings(records, schema, size: int = 256):
    settings = ObserveSettings(DecodeSettings(schema.grouping_order), STRIDES, size, schema.sigmas)
    findings = {}
    for record in records:
        geometry = fit_geometry((record.width, record.height), size)
        perfect = perfect_maps(record, geometry, STRIDES)
        maps = MergedMaps(merge_resolutions(perfect), perfect.tags).photo(0)
        findings[record.image_id] = observe_photo(record, maps, geometry, settings)
    return findings


@pytest.mark.parametrize("evaluator", ["coco", "crowdpose"])
def test_perfect_maps_are_all_good(crowd, evaluator: str) -> None:
    people = [crowd.person(4, 8), crowd.person(90, 30), crowd.person(170, 130), crowd.person(60, 60, 2)]
    records, truth, schema = crowd(people, images=3, evaluator=evaluator)
    d = diagnose(perfect_findings(records, schema), records, truth, schema)
    assert d.evaluator == evaluator
    assert ("AP_L" in d.runs[AS_FOUND]) == (evaluator == "coco")
    assert [d.runs[run]["AP"] for run in RUNS] == pytest.approx([1.0] * 4)
    assert list(d.all.errors.values()) == [1, 0, 0, 0, 0]
    assert (d.all.photos, d.all.people, d.all.missed, d.all.background, d.all.surplus) == (3, 4, 0, 0, 0)
    assert d.all.grouping.one_to_one == d.all.grouping.together == d.all.grouping.detected == 1
    assert (d.all.tags.nearest, d.all.tags.joints_right, d.all.tags.separable_pairs) == (1, 1, 1)
    assert (d.all.tags.close_pairs, d.all.tags.astray) == (0, 0)
    assert list(d.ap_gained.values()) == pytest.approx([0] * 7)
    assert [(row.label, row.photos, row.people) for row in d.by_people] == [("1", 1, 1), ("3–4", 1, 3)]
    assert [row.photos for row in d.by_crowd_index] == [2]
    assert d.error_counts["neck"] == [4, 0, 0, 0, 0]
    assert (d.tag_dims, d.layers, d.tags.people) == (1, 1, 4)


def test_one_inverted_person_shows_everywhere(crowd) -> None:
    people = [crowd.person(4, 8), crowd.person(90, 30), crowd.person(60, 60, 2)]
    records, truth, schema = crowd(people, images=2)
    findings = perfect_findings(records, schema)
    poses = [Pose(pose.keypoints.copy(), pose.score) for pose in findings[2].runs[AS_FOUND]]
    poses[0].keypoints[[1, 2]] = poses[0].keypoints[[2, 1]]
    nowhere = Pose(poses[0].keypoints * 0 + (5, 250, 1), 1.0)
    findings[2] = replace(findings[2], runs={**findings[2].runs, AS_FOUND: [*poses, nowhere]})
    d = diagnose(findings, records, truth, schema)
    assert d.runs[AS_FOUND]["AP"] < 0.95
    assert d.error_counts["left_hand"] == d.error_counts["right_hand"] == [2, 0, 1, 0, 0]
    assert d.all.errors["inversion"] == pytest.approx(2 / 15)
    alone, pair = d.by_people
    assert (alone.label, alone.errors["inversion"], pair.errors["inversion"]) == ("1", pytest.approx(0.4), 0)
    assert (alone.background, pair.background, d.all.background) == (1, 0, 0.5)
    assert pair.ap[AS_FOUND] == pytest.approx(1)
    assert alone.ap[AS_FOUND] < 0.5
    gained = {name for name, value in d.ap_gained.items() if value > 1e-9}
    assert gained == {"inversion", "all four", "background"}
    assert d.ap_gained["inversion"] == d.ap_gained["all four"]
    assert d.runs["true heatmaps"]["AP"] == pytest.approx(1)


def test_nobody_at_all(crowd) -> None:
    records, truth, schema = crowd([], images=2)
    d = diagnose(perfect_findings(records, schema), records, truth, schema)
    assert math.isnan(d.runs[AS_FOUND]["AP"])
    assert (d.all.people, d.by_people, d.by_crowd_index, d.tags.scale) == (0, [], [], None)
    assert "n/a" in page(d, "nobody", "")
    empty = diagnose({}, [], replace(truth, images={}), schema)
    assert empty.all.photos == 0
    json.dumps(empty.to_dict(), allow_nan=False)


def test_maps_that_are_not_finite_are_refused(crowd) -> None:
    records, _, schema = crowd([crowd.person(4, 8)])
    geometry = fit_geometry((256, 256), 256)
    perfect = perfect_maps(records[0], geometry, STRIDES)
    maps = MergedMaps(merge_resolutions(perfect), perfect.tags * math.nan).photo(0)
    settings = ObserveSettings(DecodeSettings(schema.grouping_order), STRIDES, 256, schema.sigmas)
    with pytest.raises(NotFiniteError):
        observe_photo(records[0], PhotoMaps(maps.heatmaps, maps.tags), geometry, settings)


@pytest.mark.parametrize(("cost", "together"), [("near", 1), ("steps", 2)])
def test_grouping_is_judged_by_the_settings_of_decode(crowd, cost: str, together: int) -> None:
    records, _, schema = crowd([crowd.person(4, 8, labels=[2, 2, 0, 0, 0])])
    geometry = fit_geometry((256, 256), 256)
    perfect = perfect_maps(records[0], geometry, STRIDES)
    maps = MergedMaps(merge_resolutions(perfect), perfect.tags).photo(0)
    # the hand is weak; far below lies a strong one that is no one's, with a tag two thirds of a step away
    hand = maps.heatmaps[1].copy()
    maps.heatmaps[1] = 0.2 * hand + 1.4 * np.roll(hand, 80, axis=0)
    tags = maps.tags[0].values
    tags[40:, :, 1] = tags[:30, :, 1].max() + 0.66
    decode = DecodeSettings(schema.grouping_order, cost=cost)
    found = observe_photo(records[0], maps, geometry, ObserveSettings(decode, STRIDES, 256, schema.sigmas))
    assert (found.grouping.judged, found.grouping.together) == (2, together)
    # decode takes the same hand
    at_hand = [np.hypot(*(pose.keypoints[1, :2] - (9, 58))) < 5 for pose in found.runs[AS_FOUND]]
    assert at_hand[0] == (cost == "steps")


def test_people_beyond_the_limit_are_not_together(crowd) -> None:
    records, _, schema = crowd([crowd.person(4, 8), crowd.person(90, 30)])
    geometry = fit_geometry((256, 256), 256)
    perfect = perfect_maps(records[0], geometry, STRIDES)
    maps = MergedMaps(merge_resolutions(perfect), perfect.tags).photo(0)
    for limit, together in ((0, 10), (1, 6)):  # then all joints of the second stay alone
        decode = DecodeSettings(schema.grouping_order, max_joined=limit)
        found = observe_photo(records[0], maps, geometry, ObserveSettings(decode, STRIDES, 256, schema.sigmas))
        assert (found.grouping.judged, found.grouping.together) == (10, together)


def look(cfg: CfgNode, progress=lambda photos: None) -> tuple[Diagnosis, PoseEstimator]:
    """Diagnose an untrained network, whose peaks are noise, on the tiny crowd's test split."""
    schema = schema_of(cfg)
    torch.manual_seed(0)
    network = build_network(cfg, schema.num_joints).eval()
    for name, parameter in network.named_parameters():  # heads start near 0, which finds nothing
        if "head" in name and parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    estimator = PoseEstimator(network, build_estimator_settings(cfg, schema))
    records = records_of(cfg, schema, "test")
    settings = build_observe_settings(cfg, schema, estimator)
    findings = observe(estimator, records, settings, 2, progress=progress)
    assert list(findings) == [record.image_id for record in records]
    truth = load_ground_truth(annotations_of(cfg, schema, "test"), schema, list(findings))
    return diagnose(findings, records, truth, schema), estimator


@pytest.mark.parametrize(
    ("options", "dims", "layers"),
    [
        ((), 4, 2),
        (("MODEL.TAG_DIM", "1", "LOSS.COUPLING_WEIGHT", "0", "LOSS.SCALE_ADAPTED", "False"), 1, 2),
        (("TEST.FLIP", "False", "MODEL.HEAD", "plain"), 4, 1),
        (("TEST.SCALES", "[2, 1]", "TEST.REFINE", "False"), 4, 2),
    ],
)
def test_networks_of_all_kinds(tiny, options: tuple[str, ...], dims: int, layers: int) -> None:
    cfg = tiny("kinds", *options)
    done: list[int] = []
    d, estimator = look(cfg, done.append)
    assert sum(done) == 5
    assert (d.tag_dims, d.layers) == (dims, layers)
    assert np.shape(d.tags.correlation) == (dims, dims)
    # as tools/test.py has it, to the last digit
    schema = schema_of(cfg)
    records = records_of(cfg, schema, "test")
    people = predict_records(estimator, records, 64, 2)
    truth = load_ground_truth(annotations_of(cfg, schema, "test"), schema)
    in_order = {record.image_id: people[record.image_id] for record in records}
    expected = score_results(truth, poses_to_results(in_order, truth.categories.result), schema)
    assert d.runs[AS_FOUND] == pytest.approx(expected.values, nan_ok=True)
    # what is right loses nothing by being made true
    assert d.all.ap["all true"] > 0.5
    assert d.ap_gained["all four"] >= 0
    assert page(d, "kinds", "").count("<svg") >= 10
    assert json.loads(json.dumps(d.to_dict(), allow_nan=False))["all"]["photos"] == 5


def test_one_photo(tiny, tiny_crowd) -> None:
    content = json.loads((tiny_crowd / "json/synthetic_test.json").read_text())
    chosen = content["images"][0]["id"]
    d, _ = look(tiny("one", "DATASET.IMAGE_IDS", f"[{chosen}]"))
    assert d.all.photos == 1
    assert len(d.by_people) <= 1


def test_rows_add_up(tiny) -> None:
    d, _ = look(tiny("rows"))
    for rows in (d.by_crowd_index, d.by_people):
        assert sum(row.people for row in rows) == d.all.people
        assert all(set(row.ap) == set(RUNS) for row in rows)
    assert list(d.all.errors) == list(KINDS)
    assert sum(d.all.errors.values()) == pytest.approx(1)
    counts = np.sum(list(d.error_counts.values()), 0)
    np.testing.assert_allclose(list(d.all.errors.values()), counts / counts.sum())


@pytest.fixture
def task(tiny, tmp_path) -> TestTask:
    cfg = tiny("task", "TEST.FLIP", "False")
    schema = schema_of(cfg)
    network = build_network(cfg, schema.num_joints).eval()
    return TestTask(network, cfg, schema, records_of(cfg, schema, "test"), "test", tmp_path / "w.pth", tmp_path)


def test_every_nth_photo_is_diagnosed_and_written(task: TestTask, tmp_path) -> None:
    done: list[int] = []
    d = diagnose_task(task, 2, done.append)
    assert sum(done) == d.all.photos == 3
    html, figures = write_diagnosis(d, task, tmp_path / "new" / "folder")
    assert "task: diagnosis" in html.read_text(encoding="utf-8")
    content = json.loads(figures.read_text(encoding="utf-8"))
    assert (content["name"], content["data_set"], content["split"]) == ("task", "synthetic", "test")
    assert content["by_people"][0]["ap"].keys() == set(RUNS)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"diagnosis\.html: cannot write the diagnosis \("):
        write_diagnosis(d, task, tmp_path / "file" / "below")


def test_photos_that_cannot_be_tested_stop_it_or_are_left_out_of_the_truth_too(task: TestTask, tmp_path) -> None:
    broken, long = replace(task.records[1], path=tmp_path / "none.jpg"), replace(task.records[3], width=9000, height=9)
    for record, told in ((broken, r"none\.jpg: "), (long, "9000×9 pixels; testing takes photos up to 32 times")):
        with pytest.raises(DatasetError, match=told):
            diagnose_task(replace(task, records=[record]))
    sound = [task.records[number] for number in (0, 2, 4)]
    bad_input, done = BadInput(tolerant=True, scored=True), []
    records = [sound[0], broken, sound[1], long, sound[2]]
    d = diagnose_task(replace(task, records=records, bad_input=bad_input), progress=done.append)
    assert d.to_dict() == diagnose_task(replace(task, records=sound)).to_dict()
    assert sum(done) == 4  # of the fifth no input was made
    assert bad_input.unreadable == {broken.image_id, long.image_id}
    none_left = diagnose_task(replace(task, records=[broken, long], bad_input=bad_input))
    assert (none_left.all.photos, none_left.all.people) == (0, 0)


def test_strides_are_those_of_the_network(tiny) -> None:
    cfg = tiny("plain", "MODEL.HEAD", "plain")
    schema = schema_of(cfg)
    estimator = PoseEstimator(build_network(cfg, schema.num_joints).eval(), build_estimator_settings(cfg, schema))
    # a released network's config need not say what its head is
    assert build_observe_settings(tiny("higher"), schema, estimator).strides == estimator.network.strides == (4,)


def test_secret_annotations_are_refused_before_anything_runs(task: TestTask, tiny_crowd, tmp_path) -> None:
    content = json.loads((tiny_crowd / "json/synthetic_test.json").read_text())
    del content["annotations"]
    (tmp_path / "json").mkdir()
    (tmp_path / "json/synthetic_test.json").write_text(json.dumps(content))
    cfg = task.cfg.clone()
    cfg.defrost()
    cfg.DATASET.ROOT = str(tmp_path)
    with pytest.raises(DatasetError, match=r"has no 'annotations'; diagnose a split whose people are public"):
        diagnose_task(replace(task, cfg=cfg), progress=lambda photos: pytest.fail("ran"))


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
