"""The four runs: perfect maps lose nothing, broken halves are repaired by the true ones."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from coupled_embedding.analysis.error_analysis.oracles import (
    ALL_TRUE,
    AS_FOUND,
    RUNS,
    TRUE_HEATMAPS,
    TRUE_TAGS,
    circle_tags,
    decode_runs,
)
from coupled_embedding.analysis.upper_bound import perfect_maps
from coupled_embedding.data.geometry import fit_geometry
from coupled_embedding.decode.aggregate import MergedMaps, PhotoMaps, merge_resolutions
from coupled_embedding.decode.decode import DecodeSettings
from coupled_embedding.decode.peaks import PeakSettings
from coupled_embedding.evaluation import ap_of_groups, poses_to_results

STRIDES = (4, 2)
SETTINGS = DecodeSettings(tuple(range(5)))


@pytest.fixture
def scene(crowd):
    """Three people: record, truth, schema, geometry and what a perfect network puts out."""
    records, truth, schema = crowd([crowd.person(4, 8), crowd.person(90, 30), crowd.person(170, 130)])
    geometry = fit_geometry((256, 256), 256)
    perfect = perfect_maps(records[0], geometry, STRIDES)
    return records[0], truth, schema, geometry, MergedMaps(merge_resolutions(perfect), perfect.tags).photo(0)


def scores(scene, maps: PhotoMaps, settings: DecodeSettings = SETTINGS) -> dict[str, float]:
    record, truth, schema, geometry, _ = scene
    runs = decode_runs(record, maps, geometry, STRIDES, settings)
    assert tuple(runs) == RUNS
    return {run: ap_of_groups(truth, poses_to_results({1: people}), schema, [[1]])[0] for run, people in runs.items()}


def test_perfect_maps_leave_nothing_to_win(scene) -> None:
    assert scores(scene, scene[4]) == dict.fromkeys(RUNS, 1.0)


def test_mixed_up_tags_are_repaired_by_true_grouping_alone(scene) -> None:
    record, _, _, geometry, maps = scene
    # the first joint's tags are the people's, the others' are their neighbours'
    numbers = (np.arange(3)[:, None] + np.minimum(np.arange(5), 2)) % 3
    mixed = perfect_maps(record, geometry, STRIDES, 10 * numbers[..., None].astype(np.float32) + 5)
    wrong = MergedMaps(merge_resolutions(mixed), mixed.tags).photo(0)
    found = scores(scene, PhotoMaps(maps.heatmaps, wrong.tags))
    assert found[AS_FOUND] < 0.3
    assert found[TRUE_HEATMAPS] == found[AS_FOUND]
    assert found[TRUE_TAGS] == found[ALL_TRUE] == 1


def test_missing_joints_are_repaired_by_true_heatmaps_alone(scene) -> None:
    maps = scene[4]
    heatmaps = maps.heatmaps.copy()
    heatmaps[2:] = 0.0
    found = scores(scene, PhotoMaps(heatmaps, maps.tags))
    assert found[AS_FOUND] == found[TRUE_TAGS] < 0.3
    assert found[TRUE_HEATMAPS] == found[ALL_TRUE] == 1


def test_duplicates_on_the_border_are_a_fault_of_finding(crowd) -> None:
    """Their tops are flat: as found they are two peaks, as the settings want; not in true heatmaps."""
    records, _, _ = crowd([crowd.person(0, 30, labels=[0, 2, 2, 0, 0]), crowd.person(100, 30)])
    record = replace(records[0], keypoints=records[0].keypoints.copy())
    record.keypoints[0, 1, 0] = 0.5  # its cell is the first
    geometry = fit_geometry((256, 256), 256)
    perfect = perfect_maps(record, geometry, (4,))
    maps = MergedMaps(merge_resolutions(perfect), perfect.tags).photo(0)
    settings = replace(SETTINGS, peaks=PeakSettings(one_per_plateau=False))
    runs = decode_runs(record, maps, geometry, (4,), settings)
    assert len(runs[AS_FOUND]) > 2
    assert len(runs[TRUE_HEATMAPS]) == len(runs[ALL_TRUE]) == 2


def test_a_photo_without_people(scene, crowd) -> None:
    record = crowd([])[0][0]
    runs = decode_runs(record, scene[4], scene[3], STRIDES, SETTINGS)
    assert len(runs[AS_FOUND]) == 3
    assert runs[TRUE_HEATMAPS] == runs[ALL_TRUE] == []


@pytest.mark.parametrize("people", [1, 2, 3, 10, 30])
@pytest.mark.parametrize("threshold", [0.5, 1.0, 2.0])
def test_mixed_circle_tags_are_nobody_elses(people: int, threshold: float) -> None:
    tags = circle_tags(people, 2, threshold)
    assert tags.shape == (people, 2, 2)
    points = tags[:, 0].astype(float)
    assert np.linalg.norm(points, axis=1).min() > 5 * threshold  # the background's tag is 0
    assert pdist(points).min(initial=np.inf) > 5 * threshold
    for share in np.linspace(0, 1, 21):
        mixed = share * points[:, None] + (1 - share) * points[None]
        distances = np.linalg.norm(mixed[:, :, None] - points, axis=3)  # (one, other, third)
        distances[np.arange(people), :, np.arange(people)] = np.inf
        distances[:, np.arange(people), np.arange(people)] = np.inf
        assert distances.min() > threshold
