"""Make tables and figures of the study's records, and fill them into its README.

python benchmarks/coupling/report.py
python benchmarks/coupling/report.py --groupings                       # the other ways to group: docs/groupings.md
python benchmarks/coupling/report.py --records /tmp/toy/records --out /tmp/toy

Values are means ± standard deviations over seeds. Differences are paired by seed, with a 95% confidence interval of
Student's t; with three seeds it is wide. Tables between `<!-- table NAME -->` and `<!-- end -->` of OUT/README.md, or
of docs/groupings.md, are replaced, if there is one; they are printed in any case. Figures go beside it.
"""

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from coupled_embedding.analysis.error_analysis.plots import Series, line_plot
from coupled_embedding.utils.cli import command
from coupled_embedding.utils.errors import UserError
from coupled_embedding.zoo.markdown import markdown_table
from coupled_embedding.zoo.tables import fill

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# folders beside that of the records, by its name: of networks tested, and also trained, on scenes of real layouts
OTHERS = {"layouts": "{}_layouts", "trained": "trained_on_layouts/{}"}
FIGURES = ("crowd_index.png", "groupings.png")
COLORS = ("#4477aa", "#ee6677", "#228833", "#aa3377", "#bbbb44", "#66ccee")
Diagnosis = dict[str, Any]
Measure = Callable[[Diagnosis], float]
Records = dict[str, dict[int, Diagnosis]]  # arm -> seed -> diagnosis


def share(name: str) -> Measure:
    """Return what reads a share of all images, in percent."""
    return lambda diagnosis: percent(diagnosis["all"]["shares"][name])


def ap_of(run: str) -> Measure:
    """Return what reads the AP of a run of the diagnosis, in percent."""
    return lambda diagnosis: percent(diagnosis["all"]["ap"][run])


def metric(name: str) -> Measure:
    """Return what reads a score of the predictions, in percent."""
    return lambda diagnosis: percent(diagnosis["runs"]["predicted"].get(name))


def tag(name: str, factor: float = 1.0) -> Measure:
    """Return what reads a statistic of the tags."""
    return lambda diagnosis: factor * number(diagnosis["tags"][name])


def kept(diagnosis: Diagnosis) -> float:
    """Return how much of the AP with oracle grouping is left with the network's own, in percent.

    NaN where oracle grouping has less: it starts from peaks, which people found by their centers do not need.
    """
    own, oracle = ap_of("predicted")(diagnosis), ap_of("oracle grouping")(diagnosis)
    return 100 * own / oracle if oracle > own else math.nan


def scale_fit(diagnosis: Diagnosis) -> float:
    """Return the correlation of encoded and true scale."""
    fit = diagnosis["tags"]["scale"]
    return number(fit["correlation"]) if fit else math.nan


def number(value: float | None) -> float:
    """Return a value, NaN for None."""
    return math.nan if value is None else float(value)


def percent(value: float | None) -> float:
    """Return a share in percent, NaN for None."""
    return 100 * number(value)


# heading -> what it reads; digits after the point
SCORES: dict[str, Measure] = {
    "AP": ap_of("predicted"),
    **{name: metric(name) for name in ("AP50", "AP75", "AP_easy", "AP_medium", "AP_hard")},
    "oracle grouping": ap_of("oracle grouping"),
    "kept by grouping": kept,
}
TAGS: dict[str, Measure] = {
    "grouped with their person": share("joints grouped with their person"),
    "nearest own mean": share("joints nearest to their own mean tag"),
    "pairs separable": share("pairs separable"),
    "pairs too close": share("pairs too close"),
}
STATISTICS: dict[str, Measure] = {
    "mean abs r": tag("mean_correlation"),
    "effective rank": tag("participation"),
    "Hoyer": tag("hoyer"),
    "near zero, %": tag("near_zero", 100),
    "scale r": scale_fit,
}


def read_records(folder: Path) -> Records:
    """Return the diagnoses by arm and seed; UserError if there are none."""
    records: Records = defaultdict(dict)
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        records[content["arm"]][content["seed"]] = content["diagnosis"]
    if not records:
        raise UserError(f"{folder}: holds no records; benchmarks/coupling/run.py writes them")
    return dict(records)


def spread(values: Sequence[float], digits: int) -> str:
    """Return ``mean ± sample standard deviation``."""
    if not all(map(math.isfinite, values)):
        return "–"
    deviation = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{deviation}"


def table(records: Records, measures: dict[str, Measure], digits: int) -> str:
    """Return a row per arm, a column per measure."""
    rows = [
        [arm, len(seeds), *(spread([read(d) for d in seeds.values()], digits) for read in measures.values())]
        for arm, seeds in records.items()
    ]
    return markdown_table(["arm", "seeds", *measures], rows, range(1, len(measures) + 2))


def differences(records: Records, pairs: Sequence[tuple[str, str]]) -> str:
    """Return a row per pair of arms: differences paired by seed with their 95% confidence intervals."""
    chosen = {name: SCORES[name] for name in ("AP", "AP_hard", "oracle grouping", "kept by grouping")}
    chosen["grouped with their person"] = TAGS["grouped with their person"]
    rows = []
    for one, other in pairs:
        seeds = sorted(records.get(one, {}).keys() & records.get(other, {}).keys())
        if seeds:
            cells = [
                interval([read(records[one][s]) - read(records[other][s]) for s in seeds]) for read in chosen.values()
            ]
            rows.append([f"{one} − {other}", len(seeds), *cells])
    return markdown_table(["difference", "seeds", *chosen], rows, range(1, len(chosen) + 2))


