"""MPII's average precision: cases computed by hand, and against loops that follow its definition in fractions."""

import json
import math
from collections import defaultdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coupled_embedding.data.group_crops import CROP_MARGIN, GROUP_GAP, find_groups, group_crop, nearest_crop
from coupled_embedding.data.schema import load_schema
from coupled_embedding.evaluation import ap_of_groups, evaluate_keypoints, load_ground_truth
from coupled_embedding.evaluation.mpii_ap import COLUMNS, average_precision, mpii_groups, mpii_scores, true_joints
from coupled_embedding.evaluation.results import checked_detections
from coupled_embedding.utils.errors import DatasetError

SCHEMA = load_schema("datasets/mpii.yaml")
K = SCHEMA.num_joints
COUNTED = [joint for members in COLUMNS.values() for joint in members]
# a head box of diagonal 50: a joint is right within 15 pixels
HEAD = (0, 0, 30, 40)


def person(x, y, *, image=1, group=1, missing=(), **changes):
    """An annotated person whose joints lie on a grid around (x, y), 40 pixels apart."""
    keypoints = []
    for number, joint in enumerate(SCHEMA.joints):
        seen = joint not in missing
        keypoints += [x + 40 * (number % 4) - 60, y + 40 * (number // 4) - 60, 2] if seen else [0, 0, 0]
    fields = {"image_id": image, "category_id": 1, "bbox": [x - 60, y - 60, 120, 120], "keypoints": keypoints}
    return fields | {"center": [x, y], "scale": 1.0, "head_box": list(HEAD), "group": group} | changes


def pose(x, y, score=0.9, *, image=1, moved=None, scores=None, **more):
    """A pose like `person`; ``moved``: joint -> shift, ``scores``: joint -> score."""
    keypoints = []
    for number, joint in enumerate(SCHEMA.joints):
        dx, dy = (moved or {}).get(joint, (0, 0))
        place = (x + 40 * (number % 4) - 60 + dx, y + 40 * (number // 4) - 60 + dy)
        keypoints += [*place, (scores or {}).get(joint, score)]
    return {"image_id": image, "category_id": 1, "keypoints": keypoints, "score": score, **more}


@pytest.fixture
def annotations(tmp_path):
    """annotations(people, images=1): write the file; return its path."""

    def write(people, images=1):
        entries = [{"id": number, **one} for number, one in enumerate(people, 1)]
        content = {"images": [{"id": i + 1, "width": 900, "height": 900} for i in range(images)]}
        content |= {"annotations": entries, "categories": [{"id": 1, "keypoints": list(SCHEMA.joints)}]}
        path = tmp_path / "people.json"
        path.write_text(json.dumps(content))
        return path

    return write


@pytest.fixture
def score(annotations):
    """score(people, results, images=1): the scores in percent."""

    def run(people, results, images=1):
        scores = evaluate_keypoints(annotations(people, images), results, SCHEMA)
        return {name: 100 * value for name, value in scores.values.items()}

    return run


# ---- by hand


def test_perfect_poses_score_100_in_every_column(score):
    found = score([person(200, 200), person(400, 200)], [pose(400, 200, 0.3), pose(200, 200, 0.8)])
    assert found == dict.fromkeys(["AP", *COLUMNS], 100)


def test_one_wrong_joint_costs_its_share_of_one_joint(score):
    people = [person(200, 200), person(400, 200)]
    found = score(people, [pose(200, 200, 0.9, moved={"left_knee": (0, 16)}), pose(400, 200, 0.8)])
    # left knee: a false positive first, then a true one of two: 1/2 · 1/2; the right knee is whole
    assert found["Knee"] == pytest.approx((25 + 100) / 2)
    assert found["AP"] == pytest.approx((13 * 100 + 25) / 14)
    # with the wrong one behind, precision is 1 up to recall 1/2
    found = score(people, [pose(200, 200, 0.7, moved={"left_knee": (0, 16)}), pose(400, 200, 0.8)])
    assert found["Knee"] == pytest.approx((50 + 100) / 2)


def test_pelvis_and_thorax_do_not_count(score):
    found = score([person(200, 200), person(400, 200)], [
        pose(200, 200, moved={"pelvis": (99, 0)}, scores={"thorax": 0}), pose(400, 200),
    ])  # fmt: skip
    assert found["AP"] == 100


@pytest.mark.parametrize(("confidence", "expected"), [(0.95, 200 / 3), (0.85, 250 / 3), (0.5, 100)])
def test_an_extra_person_costs_by_its_scores(score, confidence, expected):
    people = [person(200, 200), person(400, 200)]
    results = [pose(200, 200, 0.9), pose(300, 330, confidence), pose(400, 200, 0.8)]
    # ranked first: interpolated precision 2/3 throughout; between: 1 for the first half, 2/3 for the second; last: none
    assert score(people, results)["AP"] == pytest.approx(expected)


def test_a_missing_person_halves_the_recall(score):
    assert score([person(200, 200), person(400, 200)], [pose(200, 200)])["AP"] == 50
    assert score([person(200, 200), person(400, 200)], [])["AP"] == 0


def test_a_second_pose_of_a_person_is_false_even_with_right_joints(score):
    people = [person(200, 200), person(400, 200)]
    worse = pose(200, 200, 0.95, moved={"neck": (16, 0)})
    found = score(people, [worse, pose(200, 200, 0.9), pose(400, 200, 0.8)])
    assert found["AP"] == pytest.approx(200 / 3)


def test_two_people_with_swapped_arms_are_each_still_matched(score):
    arm = ("left_elbow", "left_wrist")
    there, back = dict.fromkeys(arm, (200, 0)), dict.fromkeys(arm, (-200, 0))
    found = score([person(200, 200), person(400, 200)], [pose(200, 200, moved=there), pose(400, 200, moved=back)])
    assert found["Elbow"] == found["Wrist"] == 50
    assert found["AP"] == pytest.approx(100 * 12 / 14)


def test_two_people_swapped_as_a_whole_are_right(score):
    assert score([person(200, 200), person(400, 200)], [pose(400, 200), pose(200, 200)])["AP"] == 100


@pytest.mark.parametrize(("shift", "right"), [((9, 12), True), ((15, 0), True), ((9, 12.001), False)])
def test_the_limit_itself_is_right(score, shift, right):
    found = score([person(200, 200), person(400, 200)], [pose(200, 200, moved={"head": shift}), pose(400, 200)])
    assert (found["Head"] == 100) is right


def test_the_limit_is_right_where_roots_are_not_whole(score):
    people = [person(200, 200, head_box=[0, 0, 10, 10]), person(400, 200)]
    # 0.3 · √200 = √18
    found = score(people, [pose(200, 200, moved={"head": (3, 3)}), pose(400, 200)])
    assert found["Head"] == 100


def test_joints_that_are_not_annotated_need_no_detection_and_are_false_if_predicted(score):
    people = [person(200, 200, missing=["left_wrist"]), person(400, 200)]
    silent = pose(200, 200, scores={"left_wrist": 0})
    assert score(people, [silent, pose(400, 200)])["AP"] == 100
    found = score(people, [pose(200, 200, 0.9), pose(400, 200, 0.8)])
    assert found["Wrist"] == pytest.approx((50 + 100) / 2)


def test_of_equal_scores_the_first_is_ranked_first(score):
    people = [person(200, 200), person(400, 200)]
    extra, own = pose(300, 330, 0.5), [pose(200, 200, 0.5), pose(400, 200, 0.5)]
    assert score(people, [*own, extra])["AP"] == 100
    assert score(people, [extra, *own])["AP"] == pytest.approx(200 / 3)


def test_groups_do_not_share_poses_and_others_need_no_detection(score):
    # the second image's pose is at the place of the first image's person
    people = [person(200, 200), person(300, 200), person(200, 200, image=2, group=0), person(700, 700, group=0)]
    found = score(people, [pose(200, 200), pose(300, 200), pose(200, 200, image=2)], images=2)
    assert found["AP"] == 100
    # far outside of the crop: not counted; inside: an extra person
    own = [pose(200, 200), pose(300, 200)]
    assert score(people, [pose(700, 700, 0.99), *own], images=2)["AP"] == 100
    assert score(people, [pose(250, 320, 0.99), *own], images=2)["AP"] == pytest.approx(200 / 3)


def test_the_two_groups_of_an_image_are_scored_each_on_its_own(score):
    people = [person(100, 100), person(200, 100), person(600, 100, group=2), person(700, 100, group=2)]
    results = [pose(100, 100, 0.9), pose(200, 100, 0.8), pose(600, 100, 0.7)]
    assert score(people, results)["AP"] == 75


def test_a_pose_found_in_another_group_s_crop_does_not_count_twice(score):
    # crops overlap: each shows the other's nearest person
    people = [person(100, 100), person(200, 100), person(320, 100, group=2), person(420, 100, group=2)]
    own = [pose(x, 100, 0.9, group=1 + (x > 250)) for x in (100, 200, 320, 420)]
    others = [pose(200, 100, 0.95, group=2), pose(320, 100, 0.95, group=1)]
    assert score(people, [*others, *own])["AP"] == 100
    assert score(people, [one | {"group": None} for one in (*others, *own)])["AP"] < 100


def test_joints_of_no_one_are_not_available_and_the_mean_leaves_them_out(annotations):
    ankles = ["left_ankle", "right_ankle"]
    people = [person(200, 200, missing=ankles), person(400, 200, missing=ankles)]
    scores = evaluate_keypoints(annotations(people), [pose(200, 200)], SCHEMA)
    assert math.isnan(scores.values["Ankle"])
    assert scores.main == 0.5
    assert "n/a: Ankle: no person of a group (field 'group') with a head_box has such a joint" in scores.table()
    head = scores.table().splitlines()[0]
    assert head.replace(" ", "") == "|AP|Head|Shoulder|Elbow|Wrist|Hip|Knee|Ankle|"


def test_without_groups_nothing_is_available(annotations):
    scores = evaluate_keypoints(annotations([person(200, 200, group=0)]), [pose(200, 200)], SCHEMA)
    assert set(scores.reasons) == set(scores.values) == {"AP", *COLUMNS}
    scores = evaluate_keypoints(annotations([]), [], SCHEMA)
    assert "has an annotated person" in scores.reasons["AP"]


def test_the_ap_of_some_images_is_that_of_these_alone(annotations):
    people = [person(200, 200), person(400, 200), person(200, 200, image=2), person(400, 200, image=2)]
    truth = load_ground_truth(annotations(people, 2), SCHEMA)
    results = [pose(200, 200), pose(400, 200), pose(400, 200, image=2)]
    assert ap_of_groups(truth, results, SCHEMA, [[1], [2], [1, 2]]) == [1, 0.5, 0.75]
    assert math.isnan(ap_of_groups(truth, results, SCHEMA, [[]])[0])


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"group": -1}, "annotation 2 of image 1: group: expected a whole number, got -1"),
        ({"group": "a"}, "annotation 2 of image 1: group: expected a whole number, got 'a'"),
        ({"center": None}, "annotation 2 of image 1: center: expected 2 numbers, got no list"),
        ({"center": [1, math.inf]}, "annotation 2 of image 1: center: expected 2 finite numbers"),
        ({"scale": "1"}, "annotation 2 of image 1: scale: expected 1 finite numbers"),
        ({"scale": 0}, "annotation 2 of image 1: scale: must be above 0"),
        ({"head_box": [0, 0, 30, 0]}, "annotation 2 of image 1: head_box: width and height must be above 0, got"),
    ],
)
def test_a_person_of_a_group_needs_valid_fields(annotations, changes, error):
    path = annotations([person(200, 200), person(400, 200, **changes)])
    with pytest.raises(DatasetError) as raised:
        evaluate_keypoints(path, [pose(200, 200)], SCHEMA)
    assert f"{path}: {error}" in str(raised.value)


