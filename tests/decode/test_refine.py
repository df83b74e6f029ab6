from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coupled_embedding.decode import reference
from coupled_embedding.decode.fast.bounds import block_edges
from coupled_embedding.decode.fast.refine import JointRefiner
from coupled_embedding.decode.fast.upsample import axis_weights, upsample
from coupled_embedding.decode.fast.views import TagView

seeds = st.integers(0, 2**31)


def best_pixels(heatmap, views, means, size, step=1.0):
    """Views (h, w, D) of one joint; the second one is stored as a flipped image's."""
    values = [np.ascontiguousarray(t[:, ::-1] if i else t)[:, :, None] for i, t in enumerate(views)]
    stored = [TagView(v, (0,) if i else None) for i, v in enumerate(values)]
    return JointRefiner(stored, size, step).best_pixels(0, heatmap, means)


def brute_force(heatmap, tags, means, step=1.0):
    """Search every pixel of the whole upsampled tag map."""
    whole = np.stack([upsample(np.ascontiguousarray(t), *heatmap.shape) for t in tags.transpose(2, 0, 1)], -1)
    return reference.best_pixels(heatmap, whole, means, step).tolist()


SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(
    seeds,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.one_of(st.none(), st.sampled_from([1, 2]), SIZES),
    SIZES,
    st.sampled_from([(1,), (2,), (4,), (9,), (1, 1), (1, 2), (4, 2)]),
    st.integers(1, 6),
    st.sampled_from([0.1, 1.0, 4.0]),
    st.sampled_from([0.5, 1.0, 2.0]),
)
@settings(max_examples=400, deadline=None)
def test_any_sizes_and_views_equal_brute_force(seed, cells, heat, size, dims, people, spread, step):
    random = np.random.default_rng(seed)
    if isinstance(heat, int):  # as in tests: the plain or the higher head, four pixels per tag cell
        size, heat = (4 * cells[0], 4 * cells[1]), (heat * cells[0], heat * cells[1])
    heatmap = random.random(heat or size, np.float32) - np.float32(0.2)
    views = [(spread * random.standard_normal((*cells, dim))).astype(np.float32) for dim in dims]
    means = (spread * random.standard_normal((people, sum(dims)))).astype(np.float32)
    expected = brute_force(upsample(heatmap, *size), np.concatenate(views, 2), means, step)
    assert best_pixels(heatmap, views, means, size, step).tolist() == expected


@given(seeds, st.integers(1, 8), st.integers(1, 8), st.integers(1, 5), st.sampled_from([1, 2, 4, 64]))
@settings(max_examples=200, deadline=None)
def test_ties_go_to_the_first_pixel(exact_maps, seed, h, w, dim, steps):
    heatmaps, tags = exact_maps(seed, 1, (h, w), dim, 3, steps, 0.5)
    means = tags[0].reshape(-1, dim)[:4]
    large = reference.upsample(heatmaps, 4 * h, 4 * w)[0]
    large_tags = reference.upsample(tags.transpose(0, 3, 1, 2), 4 * h, 4 * w)[0].transpose(1, 2, 0)
    expected = reference.best_pixels(large, large_tags, means).tolist()
    assert best_pixels(large, [tags[0]], means, large.shape).tolist() == expected


def test_flat_maps_give_the_first_pixel():
    heatmap, tags = np.full((16, 24), 0.3, np.float32), np.ones((4, 6, 3), np.float32)
    for mean in (1.0, 5.0, -100.0):
        assert best_pixels(heatmap, [tags], np.full((2, 3), mean, np.float32), (16, 24)).tolist() == [0, 0]


def test_a_whole_step_of_tag_distance_outweighs_one_of_heatmap():
    heatmap, tags = np.zeros((16, 16), np.float32), np.zeros((4, 4, 1), np.float32)
    heatmap[2, 2], heatmap[13, 13] = 0.9, 0.2
    tags[:2] = 3.0  # the stronger peak is another person's
    own, other = best_pixels(heatmap, [tags], np.array([[0.0], [3.0]], np.float32), (16, 16))
    assert divmod(own, 16) == (13, 13)
    assert divmod(other, 16) == (2, 2)


