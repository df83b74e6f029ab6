"""The error analysis as files: its numbers as JSON, and one HTML page with plots inside and nothing from outside."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from coupled_embedding.analysis.error_analysis import plots
from coupled_embedding.analysis.error_analysis.keypoint_errors import KIND_COLORS, KINDS
from coupled_embedding.analysis.error_analysis.oracles import ORACLE, ORACLE_GROUPING, ORACLE_HEATMAPS, PREDICTED, RUNS
from coupled_embedding.analysis.error_analysis.plots import Series, percent
from coupled_embedding.analysis.error_analysis.summary import ErrorAnalysis, Row
from coupled_embedding.analysis.plot_style import BLUE, GREEN, ORANGE, PURPLE, RED, SOFT, to_svg
from coupled_embedding.engine.evaluate import EvalJob
from coupled_embedding.utils.atomic import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GROUPED, _NEAREST = "joints grouped with their person", "joints nearest to their own mean tag"
# colors of the names that a row has numbers of
_RUN_COLORS = {PREDICTED: BLUE, ORACLE_GROUPING: RED, ORACLE_HEATMAPS: GREEN, ORACLE: SOFT}
_GROUPING_COLORS = {"joints detected": GREEN, _GROUPED: RED, "joints with most of their person's": ORANGE}
_TAG_COLORS = {
    _NEAREST: GREEN,
    "joints on their side, pair by pair": BLUE,
    "pairs separable": PURPLE,
    "pairs too close": RED,
}
_STYLE = """
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;color:#1f2937;background:#f4f6f8;
margin:0}
main{max-width:1180px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:26px;margin:0 0 2px}h2{font-size:20px;margin:38px 0 10px}h3{font-size:15px;margin:0 0 6px}
.about{color:#5b6472;margin:0 0 18px;overflow-wrap:anywhere}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(160px,1fr));gap:12px}
.cards div,figure{background:#fff;border:1px solid #e2e6ea;border-radius:10px;padding:12px 16px}
.cards b{display:block;font-size:26px;line-height:1.25}.cards span,figcaption{color:#5b6472;font-size:13px}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(440px,100%),1fr));gap:14px;margin-bottom:14px}
.plots.three{grid-template-columns:repeat(auto-fit,minmax(min(320px,100%),1fr))}
.stack{display:flex;flex-direction:column;gap:14px}
figure{margin:0}figure svg{width:100%;height:auto;display:block;stroke-linejoin:round}figcaption{margin-top:8px}
.answer{background:#e9f1fb;border-left:4px solid #0072b2;border-radius:6px;padding:10px 16px;margin:18px 0 0}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:12px;width:100%}
th,td{text-align:right;padding:4px 0 4px 8px;border-bottom:1px solid #e5e7eb;white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0}th{color:#5b6472;font-weight:600}
"""


def write_analysis(analysis: ErrorAnalysis, job: EvalJob, folder: Path) -> tuple[Path, Path]:
    """Write the page and the numbers into a folder; return their paths, or raise UserError."""
    about = {"name": job.name, "weights": str(job.weights), "data_set": job.schema.name, "split": job.split}
    html, numbers = folder / "diagnosis.html", folder / "diagnosis.json"
    text = page(analysis, job.name, f"{job.weights} · {job.schema.name} {job.split}")
    atomic_write(html, text, "the error analysis")
    text = json.dumps({**about, **analysis.to_dict()}, indent=1, allow_nan=False)
    atomic_write(numbers, text + "\n", "the error analysis")
    return html, numbers


def page(analysis: ErrorAnalysis, name: str, about: str) -> str:
    """Return the HTML text, under a name such as the run's and a line below it: weights, data set, split."""
    total = analysis.all
    people = f"{total.images} images, {total.people} people, {analysis.evaluator} rules"
    sections = {
        "Crowds": _crowds(analysis),
        "Detection or grouping?": _oracles(analysis),
        **({"Tags": _tags(analysis)} if analysis.tag_dims else {}),
        "Errors of detected people": _errors(analysis),
        "All numbers by crowd index and by people": _rows_table(analysis),
    }
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(name)}: diagnosis</title><style>{_STYLE}</style></head>\n<body><main>\n"
        f'<h1>{escape(name)}</h1><p class="about">{escape(about)} · {escape(people)}</p>\n'
        f"{_cards(analysis)}\n{_answer(analysis)}\n"
        + "\n".join(f"<section><h2>{escape(title)}</h2>\n{body}\n</section>" for title, body in sections.items())
        + "\n</main></body></html>\n"
    )


def _figure(title: str, figures: "Sequence[Figure]", caption: str, table: str = "") -> str:
    """Return plots under a title, which no other figure of the page has."""
    name = re.sub(r"\W+", "-", title.lower())
    content = "".join(to_svg(figure, f"{name}-{number}", title) for number, figure in enumerate(figures)) + table
    return f"<figure><h3>{escape(title)}</h3>{content}<figcaption>{escape(caption)}</figcaption></figure>"


def _grid(figures: Iterable[str], kind: str = "") -> str:
    return f'<div class="plots {kind}">{"".join(figures)}</div>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _number(value: float, form: str = ".2f") -> str:
    return format(value, form) if math.isfinite(value) else "n/a"


def _gain(row: Row, run: str) -> str:
    return _number(100 * (row.ap[run] - row.ap[PREDICTED]), "+.1f")


def _cards(d: ErrorAnalysis) -> str:
    cards = [
        (percent(d.all.ap[PREDICTED]), "AP as predicted"),
        (_gain(d.all, ORACLE_HEATMAPS), "AP with oracle heatmaps: lost in detection"),
        (_gain(d.all, ORACLE_GROUPING), "AP with oracle grouping: lost in grouping"),
        (
            f"{percent(d.all.shares['joints grouped with their person'])}%",
            "of detected joints grouped with their person",
        ),
    ]
    if d.tag_dims:
        scale = d.tags.scale.correlation if d.tags.scale else math.nan
        cards += [
            (f"{_number(d.tags.participation)} of {d.tag_dims}", "tag dimensions in use (participation ratio)"),
            (_number(scale), "correlation of encoded and true scale"),
        ]
    return '<div class="cards">' + "".join(f"<div><b>{v}</b><span>{t}</span></div>" for v, t in cards) + "</div>"


def _answer(d: ErrorAnalysis) -> str:
    """Return the paper's question and this data set's answer, from the least to the most crowded images."""
    if len(d.by_crowd_index) < 2:
        return ""
    first, last = d.by_crowd_index[0], d.by_crowd_index[-1]
    names = (_NEAREST, _GROUPED) if d.tag_dims else (_GROUPED,)
    shares = [f"{n} {percent(first.shares[n])} → {percent(last.shares[n])} percent" for n in names]
    text = (
        f"Are people kept apart in crowds? From crowd index {first.label} to {last.label}: {', '.join(shares)}, "
        f"AP with oracle grouping {_gain(first, ORACLE_GROUPING)} → {_gain(last, ORACLE_GROUPING)}."
    )
    return f'<p class="answer">{escape(text)}</p>'


def _values(row: Row) -> dict[str, float]:
    """Return a row's numbers by the names that table and plots show."""
    kinds = {f"joints: {kind}": value for kind, value in row.errors.items()}
    return {**{f"AP {run}": value for run, value in row.ap.items()}, **row.shares, **kinds}


def _labels(rows: Sequence[Row]) -> list[tuple[str, str]]:
    return [(row.label, f"n={row.images}") for row in rows]


def _line_plot(rows: Sequence[Row], colors: dict[str, str], axis: str) -> "Figure":
    series = [Series(name, color, [_values(row)[name] for row in rows]) for name, color in colors.items()]
    return plots.line_plot(series, _labels(rows), f"{axis} (n: images)")


def _by_both(d: ErrorAnalysis, title: str, colors: dict[str, str], caption: str) -> str:
    """Return a figure by crowd index and one by people."""
    axes = {"crowd index": d.by_crowd_index, "people in the image": d.by_people}
    return _grid(
        _figure(f"{title} by {axis}", [_line_plot(rows, colors, axis)], caption) for axis, rows in axes.items()
    )


def _crowds(d: ErrorAnalysis) -> str:
    caption = (
        "Grouped with their person: of the detected annotated joints, those in their person's group; a group belongs "
        "to one person. With most of their person's joints: whoever else is in that group."
    )
    return _by_both(d, "AP and grouping", {f"AP {PREDICTED}": BLUE, **_GROUPING_COLORS}, caption)


def _oracles(d: ErrorAnalysis) -> str:
    bars = plots.bar_plot([(run, d.all.ap[run], _RUN_COLORS[run]) for run in RUNS], "AP (percent)")
    rows = [[name, *(percent(d.runs[run][name]) for run in RUNS)] for name in d.runs[PREDICTED]]
    caption = (
        "The same decode with the tags of annotated joints (oracle grouping), with their heatmaps (oracle heatmaps), "
        "and with both: what cells and merged peaks cost remains."
    )
    colors = {f"AP {run}": color for run, color in _RUN_COLORS.items()}
    by_crowd = _line_plot(d.by_crowd_index, colors, "crowd index")
    below = "The gap to oracle grouping is lost in grouping, the gap to oracle heatmaps in detection."
    left = _figure("AP with oracles", [bars], caption, _table(["", *RUNS], rows))
    return _grid([left, _figure("AP with oracles by crowd index", [by_crowd], below)])


def _tags(d: ErrorAnalysis) -> str:
    caption = (
        "Tags at the annotated joints, each compared with the others. On their side: of two people's hyperplane; "
        "separable: pairs with all joints there; too close: mean tags nearer than the grouping threshold."
    )
    return _grid(_tag_figures(d), "three") + _by_both(d, "Separation", _TAG_COLORS, caption)


def _tag_figures(d: ErrorAnalysis) -> Iterable[str]:
    tags = d.tags
    correlation = plots.matrix_plot(tags.correlation, "tag dimension", "correlation")
    caption = (
        "Mean tags of people about their image's mean. Color off the diagonal: two dimensions carry the same. "
        f"Mean |r|: {_number(tags.mean_correlation)}."
    )
    yield _figure("Correlation of tag dimensions", [correlation], caption)
    spectrum = plots.column_plot(tags.spectrum, "principal direction", "share of variance", PURPLE)
    magnitudes = plots.column_plot(tags.magnitudes, "tag dimension", "mean |value|", GREEN)
    caption = (
        f"Effective rank of {d.tag_dims}: {_number(tags.participation)} (participation), {_number(tags.entropy_rank)} "
        f"(entropy). Sparsity of people's tags: {_number(tags.hoyer)} (Hoyer, 1: a single entry each); "
        f"{percent(tags.near_zero)}% of the entries are near zero."
    )
    yield _figure("Dimensions in use", [spectrum, magnitudes], caption)
    if fit := tags.scale:
        caption = (
            "The median and quartiles are of eight bins of equally many people; coupling asks for encoded = true. "
            f"r = {_number(fit.correlation)}, mean error {_number(fit.mean_error)}."
        )
        yield _figure("Scale", [plots.scale_plot(fit)], caption)


def _kinds(rows: Iterable[Sequence[float]]) -> list[Series]:
    return [Series(kind, KIND_COLORS[kind], column) for kind, column in zip(KINDS, zip(*rows), strict=True)]


def _errors(d: ErrorAnalysis) -> str:
    rows = [d.all, *d.by_crowd_index]
    by_crowd = plots.stacked_bars(_kinds([*row.errors.values()] for row in rows), _labels(rows), "")
    kinds = "Jitter: near; inversion: on the person's other side; swap: on another person; miss: on none of these."
    left = _figure("Joints of detected people by crowd index", [by_crowd], kinds)
    gained = [(name, value, KIND_COLORS.get(name, PURPLE)) for name, value in d.ap_gained.items()]
    gains = plots.bar_plot(gained, "AP gained (percentage points)", signed=True)
    repairs = (
        "Joints of one kind moved to their annotated places; detections that fit no person removed; missed people not "
        f"counted. {percent(d.all.shares['people missed'])}% of the people are missed; per image "
        f"{_number(d.all.background, '.1f')} detections fit no person, {_number(d.all.surplus, '.1f')} a taken one."
    )
    left += _figure("AP gained by each repair alone", [gains], repairs)
    names = [(name.replace("_", " "), str(sum(counts))) for name, counts in d.error_counts.items()]
    shares = _kinds([n / (sum(counts) or math.nan) for n in counts] for counts in d.error_counts.values())
    by_joint = "Shares among the labelled joints of matched people; their number on the right."
    right = _figure("Joints of detected people by joint", [plots.stacked_bars(shares, names, "joints")], by_joint)
    return _grid([f'<div class="stack">{left}</div>', right])


def _rows_table(d: ErrorAnalysis) -> str:
    figures = []
    for title, rows in (("crowd index", d.by_crowd_index), ("people in the image", d.by_people)):
        chosen = [*rows, d.all]
        lines = [["images", *(str(row.images) for row in chosen)], ["people", *(str(row.people) for row in chosen)]]
        lines += [[name, *(percent(_values(row)[name]) for row in chosen)] for name in _values(d.all)]
        table = _table([title, *(row.label for row in chosen)], lines)
        figures.append(_figure(f"All numbers by {title}", [], "In percent.", table))
    return _grid(figures)
