import dataclasses

import numpy as np
import pytest

from coupled_embedding.data.crowd_index import crowd_index
from synthetic_crowd import CrowdSettings, render_scene
from synthetic_crowd.camera import Camera

COUNT = 150


@pytest.fixture(scope="module")
def scenes():
    return [render_scene(CrowdSettings(), 11, index) for index in range(COUNT)]


def test_same_seed_and_index_give_the_same_scene_in_any_order(scenes):
    for index in (40, 3):
        again = render_scene(CrowdSettings(), 11, index)
        for field in dataclasses.fields(again):
            np.testing.assert_array_equal(getattr(again, field.name), getattr(scenes[index], field.name))


def test_other_seed_or_index_gives_another_scene(scenes):
    assert not np.array_equal(scenes[0].image, scenes[1].image)
    assert not np.array_equal(scenes[0].image, render_scene(CrowdSettings(), 12, 0).image)


def test_shapes_and_types(scenes):
    for scene in scenes:
        people = len(scene.keypoints)
        assert people >= 1
        assert (scene.image.shape, scene.image.dtype) == ((192, 192, 3), np.uint8)
        assert (scene.keypoints.shape, scene.keypoints.dtype) == ((people, 14, 3), np.float32)
        assert (scene.boxes.shape, scene.boxes.dtype) == ((people, 4), np.float32)
        assert scene.areas.shape == (people,)
        assert (scene.person_map.shape, scene.person_map.dtype) == ((192, 192), np.uint8)
        assert scene.person_map.max() <= people


def test_a_wide_image_keeps_its_shape_and_its_labels_inside():
    scene = render_scene(CrowdSettings(width=160, height=96), 0, 1)
    assert scene.image.shape == (96, 160, 3)
    assert (scene.keypoints[..., 0] <= 159).all()
    assert (scene.keypoints[..., 1] <= 95).all()


def test_labels_lie_inside_the_image_and_missing_joints_are_zero(scenes):
    for scene in scenes:
        missing = scene.keypoints[..., 2] == 0
        assert set(np.unique(scene.keypoints[..., 2])) <= {0, 1, 2}
        assert (scene.keypoints[missing] == 0).all()
        assert (scene.keypoints[..., :2] >= 0).all()
        assert (scene.keypoints[..., :2] <= 191).all()
        assert (scene.boxes[:, :2] >= 0).all()
        assert (scene.boxes[:, :2] + scene.boxes[:, 2:] <= 192).all()
        assert (scene.boxes[:, 2:] > 0).all()


def owners_around(scene, x, y):
    x, y = round(float(x)), round(float(y))
    return scene.person_map[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]


def test_seen_joints_lie_on_their_person(scenes):
    for scene in scenes:
        for number, keypoints in enumerate(scene.keypoints, 1):
            for x, y, _ in keypoints[keypoints[:, 2] == 2]:
                assert (owners_around(scene, x, y) == number).any()


def test_joints_behind_another_person_are_hidden(scenes):
    for scene in scenes:
        for number, keypoints in enumerate(scene.keypoints, 1):
            places = np.rint(keypoints[:, :2]).astype(int)
            owner = scene.person_map[places[:, 1], places[:, 0]]
            covered = (owner != 0) & (owner != number) & (keypoints[:, 2] > 0)
            assert (keypoints[covered, 2] == 1).all()


def test_boxes_hold_joints_and_visible_pixels_and_areas_count_them(scenes):
    for scene in scenes:
        for number, (keypoints, box) in enumerate(zip(scene.keypoints, scene.boxes, strict=True), 1):
            places = keypoints[keypoints[:, 2] > 0, :2]
            assert (places >= box[:2] - 1e-3).all()
            assert (places <= box[:2] + box[2:] + 1e-3).all()
            rows, columns = np.nonzero(scene.person_map == number)
            assert len(rows) == scene.areas[number - 1]
            assert columns.min() >= box[0] - 1
            assert columns.max() <= box[0] + box[2] + 1
            assert rows.min() >= box[1] - 1
            assert rows.max() <= box[1] + box[3] + 1


def test_everyone_labelled_can_be_noticed(scenes):
    for scene in scenes:
        assert ((scene.keypoints[..., 2] == 2).sum(1) >= 3).all()
        assert (scene.areas >= 20).all()


def hidden_by_others(scene):
    labelled = scene.keypoints[..., 2] > 0
    places = np.rint(scene.keypoints[..., :2]).astype(int)
    owner = scene.person_map[places[..., 1], places[..., 0]]
    own = np.arange(1, len(labelled) + 1)[:, None]
    return int((labelled & (owner != 0) & (owner != own)).sum()), int(labelled.sum())


