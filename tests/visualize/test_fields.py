import numpy as np
import pytest

from coupled_embedding.data.schema import load_schema
from coupled_embedding.visualize import draw_tags, heatmap_grid, heatmap_overlay

COCO = load_schema("datasets/coco.yaml")
RNG = np.random.default_rng(0)
PLACES = ((8, 8), (8, 24), (24, 8), (24, 24))  # rows and columns of four people's only joint, in cells


def image(height=128, width=128):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def gaussian_maps(joints=4):
    """Heatmaps (joints, 32, 32): joint k at PLACES[k]."""
    rows, columns = np.mgrid[:32, :32]
    maps = np.zeros((joints, 32, 32), np.float32)
    for k, (row, column) in enumerate(PLACES[:joints]):
        maps[k] = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 8)
    return maps


def constant_tags(values):
    """Tags (4, 32, 32, D): joint k has values[k] everywhere."""
    values = np.asarray(values, np.float32)
    return np.broadcast_to(values[:, None, None], (4, 32, 32, values.shape[1])).copy()


def colors_at_places(drawn):
    return np.array([drawn[4 * row + 1, 4 * column + 1] for row, column in PLACES], float)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 8])
def test_alike_tags_get_alike_colors_and_others_different_ones(dimensions):
    values = RNG.normal(0, 3, (4, dimensions))
    values[1] = values[0] + 0.05
    values[2], values[3] = values[0] + 3, values[0] - 3
    colors = colors_at_places(draw_tags(np.zeros((128, 128, 3), np.uint8), gaussian_maps(), constant_tags(values)))
    assert np.linalg.norm(colors[0] - colors[1]) < 25
    for one, other in ((0, 2), (0, 3), (2, 3)):
        assert np.linalg.norm(colors[one] - colors[other]) > 60


def test_the_noise_of_alike_people_is_not_stretched():
    tags = constant_tags(RNG.normal(0, 0.02, (4, 8)))
    colors = colors_at_places(draw_tags(np.zeros((128, 128, 3), np.uint8), gaussian_maps(), tags))
    assert np.ptp(colors, axis=0).max() < 30


def test_tag_colors_depend_on_differences_of_tags_only():
    tags = constant_tags(RNG.normal(0, 2, (4, 8)))
    # the same components, and the same signs, from a shifted origin and with an empty dimension
    moved = np.concatenate([tags + 5, np.zeros_like(tags[..., :1])], axis=-1)
    base = np.zeros((128, 128, 3), np.uint8)
    difference = draw_tags(base, gaussian_maps(), tags).astype(int) - draw_tags(base, gaussian_maps(), moved)
    assert abs(difference).max() <= 2


@pytest.mark.parametrize(("dimensions", "direction"), [(1, 0), (2, 0), (2, 1), (8, 5)])
def test_tags_that_grow_along_their_main_axis_turn_from_cool_to_warm(dimensions, direction):
    values = np.zeros((4, dimensions))
    values[:, direction] = (-4, -2, 2, 4)
    colors = colors_at_places(draw_tags(np.zeros((128, 128, 3), np.uint8), gaussian_maps(), constant_tags(values)))
    assert colors[3, 2] > colors[0, 2] + 50


def test_places_without_people_show_the_grayed_image():
    base = image()
    drawn = draw_tags(base, gaussian_maps(), constant_tags(np.eye(4)))
    assert np.ptp(drawn[62:66, 62:66].astype(int), axis=2).max() <= 2
    assert (drawn[:2, :2].mean(axis=2) <= base[:2, :2].max(axis=2)).all()


@pytest.mark.parametrize("heat", [0.0, np.nan, 1.0, 7.0])
def test_constant_and_undefined_maps(heat):
    maps = np.full((4, 32, 32), heat)
    tags = np.full((4, 32, 32, 8), np.nan if np.isnan(heat) else 1.0)
    for drawn in (draw_tags(image(), maps, tags), heatmap_overlay(image(), maps)):
        assert (drawn.shape, drawn.dtype) == ((128, 128, 3), np.uint8)


def test_the_overlay_is_brightest_at_the_peak():
    drawn = heatmap_overlay(np.zeros((128, 128, 3), np.uint8), gaussian_maps(1)).sum(axis=2)
    row, column = np.unravel_index(drawn.argmax(), drawn.shape)
    assert abs(row - (4 * 8 + 1.5)) <= 1
    assert abs(column - (4 * 8 + 1.5)) <= 1
    assert drawn[100, 100] == 0


def test_the_overlay_takes_the_largest_over_joints():
    maps = gaussian_maps()
    np.testing.assert_array_equal(heatmap_overlay(image() * 0, maps), heatmap_overlay(image() * 0, maps.max(0)[None]))


@pytest.mark.parametrize(("size", "columns"), [((128, 128), None), ((30, 300), None), ((300, 30), 5), ((1, 1), 1)])
def test_the_grid_has_a_panel_for_each_joint(size, columns):
    maps = RNG.random((17, 8, 8))
    grid = heatmap_grid(image(*size), maps, COCO, columns)
    assert grid.dtype == np.uint8
    assert grid.shape[0] * grid.shape[1] >= 17 * 24 * 24


def test_inputs_stay_as_they_are():
    base, maps, tags = image(), gaussian_maps(), constant_tags(np.eye(4))
    copies = base.copy(), maps.copy(), tags.copy()
    draw_tags(base, maps, tags)
    heatmap_overlay(base, maps)
    heatmap_grid(base, np.zeros((17, 8, 8)), COCO)
    for now, before in zip((base, maps, tags), copies):
        np.testing.assert_array_equal(now, before)


def test_maps_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="tags"):
        draw_tags(image(), gaussian_maps(), np.zeros((4, 32, 31, 8)))
    with pytest.raises(ValueError, match="heatmaps"):
        heatmap_overlay(image(), np.zeros((32, 32)))
    with pytest.raises(ValueError, match="17 joints"):
        heatmap_grid(image(), gaussian_maps(), COCO)