def test_people_without_a_head_box_do_not_count(annotations):
    people = [person(200, 200), person(400, 200), person(300, 300, head_box=None)]
    scores = evaluate_keypoints(annotations(people), [pose(200, 200), pose(400, 200)], SCHEMA)
    assert scores.main == 1
    assert scores.table().endswith("1 people of groups do not count: no head_box")


def test_people_of_no_group_need_no_fields(score):
    alone = person(700, 700, group=None, head_box=None, scale=None, center=None)
    unlabelled = person(0, 0, missing=SCHEMA.joints, center=[300, 200], head_box=None)
    assert score([alone, unlabelled, person(200, 200), person(400, 200)], [pose(200, 200), pose(400, 200)])["AP"] == 100


# ---- against the definition


coordinates = st.integers(0, 60)


@st.composite
def scenes(draw):
    """People (G, J, 3), their head boxes (G, 4) and poses (P, J, 3) of whole numbers in a small square."""
    joints, people, poses = draw(st.integers(1, 4)), draw(st.integers(0, 4)), draw(st.integers(0, 5))
    point = st.tuples(coordinates, coordinates)
    known = [[(*draw(point), draw(st.sampled_from([0, 1, 2, 2]))) for _ in range(joints)] for _ in range(people)]
    # near a person, often: chance would hit too seldom
    scores = st.sampled_from([0, 0.25, 0.5, 0.75, 1])
    found = []
    for _ in range(poses):
        near = draw(st.sampled_from([*known, None]))
        row = []
        for j in range(joints):
            x, y = near[j][:2] if near and draw(st.booleans()) else draw(point)
            row.append((x + draw(st.integers(-3, 3)), y + draw(st.integers(-3, 3)), draw(scores)))
        found.append(row)
    heads = [(0, 0, draw(st.integers(1, 30)), draw(st.integers(1, 30))) for _ in range(people)]
    return joints, [(p, h) for p, h in zip(known, heads) if any(label for *_, label in p)], found


