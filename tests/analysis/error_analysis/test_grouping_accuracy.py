"""Grouping accuracy, against every possible pairing of people with groups."""

from itertools import permutations

import numpy as np
import pytest

from coupled_embedding.analysis.error_analysis.grouping_accuracy import GroupingCounts, grouping_counts
from coupled_embedding.data.geometry import apply_affine, resize_geometry
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.decode.grouping import Groups


@pytest.fixture
def image(crowd) -> ImageRecord:
    """Three people far apart; the last has no feet."""
    people = [crowd.person(0, 0), crowd.person(90, 20), crowd.person(180, 100, labels=[2, 1, 2, 0, 0])]
    return crowd(people)[0][0]


def groups_of(record: ImageRecord, places: list[dict[int, int]], offset: float = 0.0) -> Groups:
    """Make groups: each says which person's joint it holds."""
    geometry = resize_geometry((record.width, record.height), 256)
    joints = np.zeros((len(places), 5, 3), np.float32)
    found = np.zeros((len(places), 5), bool)
    for number, held in enumerate(places):
        for joint, person in held.items():
            pixel = np.floor(apply_affine(geometry.to_input(), record.keypoints[person, joint, :2] + offset))
            joints[number, joint] = (*pixel, 0.9)
            found[number, joint] = True
    return Groups(joints, found, np.zeros((len(places), 1), np.float32))


def counts_of(record: ImageRecord, groups: Groups, sigmas=(0.08, 0.06, 0.06, 0.09, 0.09)) -> GroupingCounts:
    return grouping_counts(record, groups, resize_geometry((record.width, record.height), 256), sigmas)


def test_right_groups(image: ImageRecord) -> None:
    whole = [dict.fromkeys(range(5), 0), dict.fromkeys(range(5), 1), {0: 2, 1: 2, 2: 2}]
    assert counts_of(image, groups_of(image, whole)) == GroupingCounts(13, 13, 13, 13, 13)


def test_a_person_in_two_pieces_keeps_the_larger(image: ImageRecord) -> None:
    pieces = [{0: 0, 1: 0, 2: 0}, {3: 0, 4: 0}]
    assert counts_of(image, groups_of(image, pieces)) == GroupingCounts(13, 5, 5, 3, 3)


def test_two_people_in_one_group_are_together_but_the_group_belongs_to_one(image: ImageRecord) -> None:
    merged = [{0: 0, 1: 0, 2: 0, 3: 1, 4: 1}]
    assert counts_of(image, groups_of(image, merged)) == GroupingCounts(13, 5, 5, 5, 3)


def test_a_single_joint_is_not_counted(image: ImageRecord) -> None:
    assert counts_of(image, groups_of(image, [{0: 0}, {1: 1, 2: 1}])) == GroupingCounts(13, 3, 2, 2, 2)


def test_a_candidate_belongs_to_one_joint_and_the_nearest_has_it(image: ImageRecord) -> None:
    groups = groups_of(image, [dict.fromkeys(range(5), 0)])
    doubled = groups_of(image, [dict.fromkeys(range(5), 0)] * 2, offset=2.0)
    both = Groups(*(np.concatenate(pair) for pair in zip(*((g.joints, g.found, g.tags) for g in (doubled, groups)))))
    assert counts_of(image, both) == GroupingCounts(13, 5, 5, 5, 5)


def test_far_candidates_detect_nothing(image: ImageRecord) -> None:
    assert counts_of(image, groups_of(image, [dict.fromkeys(range(5), 0)], offset=30.0)) == GroupingCounts(labelled=13)


def test_no_people_and_no_groups(image: ImageRecord, crowd) -> None:
    assert counts_of(image, groups_of(image, [])) == GroupingCounts(labelled=13)
    empty = crowd([])[0][0]
    assert counts_of(empty, groups_of(image, [{0: 0}])) == GroupingCounts()


@pytest.mark.parametrize("seed", range(10))
def test_the_best_pairing_of_all(image: ImageRecord, seed: int) -> None:
    random = np.random.default_rng(seed)
    places: list[dict[int, int]] = [{} for _ in range(4)]
    table = np.zeros((3, 4), int)
    for person in range(3):
        for joint in range(3 if person == 2 else 5):
            holder = int(random.integers(4))
            if joint not in places[holder]:
                places[holder][joint] = person
                table[person, holder] += 1
    counted = table[table.sum(1) >= 2]
    best = max(sum(counted[i, c] for i, c in enumerate(columns)) for columns in permutations(range(4), len(counted)))
    expected = GroupingCounts(13, int(table.sum()), int(counted.sum()), int(counted.max(1).sum()), int(best))
    assert counts_of(image, groups_of(image, places)) == expected
