"""Run all benchmarks, each in a process of its own, and write their output as one Markdown and one JSON file.

python benchmarks/run_all.py [--quick] [--out benchmarks/results]
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common import ROOT, machine

SCRIPTS = ("decode", "losses", "data", "network", "evaluation")


def run(script: Path, quick: bool) -> dict[str, Any]:
    """Run a script; return its name, its description, what it printed and its records.

    Of a script that fails, ``printed`` is its error and the records are None.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder, "records.json")
        command = [sys.executable, str(script), "--json", str(path), *(["--quick"] if quick else [])]
        print(f"{script.name} ...", flush=True)
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        succeeded = done.returncode == 0 and path.exists()
        return {
            "name": script.stem,
            "description": script.read_text(encoding="utf-8").split('"""')[1].split("\n")[0],
            "printed": done.stdout.strip() if succeeded else f"failed:\n{done.stderr.strip()[-2000:]}",
            "records": json.loads(path.read_text()) if succeeded else None,
        }


def as_markdown(about: dict[str, str], quick: bool, outcomes: list[dict[str, Any]]) -> str:
    """Return a page: the machine, then each script's description and output."""
    how = f"`python benchmarks/run_all.py{' --quick' if quick else ''}`"
    lines = ["# Benchmarks", "", f"Printed by {how}.", "", "| what | which |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in about.items()]
    for outcome in outcomes:
        lines += ["", f"## {outcome['name']}", "", outcome["description"], "", outcome["printed"]]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what there is and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few cases, few runs")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results", help="folder (%(default)s)")
    args = parser.parse_args()
    scripts = [ROOT / f"benchmarks/{name}.py" for name in SCRIPTS]
    outcomes = [run(script, args.quick) for script in scripts if script.exists()]
    about = machine()
    args.out.mkdir(parents=True, exist_ok=True)
    stem = args.out / ("quick" if args.quick else "full")
    page = as_markdown(about, args.quick, outcomes)
    stem.with_suffix(".md").write_text(page, encoding="utf-8")
    content = {"machine": about, "quick": args.quick, "benchmarks": outcomes}
    stem.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"\n{page}\nwritten: {stem}.md and {stem}.json")
    failed = [outcome["name"] for outcome in outcomes if outcome["records"] is None]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
