"""The page is whole HTML, holds each section, and refers to nothing outside; the plots show their numbers."""

import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex

from coupled_embedding.analysis.error_analysis.grouping_accuracy import GroupingCounts
from coupled_embedding.analysis.error_analysis.keypoint_errors import KINDS
from coupled_embedding.analysis.error_analysis.oracles import RUNS
from coupled_embedding.analysis.error_analysis.page import page
from coupled_embedding.analysis.error_analysis.plots import (
    Series,
    bar_plot,
    column_plot,
    line_plot,
    matrix_plot,
    scale_plot,
    stacked_bars,
)
from coupled_embedding.analysis.error_analysis.separation import Separation
from coupled_embedding.analysis.error_analysis.summary import NO_BACKGROUND, REPAIRS, ErrorAnalysis, Row
from coupled_embedding.analysis.error_analysis.tags import ScaleFit, TagSummary
from coupled_embedding.analysis.plot_style import BLUE, GRID, RED, to_svg

NAN = math.nan
SECTIONS = ["Crowds", "Detection or grouping?", "Tags", "Errors of detected people"]
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


def row(label: str, value: float = 0.5, images: int = 3) -> Row:
    shares = dict.fromkeys([*GroupingCounts().shares(), *Separation().shares(), "people missed"], value)
    return Row(label, images, 7, dict.fromkeys(RUNS, value), shares, dict.fromkeys(KINDS, value / 5), 2, 1)


def analysis(value: float = 0.5, dims: int = 3) -> ErrorAnalysis:
    scale = ScaleFit(value, 0.1, [0.2, 0.4], [0.1, 0.3], [0.2, 0.4], [0.3, 0.5], [(0.2, 0.3), (1.4, 0.5)])
    correlation = [[1.0 if i == j else -0.5 for j in range(dims)] for i in range(dims)]
    tags = TagSummary(7, 3, dims, correlation, value, [1 / dims] * dims, dims, dims, value, value, [1.0] * dims, scale)
    gained = {**dict.fromkeys(REPAIRS, 0.1), NO_BACKGROUND: -0.05}
    runs = {run: {"AP": value, "AP50": value} for run in RUNS}
    counts = {"neck": [1, 2, 3, 4, 5], "left_hand": [0] * 5}
    rows = [row("0–0.2", 0.7), row("0.8–1", value, 1)]
    return ErrorAnalysis(
        "coco", ("neck", "left_hand"), dims, 2, runs, row("all"), rows, [row("1")], tags, counts, gained
    )


@pytest.mark.parametrize("dims", [1, 3, 20])
def test_the_page_is_whole_and_holds_each_section(dims: int) -> None:
    html = page(analysis(dims=dims), "my run", "best.pth · coco val2017")
    checker = Checker(html)
    assert checker.texts["h1"] == ["my run"]
    assert checker.texts["h2"][:4] == SECTIONS
    assert checker.tags.count("svg") >= 12
    assert not [word for word in OUTSIDE if word in html]
    # each plot is explained
    assert checker.tags.count("figure") == checker.tags.count("figcaption")
    assert all(len(text) >= 10 for text in checker.texts["figcaption"])


def test_the_answer_compares_the_ends() -> None:
    html = page(analysis(0.25), "x", "y")
    assert "From crowd index 0–0.2 to 0.8–1" in html
    assert "70.0 → 25.0 percent" in html
    assert 'class="answer"' not in page(replace(analysis(), by_crowd_index=[row("0–0.2")]), "x", "y")


def test_names_are_escaped() -> None:
    html = page(analysis(), "<script>a & b</script>", '"><img>')
    Checker(html)
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;a &amp; b" in html


def test_a_data_set_without_people() -> None:
    tags = TagSummary(0, 0, 2, [[NAN] * 2] * 2, NAN, [], NAN, NAN, NAN, NAN, [NAN] * 2, None)
    empty = row("all", NAN, 4)
    gained = dict.fromkeys(REPAIRS, NAN)
    runs = {run: {"AP": NAN} for run in RUNS}
    without = ErrorAnalysis("coco", ("neck",), 2, 1, runs, empty, [], [], tags, {"neck": [0] * 5}, gained)
    checker = Checker(page(without, "no people", ""))
    assert "n/a" in checker.texts["b"]
    assert without.to_dict()["runs"]["predicted"]["AP"] is None


def test_ids_are_unique_and_each_reference_is_to_one_of_them() -> None:
    html = page(analysis(), "x", "y")
    ids = re.findall(r'\bid="([^"]*)"', html)
    assert len(ids) == len(set(ids)) > 20
    references = re.findall(r'href="([^"]*)"', html)
    assert references
    assert {reference[1:] for reference in references} <= set(ids)


