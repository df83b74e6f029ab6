import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coupled_embedding.decode import reference
from coupled_embedding.decode.fast.upsample import upsample
from coupled_embedding.decode.fast.views import TagView
from coupled_embedding.decode.options import DecodeOptions, PeakOptions
from coupled_embedding.decode.peaks import find_candidates

seeds = st.integers(0, 2**31)


def view(tags, flipped=False):
    """One joint's tags (h, w, D) as an image's view, or as that of the flipped image."""
    values = np.ascontiguousarray(tags[:, ::-1] if flipped else tags)[:, :, None]
    return TagView(values, (0,) if flipped else None)


def reference_peaks(heatmap, options, tags=None):
    """`reference.find_peaks` of a map (H, W) with tags (h, w, T)."""
    tags = np.zeros((*heatmap.shape, 1), np.float32) if tags is None else upsampled(tags, *heatmap.shape)
    return reference.find_peaks(heatmap, tags, DecodeOptions((0,), options))


def upsampled(tags, height, width):
    """Tags (h, w, T) upsampled by torch."""
    return reference.upsample(tags.transpose(2, 0, 1), height, width).transpose(1, 2, 0)


NO_TAGS = view(np.zeros((2, 2, 1), np.float32))


def candidates(heatmap, kernel=5, limit=30, threshold=0.1):
    found = find_candidates(
        0, np.asarray(heatmap, np.float32), [NO_TAGS], np.shape(heatmap), PeakOptions(kernel, limit, threshold)
    )
    return [(*xy, score) for xy, score in zip(found.pixels.tolist(), found.scores.tolist(), strict=True)]


def with_values(values, height=16, width=16):
    heatmap = np.zeros((height, width), np.float32)
    for (x, y), value in values.items():
        heatmap[y, x] = value
    return heatmap


