"""Results through a suppression of poses, and its parameters fitted to the AP of a split."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.evaluation import (
    build_pose_nms,
    fit_nms,
    load_ground_truth,
    score_results,
    suppress_results,
)
from coupled_embedding.utils.errors import DatasetError, UserError

JOINTS = ("head", "neck", "hip", "foot")
SCHEMA = KeypointSchema("sticks", JOINTS, (), (), (0.05,) * 4, (0, 1, 2, 3), ((0, 0, 0),) * 4, "crowdpose")
STICK = np.array([[10, 0], [10, 20], [0, 60], [20, 100]], float)


def entry(image_id, x, score, category_id=1, joints=0.9):
    keypoints = np.hstack((STICK + np.array([x, 10]), np.full((4, 1), joints)))
    return {
        "image_id": image_id,
        "category_id": category_id,
        "keypoints": keypoints.ravel().tolist(),
        "score": score,
    }


@pytest.fixture
def truth(tmp_path: Path):
    """Two people in each of three images, one of them 30 pixels beside the other."""
    people = []
    for image_id in (1, 2, 3):
        for x in (100, 130):
            keypoints = np.hstack((STICK + np.array([x, 10]), np.full((4, 1), 2))).ravel().tolist()
            box = [x, 10, 20, 100]
            people.append({"id": len(people) + 1, "image_id": image_id, "category_id": 1, "bbox": box})
            people[-1] |= {"keypoints": keypoints, "num_keypoints": 4, "iscrowd": 0, "area": 2000}
    content = {"images": [{"id": i, "crowdIndex": 0.1} for i in (1, 2, 3)], "annotations": people}
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content | {"categories": [{"id": 1, "name": "person"}]}))
    return load_ground_truth(path, SCHEMA)


@pytest.fixture
def doubled():
    """Both people of each image, and another detection a few pixels beside each that is likelier than the other."""
    return [
        found
        for image_id in (1, 2, 3)
        for found in (
            entry(image_id, 100, 0.9),
            entry(image_id, 104, 0.8),
            entry(image_id, 131, 0.7),
            entry(image_id, 127, 0.6),
        )
    ]


def test_poses_of_an_image_are_compared_whatever_their_file_and_category():
    results = [entry(7, 0, 0.5, 3), entry(5, 0, 0.4), entry(7, 1, 0.6, 2), entry(7, 200, 0.1), entry(5, 300, 0.9)]
    before = copy.deepcopy(results)
    left = suppress_results(results, SCHEMA, build_pose_nms("oks", SCHEMA.sigmas, ["threshold=0.5"]))
    assert left == [results[2], results[3], results[4], results[1]]
    assert results == before
    assert json.loads(json.dumps(left)) == left
    assert suppress_results([], SCHEMA, build_pose_nms("released", SCHEMA.sigmas)) == []


def test_other_fields_stay_but_for_boxes():
    found = entry(7, 0, 0.5) | {"annotation_id": 4, "bbox": [0, 0, 1, 1], "area": 1}
    (left,) = suppress_results([found], SCHEMA, build_pose_nms("paper", SCHEMA.sigmas))
    assert left == entry(7, 0, 0.5) | {"annotation_id": 4}


def test_all_poses_of_an_image_may_go():
    left = suppress_results([entry(1, 0, 0.5, joints=0.2)], SCHEMA, build_pose_nms("released", SCHEMA.sigmas))
    assert left == []


def test_wrong_entries_are_errors():
    with pytest.raises(DatasetError, match=r"mine\.json: entry 0: keypoints: expected 12 numbers, got 3"):
        suppress_results(
            [entry(1, 0, 0.5) | {"keypoints": [1, 2, 3]}], SCHEMA, build_pose_nms("paper", ()), "mine.json"
        )


@pytest.mark.parametrize("preset", ["paper", "oks"])
def test_a_fit_finds_parameters_that_remove_what_is_too_much(truth, doubled, preset):
    start = build_pose_nms(preset, SCHEMA.sigmas)
    fit = fit_nms(start, doubled, truth, SCHEMA)
    assert fit.unsuppressed == score_results(truth, doubled, SCHEMA).main
    assert fit.before == score_results(truth, suppress_results(doubled, SCHEMA, start), SCHEMA).main
    assert fit.after == score_results(truth, suppress_results(doubled, SCHEMA, fit.nms), SCHEMA).main
    assert fit.after > max(fit.before, fit.unsuppressed) + 0.1
    assert len(suppress_results(doubled, SCHEMA, fit.nms)) == 6
    assert fit == fit_nms(start, doubled, truth, SCHEMA)


def test_only_the_fitted_parameters_move_and_a_better_start_is_kept(truth, doubled):
    start = build_pose_nms("released", SCHEMA.sigmas)
    seen = []
    fit = fit_nms(start, doubled, truth, SCHEMA, progress=seen.append)
    moved = {name: getattr(fit.nms, name) for pair in start.PAIRS for name in pair}
    assert replace(start, **moved) == fit.nms
    assert len(seen) == fit.tried
    assert seen == sorted(seen)
    assert seen[-1] == fit.after >= fit.before
    again = fit_nms(fit.nms, doubled, truth, SCHEMA, steps=(1.4,))
    assert again.before == fit.after
    assert again.after >= fit.after


def test_perfect_results_leave_the_parameters_alone(truth, doubled):
    start = build_pose_nms("paper", SCHEMA.sigmas)
    perfect = [entry(image_id, x, 0.5) for image_id in (1, 2, 3) for x in (100, 130)]
    fit = fit_nms(start, perfect, truth, SCHEMA, steps=(2.0,))
    assert fit.nms == start
    assert fit.after == fit.before == fit.unsuppressed == 1


def test_a_split_without_people_fits_nothing(truth):
    without = {name: getattr(truth, name)[:0] for name in ("keypoints", "boxes", "areas", "crowds", "num_keypoints")}
    no_people = replace(truth, image_ids=[], **without)
    with pytest.raises(UserError, match="nothing can be fitted: none of the 3 images has an annotated person"):
        fit_nms(build_pose_nms("paper", SCHEMA.sigmas), [], no_people, SCHEMA)
