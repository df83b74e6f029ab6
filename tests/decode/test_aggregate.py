import numpy as np
import pytest
import torch
from torch.nn import functional as F

from coupled_embedding.data.outputs import PoseOutput
from coupled_embedding.decode.aggregate import MergedMaps, merge_flip, merge_resolutions, merge_scales, resize

FLIP_INDEX = (1, 0, 2)


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def upsampled(maps, *size):
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def output(seed=0, batch=2):
    """Maps of an image of K = 3 joints, D = 4."""
    return MergedMaps(rand(batch, 3, 8, 12, seed=seed), rand(batch, 3, 4, 6, 4, seed=seed + 1))


def read(view, joint):
    """A joint's tags (h, w, D) in the image's direction."""
    h, w = view.shape
    pixels = np.stack(np.meshgrid(range(w), range(h)), -1).reshape(-1, 2)
    return view.at(joint, pixels, (h, w)).reshape(h, w, -1)


def flipped(maps):
    """What an ideal network outputs for the flipped image."""
    index = list(FLIP_INDEX)
    return MergedMaps(maps.heatmaps.flip(-1)[:, index], maps.tags.flip(3)[:, index])


def test_one_resolution_is_taken_as_it_is_in_float32():
    heatmap = rand(2, 3, 4, 6).bfloat16()
    merged = merge_resolutions(PoseOutput((heatmap,), rand(2, 3, 4, 6, 2)))
    assert merged.dtype == torch.float32
    assert torch.equal(merged, heatmap.float())


def test_two_resolutions_are_averaged_at_the_finer():
    low, high = rand(2, 3, 4, 6), rand(2, 3, 8, 12, seed=1)
    merged = merge_resolutions(PoseOutput((low, high), rand(2, 3, 4, 6, 2)))
    torch.testing.assert_close(merged, (upsampled(low, 8, 12) + high) / 2)


def test_half_precision_maps_are_averaged_in_float32():
    low, high = rand(1, 3, 4, 6).bfloat16(), rand(1, 3, 8, 12, seed=1).bfloat16()
    merged = merge_resolutions(PoseOutput((low, high), rand(1, 3, 4, 6, 2)))
    torch.testing.assert_close(merged, (upsampled(low.float(), 8, 12) + high.float()) / 2, rtol=0, atol=1e-6)


def test_merging_with_an_ideal_flip_changes_no_heatmap_and_repeats_the_tags():
    maps = output()
    merged = merge_flip(maps, flipped(maps), FLIP_INDEX)
    torch.testing.assert_close(merged.heatmaps, maps.heatmaps)
    first, second = merged.image(1).tags
    for joint in range(3):
        np.testing.assert_array_equal(read(second, joint), read(first, joint))


def test_flip_averages_heatmaps_and_keeps_both_tags_with_joints_swapped_back():
    maps, other = output(0), output(7)
    merged = merge_flip(maps, other, FLIP_INDEX)
    first, second = merged.image(1).tags
    np.testing.assert_array_equal(first.values, maps.tags[1].permute(1, 2, 0, 3))
    for joint, partner in enumerate(FLIP_INDEX):
        expected = (maps.heatmaps[1, joint, 3, 2] + other.heatmaps[1, partner, 3, 12 - 1 - 2]) / 2
        assert merged.heatmaps[1, joint, 3, 2] == expected
        np.testing.assert_array_equal(read(second, joint)[3, 2], other.tags[1, partner, 3, 6 - 1 - 2])


def test_a_single_scale_stays_at_its_size():
    maps = output()
    assert merge_scales([maps], 0, (16, 24)) is maps


@pytest.mark.parametrize("tags_from", [0, 1, 2])
def test_scales_are_resized_to_the_base_and_averaged(tags_from):
    scales = [MergedMaps(rand(1, 3, *size, seed=i), rand(1, 3, *size, 2)) for i, size in enumerate([(8, 12), (4, 6)])]
    scales.append(MergedMaps(rand(1, 3, 32, 48, seed=3), rand(1, 3, 16, 24, 2, seed=4)))
    merged = merge_scales(scales, tags_from, (16, 24))
    torch.testing.assert_close(merged.heatmaps, sum(upsampled(m.heatmaps, 16, 24) for m in scales) / 3)
    assert merged.tags is scales[tags_from].tags


@pytest.mark.parametrize("flip", [False, True])
def test_tags_of_all_scales_are_concatenated_at_the_base_size(flip):
    sizes = [(4, 6), (8, 12), (2, 3)]
    single = [MergedMaps(rand(1, 3, 8, 12), rand(1, 3, *size, 2, seed=i)) for i, size in enumerate(sizes)]
    others = [MergedMaps(rand(1, 3, 8, 12), rand(1, 3, *size, 2, seed=9 + i)) for i, size in enumerate(sizes)]
    scales = [merge_flip(m, o, FLIP_INDEX) for m, o in zip(single, others, strict=True)] if flip else single
    merged = merge_scales(scales, None, (16, 24))
    torch.testing.assert_close(merged.heatmaps, merge_scales(scales, 0, (16, 24)).heatmaps)

    def wanted(scales, joint):
        parts = [upsampled(m.tags[:, joint].permute(0, 3, 1, 2), 16, 24) for m in scales]
        return torch.cat(parts, 1)[0].permute(1, 2, 0).numpy()

    views = merged.image(0).tags
    assert len(views) == 1 + flip
    for joint, partner in enumerate(FLIP_INDEX):
        np.testing.assert_allclose(read(views[0], joint), wanted(single, joint), atol=1e-6)
        if flip:
            np.testing.assert_allclose(read(views[1], joint), wanted(others, partner)[:, ::-1], atol=1e-6)


def test_resize_leaves_a_map_of_the_right_size_alone():
    maps = rand(1, 3, 8, 12)
    assert resize(maps, (8, 12)) is maps
    torch.testing.assert_close(resize(maps, (5, 30)), upsampled(maps, 5, 30))


def test_cpu_keeps_the_numbers():
    maps = output()
    assert torch.equal(maps.cpu().heatmaps, maps.heatmaps)
    assert torch.equal(maps.cpu().tags, maps.tags)


def test_maps_in_host_memory_are_left_where_they_are():
    maps = output()
    assert maps.cpu() is maps


def test_half_tags_are_read_as_the_same_numbers_in_float32():
    maps = output()
    half = MergedMaps(maps.heatmaps, maps.tags.bfloat16(), maps.tags.half(), FLIP_INDEX)
    for view, tags in zip(half.image(0).tags, (half.tags, half.flipped_tags), strict=True):
        assert view.values.dtype == np.float32
        np.testing.assert_array_equal(view.values, tags[0].float().permute(1, 2, 0, 3).numpy())


def test_tags_of_a_channels_last_network_are_read_in_place():
    tags = rand(1, 4, 6, 3, 5).permute(0, 3, 1, 2, 4)
    (view,) = MergedMaps(rand(1, 3, 8, 12), tags).image(0).tags
    assert np.shares_memory(view.values, tags.numpy())
