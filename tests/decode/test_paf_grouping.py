"""Grouping by part affinity fields: a slow oracle, perfect maps, and rules by hand."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from coupled_embedding.data.pafs import PafTargets
from coupled_embedding.data.schema import load_schema
from coupled_embedding.data.targets import build_targets
from coupled_embedding.decode.aggregate import MergedMaps, merge_flip, merge_scales
from coupled_embedding.decode.decode import decode
from coupled_embedding.decode.options import PAF_PRESETS, DecodeOptions, PafRule, PeakOptions
from coupled_embedding.decode.paf_grouping import connect, group_by_pafs, limb_order
from coupled_embedding.decode.peaks import Candidates
from coupled_embedding.utils.errors import NonFiniteError

SIZE = (48, 64)  # of the input
LIMBS = ((0, 1), (1, 2), (0, 2), (2, 3))


def candidates(pixels, scores, tags=None):
    pixels = np.asarray(pixels, np.int64).reshape(-1, 2)
    tags = np.zeros((len(pixels), 0)) if tags is None else tags
    return Candidates(pixels, np.asarray(scores, np.float32), np.asarray(tags, np.float32))


# ---- a slow oracle


def slow_connections(start, end, field, rule):
    """[(i, j, score)] of a limb, best first; all pairs, samples and (hungarian) matchings one by one."""
    whole = F.interpolate(torch.from_numpy(field)[None], SIZE, mode="bilinear", align_corners=False)[0].numpy()
    scores = {}
    for i, j in itertools.product(range(len(start.scores)), range(len(end.scores))):
        (x1, y1), (x2, y2) = start.pixels[i].tolist(), end.pixels[j].tolist()
        length = math.dist((x1, y1), (x2, y2))
        if not length:
            continue
        count = rule.samples or max(5, min(25, round(math.sqrt(5 * max(abs(x2 - x1), abs(y2 - y1))))))
        values = []
        for n in range(count):
            x = math.floor(x1 + (x2 - x1) * n / (count - 1) + 0.5)
            y = math.floor(y1 + (y2 - y1) * n / (count - 1) + 0.5)
            values.append(float(whole[:, y, x] @ (x2 - x1, y2 - y1)) / length)
        passing = [value for value in values if value > rule.sample_threshold]
        if len(passing) <= rule.share * count:
            continue
        score = np.mean(passing) if rule.mean_of_passing else np.mean(values)
        score += min(0.5 * SIZE[0] / length - 1, 0) if rule.height_prior else 0
        score += min(1 - length / (rule.longest * max(SIZE)), 0) if rule.longest else 0
        apart = math.dist(start.tags[i].tolist(), end.tags[j].tolist()) / rule.tag_threshold
        score += rule.tag_weight * max(1 - apart, -1)
        if score > rule.line_score:
            scores[i, j] = float(score)
    if rule.matching == "hungarian":
        # of all sets of pairs without a common candidate, the one with the largest sum above the threshold
        best, chosen = 0.0, ()
        for number in range(1, min(len(start.scores), len(end.scores)) + 1):
            for pairs in itertools.combinations(scores, number):
                firsts, seconds = zip(*pairs, strict=True)
                if len(set(firsts)) == len(set(seconds)) == number:
                    total = sum(scores[pair] - rule.line_score for pair in pairs)
                    best, chosen = max((best, chosen), (total, pairs), key=lambda option: option[0])
        return sorted(((*pair, scores[pair]) for pair in chosen), key=lambda c: -c[2])
    matched = []
    for (i, j), score in sorted(scores.items(), key=lambda item: -item[1]):
        if all(i != a and j != b for a, b, _ in matched):
            matched.append((i, j, score))
    return matched


def slow_people(found, fields, limbs, rule, order):
    """[{joint: candidate}] in the order in which people began."""
    people = []  # of (members, sum of connections)
    for place, number in enumerate(order.limbs):
        a, b = limbs[number]
        for i, j, score in slow_connections(found[a], found[b], fields[number], rule):
            having = [n for n, (members, _) in enumerate(people) if members.get(a) == i or members.get(b) == j]
            if not having:
                if place < order.tree:
                    people.append(({a: i, b: j}, score))
                continue
            members, total = people[having[0]]
            if len(having) == 2:
                other, more = people[having[1]]
                if members.keys() & other.keys():
                    continue
                people[having[0]] = ({**members, **other}, total + more + score)
                del people[having[1]]
            elif members.get(a, i) == i and members.get(b, j) == j:
                people[having[0]] = ({**members, a: i, b: j}, total + score)
    kept = []
    for members, total in people:
        total += sum(float(found[joint].scores[number]) for joint, number in members.items())
        if len(members) >= rule.min_joints and total >= rule.min_score * len(members):
            kept.append(members)
    if rule.singles:
        for joint, number in ((joint, n) for joint, c in enumerate(found) for n in range(len(c.scores))):
            if all(members.get(joint) != number for members, _ in people):
                kept.append({joint: number})
    return kept


RULES = [
    *PAF_PRESETS.values(),
    replace(PAF_PRESETS["openpose_coco"], matching="hungarian"),
    replace(PAF_PRESETS["with_tags"], tag_threshold=0.5),
    PafRule(min_joints=2),
]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(RULES), st.integers(1, 4))
def test_people_are_those_of_the_slow_oracle(seed, rule, most):
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(4):
        count = rng.integers(0, most + 1)
        pixels = rng.integers(0, (SIZE[1], SIZE[0]), (count, 2))
        found.append(candidates(pixels, rng.uniform(0.1, 1, count), rng.normal(0, 1, (count, 2))))
    # mostly along the segments, so that something connects
    fields = rng.normal(0, 0.2, (len(LIMBS), 2, 12, 16)).astype(np.float32)
    for number, (a, b) in enumerate(LIMBS):
        if len(found[a].scores) and len(found[b].scores):
            step = (found[b].pixels[0] - found[a].pixels[0]).astype(float)
            fields[number] += (step / max(np.hypot(*step), 1) * rng.uniform(0, 1))[:, None, None]
    order = limb_order(LIMBS, (0, 1, 2, 3))
    groups = group_by_pafs(found, fields, SIZE, LIMBS, rule, order)
    expected = slow_people(found, fields, LIMBS, rule, order)
    assert len(groups.joints) == len(expected)
    for joints, present, members in zip(groups.joints, groups.found, expected, strict=True):
        assert set(np.flatnonzero(present)) == members.keys()
        for joint, number in members.items():
            assert joints[joint, :2].tolist() == found[joint].pixels[number].tolist()
            assert joints[joint, 2] == found[joint].scores[number]


# ---- rules by hand


def straight_field(vector):
    return np.broadcast_to(np.array(vector, np.float32)[:, None, None], (2, 12, 16)).copy()


def test_a_segment_along_the_field_scores_its_strength_and_one_against_it_none():
    left, right = candidates([[10, 20]], [1]), candidates([[30, 20]], [1])
    assert connect(left, right, straight_field((0.8, 0.3)), SIZE, PafRule()) == [(0, 0, pytest.approx(0.8))]
    assert connect(right, left, straight_field((0.8, 0.3)), SIZE, PafRule()) == []


def test_a_segment_longer_than_half_the_height_loses_by_the_papers_prior():
    left, right = candidates([[5, 20]], [1]), candidates([[45, 20]], [1])
    field = straight_field((0.9, 0))
    assert connect(left, right, field, SIZE, PafRule())[0][2] == pytest.approx(0.9 + 24 / 40 - 1)
    assert connect(left, right, field, SIZE, PafRule(height_prior=False))[0][2] == pytest.approx(0.9)
    # a quarter of the larger side is 16 pixels
    near = candidates([[25, 20]], [1])
    assert connect(left, right, field, SIZE, PAF_PRESETS["sleap"]) == []
    assert connect(left, near, field, SIZE, PAF_PRESETS["sleap"])[0][2] == pytest.approx(0.9 + 1 - 20 / 16)


def test_hungarian_matching_takes_the_largest_sum_where_greedy_takes_the_best_pair():
    start, end = candidates([[4, 8], [4, 40]], [1, 1]), candidates([[36, 8], [36, 40]], [1, 1])
    field, x = np.zeros((2, 48, 64), np.float32), np.arange(4, 37)
    field[:, x + 4, x] = np.array([[0.56], [0.56]])  # from the first candidate to the second, 0.8 along it
    field[:, 44 - x, x] = np.array([[0.56], [-0.56]])  # from the second to the first
    field[:, 8, 4:37] = np.array([[0.9], [0]])
    rule = PafRule(share=0.5, height_prior=False)
    assert connect(start, end, field, SIZE, rule) == [(0, 0, pytest.approx(0.9))]
    best = connect(start, end, field, SIZE, replace(rule, matching="hungarian"))
    assert {(i, j) for i, j, _ in best} == {(0, 1), (1, 0)}
    assert all(score == pytest.approx(0.78, abs=0.03) for *_, score in best)


def test_with_tags_tags_decide_where_fields_do_not_and_fields_where_tags_do_not():
    start = candidates([[4, 8], [4, 40]], [1, 1], [[0], [1]])
    end = candidates([[36, 8], [36, 40]], [1, 1], [[1], [0]])
    rule = PAF_PRESETS["with_tags"]

    def connected(field, rule):
        return [(i, j, round(score, 3)) for i, j, score in connect(start, end, straight_field((field, 0)), SIZE, rule)]

    # no field anywhere: equal tags connect, those a threshold apart do not
    assert connected(0, rule) == [(0, 1, 0.3), (1, 0, 0.3)]
    # a strong field along the straight pairs outweighs equal tags of the slanting ones
    assert connected(1.2, rule) == [(0, 0, 1.2), (1, 1, 1.2)]
    # tags two and more thresholds apart take as much as equal ones give
    far = replace(rule, tag_threshold=0.25)
    assert connected(1.2, far) == [(0, 1, 1.149), (1, 0, 1.149)]
    assert connected(0.45, far) == [(0, 1, 0.618), (1, 0, 0.618)]


@pytest.mark.parametrize("name", ["coco", "crowdpose", "synthetic"])
def test_limbs_grow_from_the_joint_with_most_of_them_and_each_reaches_a_new_joint(name):
    schema = load_schema(f"datasets/{name}.yaml")
    order = limb_order(schema.skeleton, schema.grouping_order)
    assert sorted(order.limbs) == list(range(len(schema.skeleton)))
    assert order.tree == schema.num_joints - 1
    reached = set(schema.skeleton[order.limbs[0]])
    for number in order.limbs[1 : order.tree]:
        assert len(reached & set(schema.skeleton[number])) == 1
        reached |= set(schema.skeleton[number])


def test_a_skeleton_in_two_parts_has_a_tree_in_each():
    order = limb_order(((0, 1), (2, 3), (3, 4), (2, 4)), (0, 1, 2, 3, 4))
    assert order.limbs == (1, 3, 0, 2)
    assert order.tree == 3


# ---- whole maps

SCHEMA = load_schema("datasets/crowdpose.yaml")
PEOPLE = np.array(  # shoulders, elbows, wrists, hips, knees, ankles, head, neck; x, y in input pixels
    [
        [30, 30], [50, 30], [26, 44], [54, 44], [24, 58], [56, 58], [34, 62], [46, 62],
        [33, 80], [47, 80], [32, 98], [48, 98], [40, 12], [40, 26],
    ],
    float,
) * 2  # fmt: skip


def perfect_maps(people, size=(224, 320), kind="mean"):
    """Return merged maps at stride 4 of people (M, K, 2) in input pixels; the limbs' fields among them."""
    cells = torch.tensor(np.concatenate([people / 4, np.full((*people.shape[:2], 1), 2)], -1), dtype=torch.float32)
    mask = torch.ones(1, size[0] // 4, size[1] // 4)
    targets = build_targets(
        [cells[None]], [mask], torch.ones(1, len(people)), sigma=1.0, paf=PafTargets(SCHEMA.skeleton, kind)
    )
    heatmaps, tags = targets.heatmaps[0], torch.zeros(1, SCHEMA.num_joints, size[0] // 4, size[1] // 4, 0)
    return MergedMaps(heatmaps, tags, pafs=targets.pafs)


def options(rule):
    peaks = PeakOptions(threshold=0.3, dedup_plateaus=True)
    return DecodeOptions(SCHEMA.grouping_order, peaks, refine="none", limbs=SCHEMA.skeleton, paf=rule)


def decoded(maps, rule, size=(224, 320)):
    identity = np.array([[1.0, 0, 0], [0, 1, 0]])
    return decode(maps.image(0), (size[1], size[0]), identity, options(rule))


@pytest.mark.parametrize("preset", sorted(PAF_PRESETS))
@pytest.mark.parametrize("kind", ["mean", "soft"])
def test_perfect_maps_of_people_side_by_side_and_overlapping_give_the_people(preset, kind):
    people = np.stack([PEOPLE, PEOPLE + np.array([140, 12]), PEOPLE + np.array([176, 20])])
    poses = decoded(perfect_maps(people, kind=kind), PAF_PRESETS[preset])
    assert len(poses) == 3
    for person in people:
        nearest = min(poses, key=lambda pose: np.abs(pose.keypoints[:, :2] - person).mean())
        assert np.abs(nearest.keypoints[:, :2] - person).max() < 4
        assert nearest.tag is None
        assert nearest.score == pytest.approx(nearest.keypoints[:, 2].mean(), abs=0.05)


def test_maps_merged_with_those_of_the_flipped_image_and_of_two_scales_give_the_same_people():
    people = np.stack([PEOPLE, PEOPLE + np.array([140, 12])])
    straight = perfect_maps(people)
    mirrored = people[:, list(SCHEMA.flip_index)].copy()
    mirrored[..., 0] = 320 - mirrored[..., 0]
    merged = merge_flip(straight, perfect_maps(mirrored), SCHEMA.flip_index, SCHEMA.skeleton)
    torch.testing.assert_close(merged.pafs, straight.pafs)
    rule = PAF_PRESETS["openpose"]
    expected = [pose.keypoints.round(1).tolist() for pose in decoded(straight, rule)]
    twice = merge_scales([straight, straight], 0, (224, 320))
    assert [pose.keypoints.round(1).tolist() for pose in decoded(twice, rule)] == expected


def test_people_with_few_joints_or_low_scores_are_dropped():
    person = PEOPLE[None]
    maps = perfect_maps(person)
    kept = torch.zeros(SCHEMA.num_joints, dtype=torch.bool)
    kept[[0, 1, 12, 13]] = True  # head, neck and shoulders
    few = MergedMaps(maps.heatmaps * kept[None, :, None, None], maps.tags, pafs=maps.pafs)
    assert len(decoded(few, PAF_PRESETS["paper"])) == 1
    assert len(decoded(few, replace(PAF_PRESETS["paper"], min_joints=5))) == 0
    assert len(decoded(maps, replace(PAF_PRESETS["paper"], min_score=3))) == 0


def test_maps_that_are_not_finite_are_an_error():
    maps = perfect_maps(PEOPLE[None])
    maps.pafs[0, 3, 1, 5, 5] = float("nan")
    with pytest.raises(NonFiniteError, match="NaN"):
        decoded(maps, PAF_PRESETS["paper"])


def test_missing_joints_are_looked_up_by_tags_where_there_are_tags():
    people = np.stack([PEOPLE, PEOPLE + np.array([140, 12])])
    maps = perfect_maps(people)
    wrist, cells = 4, (people[:, 4] / 4).astype(int)
    heatmaps = maps.heatmaps.clone()
    heatmaps[0, wrist] *= 0.2  # below the threshold
    tags = torch.zeros(1, SCHEMA.num_joints, 56, 80, 1)
    tags[..., 40:, :] = 5.0  # the right half is the second person's
    both = MergedMaps(heatmaps, tags, pafs=maps.pafs)
    identity = np.array([[1.0, 0, 0], [0, 1, 0]])
    for refine in ("fast", "reference"):
        poses = decode(both.image(0), (320, 224), identity, replace(options(PAF_PRESETS["paper"]), refine=refine))
        assert len(poses) == 2
        assert sorted(float(pose.tag[0]) for pose in poses) == [0.0, 5.0]
        for person, cell in zip(people, cells, strict=True):
            nearest = min(poses, key=lambda pose: np.abs(pose.keypoints[:, :2] - person).mean())
            assert np.abs(nearest.keypoints[wrist, :2] - (4 * cell + 2)).max() < 2
