"""Photos sorted by crowd index and people."""

from dataclasses import replace

import pytest

from coupled_embedding.analysis.error_analysis.crowding import (
    bins_by_crowd_index,
    bins_by_people,
    crowd_index_of,
    people_of,
)


@pytest.fixture
def photo(crowd):
    return crowd([crowd.person(0, 0), crowd.person(0, 0), crowd.person(180, 100, labels=[0] * 5)])[0][0]


def test_people_without_labels_do_not_count(photo) -> None:
    assert people_of(photo) == 2


def test_crowd_index_is_the_files_else_the_formulas(photo) -> None:
    # each of the two has the other's five joints in the box
    assert crowd_index_of(photo) == 1
    assert crowd_index_of(replace(photo, crowd_index=0.25)) == 0.25
    alone = replace(photo, keypoints=photo.keypoints[:1], boxes=photo.boxes[:1])
    assert crowd_index_of(alone) == 0


def test_bins_by_crowd_index_have_crowdposes_borders(photo) -> None:
    values = (0.0, 0.19, 0.2, 0.79, 0.8, 1.0, 1.3)
    photos = [replace(photo, image_id=i, crowd_index=value) for i, value in enumerate(values)]
    found = {photo_bin.label: photo_bin.image_ids for photo_bin in bins_by_crowd_index(photos)}
    assert found == {"0–0.2": (0, 1), "0.2–0.4": (2,), "0.6–0.8": (3,), "0.8–1": (4, 5, 6)}


def test_bins_by_people(photo) -> None:
    one, box = photo.keypoints[:1], photo.boxes[:1]
    counts = (0, 1, 2, 3, 4, 5, 9, 14, 15, 40)
    photos = [replace(photo, image_id=n, keypoints=one.repeat(n, 0), boxes=box.repeat(n, 0)) for n in counts]
    found = {photo_bin.label: photo_bin.image_ids for photo_bin in bins_by_people(photos)}
    assert found == {"1": (1,), "2": (2,), "3–4": (3, 4), "5–6": (5,), "7–9": (9,), "10–14": (14,), "15+": (15, 40)}
    assert bins_by_people(photos[:1]) == bins_by_crowd_index(photos[:1]) == []
