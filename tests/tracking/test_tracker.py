"""People enter, leave, cross and come back; ids follow the people and nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coupled_embedding.tracking import Tracker

SIGMAS = np.array([0.08, 0.08, 0.06, 0.06, 0.1, 0.1, 0.09, 0.09])
# a person of height 1: two shoulders, hands, hips, feet
SHAPE = np.array([[-0.15, 0.1], [0.15, 0.1], [-0.25, 0.4], [0.25, 0.4], [-0.1, 0.5], [0.1, 0.5], [-0.12, 1], [0.12, 1]])
HEIGHT = 100.0
seeds = st.integers(0, 2**31)


def person(x, y=50.0, height=HEIGHT, shape=SHAPE):
    """Keypoints (K, 3) of a person whose head is at (x, y)."""
    return np.concatenate([shape * height + (x, y), np.full((len(shape), 1), 0.9)], 1)


def frame(people, scores=None, tags=None):
    """The arguments of update for people (K, 3) each."""
    keypoints = np.array(people, float).reshape(-1, len(SIGMAS), 3)
    found = keypoints[..., 2:] > 0
    low = np.where(found, keypoints[..., :2], np.inf).min(1, initial=np.inf)
    high = np.where(found, keypoints[..., :2], -np.inf).max(1, initial=-np.inf)
    values = np.full(len(keypoints), 0.8) if scores is None else scores
    return keypoints, values, np.concatenate([low, high - low], 1), tags


def follow(tracker, places, tags=None):
    """Track people at places[frame][name] = x; return {name: id} of each frame."""
    result = []
    for present in places:
        own = None if tags is None else np.array([tags[name] for name in present])
        ids = tracker.update(*frame([person(x) for x in present.values()], tags=own))
        result.append(dict(zip(present, ids.tolist(), strict=True)))
    return result


def names_of(history):
    """{name: set of all ids}."""
    return {name: {ids[name] for ids in history if name in ids} for ids in history for name in ids}


def test_first_frame_counts_from_one_the_best_first():
    people = [person(100), person(300), person(500)]
    ids = Tracker(SIGMAS).update(*frame(people, np.array([0.2, 0.9, 0.5])))
    assert ids.dtype == np.int64
    assert ids.tolist() == [3, 1, 2]


def test_people_who_stand_still_keep_their_ids():
    history = follow(Tracker(SIGMAS), [{"a": 100, "b": 300, "c": 500}] * 20)
    assert history == [history[0]] * 20


@pytest.mark.parametrize("leaver", ["a", "b", "c", "d"])
def test_one_person_leaving_renames_nobody(leaver):
    everyone = {"a": 100, "b": 200, "c": 300, "d": 400}
    rest = {name: x for name, x in everyone.items() if name != leaver}
    history = follow(Tracker(SIGMAS), [everyone] * 3 + [rest] * 40 + [everyone])
    assert all(history[n][name] == history[0][name] for n in range(len(history)) for name in rest)
    # longer away than the memory: a new id, not one of the others', not the old one
    assert history[-1][leaver] == 5


def test_newcomers_get_new_ids():
    history = follow(Tracker(SIGMAS), [{"a": 100}, {"a": 100, "b": 300}, {"new": 500, "a": 100, "b": 300}])
    assert history[-1] == {"a": 1, "b": 2, "new": 3}


@pytest.mark.parametrize("speed", [4, 8, 15])
def test_people_who_cross_keep_their_ids_by_their_motion(speed):
    places = [{"right": 100 + speed * t, "left": 400 - speed * t} for t in range(280 // speed)]
    assert places[-1]["right"] > places[-1]["left"] + 100
    assert names_of(follow(Tracker(SIGMAS), places)) == {"right": {1}, "left": {2}}


def test_tags_separate_people_who_meet_and_turn_round():
    """By motion alone they would have crossed."""
    places = [{"a": 100 + 6 * min(t, 50 - t), "b": 406 - 6 * min(t, 50 - t)} for t in range(51)]
    tags = {"a": np.array([0.0, 1.0]), "b": np.array([1.0, 0.0])}
    with_tags = names_of(follow(Tracker(SIGMAS), places, tags))
    assert all(len(ids) == 1 for ids in with_tags.values())
    without = names_of(follow(Tracker(SIGMAS), places))
    assert all(len(ids) == 2 for ids in without.values())


def test_a_person_who_is_not_found_for_a_while_comes_back():
    walk = [{"a": 100 + 3 * t, "b": 600} for t in range(40)]
    gone = [{"b": 600} if 15 <= t < 25 else present for t, present in enumerate(walk)]
    assert names_of(follow(Tracker(SIGMAS), gone)) == {"a": {1}, "b": {2}}


def test_a_person_who_turned_round_out_of_sight_is_recognised_by_tags():
    tags = {"a": np.array([0.0, 3.0]), "b": np.array([3.0, 0.0])}
    leaving = [{"a": 150 - 5 * t} for t in range(25)]
    back = [{name: x} for name in ("a", "b") for x in (30, 35)]
    history = follow(Tracker(SIGMAS), leaving + [{}] * 12 + back[:2], tags)
    assert names_of(history) == {"a": {1}}
    history = follow(Tracker(SIGMAS), leaving + [{}] * 12 + back[2:], tags)
    assert names_of(history) == {"a": {1}, "b": {2}}


@pytest.mark.parametrize(("away", "same"), [(10, True), (11, False)])
def test_memory_ends(away, same):
    history = follow(Tracker(SIGMAS, memory=11), [{"a": 100}] * 5 + [{}] * away + [{"a": 100}])
    assert (history[-1]["a"] == 1) is same


def test_memory_of_one_frame_knows_the_frame_before():
    history = follow(Tracker(SIGMAS, memory=1), [{"a": 100}, {"a": 100}, {}, {"a": 100}])
    assert [ids.get("a") for ids in history] == [1, 1, None, 2]


@pytest.mark.parametrize("empty", [np.zeros((0, 8, 3)), np.zeros((0, 0)), []])
def test_frames_without_people(empty):
    tracker = Tracker(SIGMAS)
    for tags in (None, np.zeros((0, 4)), []):
        ids = tracker.update(empty, [], [], tags)
        assert ids.shape == (0,)
        assert ids.dtype == np.int64
    assert tracker.update(*frame([person(100)])).tolist() == [1]
    assert tracker.update(empty, [], []).shape == (0,)
    assert tracker.update(*frame([person(100)])).tolist() == [1]


def test_reset_starts_another_video():
    tracker = Tracker(SIGMAS)
    follow(tracker, [{"a": 100, "b": 300}] * 3)
    tracker.reset()
    assert (tracker.frame, tracker.tracks) == (0, [])
    assert follow(tracker, [{"b": 300}]) == [{"b": 1}]


def test_missing_joints_are_left_out_whatever_their_place():
    tracker = Tracker(SIGMAS)
    tracker.update(*frame([person(100), person(300)]))
    upper, lower = person(302), person(101)
    upper[4:] = (np.nan, np.inf, 0.0)
    lower[:4] = (0.0, 0.0, -0.1)
    assert tracker.update(*frame([upper, lower])).tolist() == [2, 1]
    # the two halves have no joint in common, but the whole person of the window has with both
    assert tracker.update(*frame([person(100), person(300)])).tolist() == [1, 2]


def test_a_box_made_small_by_hidden_joints_does_not_lose_the_person():
    one_joint = person(108)
    one_joint[1:, 2] = 0
    tracker = Tracker(SIGMAS)
    ids = [tracker.update(*frame([p])).tolist() for p in (person(100), one_joint, one_joint, person(110))]
    assert ids == [[1]] * 4


def test_ignored_dimensions_of_tags_do_not_separate():
    rng = np.random.default_rng(0)
    kept = {"tracker": Tracker(SIGMAS, ignored_tag_dims=2), "plain": Tracker(SIGMAS)}
    ids = {name: [] for name in kept}
    for step in range(10):
        tags = np.array([[1.0, 0.0, *rng.uniform(-5, 5, 2)]])
        for name, tracker in kept.items():
            ids[name] += tracker.update(*frame([person(100 + step)], tags=tags)).tolist()
    assert ids["tracker"] == [1] * 10
    assert ids["plain"] != [1] * 10


def test_tags_may_be_missing_in_some_frames():
    tags = np.array([[0.0, 1.0], [1.0, 0.0]])
    tracker = Tracker(SIGMAS)
    two = [person(100), person(300)]
    for own in (None, tags, None, tags, tags):
        assert tracker.update(*frame(two, np.array([0.9, 0.8]), own)).tolist() == [1, 2]


def test_a_fast_person_is_known_again_in_the_second_frame():
    """After one frame the velocity is unknown; later the same step would be a surprise."""
    assert names_of(follow(Tracker(SIGMAS), [{"a": 100 + 40 * t} for t in range(6)])) == {"a": {1}}
    assert names_of(follow(Tracker(SIGMAS), [{"a": 100}] * 5 + [{"a": 140}])) == {"a": {1, 2}}


@pytest.mark.parametrize("window", [1, 2, 5])
def test_no_more_than_the_window_is_kept(window):
    tracker = Tracker(SIGMAS, window=window)
    follow(tracker, [{"a": 100, "b": 300}] * 8)
    assert [len(track.observations) for track in tracker.tracks] == [window, window]
    assert [track.observations[-1].frame for track in tracker.tracks] == [8, 8]


def test_updates_do_not_keep_the_callers_arrays():
    keypoints, scores, boxes, _ = frame([person(100)])
    tracker = Tracker(SIGMAS)
    tracker.update(keypoints, scores, boxes)
    keypoints[:] = 5000
    assert tracker.update(*frame([person(100)])).tolist() == [1]


# -------------------------------------------------------------------------------------------------- properties


def crowd(seed, count, frames, apart=120.0):
    """Frames of {name: x, y} of people apart from each other, who sway, come and go; and their tags."""
    rng = np.random.default_rng(seed)
    homes = {n: ((n % 4) * apart * 2, (n // 4) * apart * 2) for n in range(count)}
    phases = rng.uniform(0, 6, (count, 2))
    sway = lambda n, t: tuple(np.array(homes[n]) + 8 * np.sin(0.3 * t + phases[n]))  # noqa: E731
    present = rng.random((frames, count)) < 0.8
    clips = [{n: sway(n, t) for n in range(count) if present[t, n]} for t in range(frames)]
    return clips, rng.normal(0, 1, (count, 4))


def ids_of(tracker, clip, tags, permute=None):
    result = []
    for places in clip:
        names = list(places)
        order = np.arange(len(names)) if permute is None else permute.permutation(len(names))
        names = [names[i] for i in order]
        people = [person(*places[n]) for n in names]
        scores = np.array([0.5 + 0.01 * (n % 3) for n in names])
        own = None if tags is None else np.array([tags[n] for n in names]).reshape(len(names), 4)
        result.append(dict(zip(names, tracker.update(*frame(people, scores, own)).tolist(), strict=True)))
    return result


@given(seeds, st.integers(1, 8), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_order_of_detections_does_not_matter(seed, count, tagged):
    """Also for people so near each other that identities are in doubt."""
    clip, tags = crowd(seed, count, 8, apart=4.0)
    tags = tags if tagged else None
    expected = ids_of(Tracker(SIGMAS), clip, tags)
    shuffled = ids_of(Tracker(SIGMAS), clip, tags, np.random.default_rng(seed + 1))
    assert shuffled == expected


@given(seeds, st.integers(2, 8), st.booleans())
@settings(max_examples=40, deadline=None)
def test_without_one_person_the_others_keep_their_ids(seed, count, tagged):
    clip, tags = crowd(seed, count, 12)
    tags = tags if tagged else None
    everyone = {n: (n % 4 * 240.0, n // 4 * 240.0) for n in range(count)}
    expected = ids_of(Tracker(SIGMAS), [everyone, *clip], tags)
    gone = seed % count
    others = [{n: place for n, place in places.items() if n != gone} for places in clip]
    assert ids_of(Tracker(SIGMAS), [everyone, *others], tags)[1:] == [
        {n: i for n, i in ids.items() if n != gone} for ids in expected[1:]
    ]
    assert all(len(ids) == 1 for ids in names_of(expected).values())


@given(seeds, st.integers(1, 6), st.integers(0, 4))
@settings(max_examples=40, deadline=None)
def test_ids_are_unique_in_a_frame_and_never_used_again(seed, most, memory):
    """People at random places: an id that was given up does not come back, new ids only grow."""
    rng = np.random.default_rng(seed)
    tracker, last_seen, highest = Tracker(SIGMAS, memory=memory), {}, 0
    for number in range(15):
        people = [person(*rng.uniform(0, 150, 2)) for _ in range(rng.integers(0, most + 1))]
        ids = tracker.update(*frame(people)).tolist()
        assert len(set(ids)) == len(ids)
        for new in sorted(set(ids) - last_seen.keys()):
            assert new == highest + 1
            highest = new
        for old in set(ids) & last_seen.keys():
            assert number - last_seen[old] <= memory
        last_seen |= dict.fromkeys(ids, number)


@given(seeds, st.floats(0.2, 5), st.tuples(st.floats(-500, 500), st.floats(-500, 500)))
@settings(max_examples=30, deadline=None)
def test_ids_do_not_depend_on_the_images_scale_and_origin(seed, scale, shift):
    rng = np.random.default_rng(seed)
    trackers = Tracker(SIGMAS), Tracker(SIGMAS)
    for _ in range(6):
        people = np.array([person(x, y, 200) for x, y in rng.uniform(0, 120, (4, 2))])
        scores = rng.random(4)
        moved = people * (scale, scale, 1) + (*shift, 0)
        first = trackers[0].update(*frame(people, scores))
        assert first.tolist() == trackers[1].update(*frame(moved, scores)).tolist()


# ------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"keypoints": np.zeros((2, 5, 3))}, r"keypoints must have the shape \(2, 8, 3\)"),
        ({"keypoints": np.full((2, 8, 3), np.nan)}, "keypoints of person 0 .* not finite"),
        ({"keypoints": np.array([person(1), person(np.inf)])}, "keypoints of person 1 .* not finite"),
        ({"scores": [0.5]}, r"scores must have the shape \(2,\), got \(1,\)"),
        ({"scores": [0.5, np.nan]}, "scores of person 1"),
        ({"boxes": np.zeros((2, 3))}, r"boxes must have the shape \(2, 4\)"),
        ({"boxes": np.full((2, 4), np.inf)}, "boxes of person 0"),
        ({"boxes": [[0, 0, 5, 5], [0, 0, -1, 5]]}, "widths and heights from 0"),
        ({"tags": np.zeros((3, 4))}, r"tags must have the shape \(2, 4\)"),
        ({"tags": np.zeros(2)}, r"tags must have the shape \(2, D\)"),
        ({"tags": np.zeros((2, 1))}, "ignored_tag_dims = 1"),
        ({"tags": np.full((2, 4), np.nan)}, "tags of person 0"),
        ({"tags": np.zeros((2, 5))}, "5 dimensions, in earlier frames 4"),
    ],
)
def test_wrong_frames_are_named_and_do_not_count(change, text):
    tracker = Tracker(SIGMAS, ignored_tag_dims=1)
    keypoints, scores, boxes, _ = frame([person(100), person(300)], np.array([0.9, 0.8]))
    good = {"keypoints": keypoints, "scores": scores, "boxes": boxes, "tags": np.zeros((2, 4))}
    tracker.update(**good)
    with pytest.raises(ValueError, match=text):
        tracker.update(**good | change)
    assert tracker.frame == 1
    assert tracker.update(**good).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"sigmas": []}, "sigmas"), ({"sigmas": [0.1, 0.0]}, "sigmas"), ({"sigmas": [[0.1]]}, "sigmas"),
        ({"window": 0}, "window"), ({"memory": -1}, "memory"), ({"memory": 2.5}, "memory"),
        ({"min_affinity": 0.0}, "min_affinity"), ({"min_affinity": 1.5}, "min_affinity"),
        ({"tag_temperature": 0.0}, "tag_temperature"), ({"tag_temperature": np.nan}, "tag_temperature"),
        ({"ignored_tag_dims": -1}, "ignored_tag_dims"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(arguments, text):
    with pytest.raises(ValueError, match=text):
        Tracker(**{"sigmas": SIGMAS} | arguments)