@given(seeds, st.integers(3, 24), st.integers(3, 24), st.sampled_from([1, 3, 5, 7]), st.integers(1, 40))
@settings(max_examples=100, deadline=None)
def test_different_values_equal_brute_force(seed, height, width, kernel, limit):
    random = np.random.default_rng(seed)
    heatmap = (random.permutation(height * width).reshape(height, width) / (height * width)).astype(np.float32)
    radius = kernel // 2
    expected = []
    for y in range(height):
        for x in range(width):
            window = heatmap[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
            if heatmap[y, x] == window.max() and heatmap[y, x] > np.float32(0.1):
                expected.append((x, y, heatmap[y, x]))
    expected.sort(key=lambda peak: -peak[2])
    assert candidates(heatmap, kernel, limit) == expected[:limit]


@given(
    seeds,
    st.integers(4, 12),
    st.integers(4, 12),
    st.sampled_from([1, 3, 5, 7]),
    st.sampled_from([1, 5, 30]),
    st.sampled_from([1, 2, 4, 64]),
    st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    st.booleans(),
    st.sampled_from(["topk", "rows"]),
)
@settings(max_examples=200, deadline=None)
def test_ties_plateaus_and_empty_maps_equal_the_reference(
    exact_maps, seed, h, w, kernel, limit, steps, share, dedup, ties
):
    heatmaps, tags = exact_maps(seed, 1, (h, w), 2, 5, steps, share)
    heatmap, options = heatmaps[0], PeakOptions(kernel, limit, dedup_plateaus=dedup, tie_order=ties)
    expected = reference_peaks(heatmap, options, tags[0])
    found = find_candidates(0, heatmap, [view(tags[0])], heatmap.shape, options)
    assert found.pixels.tolist() == [[x, y] for x, y, _, _ in expected]
    assert found.scores.tolist() == [score for _, _, score, _ in expected]
    np.testing.assert_array_equal(found.tags, np.array([tag for *_, tag in expected]).reshape(-1, 2))


@given(seeds, st.sampled_from([1, 2, 5, 12]))
@settings(max_examples=60, deadline=None)
def test_a_tie_across_the_limit_equals_the_reference(seed, limit):
    scores = np.random.default_rng(seed).permutation(36)
    scores[scores == 35 - limit] = 36 - limit  # the first one left out equals the last one kept
    heatmap = np.zeros((24, 24), np.float32)
    heatmap[1::4, 1::4] = (scores.reshape(6, 6) + 8) / 64
    expected = reference_peaks(heatmap, PeakOptions(max_candidates=limit))
    assert [(x, y) for x, y, _ in candidates(heatmap, limit=limit)] == [(x, y) for x, y, _, _ in expected]


@pytest.mark.parametrize("corner", [(0, 0), (15, 0), (0, 15), (15, 15), (7, 0), (0, 7)])
def test_maxima_at_the_border_count(corner):
    assert candidates(with_values({corner: 0.5})) == [(*corner, 0.5)]


@pytest.mark.parametrize(("kernel", "apart"), [(3, 1), (5, 2), (7, 3)])
def test_the_window_reaches_half_the_kernel_each_way(kernel, apart):
    for step in ((1, 0), (0, 1), (1, 1), (-1, 1)):
        near = (8 + step[0] * apart, 8 + step[1] * apart)
        far = (8 + step[0] * (apart + 1), 8 + step[1] * (apart + 1))
        assert candidates(with_values({(8, 8): 0.9, near: 0.5}), kernel) == [(8, 8, pytest.approx(0.9))]
        assert len(candidates(with_values({(8, 8): 0.9, far: 0.5}), kernel)) == 2


def test_the_threshold_itself_is_not_enough():
    just_above = float(np.nextafter(np.float32(0.1), np.float32(1)))
    heatmap = with_values({(2, 2): 0.1, (12, 12): just_above})
    assert [xy for *xy, _ in candidates(heatmap)] == [[12, 12]]
    assert candidates(heatmap, threshold=just_above) == []


def test_the_limit_keeps_the_best_in_order():
    values = {(x, y): 0.2 + 0.01 * (16 * y + x) / 4 for x in range(0, 16, 4) for y in range(0, 16, 4)}
    found = candidates(with_values(values), limit=5)
    best = sorted(values.items(), key=lambda item: -item[1])[:5]
    assert [(x, y) for x, y, _ in found] == [xy for xy, _ in best]


def test_a_plateau_gives_a_candidate_a_pixel():
    plateau = {(x, y): 0.5 for x in (4, 5) for y in (4, 5)}
    assert sorted((x, y) for x, y, _ in candidates(with_values(plateau))) == sorted(plateau)


@pytest.mark.parametrize("value", [0.0, -1.0, 0.1])
def test_an_empty_map_has_no_candidates(value):
    found = find_candidates(0, np.full((8, 8), value, np.float32), [view(np.zeros((2, 2, 3), np.float32))], (8, 8))
    assert found.pixels.shape == (0, 2)
    assert found.scores.shape == (0,)
    assert found.tags.shape == (0, 3)


@given(
    seeds,
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 9),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_tags_at_pixels_are_those_of_the_whole_upsampled_map(seed, h, w, height, width, dim, flipped):
    random = np.random.default_rng(seed)
    tags = random.standard_normal((h, w, dim)).astype(np.float32)
    pixels = np.stack((random.integers(0, width, 20), random.integers(0, height, 20)), 1)
    whole = np.stack([upsample(tags[..., d], height, width) for d in range(dim)], -1)
    found = view(tags, flipped).at(0, pixels, (height, width))
    np.testing.assert_array_equal(found, whole[pixels[:, 1], pixels[:, 0]])


def test_a_flipped_view_reads_the_joint_of_the_other_side():
    random = np.random.default_rng(0)
    values = random.standard_normal((4, 6, 3, 2)).astype(np.float32)
    pixels = np.array([[1, 2], [5, 0]])
    found = TagView(values, (1, 0, 2)).at(0, pixels, (4, 6))
    np.testing.assert_array_equal(found, [values[2, 4, 1], values[0, 0, 1]])


# ---- options for what the released program does badly


def test_one_per_plateau_keeps_the_first_pixel_of_a_flat_top():
    plateau = {(x, y): 0.5 for x in (4, 5) for y in (4, 5)}
    other = {(12, 3): 0.5, (11, 12): 0.4, (12, 12): 0.4}
    found = find_candidates(
        0, with_values(plateau | other), [NO_TAGS], (16, 16), PeakOptions(dedup_plateaus=True, tie_order="rows")
    )
    assert found.pixels.tolist() == [[12, 3], [4, 4], [11, 12]]


@pytest.mark.parametrize("corner", [(0, 0), (0, 5), (5, 0), (5, 5)])
@pytest.mark.parametrize("factor", [4, 8])
def test_a_peak_in_the_corner_is_a_plateau_once_upsampled(corner, factor):
    heatmap = np.zeros((6, 6), np.float32)
    heatmap[corner] = 0.75
    size = 6 * factor, 6 * factor
    every = find_candidates(0, heatmap, [NO_TAGS], size, PeakOptions(max_candidates=400))
    one = find_candidates(0, heatmap, [NO_TAGS], size, PeakOptions(max_candidates=400, dedup_plateaus=True))
    assert len(every.pixels) == (factor // 2) ** 2
    assert one.pixels.tolist() == [every.pixels.min(0).tolist()]


@given(seeds, st.integers(4, 12), st.integers(4, 12), st.sampled_from([1, 2, 4]), st.integers(1, 40))
@settings(max_examples=100, deadline=None)
def test_ties_by_rows_hold_the_same_peaks_from_top_to_bottom(exact_maps, seed, h, w, steps, limit):
    heatmaps, tags = exact_maps(seed, 1, (h, w), 2, 5, steps, 0.1)
    everything = PeakOptions(max_candidates=10**6, tie_order="rows")
    found = find_candidates(0, heatmaps[0], [view(tags[0])], (4 * h, 4 * w), everything)
    large = reference.upsample(heatmaps, 4 * h, 4 * w)[0]
    peaks = reference_peaks(large, PeakOptions(max_candidates=large.size))
    expected = sorted(((x, y, score) for x, y, score, _ in peaks), key=lambda peak: (-peak[2], peak[1], peak[0]))
    assert [(*xy, s) for xy, s in zip(found.pixels.tolist(), found.scores.tolist(), strict=True)] == expected
    few = find_candidates(
        0, heatmaps[0], [view(tags[0])], (4 * h, 4 * w), PeakOptions(max_candidates=limit, tie_order="rows")
    )
    assert few.pixels.tolist() == found.pixels[:limit].tolist()


@given(seeds, st.integers(2, 9), st.integers(2, 9), st.sampled_from([1, 2, 3, 4]), st.sampled_from([5, 7]))
@settings(max_examples=100, deadline=None)
def test_peaks_of_a_small_map_are_those_of_the_upsampled_one(seed, h, w, factor, kernel):
    random = np.random.default_rng(seed)
    small = random.random((h, w), np.float32) ** 3
    size = factor * h, factor * w
    everything = PeakOptions(kernel, 10**6, tie_order="rows")
    lazy = find_candidates(0, small, [NO_TAGS], size, everything)
    whole = find_candidates(0, upsample(small, *size), [NO_TAGS], size, everything)
    np.testing.assert_array_equal(lazy.pixels, whole.pixels)
    np.testing.assert_array_equal(lazy.scores, whole.scores)


def test_tags_of_two_views_are_concatenated():
    random = np.random.default_rng(0)
    views = [view(random.standard_normal((4, 4, dim)).astype(np.float32)) for dim in (3, 2)]
    found = find_candidates(0, with_values({(2, 2): 0.9, (9, 13): 0.8}), views, (16, 16))
    expected = [one.at(0, found.pixels, (16, 16)) for one in views]
    np.testing.assert_array_equal(found.tags, np.concatenate(expected, 1))


def test_plateaus_do_not_take_the_places_of_other_peaks():
    plateau = {(x, y): 0.5 for x in range(2, 6) for y in range(2, 6)}
    single = {(x, 12): 0.4 - 0.01 * x for x in (1, 6, 11)}
    settings_ = PeakOptions(max_candidates=4, dedup_plateaus=True)  # ties in topk's order
    found = find_candidates(0, with_values(plateau | single | {(12, 3): 0.5}), [NO_TAGS], (16, 16), settings_)
    assert sorted(found.pixels[:2].tolist()) == [[2, 2], [12, 3]]
    assert found.pixels[2:].tolist() == [[1, 12], [6, 12]]