def test_difficulty_is_that_of_a_crowd(scenes):
    people = np.array([len(scene.keypoints) for scene in scenes])
    crowd = np.array([scene.crowd_index for scene in scenes])
    hidden, labelled = np.array([hidden_by_others(scene) for scene in scenes]).sum(0)
    assert 4 <= people.mean() <= 5.3
    assert people.max() >= 9
    assert hidden / labelled >= 0.13
    assert 0.10 <= (crowd < 0.2).mean() <= 0.32
    assert 0.10 <= (crowd >= 0.8).mean() <= 0.36


def test_sizes_reach_from_small_to_filling_the_image(scenes):
    heights = np.concatenate([scene.boxes[:, 3] for scene in scenes]) / 192
    assert np.percentile(heights, 5) < 0.25
    assert np.percentile(heights, 97) > 0.85


def test_crowd_index_steers():
    def mean(target):
        settings = CrowdSettings(min_people=4, crowd_index=target)
        return np.mean([render_scene(settings, 5, index).crowd_index for index in range(12)])

    assert mean(0.0) < 0.2 < 0.35 < mean(0.5) < 0.7 < mean(1.0)


def slow_crowd_index(keypoints, boxes):
    ratios = []
    for mine, (x, y, w, h) in enumerate(boxes):
        own = sum(v > 0 for *_, v in keypoints[mine])
        others = 0
        for other, joints in enumerate(keypoints):
            for jx, jy, v in joints:
                others += other != mine and v > 0 and x <= jx <= x + w and y <= jy <= y + h
        if own:
            ratios.append(others / own)
    return min(sum(ratios) / len(ratios), 1.0) if ratios else 0.0


def test_crowd_index_matches_loops_on_scenes_and_noise(scenes):
    for scene in scenes:
        assert scene.crowd_index == pytest.approx(slow_crowd_index(scene.keypoints, scene.boxes))
    rng = np.random.default_rng(0)
    for people in range(6):
        keypoints = np.concatenate([rng.uniform(0, 9, (people, 5, 2)), rng.integers(0, 3, (people, 5, 1))], -1)
        boxes = rng.uniform(0, 5, (people, 4))
        assert crowd_index(keypoints, boxes) == pytest.approx(slow_crowd_index(keypoints, boxes))


def test_crowd_index_by_hand():
    first = [[1, 1, 2], [2, 2, 2]]
    second = [[2, 1, 1], [9, 9, 2]]
    boxes = np.array([[0, 0, 3, 3], [2, 1, 7, 8]])
    # the first box holds one of two foreign joints, the second box holds (2, 2): 1/2 and 1/2
    assert crowd_index(np.array([first, second]), boxes) == 0.5
    assert crowd_index(np.array([first]), boxes[:1]) == 0
    assert crowd_index(np.zeros((0, 14, 3)), np.zeros((0, 4))) == 0
    crowd = np.array([[[1, 1, 2]]] * 5)
    assert crowd_index(crowd, np.array([[0, 0, 2, 2]] * 5)) == 1  # four foreign joints each, clipped


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("width", 20), ("height", 99999), ("width", 192.0), ("min_people", 0), ("max_people", 0), ("max_people", 99),
        ("crowd_index", 1.5), ("crowd_index", "high"), ("clutter", -0.1), ("min_people", True),
    ],
)  # fmt: skip
def test_invalid_settings_name_the_field_and_the_value(field, value):
    with pytest.raises(ValueError, match=f"{field} is .*must be") as error:
        CrowdSettings(**{field: value})
    assert repr(value) in str(error.value)


def test_negative_seeds_are_refused():
    with pytest.raises(ValueError, match="seed and index"):
        render_scene(CrowdSettings(), -1, 0)


def test_camera_projects_straight_ahead_to_the_center_and_rays_agree():
    camera = Camera(height=1.5, pitch=0.2, roll=0.1, focal=150.0, width=101, image_height=81)
    ray = camera.rays()[:, 20, 70]
    place, depth = camera.project(np.array([0, 1.5, 0], np.float32) + 4 * ray)
    np.testing.assert_allclose(place, (70, 20), atol=1e-3)
    assert depth == pytest.approx(4, rel=1e-5)
    below, _ = camera.project(np.array([0, 0, -5.0], np.float32))
    assert below[1] > camera.horizon()
