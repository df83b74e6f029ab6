"""Separation of people by tags, against loops over the definitions."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coupled_embedding.analysis.error_analysis.separation import SHRINKAGE, Separation, separation, sides_of_pair
from coupled_embedding.analysis.error_analysis.tags import JointTags


def joint_tags(values: np.ndarray, present: np.ndarray) -> JointTags:
    return JointTags(values * present[..., None], present, values.shape[-1], np.ones(len(values)))


def slow_sides(one: np.ndarray, other: np.ndarray) -> list[bool]:
    """Leave each joint out in turn and compute everything from scratch."""
    sides = []
    for own, other_group in ((one, other), (other, one)):
        for i in range(len(own)):
            rest = np.delete(own, i, 0)
            scatter = np.zeros((own.shape[1],) * 2)
            for group in (rest, other_group):
                for tag in group:
                    scatter += np.outer(tag - group.mean(0), tag - group.mean(0))
            scatter += np.eye(own.shape[1]) * (SHRINKAGE * np.trace(scatter) / own.shape[1] + 1e-12)
            normal = np.linalg.inv(scatter) @ (rest.mean(0) - other_group.mean(0))
            sides.append(bool(normal @ (own[i] - (rest.mean(0) + other_group.mean(0)) / 2) > 0))
    return sides


def slow_separation(values: np.ndarray, present: np.ndarray, threshold: float) -> Separation:
    tags = [[values[n, k] for k in range(values.shape[1]) if present[n, k]] for n in range(len(values))]
    pairs = close = separable = pair_joints = right = joints = nearest = far = 0
    for a, b in combinations([t for t in tags if len(t) >= 2], 2):
        sides = slow_sides(np.array(a), np.array(b))
        pairs += 1
        close += np.linalg.norm(np.mean(a, 0) - np.mean(b, 0)) < threshold
        separable += all(sides)
        pair_joints += len(sides)
        right += sum(sides)
    for n, own in enumerate(tags):
        others = [np.mean(t, 0) for m, t in enumerate(tags) if m != n and t]
        if len(own) < 2 or not others:
            continue
        for i, tag in enumerate(own):
            distance = np.linalg.norm(tag - np.mean(own[:i] + own[i + 1 :], 0))
            joints += 1
            nearest += distance < min(np.linalg.norm(tag - other) for other in others)
            far += distance >= threshold
    counts = (pairs, close, separable, pair_joints, right, joints, nearest, far)
    return Separation(*(int(count) for count in counts))


@given(seed=st.integers(0, 10**6), people=st.integers(0, 5), dims=st.sampled_from([1, 2, 8]), spread=st.floats(0.1, 3))
def test_counts_are_those_of_the_loops(seed: int, people: int, dims: int, spread: float) -> None:
    random = np.random.default_rng(seed)
    values = spread * random.normal(size=(people, 1, dims)) + random.normal(size=(people, 6, dims))
    present = random.random((people, 6)) < 0.6
    assert separation(joint_tags(values, present), 1.5) == slow_separation(values, present, 1.5)


@pytest.mark.parametrize("dims", [1, 2, 16])
def test_perfect_tags_separate_everyone(dims: int) -> None:
    values = np.zeros((4, 5, dims))
    values[..., 0] = 10 * np.arange(4)[:, None]
    counts = separation(joint_tags(values, np.ones((4, 5), bool)), 1.0)
    assert counts == Separation(6, 0, 6, 60, 60, 20, 20, 0)


def test_equal_tags_separate_no_pair() -> None:
    counts = separation(joint_tags(np.full((3, 4, 8), 0.3), np.ones((3, 4), bool)), 1.0)
    assert counts == Separation(pairs=3, close_pairs=3, pair_joints=24, joints=12)


def test_many_dimensions_do_not_separate_by_themselves() -> None:
    """What a fit to all joints would separate perfectly is at chance level."""
    random = np.random.default_rng(0)
    sides = [sides_of_pair(*random.normal(size=(2, 7, 16))) for _ in range(200)]
    assert np.mean(sides) == pytest.approx(0.5, abs=0.05)


def test_a_direction_with_little_noise_is_used() -> None:
    """Means alone would be blind: the first dimension's noise hides the second's difference."""
    random = np.random.default_rng(1)
    noise = random.normal(size=(2, 12, 2)) * (10, 0.1)
    noise[1, :, 1] += 2
    assert sides_of_pair(*noise).mean() > 0.95


def test_one_person_has_no_one_to_be_separated_from() -> None:
    assert separation(joint_tags(np.ones((1, 5, 2)), np.ones((1, 5), bool)), 1.0) == Separation()
    # a person of one joint is compared with, but not counted
    present = np.array([[True, True, True], [True, False, False]])
    values = np.array([[[0.0], [0.1], [0.2]], [[5.0], [0.0], [0.0]]])
    assert separation(joint_tags(values, present), 1.0) == Separation(joints=3, joints_nearest=3)
