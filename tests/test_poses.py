"""One image's people: arrays with NaN for what was not found, single people, JSON, COCO, supervision, drawings."""

import json
import sys
import types
from dataclasses import replace

import cv2
import numpy as np
import pytest
import supervision
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from coupled_embedding.data.outputs import Pose
from coupled_embedding.data.schema import load_schema
from coupled_embedding.evaluation import poses_to_results
from coupled_embedding.poses import Person, Poses
from coupled_embedding.utils.errors import UserError

SCHEMA = load_schema("datasets/coco.yaml")
K = SCHEMA.num_joints
SIZE = (200, 160)


def detection(score: float, places, scores, tag=None) -> Pose:
    keypoints = np.concatenate([np.asarray(places, float), np.asarray(scores, float)[:, None]], 1)
    return Pose(keypoints, score, tag)


@pytest.fixture
def detected() -> list[Pose]:
    """Two people, the worse first; joints without a score are at (0, 0), as decode leaves them."""
    generator = np.random.default_rng(3)
    people = []
    for number, score in enumerate((0.3, 0.8)):
        scores = generator.uniform(0.2, 1, K) * (generator.random(K) > 0.3)
        scores[[0, 1]] = 0.5, -0.01
        places = generator.uniform(20, 140, (K, 2)) * (scores > 0)[:, None]
        people.append(detection(score, places, scores, np.array([number, 2.0], np.float32)))
    return people


@pytest.fixture
def poses(detected) -> Poses:
    return Poses.from_detections(detected, SCHEMA, SIZE, time={"load": 0.5, "network": 0.25, "decode": 0.125})


numbers = st.floats(-50, 250, allow_nan=False, width=32)
people_arrays = st.integers(0, 6).flatmap(
    lambda n: st.tuples(
        arrays.arrays(np.float64, (n, K, 2), elements=numbers),
        arrays.arrays(np.float64, (n, K), elements=st.sampled_from([-0.02, 0.0, 0.1, 0.7])),
        st.lists(st.floats(0, 1, width=32), min_size=n, max_size=n),
    )
)


