"""The four runs: perfect maps lose nothing, wrong halves are repaired by the oracle's."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from coupled_embedding.analysis.error_analysis.oracles import (
    ORACLE,
    ORACLE_GROUPING,
    ORACLE_HEATMAPS,
    PREDICTED,
    RUNS,
    circle_tags,
    decode_runs,
)
from coupled_embedding.analysis.upper_bound import perfect_maps
from coupled_embedding.data.geometry import resize_geometry
from coupled_embedding.decode.aggregate import ImageMaps
from coupled_embedding.decode.options import DecodeOptions, PeakOptions
from coupled_embedding.evaluation import ap_of_groups, poses_to_results

STRIDES = (4, 2)
OPTIONS = DecodeOptions(tuple(range(5)))


@pytest.fixture
def scene(crowd):
    """Three people: record, truth, schema, geometry and the output of a perfect network."""
    records, truth, schema = crowd([crowd.person(4, 8), crowd.person(90, 30), crowd.person(170, 130)])
    geometry = resize_geometry((256, 256), 256)
    return records[0], truth, schema, geometry, perfect_maps(records[0], geometry, STRIDES)


def scores(scene, maps: ImageMaps, options: DecodeOptions = OPTIONS) -> dict[str, float]:
    record, truth, schema, geometry, _ = scene
    runs = decode_runs(record, maps, geometry, STRIDES, options)
    assert tuple(runs) == RUNS
    return {run: ap_of_groups(truth, poses_to_results({1: people}), schema, [[1]])[0] for run, people in runs.items()}


def test_perfect_maps_leave_nothing_to_gain(scene) -> None:
    assert scores(scene, scene[4]) == dict.fromkeys(RUNS, 1.0)


def test_mixed_up_tags_are_repaired_by_oracle_grouping_alone(scene) -> None:
    record, _, _, geometry, maps = scene
    # the first joint's tags are the people's, the others' are their neighbors'
    numbers = (np.arange(3)[:, None] + np.minimum(np.arange(5), 2)) % 3
    wrong = perfect_maps(record, geometry, STRIDES, 10 * numbers[..., None].astype(np.float32) + 5)
    ap = scores(scene, ImageMaps(maps.heatmaps, wrong.tags))
    assert ap[PREDICTED] < 0.3
    assert ap[ORACLE_HEATMAPS] == ap[PREDICTED]
    assert ap[ORACLE_GROUPING] == ap[ORACLE] == 1


def test_missing_joints_are_repaired_by_oracle_heatmaps_alone(scene) -> None:
    maps = scene[4]
    heatmaps = maps.heatmaps.copy()
    heatmaps[2:] = 0.0
    ap = scores(scene, ImageMaps(heatmaps, maps.tags))
    assert ap[PREDICTED] == ap[ORACLE_GROUPING] < 0.3
    assert ap[ORACLE_HEATMAPS] == ap[ORACLE] == 1


def test_duplicates_on_the_border_are_a_fault_of_detection(crowd) -> None:
    """Their tops are flat: two peaks as predicted, as the options say; not in oracle heatmaps."""
    records, _, _ = crowd([crowd.person(0, 30, labels=[0, 2, 2, 0, 0]), crowd.person(100, 30)])
    record = replace(records[0], keypoints=records[0].keypoints.copy())
    record.keypoints[0, 1, 0] = 0.5  # its cell is the first
    geometry = resize_geometry((256, 256), 256)
    maps = perfect_maps(record, geometry, (4,))
    options = replace(OPTIONS, peaks=PeakOptions(dedup_plateaus=False))
    runs = decode_runs(record, maps, geometry, (4,), options)
    assert len(runs[PREDICTED]) > 2
    assert len(runs[ORACLE_HEATMAPS]) == len(runs[ORACLE]) == 2


def test_an_image_without_people(scene, crowd) -> None:
    record = crowd([])[0][0]
    runs = decode_runs(record, scene[4], scene[3], STRIDES, OPTIONS)
    assert len(runs[PREDICTED]) == 3
    assert runs[ORACLE_HEATMAPS] == runs[ORACLE] == []


@pytest.mark.parametrize("people", [1, 2, 3, 10, 30])
@pytest.mark.parametrize("threshold", [0.5, 1.0, 2.0])
def test_mixed_circle_tags_are_far_from_other_people(people: int, threshold: float) -> None:
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
