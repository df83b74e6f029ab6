"""Images sorted by crowd index and people."""

from dataclasses import replace

import pytest

from coupled_embedding.analysis.error_analysis.crowding import (
    bins_by_crowd_index,
    bins_by_people,
    crowd_index_of,
    num_people,
)


@pytest.fixture
def image(crowd):
    return crowd([crowd.person(0, 0), crowd.person(0, 0), crowd.person(180, 100, labels=[0] * 5)])[0][0]


def test_people_without_labels_do_not_count(image) -> None:
    assert num_people(image) == 2


def test_crowd_index_is_the_files_else_the_formulas(image) -> None:
    # each of the two has the other's five joints in the box
    assert crowd_index_of(image) == 1
    assert crowd_index_of(replace(image, crowd_index=0.25)) == 0.25
    alone = replace(image, keypoints=image.keypoints[:1], boxes=image.boxes[:1])
    assert crowd_index_of(alone) == 0


def test_bins_by_crowd_index_have_crowdposes_borders(image) -> None:
    values = (0.0, 0.19, 0.2, 0.79, 0.8, 1.0, 1.3)
    images = [replace(image, image_id=i, crowd_index=value) for i, value in enumerate(values)]
    assert bins_by_crowd_index(images) == {"0–0.2": [0, 1], "0.2–0.4": [2], "0.6–0.8": [3], "0.8–1": [4, 5, 6]}


def test_bins_by_people(image) -> None:
    one, box = image.keypoints[:1], image.boxes[:1]
    counts = (0, 1, 2, 3, 4, 5, 9, 14, 15, 40)
    images = [replace(image, image_id=n, keypoints=one.repeat(n, 0), boxes=box.repeat(n, 0)) for n in counts]
    assert bins_by_people(images) == {
        "1": [1],
        "2": [2],
        "3–4": [3, 4],
        "5–6": [5],
        "7–9": [9],
        "10–14": [14],
        "15+": [15, 40],
    }
    assert bins_by_people(images[:1]) == bins_by_crowd_index(images[:1]) == {}
