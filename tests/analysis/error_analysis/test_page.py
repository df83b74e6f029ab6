"""The page is whole HTML, holds each section, and refers to nothing outside."""

import math
from dataclasses import fields, replace
from html.parser import HTMLParser

import pytest

from coupled_embedding.analysis.error_analysis.keypoint_errors import KINDS
from coupled_embedding.analysis.error_analysis.oracles import RUNS
from coupled_embedding.analysis.error_analysis.page import page
from coupled_embedding.analysis.error_analysis.plots import (
    Band,
    Series,
    bar_chart,
    cloud,
    columns,
    diverging,
    legend,
    line_chart,
    matrix,
)
from coupled_embedding.analysis.error_analysis.summary import (
    NO_BACKGROUND,
    REPAIRS,
    Diagnosis,
    GroupingShares,
    Row,
    TagShares,
)
from coupled_embedding.analysis.error_analysis.tag_figures import ScaleFit, TagFigures

NAN = math.nan
SECTIONS = ["Crowds", "Finding or grouping?", "Tags", "Errors of found people"]
VOID = {"meta"}
# what would load something, or run
OUTSIDE = (
    "http:",
    "https:",
    "//",
    "url(",
    "@import",
    "<script",
    "<link",
    "<iframe",
    "<img",
    " src=",
    " href=",
    "onload",
)


class Checker(HTMLParser):
    """Collects headings, texts and tags; fails where a tag is not closed in its turn."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert all("nan" not in (value or "") for _, value in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert all("nan" not in (value or "") for _, value in attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)


def row(label: str, value: float = 0.5, photos: int = 3) -> Row:
    tags = TagShares(*[value] * len(fields(TagShares)))
    grouping = GroupingShares(*[value] * len(fields(GroupingShares)))
    return Row(label, photos, 7, dict.fromkeys(RUNS, value), tags, grouping, dict.fromkeys(KINDS, value / 5), 0.1, 2, 1)


def diagnosis(value: float = 0.5, dims: int = 3) -> Diagnosis:
    scale = ScaleFit(value, 0.1, [0.2, 0.4], [0.1, 0.3], [0.2, 0.4], [0.3, 0.5], [(0.2, 0.3), (1.4, 0.5)])
    correlation = [[1.0 if i == j else -0.5 for j in range(dims)] for i in range(dims)]
    tags = TagFigures(7, 3, dims, correlation, value, [1 / dims] * dims, dims, dims, value, value, [1.0] * dims, scale)
    gained = {**dict.fromkeys(REPAIRS, 0.1), NO_BACKGROUND: -0.05}
    runs = {run: {"AP": value, "AP50": value} for run in RUNS}
    counts = {"neck": [1, 2, 3, 4, 5], "left_hand": [0] * 5}
    rows = [row("0–0.2", 0.7), row("0.8–1", value, 1)]
    return Diagnosis("coco", ("neck", "left_hand"), dims, 2, runs, row("all"), rows, [row("1")], tags, counts, gained)


@pytest.mark.parametrize("dims", [1, 3, 20])
def test_the_page_is_whole_and_holds_each_section(dims: int) -> None:
    html = page(diagnosis(dims=dims), "my run", "best.pth · coco val2017")
    checker = Checker(html)
    assert checker.texts["h1"] == ["my run"]
    assert checker.texts["h2"][:4] == SECTIONS
    assert checker.tags.count("svg") >= 12
    assert not [word for word in OUTSIDE if word in html]
    # each plot is explained
    assert checker.tags.count("figure") == checker.tags.count("figcaption")
    assert all(len(text) >= 10 for text in checker.texts["figcaption"])


def test_the_answer_compares_the_ends() -> None:
    html = page(diagnosis(0.25), "x", "y")
    assert "From crowd index 0–0.2 to 0.8–1" in html
    assert "70.0 → 25.0 percent" in html
    assert 'class="answer"' not in page(replace(diagnosis(), by_crowd_index=[row("0–0.2")]), "x", "y")


def test_names_are_escaped() -> None:
    html = page(diagnosis(), "<script>a & b</script>", '"><img>')
    Checker(html)
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;a &amp; b" in html


def test_a_data_set_without_people() -> None:
    tags = TagFigures(0, 0, 2, [[NAN] * 2] * 2, NAN, [], NAN, NAN, NAN, NAN, [NAN] * 2, None)
    empty = replace(row("all", NAN, 4), missed=NAN, errors=dict.fromkeys(KINDS, NAN))
    gained = dict.fromkeys(REPAIRS, NAN)
    runs = {run: {"AP": NAN} for run in RUNS}
    nobody = Diagnosis("coco", ("neck",), 2, 1, runs, empty, [], [], tags, {"neck": [0] * 5}, gained)
    checker = Checker(page(nobody, "nobody", ""))
    assert "n/a" in checker.texts["b"]
    assert nobody.to_dict()["runs"]["as found"]["AP"] is None


def numbers_of(svg: str, tag: str, attribute: str) -> list[float]:
    parts = svg.split(f"<{tag} ")[1:]
    return [float(part.split(f'{attribute}="')[1].split('"')[0]) for part in parts]


def test_lines_leave_out_what_is_not_known() -> None:
    svg = line_chart([Series("a", "#123456", [0.0, NAN, 1.0])], [("x", ""), ("y", ""), ("z", "")], "plot", "axis")
    tops = numbers_of(svg, "circle", "cy")
    assert len(tops) == 2
    assert tops[0] > tops[1]  # y runs down
    assert ">x<" in svg
    assert "dashed" not in legend([Series("a", "#123456", [])])


def test_bars_are_as_long_as_their_values() -> None:
    widths = numbers_of(bar_chart([("a", 0.2, "red"), ("b", 0.4, "red"), ("c", NAN, "red")], "plot"), "rect", "width")
    assert widths[1] == pytest.approx(2 * widths[0])
    signed = bar_chart([("a", 0.1, "red"), ("b", -0.05, "red")], "plot", signed=True)
    starts, widths = numbers_of(signed, "rect", "x"), numbers_of(signed, "rect", "width")
    assert starts[1] + widths[1] == pytest.approx(starts[0])
    assert widths[0] == pytest.approx(2 * widths[1])
    assert "+10.0" in signed
    assert "-5.0" in signed


def test_columns_and_matrix_show_their_numbers() -> None:
    svg = columns([0.5, 0.25, NAN], "plot", "axis", "red")
    heights = numbers_of(svg, "rect", "height")
    assert heights[0] == pytest.approx(2 * heights[1])
    assert heights[2] == 0
    svg = matrix([[1.0, -0.25], [NAN, 1.0]], "plot")
    assert ">-.25<" in svg
    assert ">–<" in svg


def test_colours_run_from_orange_over_white_to_blue() -> None:
    assert diverging(0) == "#ffffff"
    assert diverging(1) == diverging(3) == "#2563b4"
    assert diverging(-1) == "#d96b27"
    assert diverging(NAN) == "#e5e7eb"


def test_the_cloud_grows_with_large_people() -> None:
    svg = cloud([(2.0, 0.5), (1.0, 0.5)], Band([1.0], [0.4], [0.5], [0.6]), "plot", ("x", "y"), "red")
    far, near = numbers_of(svg, "circle", "cx")
    assert far == pytest.approx(390)
    assert near == pytest.approx((44 + 390) / 2)