@given(people_arrays)
def test_what_was_not_found_is_nan_with_score_0_and_the_best_come_first(content):
    places, scores, totals = content
    detected = [detection(t, p, s) for p, s, t in zip(places, scores, totals)]
    poses = Poses.from_detections(detected, SCHEMA, SIZE)
    assert (poses.xy.shape, poses.boxes.shape) == ((len(totals), K, 2), (len(totals), 4))
    assert poses.scores.tolist() == sorted(totals, reverse=True)
    for person, original in zip(poses, sorted(detected, key=lambda pose: -pose.score), strict=True):
        found = [j for j in range(K) if original.keypoints[j, 2] > 0]
        for joint in range(K):
            x, y, score = person.keypoints[joint]
            if joint in found:
                assert [x, y, score] == original.keypoints[joint].tolist()
            else:
                assert np.isnan([x, y]).all()
                assert score == 0
        if found:
            xs, ys = ([original.keypoints[j, axis] for j in found] for axis in (0, 1))
            assert person.box.tolist() == [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
        else:
            assert np.isnan(person.box).all()


@given(people_arrays)
def test_json_holds_every_number_and_no_nan(content):
    places, scores, totals = content
    detected = [detection(t, p, s) for p, s, t in zip(places, scores, totals)]
    poses = Poses.from_detections(detected, SCHEMA, SIZE, source="crowd.jpg")
    read = json.loads(poses.to_json(), parse_constant=pytest.fail)
    assert (read["source"], read["image_size"], len(read["predictions"])) == ("crowd.jpg", [200, 160], len(totals))
    for entry, person in zip(read["predictions"], poses, strict=True):
        assert list(entry["keypoints"]) == list(SCHEMA.joints)
        for point, expected in zip(entry["keypoints"].values(), person.keypoints, strict=True):
            assert (point is None) == np.isnan(expected[0])
            assert point is None or point == pytest.approx(expected, abs=6e-4)


def test_elements_are_people_as_older_programs_expect_them(poses, detected):
    assert len(poses) == 2
    best = poses[0]
    assert isinstance(best, Person)
    assert isinstance(best, Pose)
    assert best.score == 0.8
    assert best.keypoints.shape == (K, 3)
    assert best.tag.tolist() == [1.0, 2.0]
    assert best.id is None
    assert poses[-1].score == 0.3
    assert [person.score for person in poses] == [0.8, 0.3]
    with pytest.raises(IndexError):
        poses[2]


def test_parts_are_poses_of_the_same_image(poses):
    for part in (poses[1:], poses[poses.scores < 0.5], poses[[1]]):
        assert isinstance(part, Poses)
        assert part.scores.tolist() == [0.3]
        assert part.tags.tolist() == [[0.0, 2.0]]
        assert np.array_equal(part.xy[0], poses.xy[1], equal_nan=True)
        assert (part.image_size, part.time) == (SIZE, poses.time)
    assert len(poses[:0]) == 0


def test_filters_by_a_score_or_by_what_is_worth_drawing(poses):
    assert poses.filtered(0.5).scores.tolist() == [0.8]
    assert poses.filtered(0.0).scores.tolist() == [0.8, 0.3]
    assert poses.filtered().scores.tolist() == [0.8]  # 0.3 is below 40 % of the best


def test_ids_are_of_each_person(poses):
    tracked = poses.with_ids([7, 3])
    assert [person.id for person in tracked] == [7, 3]
    assert tracked[1:].ids.tolist() == [3]
    assert [entry["id"] for entry in tracked.to_dict()["predictions"]] == [7, 3]
    assert "id" not in poses.to_dict()["predictions"][0]
    with pytest.raises(ValueError, match="expected 2 ids"):
        poses.with_ids([1])


def test_coco_results_are_those_of_a_test(poses, detected):
    expected = poses_to_results({5: sorted(detected, key=lambda pose: -pose.score)}, 3)
    assert poses.to_coco(5, 3) == expected
    assert poses.with_ids([1, 2]).filtered(0.5).to_coco(5, 3) == expected[:1]
    (best, _) = replace(poses, decoded=None).to_coco(5, 3)
    scores = np.array(expected[0]["keypoints"][2::3])
    assert best["keypoints"][2::3] == np.maximum(scores, 0).tolist()


def test_joints_below_a_score_are_not_found_but_are_scored():
    weak = detection(0.4, np.full((K, 2), 33.0), [0.5] + [0.09] * (K - 1))
    poses = Poses.from_detections([weak], SCHEMA, SIZE, min_joint_score=0.1)
    assert np.isnan(poses.xy[0, 1:]).all()
    assert poses.keypoint_scores[0].tolist() == [0.5] + [0.0] * (K - 1)
    assert poses.boxes.tolist() == [[33.0, 33.0, 0.0, 0.0]]
    assert poses.to_coco(1)[0]["keypoints"] == weak.keypoints.reshape(-1).tolist()


def test_supervision_gets_the_same_numbers(poses):
    points = poses.with_ids([4, 9]).to_supervision()
    assert isinstance(points, supervision.KeyPoints)
    assert len(points) == 2
    assert points.xy.dtype == np.float32
    assert np.array_equal(points.xy, poses.xy.astype(np.float32), equal_nan=True)
    assert points.keypoint_confidence == pytest.approx(poses.keypoint_scores)
    assert points.detection_confidence == pytest.approx(poses.scores)
    assert np.array_equal(points.visible, ~np.isnan(poses.xy[..., 0]))
    assert points.data["tracker_id"].tolist() == [4, 9]
    assert len(poses[:0].to_supervision()) == 0


def test_without_supervision_the_error_says_what_to_install(poses, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match=r"pip install 'supervision>=0\.29'"):
        poses.to_supervision()


def test_fiftyone_gets_places_relative_to_the_image_and_nan(poses, monkeypatch):
    module = types.SimpleNamespace(Keypoint=types.SimpleNamespace, Keypoints=types.SimpleNamespace)
    monkeypatch.setitem(sys.modules, "fiftyone", module)
    first, second = poses.with_ids([4, 9]).to_fiftyone("player").keypoints
    assert (first.label, first.index, second.index) == ("player", 4, 9)
    assert (first.score, second.score) == (0.8, 0.3)
    for number, person in enumerate((first, second)):
        assert np.multiply(person.points, SIZE) == pytest.approx(poses.xy[number], nan_ok=True)
        assert person.confidence == poses.keypoint_scores[number].tolist()
    assert poses.to_fiftyone().keypoints[0].index is None
    assert poses[:0].to_fiftyone().keypoints == []
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(UserError, match="pip install fiftyone"):
        poses.to_fiftyone()


# ---- drawn and saved


def test_a_drawing_changes_the_pixels_around_the_people_alone(detected):
    image = np.full((160, 200, 3), 90, np.uint8)
    poses = Poses.from_detections([detected[1]], SCHEMA, SIZE)
    drawn = poses.draw(image)
    assert drawn.shape == image.shape
    assert (image == 90).all()
    x, y, width, height = poses.boxes[0]
    rows, columns = np.nonzero((drawn != image).any(axis=2))
    assert len(rows) > 100
    margin = 12
    assert x - margin <= columns.min()
    assert columns.max() <= x + width + margin
    assert y - margin <= rows.min()
    assert rows.max() <= y + height + margin
    assert np.array_equal(poses.draw(image, min_score=0.9), image)


def test_an_image_of_another_size_is_refused(poses):
    with pytest.raises(UserError, match=r"of an image of 200×160 pixels, not 160×200"):
        poses.draw(np.zeros((200, 160, 3), np.uint8))


def test_a_file_is_read_again_to_draw_on(poses, tmp_path):
    cv2.imwrite(str(tmp_path / "image.png"), np.full((160, 200, 3), 90, np.uint8))
    of_file = replace(poses, source=str(tmp_path / "image.png"))
    assert np.array_equal(of_file.draw(), poses.draw(np.full((160, 200, 3), 90, np.uint8)))
    with pytest.raises(UserError, match="image: not a file that can be read again"):
        poses.draw()


def test_the_ending_says_what_is_saved_and_nothing_is_overwritten(poses, tmp_path):
    image = np.full((160, 200, 3), 90, np.uint8)
    assert json.loads(poses.save(tmp_path / "new/a.json").read_text()) == poses.to_dict()
    assert np.array_equal(cv2.imread(str(poses.save(tmp_path / "a.png", image))), poses.draw(image))
    with pytest.raises(UserError, match=r"a\.png exists.*overwrite=True"):
        poses.save(tmp_path / "a.png", image)
    poses.save(tmp_path / "a.png", image + 1, overwrite=True)
    with pytest.raises(UserError, match=r"cannot save an image as '\.txt'"):
        poses.save(tmp_path / "a.txt", image)
