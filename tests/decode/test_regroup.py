"""Further passes of grouping, and costs that are not rounded."""

import itertools

import numpy as np
import pytest
from candidates import entries, peaks, random_candidates
from hypothesis import given, settings
from hypothesis import strategies as st

from coupled_embedding.decode import reference
from coupled_embedding.decode.grouping import group
from coupled_embedding.decode.options import DecodeOptions
from coupled_embedding.decode.regroup import regroup


def people(candidates, **options):
    """Return the people as sets of (joint, x, y)."""
    options = DecodeOptions(tuple(range(len(candidates))), **options)
    groups = regroup(group(candidates, options), candidates, options)
    return {
        frozenset((joint, *groups.joints[n, joint, :2].tolist()) for joint in np.flatnonzero(groups.found[n]))
        for n in range(len(groups.found))
    }


def a_chain():
    """Two people, the second of whom looks like the first at the joint that is visited second."""
    return [
        peaks((0, 0, 0.9, 0.0), (9, 0, 0.8, 1.2)),
        peaks((9, 1, 0.9, 0.58)),  # the second person's, a little nearer to the first one's
        peaks((0, 2, 0.9, 0.0), (9, 2, 0.8, 0.9)),
        peaks((0, 3, 0.9, 0.0), (9, 3, 0.8, 0.9)),
    ]


def test_a_second_pass_moves_a_joint_to_the_person_who_is_known_better():
    first = {(0, 0, 0), (1, 9, 1), (2, 0, 2), (3, 0, 3)}
    assert first in people(a_chain(), cost="distance", tag_threshold=0.8)
    after = people(a_chain(), cost="distance", tag_threshold=0.8, regroup=1)
    assert {(0, 9, 0), (1, 9, 1), (2, 9, 2), (3, 9, 3)} in after
    assert len(after) == 2


def test_halves_of_a_person_become_one():
    # the joint visited first is an outlier; the others lie between it and the threshold
    candidates = [peaks((0, 0, 0.9, 0.0)), peaks((0, 1, 0.9, 1.05)), peaks((0, 2, 0.9, 0.9))]
    assert len(people(candidates, cost="distance")) == 2
    assert people(candidates, cost="distance", regroup=1) == {frozenset({(0, 0, 0), (1, 0, 1), (2, 0, 2)})}


@pytest.mark.parametrize("passes", [1, 3])
def test_nothing_to_group(passes):
    assert people([peaks(dim=2), peaks(dim=2)], regroup=passes) == set()


@given(
    st.integers(0, 2**31),
    st.integers(1, 6),
    st.sampled_from([1, 3, 8]),
    st.sampled_from([1, 2, 5]),
    st.sampled_from([1, 2, 8]),
    st.sampled_from(["ce", "ae", "distance"]),
    st.integers(0, 3),
)
@settings(max_examples=150, deadline=None)
def test_every_candidate_is_of_one_person(seed, joints, most, centers, dim, cost, passes):
    candidates = random_candidates(seed, joints, most, centers, dim)
    options = DecodeOptions(tuple(range(joints)), cost=cost, regroup=passes)
    groups = regroup(group(candidates, options), candidates, options)
    assert groups.found.any(1).all()
    for joint, peaks_of in enumerate(candidates):
        placed = groups.joints[groups.found[:, joint], joint]
        every = np.concatenate((peaks_of.pixels, peaks_of.scores[:, None]), 1)
        np.testing.assert_array_equal(placed[np.lexsort(placed.T)], every[np.lexsort(every.T)].astype(np.float32))
    # mean tags are those of the people's own candidates
    for person in range(len(groups.found)):
        own = []
        for joint in np.flatnonzero(groups.found[person]):
            c = candidates[joint]
            same = (c.pixels == groups.joints[person, joint, :2]).all(1) & (c.scores == groups.joints[person, joint, 2])
            own.append(c.tags[same])
        if all(len(tags) == 1 for tags in own):
            np.testing.assert_allclose(groups.tags[person], np.concatenate(own).mean(0), atol=1e-5)


@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 2]))
@settings(max_examples=100, deadline=None)
def test_distances_assign_by_least_total_distance(seed, rows, columns, dim):
    """A joint's candidates against people of one joint: the cost is that of the best of all assignments."""
    random = np.random.default_rng(seed)
    first = peaks(*((10 * n, 0, 0.5, random.normal(0, 0.3, dim)) for n in range(columns)), dim=dim)
    second = peaks(*((10 * n, 5, 0.5, random.normal(0, 0.3, dim)) for n in range(rows)), dim=dim)
    # no candidate may be out of reach, so that all that can be are assigned
    groups = group([first, second], DecodeOptions((0, 1), cost="distance", tag_threshold=10.0))
    distances = np.linalg.norm(second.tags[:, None] - first.tags[None], axis=-1)
    pairs = [(n, int(p // 10)) for n, p in enumerate(groups.joints[: len(first.scores), 0, 0])]
    got = [distances[int(groups.joints[n, 1, 0] // 10), person] for n, person in pairs if groups.found[n, 1]]
    short, long = sorted((rows, columns))
    options = itertools.permutations(range(long), short)
    if rows <= columns:
        best = min(sum(distances[r, c] for r, c in enumerate(chosen)) for chosen in options)
    else:
        best = min(sum(distances[r, c] for c, r in enumerate(chosen)) for chosen in options)
    assert len(got) == short
    assert sum(got) == pytest.approx(best, abs=1e-5)


@given(st.integers(0, 2**31), st.integers(1, 5), st.sampled_from([1, 3, 8]), st.sampled_from([1, 2, 5]))
@settings(max_examples=60, deadline=None)
def test_no_pass_is_the_reference_grouping(seed, joints, most, centers):
    candidates = random_candidates(seed, joints, most, centers, 2)
    options = DecodeOptions(tuple(range(joints)))
    slow = reference.group_peaks([entries(c) for c in candidates], options)
    groups = regroup(group(candidates, options), candidates, options)
    assert len(groups.found) == len(slow)
