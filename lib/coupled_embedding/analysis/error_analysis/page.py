"""The diagnosis as one HTML page: plots inside, no script, nothing loaded from anywhere."""

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape

from coupled_embedding.analysis.error_analysis.keypoint_errors import KINDS
from coupled_embedding.analysis.error_analysis.oracles import ALL_TRUE, AS_FOUND, RUNS, TRUE_HEATMAPS, TRUE_TAGS
from coupled_embedding.analysis.error_analysis.plots import (
    Band,
    Series,
    bar_chart,
    cloud,
    columns,
    legend,
    line_chart,
    matrix,
    percent,
    stacked_bars,
)
from coupled_embedding.analysis.error_analysis.summary import Diagnosis, Row

RUN_COLORS = {AS_FOUND: "#2563b4", TRUE_TAGS: "#d96b27", TRUE_HEATMAPS: "#2a9d6f", ALL_TRUE: "#9ca3af"}
KIND_COLORS = dict(zip(KINDS, ("#3fa46a", "#b9dca0", "#f2c14e", "#d9482b", "#7b8494"), strict=True))
_TEAL, _PURPLE, _BLUE, _ORANGE = "#0f8b8d", "#7c4dbd", "#2563b4", "#d96b27"

_STYLE = """
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;color:#1f2937;background:#f4f6f8;
margin:0}
main{max-width:1120px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:26px;margin:0 0 2px}h2{font-size:20px;margin:38px 0 10px}h3{font-size:15px;margin:0 0 6px}
.about{color:#6b7280;margin:0 0 18px;overflow-wrap:anywhere}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(160px,1fr));gap:12px}
.cards div,figure{background:#fff;border:1px solid #e2e6ea;border-radius:10px}
.cards div{padding:12px 16px}.cards b{display:block;font-size:26px;line-height:1.25}
.cards span{color:#6b7280;font-size:13px}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(440px,100%),1fr));gap:14px}
.stack{display:flex;flex-direction:column;gap:14px}
.plots.three{grid-template-columns:repeat(auto-fit,minmax(min(320px,100%),1fr))}
figure{margin:0;padding:14px 18px}figure svg{width:100%;height:auto;display:block}
figcaption{color:#4b5563;font-size:13px;margin-top:8px}
.legend{margin:0 0 4px;font-size:13px}.legend span{margin-right:14px;white-space:nowrap}
.legend i{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:5px}
.answer{background:#e9f1fb;border-left:4px solid #2563b4;border-radius:6px;padding:10px 16px;margin:18px 0 0}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px;width:100%;background:#fff}
th,td{text-align:right;padding:4px 7px;border-bottom:1px solid #e5e7eb;white-space:nowrap}
th:first-child,td:first-child{text-align:left}thead th{color:#6b7280;font-weight:600;vertical-align:bottom}
"""


def page(diagnosis: Diagnosis, name: str, about: str) -> str:
    """Return the HTML text.

    Args:
        diagnosis: the figures.
        name: heading, such as the run's name.
        about: line below it: weights, data set, split.
    """
    everything = diagnosis.all
    people = f"{everything.photos} photos, {everything.people} people, {diagnosis.evaluator} rules"
    body = [
        f'<h1>{escape(name)}</h1><p class="about">{escape(about)} · {escape(people)}</p>',
        _cards(diagnosis),
        _answer(diagnosis),
        _section("Crowds", _crowds(diagnosis)),
        _section("Finding or grouping?", _oracles(diagnosis)),
        _section("Tags", _tags(diagnosis)),
        _section("Errors of found people", _errors(diagnosis)),
        _section("The figures by crowd index and by people", _rows_table(diagnosis)),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(name)}: diagnosis</title><style>{_STYLE}</style></head>\n<body><main>\n"
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>\n{content}\n</section>"


def _figure(title: str, plot: str, caption: str) -> str:
    return f"<figure><h3>{escape(title)}</h3>{plot}<figcaption>{escape(caption)}</figcaption></figure>"


def _plots(figures: Iterable[str], kind: str = "") -> str:
    return f'<div class="plots {kind}">{"".join(figures)}</div>'


def _cards(d: Diagnosis) -> str:
    ap = d.all.ap
    cards = [
        (percent(ap[AS_FOUND]), "AP as found"),
        (_gain(ap[TRUE_HEATMAPS] - ap[AS_FOUND]), "AP with true heatmaps: lost in finding joints"),
        (_gain(ap[TRUE_TAGS] - ap[AS_FOUND]), "AP with true grouping: lost in grouping them"),
        (f"{percent(d.all.grouping.one_to_one)}%", "of found joints grouped with their person"),
        (f"{_number(d.tags.participation)} of {d.tag_dims}", "tag dimensions in use (participation ratio)"),
        (_number(d.tags.scale.correlation if d.tags.scale else math.nan), "correlation of told and true scale"),
    ]
    return '<div class="cards">' + "".join(f"<div><b>{v}</b><span>{t}</span></div>" for v, t in cards) + "</div>"


