"""Shared by all benchmarks: fair timing of two implementations in turn, tables, records."""

import argparse
import ctypes
import json
import os
import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ("torch", "numpy", "opencv-python-headless", "opencv-python", "numba", "scipy", "pycocotools")


@dataclass(frozen=True)
class Record:
    """One case measured both ways.

    Attributes:
        case: a name of what was measured.
        ours_ms, baseline_ms: medians, milliseconds.
        ratio: baseline / ours.
        max_difference: between the two results; 0 where they must agree exactly.
        ours_mb, baseline_mb: peak extra memory, MB (10^6 bytes); None where it was not measured.
    """

    case: str
    ours_ms: float
    baseline_ms: float
    ratio: float
    max_difference: float
    ours_mb: float | None = None
    baseline_mb: float | None = None


def alternate(
    ours: Callable[[], Any],
    baseline: Callable[[], Any],
    runs: int,
    clock: Callable[[], float] = time.process_time,
) -> tuple[float, float]:
    """Return the medians in milliseconds of two functions run in turn, after one run each to warm up."""
    ours(), baseline()
    pairs = [(_milliseconds(ours, clock), _milliseconds(baseline, clock)) for _ in range(runs)]
    first, second = zip(*pairs, strict=True)
    return statistics.median(first), statistics.median(second)


def _milliseconds(function: Callable[[], Any], clock: Callable[[], float]) -> float:
    start = clock()
    function()
    return 1000 * (clock() - start)


def peak_megabytes(function: Callable[[], Any]) -> float:
    """Return by how many MB a call raises the peak resident memory; only of Python objects without /proc."""
    clear, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    try:
        ctypes.CDLL(None).malloc_trim(0)  # memory that earlier calls freed must not serve this one
        clear.write_text("5")  # forget the peak so far
        before = _kilobytes(status, "VmRSS")
        function()
        return max(0, _kilobytes(status, "VmHWM") - before) / 1000
    except (OSError, AttributeError):  # no such files, or no right to write them
        tracemalloc.start()
        function()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak / 1e6


def _kilobytes(status: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(f"{name}:"))


def record(
    case: str,
    ours: Callable[[], Any],
    baseline: Callable[[], Any],
    runs: int,
    max_difference: float,
    memory: bool = False,
    clock: Callable[[], float] = time.process_time,
) -> Record:
    """Measure a case."""
    ours_ms, baseline_ms = alternate(ours, baseline, runs, clock)
    megabytes = (round(peak_megabytes(ours), 1), round(peak_megabytes(baseline), 1)) if memory else (None, None)
    return Record(
        case, round(ours_ms, 3), round(baseline_ms, 3), round(baseline_ms / ours_ms, 2), max_difference, *megabytes
    )


def arguments(description: str | None) -> argparse.Namespace:
    """Read the command line that all benchmarks share."""
    return argument_parser(description).parse_args()


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """Return the parser of the options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few cases, few runs")
    parser.add_argument("--json", type=Path, help="write the records here")
    return parser


def report(records: Sequence[Record], path: Path | None) -> None:
    """Print the records as a Markdown table and write them as JSON."""
    print(markdown([asdict(r) for r in records]))
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([asdict(r) for r in records], indent=1) + "\n", encoding="utf-8")


def markdown(records: Sequence[dict[str, Any]]) -> str:
    """Return records as a Markdown table."""
    with_memory = any(r["ours_mb"] is not None for r in records)
    columns = ["case", "ours_ms", "baseline_ms", "ratio", "max_difference"]
    titles = ["case", "ours ms", "baseline ms", "ratio", "largest difference"]
    if with_memory:
        columns += ["ours_mb", "baseline_mb"]
        titles += ["ours MB", "baseline MB"]
    lines = ["| " + " | ".join(titles) + " |", "| --- |" + " --: |" * (len(titles) - 1)]
    lines += ["| " + " | ".join("" if r[c] is None else str(r[c]) for c in columns) + " |" for r in records]
    return "\n".join(lines)


def machine() -> dict[str, str]:
    """Return the machine and the versions of libraries."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except ModuleNotFoundError:
            continue
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = models[0] if models else processor
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": f"{processor}, {os.cpu_count()} cores",
        "gpu": device,
        "python": platform.python_version(),
        **found,
    }