def test_the_page_depends_on_the_numbers_alone() -> None:
    before = dict(mpl.rcParams)
    first = page(analysis(), "x", "y")
    assert dict(mpl.rcParams) == before
    with mpl.style.context("dark_background"), mpl.rc_context({"font.size": 20, "svg.fonttype": "path"}):
        changed = dict(mpl.rcParams)
        assert page(analysis(), "x", "y") == first
        assert dict(mpl.rcParams) == changed


def texts_of(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_lines_leave_out_what_is_not_known() -> None:
    figure = line_plot([Series("a & b", "#123456", [0.0, NAN, 1.0])], [("x", ""), ("y", ""), ("z", "")], "axis")
    (axes,) = figure.axes
    assert axes.lines[0].get_xydata().tolist() == [[0, 0], [2, 100]]
    svg = to_svg(figure, "plot", "a plot")
    assert re.findall(">([xyz])<", svg) == ["x", "y", "z"]
    # the values show under the mouse
    assert re.findall("<title>(.*?)</title>", svg) == ["a &amp; b: 0.0", "a &amp; b: 100.0"]
    assert "no images with people" in texts_of(line_plot([Series("a", "#123456", [])], [], "axis").axes[0])
    many = line_plot([Series(f"line {n}", "#123456", [0.5]) for n in range(8)], [("x", "")], "axis")
    assert [text.get_text() for text in many.legends[0].get_texts()] == [f"line {n}" for n in range(8)]


def test_bars_are_as_long_as_their_values() -> None:
    (axes,) = bar_plot([("a", 0.2, "red"), ("b", 0.4, "red"), ("c", NAN, "red")], "AP").axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([20, 40, 0])
    assert texts_of(axes) == ["20.0", "40.0", "n/a"]
    (axes,) = bar_plot([("a", 0.1, "red"), ("b", -0.05, "red")], "gain", signed=True).axes
    assert [(bar.get_x(), bar.get_width()) for bar in axes.patches] == [(0, pytest.approx(10)), (0, pytest.approx(-5))]
    assert texts_of(axes) == ["+10.0", "-5.0"]


def test_stacked_bars_follow_each_other_and_say_their_shares() -> None:
    series = [
        Series("a", "#000000", [0.5, NAN]),
        Series("b", "#ffffff", [0.46, NAN]),
        Series("c", "#888888", [0.04, NAN]),
    ]
    figure = stacked_bars(series, [("x", "7"), ("y", "8")], "joints")
    (axes,) = figure.axes
    first, second, third = (bar for bar in axes.patches if bar.get_y() < 0.5)
    assert second.get_x() == pytest.approx(first.get_width()) == pytest.approx(50)
    assert third.get_x() == pytest.approx(96)
    assert [text for text in texts_of(axes) if text] == ["50", "46", "7", "8", "joints"]  # too narrow for its number
    assert "<title>c: 4.0</title>" in to_svg(figure, "plot", "a plot")


def test_columns_and_matrix_show_their_numbers() -> None:
    (axes,) = column_plot([0.5, 0.25, NAN], "dimension", "share", "red").axes
    assert [bar.get_height() for bar in axes.patches] == [0.5, 0.25, 0]
    assert texts_of(axes) == ["0.50", "0.25", "–"]
    assert texts_of(matrix_plot([[1.0, -0.25], [NAN, 1.0]], "dimension", "r").axes[0]) == ["1.00", "-.25", "–", "1.00"]


def test_many_columns_and_large_matrices_show_their_numbers_under_the_mouse() -> None:
    for figure, tips in (
        (column_plot([0.5] * 16, "dimension", "share", "red"), ["0.50"] * 16),
        (matrix_plot(np.eye(16).tolist(), "dimension", "r"), [f"{n}, {n}: 1.00" for n in range(1, 17)]),
    ):
        assert texts_of(figure.axes[0]) == []
        found = re.findall("<title>(.*?)</title>", to_svg(figure, "plot", "a plot"))
        assert [text for text in found if not text.endswith(": .00")] == tips


def test_colors_run_from_orange_over_white_to_blue() -> None:
    axes, bar = matrix_plot([[0, 1, NAN], [3, -1, 0], [0, 0, 0]], "dimension", "r").axes
    colors = [to_hex(cell.get_facecolor()) for cell in axes.patches]
    assert colors == ["#ffffff", BLUE.lower(), GRID, BLUE.lower(), RED.lower(), *["#ffffff"] * 4]
    assert bar.get_ylabel() == "r"


def test_the_scale_plot_grows_with_large_people() -> None:
    fit = ScaleFit(0.5, 0.1, [1.0], [0.4], [0.5], [0.6], [(2.0, 0.5), (1.0, 0.5)])
    (axes,) = scale_plot(fit).axes
    assert axes.get_xlim() == axes.get_ylim() == (0, 2)
    assert axes.lines[1].get_xydata().tolist() == [[2, 0.5], [1, 0.5]]
    assert scale_plot(replace(fit, people=[(0.2, 0.5)])).axes[0].get_xlim() == (0, 1)