def slow_true_joints(people, poses):
    """The definition, in fractions: PCK of each pose with each person, mutual best, joints within half a head size."""

    def near(one, box, pose, j):
        (x, y, label), (u, v, confidence) = one[j], pose[j]
        head = Fraction(36, 100) * (box[2] ** 2 + box[3] ** 2)  # its square
        return bool(label and confidence and (x - u) ** 2 + (y - v) ** 2 <= head / 4)

    def pck(one, box, pose):
        right = sum(near(one, box, pose, j) for j in range(len(one)))
        return Fraction(right, sum(label > 0 for *_, label in one))

    best = {}  # pose -> its person
    for p, pose in enumerate(poses):
        values = [pck(*one, pose) for one in people]
        if values and max(values) > 0:
            best[p] = values.index(max(values))
    partner = {}
    for g, one in enumerate(people):
        rivals = {p: pck(*one, poses[p]) for p in best if best[p] == g}
        if rivals:
            partner[max(rivals, key=lambda p: (rivals[p], -p))] = g
    return [
        [p in partner and near(*people[partner[p]], pose, j) for j in range(len(pose))] for p, pose in enumerate(poses)
    ]


@settings(max_examples=300, deadline=None)
@given(scenes())
def test_true_joints_are_those_of_the_definition(scene):
    joints, people, poses = scene
    known = np.array([one for one, _ in people], float).reshape(-1, joints, 3)
    heads = np.array([box[2:] for _, box in people], float).reshape(-1, 2)
    found = true_joints(known, heads, np.array(poses, float).reshape(-1, joints, 3))
    assert found.tolist() == slow_true_joints(people, poses)


