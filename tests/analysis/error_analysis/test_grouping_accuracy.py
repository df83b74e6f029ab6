"""Grouping accuracy, against every possible pairing of people with groups."""

from itertools import permutations

import numpy as np
import pytest

from coupled_embedding.analysis.error_analysis.grouping_accuracy import GroupingTally, grouping_tally
from coupled_embedding.data.geometry import apply_affine, fit_geometry
from coupled_embedding.data.records import ImageRecord
from coupled_embedding.decode.grouping import Groups


@pytest.fixture
def photo(crowd) -> ImageRecord:
    """Three people far apart; the last has no feet."""
    people = [crowd.person(0, 0), crowd.person(90, 20), crowd.person(180, 100, labels=[2, 1, 2, 0, 0])]
    return crowd(people)[0][0]


def groups_of(record: ImageRecord, places: list[dict[int, int]], offset: float = 0.0) -> Groups:
    """Make groups: each says which person's joint it holds."""
    geometry = fit_geometry((record.width, record.height), 256)
    joints = np.zeros((len(places), 5, 3), np.float32)
    found = np.zeros((len(places), 5), bool)
    for number, held in enumerate(places):
        for joint, person in held.items():
            pixel = np.floor(apply_affine(geometry.to_input(), record.keypoints[person, joint, :2] + offset))
            joints[number, joint] = (*pixel, 0.9)
            found[number, joint] = True
    return Groups(joints, found, np.zeros((len(places), 1), np.float32))


def tally(record: ImageRecord, groups: Groups, sigmas=(0.08, 0.06, 0.06, 0.09, 0.09)) -> GroupingTally:
    return grouping_tally(record, groups, fit_geometry((record.width, record.height), 256), sigmas)


def test_right_groups(photo: ImageRecord) -> None:
    whole = [dict.fromkeys(range(5), 0), dict.fromkeys(range(5), 1), {0: 2, 1: 2, 2: 2}]
    assert tally(photo, groups_of(photo, whole)) == GroupingTally(13, 13, 13, 13, 13)


def test_a_person_in_two_pieces_keeps_the_larger(photo: ImageRecord) -> None:
    pieces = [{0: 0, 1: 0, 2: 0}, {3: 0, 4: 0}]
    assert tally(photo, groups_of(photo, pieces)) == GroupingTally(13, 5, 5, 3, 3)


def test_two_people_in_one_group_are_together_but_only_one_owns_it(photo: ImageRecord) -> None:
    merged = [{0: 0, 1: 0, 2: 0, 3: 1, 4: 1}]
    assert tally(photo, groups_of(photo, merged)) == GroupingTally(13, 5, 5, 5, 3)


def test_a_single_joint_is_not_judged(photo: ImageRecord) -> None:
    assert tally(photo, groups_of(photo, [{0: 0}, {1: 1, 2: 1}])) == GroupingTally(13, 3, 2, 2, 2)


def test_a_candidate_belongs_to_one_joint_and_the_nearest_has_it(photo: ImageRecord) -> None:
    groups = groups_of(photo, [dict.fromkeys(range(5), 0)])
    doubled = groups_of(photo, [dict.fromkeys(range(5), 0)] * 2, offset=2.0)
    both = Groups(*(np.concatenate(pair) for pair in zip(*((g.joints, g.found, g.tags) for g in (doubled, groups)))))
    assert tally(photo, both) == GroupingTally(13, 5, 5, 5, 5)


def test_far_candidates_detect_nothing(photo: ImageRecord) -> None:
    assert tally(photo, groups_of(photo, [dict.fromkeys(range(5), 0)], offset=30.0)) == GroupingTally(labelled=13)


def test_nobody_and_nothing(photo: ImageRecord, crowd) -> None:
    assert tally(photo, groups_of(photo, [])) == GroupingTally(labelled=13)
    empty = crowd([])[0][0]
    assert tally(empty, groups_of(photo, [{0: 0}])) == GroupingTally()


@pytest.mark.parametrize("seed", range(10))
def test_the_best_pairing_of_all(photo: ImageRecord, seed: int) -> None:
    random = np.random.default_rng(seed)
    places: list[dict[int, int]] = [{} for _ in range(4)]
    table = np.zeros((3, 4), int)
    for person in range(3):
        for joint in range(3 if person == 2 else 5):
            holder = int(random.integers(4))
            if joint not in places[holder]:
                places[holder][joint] = person
                table[person, holder] += 1
    judged = table[table.sum(1) >= 2]
    best = max(sum(judged[i, c] for i, c in enumerate(columns)) for columns in permutations(range(4), len(judged)))
    expected = GroupingTally(13, int(table.sum()), int(judged.sum()), int(judged.max(1).sum()), int(best))
    assert tally(photo, groups_of(photo, places)) == expected