def _gain(value: float) -> str:
    return f"{100 * value:+.1f}" if math.isfinite(value) else "n/a"


def _number(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "n/a"


def _answer(d: Diagnosis) -> str:
    """Return the paper's question and this data set's answer, from the least to the most crowded photos."""
    if len(d.by_crowd_index) < 2:
        return ""
    calm, crowd = d.by_crowd_index[0], d.by_crowd_index[-1]

    def both(value: Callable[[Row], float]) -> str:
        return f"{percent(value(calm))} → {percent(value(crowd))}"

    text = (
        f"Do the tags separate people in crowds? From crowd index {calm.label} to {crowd.label}: "
        f"joints nearest to their own person's tag {both(lambda r: r.tags.nearest)} percent, "
        f"joints grouped with their person {both(lambda r: r.grouping.one_to_one)} percent, "
        f"AP that true grouping would win {both(lambda r: r.ap[TRUE_TAGS] - r.ap[AS_FOUND])}."
    )
    return f'<p class="answer">{escape(text)}</p>'


def _labels(rows: Sequence[Row]) -> list[tuple[str, str]]:
    return [(row.label, f"{row.photos} photo{'s' * (row.photos != 1)}") for row in rows]


def _both(d: Diagnosis, title: str, lines: Callable[[Sequence[Row]], list[Series]], caption: str) -> list[str]:
    """Return a figure by crowd index and one by people."""
    figures = []
    for rows, axis in ((d.by_crowd_index, "crowd index"), (d.by_people, "people in the photo")):
        series = lines(rows)
        plot = legend(series) + line_chart(series, _labels(rows), f"{title} by {axis}", axis)
        figures.append(_figure(f"{title} by {axis}", plot, caption))
    return figures


def _crowds(d: Diagnosis) -> str:
    def lines(rows: Sequence[Row]) -> list[Series]:
        return [
            Series("AP", _BLUE, [row.ap[AS_FOUND] for row in rows]),
            Series("joints detected", _TEAL, [row.grouping.detected for row in rows]),
            Series("grouped with their person", _ORANGE, [row.grouping.one_to_one for row in rows]),
            Series("with most of their person's", _ORANGE, [row.grouping.together for row in rows], dashed=True),
        ]

    caption = (
        "Orange: of the detected true joints, those in their person's group; a group belongs to one person. "
        "Dashed: those with most of their person's joints, whoever else is in that group."
    )
    return _plots(_both(d, "AP and grouping", lines, caption))


def _oracles(d: Diagnosis) -> str:
    bars = [(run, d.all.ap[run], RUN_COLORS[run]) for run in RUNS]
    caption = (
        "The same decode with true tags at true joints (grouping repaired), with true heatmaps (finding repaired), "
        "and with both: what cells and merged peaks cost remains."
    )
    series = [Series(run, RUN_COLORS[run], [row.ap[run] for row in d.by_crowd_index]) for run in RUNS]
    lines = legend(series) + line_chart(series, _labels(d.by_crowd_index), "AP of each run", "crowd index")
    below = "The gap from blue to orange is lost in grouping, that from blue to green in finding."
    return _plots(
        [
            _figure("AP with parts made true", bar_chart(bars, "AP of each run") + _scores_table(d), caption),
            _figure("The same by crowd index", lines, below),
        ]
    )


def _scores_table(d: Diagnosis) -> str:
    names = list(d.runs[AS_FOUND])
    return _table(["", *RUNS], [[name, *(percent(d.runs[run][name]) for run in RUNS)] for name in names])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _tags(d: Diagnosis) -> str:
    def lines(rows: Sequence[Row]) -> list[Series]:
        return [
            Series("joints nearest to their own mean", _TEAL, [row.tags.nearest for row in rows]),
            Series("on their side, pair by pair", _BLUE, [row.tags.joints_right for row in rows]),
            Series("pairs separable", _PURPLE, [row.tags.separable_pairs for row in rows]),
            Series("pairs too close", _ORANGE, [row.tags.close_pairs for row in rows], dashed=True),
        ]

    caption = (
        "Tags at the true joints, each judged by the others. Blue: on the right side of two people's hyperplane; "
        "purple: pairs with all joints there. Orange: mean tags nearer than the grouping threshold."
    )
    return _plots(_tag_figures(d), "three") + "<p></p>" + _plots(_both(d, "Separation", lines, caption))


def _tag_figures(d: Diagnosis) -> list[str]:
    tags = d.tags
    ranks = f"{_number(tags.participation)} (participation), {_number(tags.entropy_rank)} (entropy)"
    spectrum = columns(tags.spectrum, "Share of the variance", "principal direction, share of the variance", _PURPLE)
    sizes = columns(tags.magnitudes, "Mean magnitude of each dimension", "tag dimension, mean |value|", _TEAL)
    figures = [
        _figure(
            "Correlation of tag dimensions",
            matrix(tags.correlation, "Correlation of tag dimensions"),
            f"Mean tags of people about their photo's mean. Blue or orange beside the diagonal: two dimensions say the "
            f"same. Mean |r|: {_number(tags.mean_correlation)}.",
        ),
        _figure(
            "Dimensions in use",
            spectrum + sizes,
            f"Effective rank of {d.tag_dims}: {ranks}. Sparsity of people's tags: {_number(tags.hoyer)} (Hoyer, 1: one "
            f"entry each); {percent(tags.near_zero)}% of the entries are near zero.",
        ),
    ]
    if tags.scale:
        fit = tags.scale
        plot = cloud(
            fit.people,
            Band(fit.true, fit.lower, fit.median, fit.upper),
            "Scale that tags tell against true scale",
            ("true scale of the person", "scale that the tags tell"),
            _BLUE,
        )
        caption = (
            f"Dots: people; line and band: median and quartiles; grey: what coupling asks for. "
            f"r = {_number(fit.correlation)}, mean error {_number(fit.mean_error)}."
        )
        figures.append(_figure("Scale", plot, caption))
    return figures


def _kinds(rows: Sequence[Sequence[float]]) -> list[Series]:
    return [Series(kind, KIND_COLORS[kind], [row[i] for row in rows]) for i, kind in enumerate(KINDS)]


def _errors(d: Diagnosis) -> str:
    shares = _kinds([[row.errors[kind] for kind in KINDS] for row in (d.all, *d.by_crowd_index)])
    labels = _labels([d.all, *d.by_crowd_index])
    by_crowd = legend(shares) + stacked_bars(shares, labels, "Kinds of joints by crowd index")
    counts = list(d.error_counts.values())
    of_joints = _kinds([[count / sum(row) if sum(row) else math.nan for count in row] for row in counts])
    names = [(name.replace("_", " "), str(sum(row))) for name, row in zip(d.joints, counts)]
    gained = [(name, value, KIND_COLORS.get(name, "#4b5563")) for name, value in d.ap_gained.items()]
    about_people = (
        f"{percent(d.all.missed)}% of the people are missed; per photo {_number(d.all.background, 1)} found people fit "
        f"nobody and {_number(d.all.surplus, 1)} somebody who is taken."
    )
    repair = (
        "Joints of one kind moved to their true places; people who fit nobody removed; missed people not asked for. "
        + about_people
    )
    left = _figure(
        "Joints of found people by crowd index",
        by_crowd,
        "Jitter: near; inversion: on the person's other side; swap: on another person; miss: on none of these.",
    ) + _figure("AP gained by each repair alone", bar_chart(gained, "AP gained", signed=True), repair)
    right = _figure(
        "By joint",
        legend(of_joints) + stacked_bars(of_joints, names, "Kinds by joint"),
        "Shares among the labelled joints of matched people; their number on the right.",
    )
    return _plots([f'<div class="stack">{left}</div>', right])


# what a line of the table says -> the value of a column
_LINES: dict[str, Callable[[Row], float]] = {
    **{f"AP {run}": lambda row, run=run: row.ap[run] for run in RUNS},  # type: ignore[misc]
    "joints detected": lambda row: row.grouping.detected,
    "joints grouped with their person": lambda row: row.grouping.one_to_one,
    "joints with most of their person's": lambda row: row.grouping.together,
    "joints nearest to their own mean tag": lambda row: row.tags.nearest,
    "joints far from their own mean tag": lambda row: row.tags.astray,
    "joints on their side, pair by pair": lambda row: row.tags.joints_right,
    "pairs separable": lambda row: row.tags.separable_pairs,
    "pairs too close": lambda row: row.tags.close_pairs,
    **{f"joints: {kind}": lambda row, kind=kind: row.errors[kind] for kind in KINDS},  # type: ignore[misc]
    "people missed": lambda row: row.missed,
}


def _rows_table(d: Diagnosis) -> str:
    parts = []
    for title, rows in (("crowd index", d.by_crowd_index), ("people in the photo", d.by_people)):
        chosen = [*rows, d.all]
        lines = [["photos", *(str(row.photos) for row in chosen)], ["people", *(str(row.people) for row in chosen)]]
        lines += [[name, *(percent(value(row)) for row in chosen)] for name, value in _LINES.items()]
        parts.append(_figure(f"By {title}", _table([title, *(row.label for row in chosen)], lines), "In percent."))
    return _plots(parts)