def interval(values: Sequence[float]) -> str:
    """Return a mean with its 95% confidence interval."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2 or not math.isfinite(mean):
        return f"{mean:+.1f}" if math.isfinite(mean) else "–"
    half = float(student.ppf(0.975, count - 1)) * float(np.std(values, ddof=1)) / math.sqrt(count)
    return f"{mean:+.1f} [{mean - half:+.1f}, {mean + half:+.1f}]"


def bins_table(records: Records, key: str) -> str:
    """Return the AP by crowd index or by people, a row per arm."""
    labels = [row["label"] for row in next(iter(next(iter(records.values())).values()))[key]]
    rows = []
    for arm, seeds in records.items():
        values = [[percent(row["ap"]["predicted"]) for row in d[key]] for d in seeds.values()]
        rows.append([arm, *(spread(column, 1) for column in zip(*values, strict=True))])
    return markdown_table(["arm", *labels], rows, range(1, len(labels) + 1))


def draw(records: Records, arms: Sequence[str], path: Path) -> None:
    """Draw AP by crowd index, a line per arm, as a PNG."""
    first = next(iter(next(iter(records.values())).values()))["by_crowd_index"]
    series = []
    for arm, color in zip([arm for arm in arms if arm in records], COLORS):
        values = [[number(row["ap"]["predicted"]) for row in d["by_crowd_index"]] for d in records[arm].values()]
        series.append(Series(arm, color, np.mean(values, 0).tolist()))
    figure = line_plot(series, [(row["label"], f"{row['images']} images") for row in first], "crowd index")
    axes = figure.axes[0]
    axes.set_ylim(0, 1.1 * 100 * max(max(one.values) for one in series))  # not to 100, where lines lie on each other
    axes.set_ylabel("AP (percent)")
    figure.savefig(path, dpi=110)


def all_tables(records: Records, others: dict[str, Records], pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return every table by the name in its marker; others: records of other scenes, each with two tables."""
    return {
        **{f"{name}_scores": table(other, SCORES, 1) for name, other in others.items()},
        **{f"{name}_differences": differences(other, pairs) for name, other in others.items()},
        "scores": table(records, SCORES, 1),
        "grouping": table(records, TAGS, 1),
        "tags": table(records, STATISTICS, 2),
        "differences": differences(records, pairs),
        "crowd_index": bins_table(records, "by_crowd_index"),
        "people": bins_table(records, "by_people"),
    }


PAIRS = [
    ("uncoupled", "scalar"), ("coupled", "scalar"), ("coupled", "uncoupled"),
    ("paper", "coupled"), ("paper_no_focal", "paper"), ("paper_released_flip", "paper"),
    ("coupled_2d", "coupled"), ("coupled_4d", "coupled"), ("coupled_16d", "coupled"),
    ("coupled_1e-05", "coupled"), ("coupled_0.0001", "coupled"), ("coupled_0.01", "coupled"),
    ("contrast", "coupled"), ("decorrelated", "coupled"), ("places", "coupled"), ("centers", "coupled"),
    ("centers_distance", "centers"), ("centers_scalar", "centers"), ("coupled_distance", "coupled"),
    ("scalar_unrefined", "scalar"), ("coupled_unrefined", "coupled"), ("paf_0.25", "scalar_unrefined"),
    ("paf_0.25", "coupled_unrefined"), ("paf_0.25", "coupled"), ("paf_0.25", "paf"), ("paf_openpose", "paf_0.25"),
    ("paf_sleap", "paf_0.25"), ("paf_tags", "coupled"), ("paf_tags", "paf_0.25"), ("paf_tags_by_tags", "coupled"),
    ("paf_tags_by_tags", "paf_tags"), ("paf_with_tags", "coupled"), ("paf_with_tags", "paf_0.25"),
    ("paf_with_tags", "paf_tags"), ("paf_with_tags", "paf_tags_by_tags"), ("center_maps", "coupled"),
    ("center_maps", "paf_0.25"),
]  # fmt: skip
DRAWN = ("scalar", "uncoupled", "coupled", "paper", "centers", "centers_distance")
DRAWN_GROUPINGS = ("scalar", "coupled", "coupled_unrefined", "paf_0.25", "paf_tags", "paf_with_tags")
# the arms of docs/groupings.md; the first three are those of both pages
SHARED = ("scalar", "uncoupled", "coupled")
GROUPINGS = (
    *SHARED, "scalar_unrefined", "coupled_unrefined", "paf", "paf_0.25", "paf_openpose", "paf_sleap",
    "paf_tags", "paf_tags_by_tags", "paf_with_tags", "center_maps",
)  # fmt: skip


@command
def main() -> None:
    """Read, print, fill, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=Path, default=HERE / "records", help="folder of records (%(default)s)")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of README.md and figures (%(default)s)")
    parser.add_argument("--groupings", action="store_true", help="fill docs/groupings.md instead")
    args = parser.parse_args()
    records = read_records(args.records)
    left_out = set(GROUPINGS) - set(SHARED)
    chosen = GROUPINGS if args.groupings else [arm for arm in records if arm not in left_out]
    records = {arm: records[arm] for arm in chosen if arm in records}
    folders = {name: args.records.parent / path.format(args.records.name) for name, path in OTHERS.items()}
    others = {name: read_records(folder) for name, folder in folders.items() if folder.is_dir()}
    others = {name: {arm: other[arm] for arm in records if arm in other} for name, other in others.items()}
    tables = all_tables(records, {name: other for name, other in others.items() if other}, PAIRS)
    for name, text in tables.items():
        print(f"\n{name}\n{text}")
    page = ROOT / "docs/groupings.md" if args.groupings else args.out / "README.md"
    if page.is_file():
        page.write_text(fill(page.read_text(encoding="utf-8"), tables, str(page)), encoding="utf-8")
    draw(records, DRAWN_GROUPINGS if args.groupings else DRAWN, page.with_name(FIGURES[args.groupings]))


if __name__ == "__main__":
    main()
