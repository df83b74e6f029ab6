"""Published figures of other systems: a file of them, and its table."""

import math
from pathlib import Path

import pytest
import yaml

from coupled_embedding.utils.errors import ConfigError
from coupled_embedding.zoo.published import Figure, load_published, published_table

FIGURES = load_published(Path(__file__).resolve().parents[2] / "models/published/systems.yaml")
GOOD = {"system": "x", "finds": "tags", "data": "COCO", "score": "AP", "percent": 50.0, "source": "a paper"}


def of(system: str, data: str) -> float:
    (found,) = [figure.percent for figure in FIGURES if (figure.system, figure.data) == (system, data)]
    return found


def test_the_best_known_figures_are_there():
    assert of("BoIR, HRNet-W48, from COCO", "CrowdPose test") == 77.2
    assert of("OpenPose", "COCO test-dev2017") == 61.8
    assert of("Stacked hourglass, 8 stacks, later program", "MPII single person, val") == 90.1
    assert not next(f for f in FIGURES if f.system == "OpenPose, version of 2018").checked


def test_no_figure_is_there_twice():
    keys = [(figure.system, figure.data, figure.score) for figure in FIGURES]
    assert len(set(keys)) == len(keys)


def test_the_table_groups_by_data_and_marks_the_best_and_the_unchecked():
    figures = [
        Figure("a", "tags", "COCO", "AP", 60.0, "s"),
        Figure("b", "tags", "MPII", "mAP", 87.95, "s", checked=False),
        Figure("c", "boxes", "COCO", "AP", 64.2, "s", checked=False, notes="n"),
    ]
    lines = published_table(figures).splitlines()
    assert lines[2:] == [
        "| COCO | a | tags | AP | 60.0 | s |  |",
        "| COCO | c | boxes | AP | **64.2** † | s | n |",
        "| MPII | b | tags | mAP | 87.95 † | s |  |",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "expected a list of figures"),
        ([GOOD, {**GOOD, "percent": 50}], "entry 2: percent: expected a float, got 50"),
        ([{**GOOD, "percent": 101.0}], "entry 1: percent: expected 0 to 100, got 101.0"),
        ([{**GOOD, "percent": math.nan}], "entry 1: percent: expected 0 to 100, got nan"),
        ([{**GOOD, "AP": 1.0}], "entry 1: unknown field 'AP'"),
        ([{"system": "x"}], "entry 1: field 'finds' is missing"),
        (["x"], "entry 1: expected the fields system, finds"),
    ],
)
def test_a_wrong_entry_is_named_with_file_and_field(content, message, tmp_path):
    path = tmp_path / "peers.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=r"peers\.yaml") as caught:
        load_published(path)
    assert message in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot read these figures"):
        load_published(tmp_path / "none.yaml")