def slow_average_precision(scores, right, total):
    """The area under the highest precision at any recall at least as high, in fractions."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    curve, hits = [], 0
    for rank, i in enumerate(order, 1):
        hits += right[i]
        curve.append((Fraction(hits, total), Fraction(hits, rank)))
    area, before = Fraction(0), Fraction(0)
    for level in sorted({recall for recall, _ in curve}):
        area += (level - before) * max(p for r, p in curve if r >= level)
        before = level
    return area


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=12), st.integers(0, 3))
def test_average_precision_is_the_area_under_the_interpolated_curve(ranked, missed):
    total = sum(right for _, right in ranked) + missed
    scores = np.array([s for s, _ in ranked], float)
    right = np.array([r for _, r in ranked], bool)
    found = average_precision(scores, right, total)
    if total:
        assert found == pytest.approx(float(slow_average_precision(scores, right, total)), abs=1e-12)
    else:
        assert math.isnan(found)


def slow_scores(people, results):
    """The whole protocol by loops: AP of each joint that counts, from people and results as in the files."""
    groups = defaultdict(list)
    for one in people:
        if one["group"]:
            groups[one["image_id"], one["group"]].append(one)
    rows = [SCHEMA.joints.index(joint) for joint in COUNTED]
    outcome, totals = defaultdict(list), [0] * len(rows)

    def triples(entry):
        return [entry["keypoints"][3 * j : 3 * j + 3] for j in rows]

    for (image_id, _), members in groups.items():
        known = [(triples(one), one["head_box"]) for one in members if any(v for *_, v in triples(one))]
        xs, ys = zip(*(one["center"] for one in members))
        reach = 150 * sum(one["scale"] for one in members) / len(members)
        poses = []
        for result in (r for r in results if r["image_id"] == image_id):
            predicted = [p for p in zip(*[iter(result["keypoints"])] * 3) if p[2] > 0]
            if not predicted:
                continue
            middle = [(min(axis) + max(axis)) / 2 for axis in list(zip(*predicted))[:2]]
            inside = min(xs) - reach <= middle[0] <= max(xs) + reach and min(ys) - reach <= middle[1] <= max(ys) + reach
            poses += [triples(result)] if inside else []
        for one, _ in known:
            totals = [t + (label > 0) for t, (*_, label) in zip(totals, one)]
        for pose_, right in zip(poses, slow_true_joints(known, poses)):
            for j, (*_, confidence) in enumerate(pose_):
                outcome[j] += [(confidence, right[j])] if confidence > 0 else []
    return [
        slow_average_precision(*zip(*outcome[j]), t) if t and outcome[j] else (0 if t else None)
        for j, t in enumerate(totals)
    ]


def test_whole_files_score_as_by_the_loops(annotations):
    rng = np.random.default_rng(0)
    people, results = [], []
    for image in range(1, 13):
        for _ in range(rng.integers(1, 6)):
            x, y = (int(v) for v in rng.integers(100, 500, 2))
            missing = [joint for joint in SCHEMA.joints if rng.random() < 0.2]
            box = [0, 0, *(int(v) for v in rng.integers(10, 40, 2))]
            group = int(rng.random() < 0.9)
            people.append(person(x, y, image=image, group=group, missing=missing, head_box=box, scale=0.5))
            for _ in range(rng.integers(0, 3)):
                moved = {joint: tuple(int(v) for v in rng.integers(-12, 13, 2)) for joint in SCHEMA.joints}
                scores = {joint: float(rng.choice([0, 0.2, 0.4, 0.6])) for joint in SCHEMA.joints}
                results.append(pose(x, y, image=image, moved=moved, scores=scores))
    for image in (1, 2, 3):
        results.append(pose(900, 900, image=image))
    truth = load_ground_truth(annotations(people, 12), SCHEMA)
    found = mpii_scores(truth, checked_detections(results, SCHEMA, "results"), SCHEMA).values
    expected = slow_scores(people, results)
    assert 0.1 < float(np.mean([float(v) for v in expected])) < 0.9
    assert found["AP"] == pytest.approx(float(np.mean([float(v) for v in expected])), abs=1e-12)
    for name, members in COLUMNS.items():
        values = [float(expected[COUNTED.index(joint)]) for joint in members]
        assert found[name] == pytest.approx(np.mean(values), abs=1e-12)


# ---- groups


def test_groups_are_chains_of_neighbors_and_no_one_is_a_group_alone():
    centers = np.array([(0, 0), (1000, 0), (150, 0), (300, 0), (2000, 0), (2150, 0)], float)
    scales = np.array([1, 1, 1, 1, 1, 1.0])
    assert find_groups(centers, scales) == [1, 0, 1, 1, 2, 2]
    # as large as they are, the two last are one neighborhood with the second
    assert find_groups(centers, scales * 10) == [1] * 6
    assert find_groups(np.array([(0, 0), (200 * GROUP_GAP, 0)]), np.ones(2)) == [0, 0]
    assert find_groups(np.zeros((0, 2)), np.zeros(0)) == []


def test_a_crop_is_the_centers_and_three_quarters_of_the_mean_height():
    crop = group_crop(np.array([(100, 200), (300, 260)]), np.array([1, 2.0]))
    margin = CROP_MARGIN * 300
    assert crop == (100 - margin, 200 - margin, 300 + margin, 260 + margin)
    assert crop.region == (200, 230, 200 + 2 * margin)
    assert crop.inside(320, 700) == (0, 0, 320, 260 + margin)
    assert crop.inside(320, 700).region == (160, 130 + margin / 2, 260 + margin)
    outside = group_crop(np.array([(-900.0, 0.0)]), np.ones(1))
    assert outside.inside(320, 700) == outside


def test_a_pose_in_two_crops_is_of_the_one_whose_center_is_nearer():
    crops = [group_crop(np.array([(x, 0.0)]), np.ones(1)) for x in (0, 200)]
    points = np.array([(90, 0), (110, 0), (-150, 150), (-151, 0), (350, 0)], float)
    assert nearest_crop(points, crops).tolist() == [0, 1, 0, -1, 1]
    assert nearest_crop(points, []).tolist() == [-1] * 5


def test_groups_come_in_the_order_of_the_file(annotations):
    people = [person(1, 1, group=2), person(9, 9, group=1), person(5, 1, group=2), person(9, 9, image=2)]
    groups = mpii_groups(load_ground_truth(annotations(people, 2), SCHEMA))
    assert [(g.image_id, g.number, list(g.rows)) for g in groups] == [(1, 2, [0, 2]), (1, 1, [1]), (2, 1, [3])]
    assert groups[0].crop == (-149, -149, 155, 151)
