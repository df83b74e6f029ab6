"""Training on a CPU while other programs keep cores busy, by its number of threads.

python benchmarks/busy_neighbor.py [--steps 40]

The threads that compute a layer wait for each other; one that shares its core lets all wait. Prints
images per second of the embedded default.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from common import ROOT

CONFIG = "config/synthetic/ce_small.yaml"
CHOICES = {
    "a thread per core": ["TRAIN.THREADS", str(os.cpu_count())],
    "free cores (default)": [],
    "one thread": ["TRAIN.THREADS", "1"],
}


def burn() -> None:
    """Keep a core busy."""
    while True:
        pass


def images_per_second(folder: Path, data: Path, steps: int, chosen: list[str]) -> float:
    """Return the rate of the second half of some training steps."""
    options = ["OUTPUT_DIR", str(folder), "NAME", "run", "DATASET.ROOT", str(data), "DATASET.VAL", ""]
    options += ["TRAIN.LOG_EVERY", str(steps // 2), "TRAIN.EPOCHS", "1", "TRAIN.VISUALIZE_EVERY", "0"]
    options += ["SYNTHETIC.TRAIN_SCENES", str(16 * steps), *chosen]
    command = [sys.executable, "tools/train.py", "--cfg", CONFIG, "--device", "cpu", *options]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return float(lines[-1]["train/images_per_second"])


def main() -> None:
    """Measure every choice with 0, 1 and 2 busy cores, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    steps = parser.parse_args().steps
    print("| threads | undisturbed | one busy core | two busy cores |\n| --- | --: | --: | --: |")
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, chosen) in enumerate(CHOICES.items()):
            rates = []
            for busy in range(3):
                with ExitStack() as stack:
                    for _ in range(busy):
                        process = multiprocessing.Process(target=burn, daemon=True)
                        process.start()
                        stack.callback(process.kill)
                    run = Path(folder) / f"{number}_{busy}"
                    rates.append(images_per_second(run, Path(folder) / "crowd", steps, chosen))
            print(f"| {name} | {' | '.join(f'{rate:.1f}' for rate in rates)} |", flush=True)


if __name__ == "__main__":
    main()