def test_tags_within_half_a_step_cost_nothing():
    heatmap, tags = np.zeros((8, 8), np.float32), np.zeros((2, 2, 1), np.float32)
    heatmap[5, 3] = 0.01
    for mean, place in ((0.5, (5, 3)), (-0.4, (5, 3)), (1.5, (5, 3))):
        assert divmod(best_pixels(heatmap, [tags], np.array([[mean]], np.float32), (8, 8))[0], 8) == place


def test_negative_heatmaps_have_a_best_place_too():
    heatmap = np.full((8, 8), -2.0, np.float32)
    heatmap[6, 1] = -1.5
    assert best_pixels(heatmap, [np.zeros((2, 2, 2), np.float32)], np.zeros((1, 2), np.float32), (8, 8)).tolist() == [
        49
    ]


def test_no_people_have_no_best_pixels():
    assert best_pixels(
        np.zeros((8, 8), np.float32), [np.zeros((2, 2, 2), np.float32)], np.zeros((0, 2), np.float32), (8, 8)
    ).shape == (0,)


@pytest.mark.parametrize(("size_in", "size_out"), [(1, 7), (4, 16), (5, 13), (9, 9), (12, 5)])
def test_blocks_cover_every_pixel_once_and_share_their_cells(size_in, size_out):
    first, second, _ = axis_weights(size_in, size_out)
    edges = block_edges(first, second)
    assert edges[0] == 0
    assert edges[-1] == size_out
    assert (np.diff(edges) > 0).all()
    for start, stop in pairwise(edges):
        assert len(set(first[start:stop])) == len(set(second[start:stop])) == 1


@pytest.mark.parametrize("step", [0.25, 2.0])
def test_a_longer_step_rounds_more_distance_away(step):
    heatmap, tags = np.zeros((8, 8), np.float32), np.zeros((2, 2, 1), np.float32)
    heatmap[5, 3], heatmap[1, 1] = 0.9, 0.2
    tags[1] = 0.8
    place = best_pixels(heatmap, [tags], np.zeros((1, 1), np.float32), (8, 8), step=step)[0]
    assert divmod(place, 8) == ((1, 1) if step < 0.5 else (5, 3))


def test_cells_that_cancel_do_not_hide_the_best_pixel():
    # what is left of two cells of unlike signs is far below their rounding errors
    random = np.random.default_rng(0)
    for _ in range(200):
        heatmap = np.full((3, 13), random.normal(0, 1e-8), np.float32)
        heatmap[:, 9:12] = random.normal(0, 1, (3, 3)).astype(np.float32) - np.float32(1)
        heatmap[1, 10] = -heatmap[1, 9:12:2].sum() - heatmap[0::2, 10].sum()
        large = upsample(heatmap, 12, 52)
        tags, means = np.zeros((3, 13, 1), np.float32), np.zeros((1, 1), np.float32)
        assert best_pixels(heatmap, [tags], means, (12, 52)).tolist() == [int(large.argmax())]


@given(seeds, st.integers(2, 9), st.integers(2, 9), st.sampled_from([1, 2, 4]))
@settings(max_examples=100, deadline=None)
def test_heatmaps_of_both_signs_equal_brute_force(seed, h, w, finer):
    random = np.random.default_rng(seed)
    heatmap = (random.integers(-3, 4, (finer * h, finer * w)) * random.normal(1, 1e-7)).astype(np.float32)
    tags = random.integers(-1, 2, (h, w, 2)).astype(np.float32)
    means = random.integers(-1, 2, (4, 2)).astype(np.float32)
    size = 4 * h, 4 * w
    expected = brute_force(upsample(heatmap, *size), tags, means)
    assert best_pixels(heatmap, [tags], means, size).tolist() == expected
