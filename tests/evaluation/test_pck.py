"""PCK and PCKh against a slow oracle and cases computed by hand, and through a results file and tools/score.py."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import score
from coupled_embedding.data.outputs import Pose
from coupled_embedding.data.schema import load_schema, schema_from_dict
from coupled_embedding.evaluation import evaluate_keypoints, poses_to_results, write_results
from coupled_embedding.utils.errors import DatasetError

LSP = load_schema("datasets/lsp_single.yaml")
K = LSP.num_joints
MPII = ["right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax", "neck"]
MPII += ["head", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist"]


def mpii_schema(evaluator="pckh"):
    pairs = [[f"left_{n}", f"right_{n}"] for n in ("ankle", "knee", "hip", "wrist", "elbow", "shoulder")]
    content = {"name": "people", "joints": MPII, "flip_pairs": pairs, "skeleton": [], "sigmas": [0.1] * 16}
    return schema_from_dict({**content, "evaluator": evaluator}, "people.yaml")


def person(number, keypoints, image_id=1, **fields):
    """Return an annotation; keypoints (K, 3)."""
    entry = {"id": number, "image_id": image_id, "category_id": 1, "bbox": [0, 0, 50, 100], "iscrowd": 0, "area": 900}
    return {**entry, "keypoints": np.asarray(keypoints, float).reshape(-1).tolist(), **fields}


@pytest.fixture
def annotated(tmp_path):
    """annotated(people, ...): write an annotation file of images 1 and 2; return its path."""

    def write(*people):
        images = [{"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in (1, 2)]
        path = tmp_path / "people.json"
        path.write_text(json.dumps({"images": images, "annotations": list(people)}))
        return path

    return write


def found(entries, score=0.5):
    """Return results of (annotation id, keypoints (K, 2) or (K, 3)) or of these and a score, all in image 1."""
    results = []
    for number, points, *rest in entries:
        joints = np.ones((len(points), 3))
        joints[:, :2] = np.asarray(points)[:, :2]
        results += poses_to_results({1: [Pose(joints, rest[0] if rest else score, source=number)]})
    return results


def torso_of_100(labels=2):
    """Return LSP joints (K, 3): at (200, 200), but the left shoulder 80 to the left of the right hip and 60 above."""
    joints = np.full((K, 3), 200.0)
    joints[:, 2] = labels
    joints[LSP.joints.index("left_shoulder"), :2] = (120, 140)
    return joints


def test_a_joint_at_a_fifth_of_the_torso_is_right_and_one_beyond_is_wrong(annotated):
    joints = torso_of_100()
    moved = joints.copy()
    moved[LSP.joints.index("left_knee"), :2] += (12, 16)  # 20 pixels: a fifth of 100
    moved[LSP.joints.index("right_knee"), :2] += (12.1, 16)
    moved[LSP.joints.index("head"), 0] -= 21
    scores = evaluate_keypoints(annotated(person(4, joints)), found([(4, moved)]), LSP)
    expected = {
        "PCK@0.2": 12 / 14,
        "Head": 0.5,
        "Shoulder": 1,
        "Elbow": 1,
        "Wrist": 1,
        "Hip": 1,
        "Knee": 0.5,
        "Ankle": 1,
    }
    assert scores.values == expected
    assert list(scores.values) == list(expected)
    assert scores.main == 12 / 14
    assert "|    85.7 | 50.0 |" in scores.table()


def test_unlabelled_joints_do_not_count_and_hidden_ones_do(annotated):
    joints = torso_of_100()
    joints[LSP.joints.index("left_wrist"), 2] = 0
    joints[LSP.joints.index("right_wrist"), 2] = 1
    moved = joints[:, :2].copy()
    moved[LSP.joints.index("left_wrist")] += 300
    scores = evaluate_keypoints(annotated(person(4, joints)), found([(4, moved)]), LSP)
    assert scores.values["Wrist"] == scores.main == 1
    moved[LSP.joints.index("right_wrist")] += 300
    scores = evaluate_keypoints(annotated(person(4, joints)), found([(4, moved)]), LSP)
    assert (scores.values["Wrist"], scores.main) == (0, 12 / 13)


def test_the_other_diagonal_of_the_torso_stands_in_and_people_without_one_are_left_out(annotated):
    first, second = torso_of_100(), torso_of_100()
    first[LSP.joints.index("left_shoulder"), 2] = 0
    first[LSP.joints.index("right_shoulder"), :2] = (200, 150)  # 50 above the left hip: within 10 pixels
    second[[LSP.joints.index(name) for name in ("left_shoulder", "left_hip")], 2] = 0
    moved = first.copy()
    moved[LSP.joints.index("head"), 0] += 10.5
    moved[LSP.joints.index("neck"), 0] += 9.5
    path = annotated(person(4, first), person(5, second))
    scores = evaluate_keypoints(path, found([(4, moved), (5, second)]), LSP)
    assert (scores.values["Head"], scores.main) == (0.5, 12 / 13)
    assert scores.notes == ("1 of 2 people do not count: their size (torso) is not annotated",)
    assert scores.table().endswith(scores.notes[0])


def test_people_without_a_pose_have_no_right_joint_and_crowds_do_not_count(annotated):
    joints = torso_of_100()
    crowd = person(6, joints, iscrowd=1, num_keypoints=K)
    masked = person(7, np.zeros((K, 3)), num_keypoints=0)
    path = annotated(person(4, joints), person(5, joints, image_id=2), crowd, masked)
    scores = evaluate_keypoints(path, found([(4, joints), (6, joints + 500)]), LSP)
    assert scores.values == dict.fromkeys(scores.values, 0.5)
    assert scores.notes == ()
    # and images that are not scored do not count
    assert evaluate_keypoints(path, found([(4, joints)]), LSP, image_ids=[1]).main == 1
    assert evaluate_keypoints(path, [], LSP).main == 0


def test_of_several_poses_of_a_person_the_best_scored_counts(annotated):
    joints = torso_of_100()
    far = joints + 300
    path = annotated(person(4, joints))
    assert evaluate_keypoints(path, found([(4, joints, 0.9), (4, far, 0.8)]), LSP).main == 1
    assert evaluate_keypoints(path, found([(4, joints, 0.7), (4, far, 0.8)]), LSP).main == 0


def test_heads_are_measured_by_their_box_or_by_their_ends(annotated):
    schema = mpii_schema()
    joints = np.full((16, 3), 100.0)
    joints[:, 2] = 2
    joints[MPII.index("head"), 1] = 60  # 40 above the neck
    with_box = person(1, joints, head_box=[90, 60, 30, 40])  # 0.6 · 50 = 30
    without = person(2, joints)
    moved = joints.copy()
    moved[MPII.index("left_ankle"), 0] += 15  # right by the box
    moved[MPII.index("right_ankle"), 0] += 18  # only by the ends: within 20
    moved[[MPII.index("pelvis"), MPII.index("thorax")], 0] += 500  # which do not count
    moved[MPII.index("left_wrist"), 0] += 3.5  # within a tenth of 40, not of 30
    scores = evaluate_keypoints(annotated(with_box, without), found([(1, moved), (2, moved)]), schema)
    assert list(scores.values) == [
        "PCKh@0.5", "Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle", "PCKh@0.1"
    ]  # fmt: skip
    assert scores.values["PCKh@0.5"] == 27 / 28
    assert scores.values["Ankle"] == 3 / 4
    assert scores.values["PCKh@0.1"] == (28 - 4 - 1) / 28


def test_the_box_can_be_the_measure(annotated):
    joints = np.full((16, 3), 100.0)
    joints[:, 2] = 2
    moved = joints.copy()
    moved[0, 0] += 20  # a fifth of the longer side
    moved[1, 0] += 20.5
    scores = evaluate_keypoints(annotated(person(1, joints)), found([(1, moved)]), mpii_schema("pck_box"))
    assert scores.values["PCK@0.2"] == 13 / 14


def slow_pckh(people, poses, reach):
    """Return (right, labelled) by joint group, joint by joint."""
    counts = {}
    for number, (joints, head_box) in people.items():
        if head_box:
            size = 0.6 * math.hypot(head_box[2], head_box[3])
        else:
            neck, head = joints[MPII.index("neck")], joints[MPII.index("head")]
            size = math.dist(neck[:2], head[:2]) if neck[2] and head[2] else 0
        if not size or not any(joint[2] for joint in joints):
            continue
        for name, joint, pose in zip(MPII, joints, poses.get(number, [None] * 16), strict=True):
            group = {"neck": "Head", "head": "Head"}.get(name, name.split("_")[-1].capitalize())
            if name in ("pelvis", "thorax") or not joint[2]:
                continue
            right = pose is not None and math.dist(joint[:2], pose[:2]) <= reach * size
            for key in ("all", group):
                done = counts.get(key, (0, 0))
                counts[key] = (done[0] + right, done[1] + 1)
    return counts


@given(seed=st.integers(0, 10**6), count=st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_it_is_what_a_loop_over_joints_counts(tmp_path_factory, seed, count):
    rng = np.random.default_rng(seed)
    people, poses, annotations = {}, {}, []
    for number in rng.permutation(count) + 1:
        joints = np.concatenate([rng.integers(0, 60, (16, 2)), rng.integers(0, 3, (16, 1))], 1).astype(float)
        box = [0, 0, *map(float, rng.integers(0, 60, 2))] if rng.random() < 0.6 else None
        people[int(number)] = (joints.tolist(), box)
        annotations.append(person(int(number), joints, **({"head_box": box} if box else {})))
        if rng.random() < 0.8:
            poses[int(number)] = joints[:, :2] + rng.integers(-30, 31, (16, 2)) * rng.choice([0.3, 1])
    path = tmp_path_factory.mktemp("pck") / "people.json"
    images = [{"id": 1, "file_name": "1.jpg", "width": 640, "height": 480}]
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    labelled = {n for n, (joints, _) in people.items() if any(joint[2] for joint in joints)}
    scores = evaluate_keypoints(path, found([(n, p) for n, p in poses.items() if n in labelled]), mpii_schema())
    expected = slow_pckh(people, poses, 0.5)
    fine = slow_pckh(people, poses, 0.1)
    pairs = {"PCKh@0.5": expected.get("all"), "PCKh@0.1": fine.get("all")}
    pairs |= {name: expected.get(name) for name in ("Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle")}
    assert scores.values.keys() == pairs.keys()
    for name, pair in pairs.items():
        assert math.isnan(scores.values[name]) if pair is None else scores.values[name] == pair[0] / pair[1]
        assert (name in scores.reasons) == (pair is None)


def test_what_cannot_be_matched_is_an_error(annotated):
    joints = torso_of_100()
    path = annotated(person(4, joints), person(5, joints, image_id=2), person(9, np.zeros((K, 3))))
    for wrong in (6, 5, 9):
        with pytest.raises(DatasetError, match=rf"results: a pose of image 1: annotation_id: {wrong} is no person of"):
            evaluate_keypoints(path, found([(wrong, joints)]), LSP)
    with pytest.raises(DatasetError, match="annotation_id: None is no person of that image"):
        evaluate_keypoints(path, found([(None, joints)]), LSP)
    with pytest.raises(DatasetError, match=r"annotation 4 of image 1: id: it is that of another person"):
        evaluate_keypoints(annotated(person(4, joints), person(4, torso_of_100(1))), [], LSP)
    with pytest.raises(DatasetError, match=r"annotation 'four' of image 1: id: it is no whole number"):
        evaluate_keypoints(annotated(person("four", joints)), [], LSP)
    for box in ([1, 2, 3], "box", [0, 0, -1, 2]):
        with pytest.raises(DatasetError, match="annotation 4 of image 1: head_box"):
            evaluate_keypoints(annotated(person(4, joints, head_box=box)), [], LSP)


def test_a_results_file_is_scored_again_by_the_command(annotated, tmp_path, monkeypatch, capsys):
    joints = torso_of_100()
    path = annotated(person(4, joints), person(5, joints))
    write_results(tmp_path / "results.json", found([(5, joints)]))
    arguments = ["results.json", "--schema", "datasets/lsp_single.yaml", "--annotations", str(path)]
    monkeypatch.setattr(
        "sys.argv", ["score.py", str(tmp_path / arguments[0]), *arguments[1:], "--out", str(tmp_path / "s.json")]
    )
    score.main()
    printed = capsys.readouterr().out
    assert "scored by the rules of pck" in printed
    assert "|    50.0 |" in printed
    assert json.loads((tmp_path / "s.json").read_text())["PCK@0.2"] == 0.5
