"""Identities on rendered clips, scored by TrackEval: what benchmarks/tracking.py measures, on a few small clips."""

import numpy as np
import pytest

from coupled_embedding.evaluation import box_areas
from synthetic_crowd import CrowdSettings, render_clip
from tracking import Detections, boxes_of, evaluate, noisy_truth, rows, scores_of, sequence_of, tracks_of


@pytest.fixture(scope="module")
def clips():
    settings = CrowdSettings(width=96, height=72, min_people=4, max_people=6)
    return [list(render_clip(settings, 9, index, 60)) for index in range(4)]


def exact(clip):
    """The labelled joints themselves."""
    found = []
    for frame in clip:
        keypoints = frame.scene.keypoints.astype(float)
        found.append(Detections(keypoints, np.ones(len(keypoints)), boxes_of(keypoints), np.zeros((len(keypoints), 0))))
    return found


def test_exact_joints_are_followed(clips):
    scores = evaluate(clips, [exact(clip) for clip in clips], use_tags=False)
    assert scores["MOTA"] > 99
    assert scores["IDF1"] > 90
    people = sum(len({int(person) for frame in clip for person in frame.ids}) for clip in clips)
    assert scores["switches"] <= people / 4


def test_tags_help_where_joints_are_noisy_and_people_are_missed(clips):
    found = [noisy_truth(clip, np.random.default_rng(n)) for n, clip in enumerate(clips)]
    alone, tagged = evaluate(clips, found, use_tags=False), evaluate(clips, found, use_tags=True)
    assert tagged["IDF1"] > alone["IDF1"]
    assert tagged["switches"] < alone["switches"]
    assert tagged["IDF1"] > 85
    assert evaluate(clips, found, use_tags=True) == tagged  # the same on every run


def test_motion_and_memory_matter(clips):
    """A tracker of one frame's memory loses everyone who is missed once."""
    found = [noisy_truth(clip, np.random.default_rng(n)) for n, clip in enumerate(clips)]
    kept = evaluate(clips, found, use_tags=True)
    for options in ({"memory": 1}, {"window": 1}):
        assert evaluate(clips, found, use_tags=True, **options)["IDF1"] < kept["IDF1"]


def test_ids_of_a_clip_count_up(clips):
    for ids in (tracks_of(exact(clip), use_tags=False) for clip in clips):
        new = list(dict.fromkeys(int(i) for frame in ids for i in sorted(frame)))
        assert new == list(range(1, len(new) + 1))


def test_noisy_truth_is_what_it_says(clips):
    rng = np.random.default_rng(0)
    offsets, kept, total = [], 0, 0
    for clip in clips:
        for frame, found in zip(clip, noisy_truth(clip, rng), strict=True):
            kept, total = kept + len(found.keypoints), total + len(frame.ids)
            assert (found.keypoints[..., 2] > 0).any(1).all()
            assert (found.boxes[:, 2:] >= 0).all()
            assert np.isfinite(found.boxes).all()
            if len(found.keypoints) == len(frame.ids):
                joints = found.keypoints[..., 2] > 0
                steps = np.linalg.norm(found.keypoints[..., :2] - frame.scene.keypoints[..., :2], axis=-1)
                offsets.append((steps / np.sqrt(box_areas(frame.scene.boxes))[:, None])[joints])
    assert 0.86 < kept / total < 0.93
    # two axes with a deviation of σ, which is 0.062 to 0.107
    assert 0.08 < np.concatenate(offsets).mean() < 0.14


def score(true_ids, ids):
    """Scores of one clip in which detection n of every frame fits person n alone."""
    similarities = [np.eye(len(a), len(b)) for a, b in zip(true_ids, ids, strict=True)]
    return scores_of([sequence_of([np.array(a) for a in true_ids], [np.array(b) for b in ids], similarities)])


def test_scores_of_known_tracks():
    perfect = score([[5, 9]] * 4, [[70, 3]] * 4)
    assert perfect == {"IDF1": 100.0, "MOTA": 100.0, "switches": 0, "HOTA": 100.0, "AssA": 100.0}
    swapped = score([[5, 9]] * 4, [[1, 2]] * 2 + [[2, 1]] * 2)
    assert (swapped["switches"], swapped["IDF1"], swapped["MOTA"]) == (2, 50.0, 75.0)
    missed = score([[5, 9]] * 4, [[1]] * 4)
    assert (missed["switches"], missed["MOTA"], missed["IDF1"]) == (0, 50.0, 66.7)


def test_boxes_around_found_joints():
    keypoints = np.array([[[3.0, 5, 1], [7, 1, 0.5], [0, 0, 0]]])
    np.testing.assert_array_equal(boxes_of(keypoints), [[3, 1, 4, 4]])
    assert boxes_of(np.zeros((0, 3, 3))).shape == (0, 4)


def test_table_has_both_affinities_and_both_rates():
    table = list(rows(1, None))
    assert [(row["fps"], row["affinity"]) for row in table] == [
        (12, "OKS"), (12, "OKS × tags"), (4, "OKS"), (4, "OKS × tags"),
    ]  # fmt: skip
    assert all(0 < float(row["IDF1"]) <= 100 for row in table)
