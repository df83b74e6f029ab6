"""Do two checkouts compute the same numbers? A short training, a test and the recorded decode cases, bit by bit.

python benchmarks/same_numbers.py ../old_checkout .

A refactor proves itself with this: losses of every step, final weights, results files and decoded people must be
identical. Both sides run in processes of their own, by commands and options that the older one knows. It takes
about five minutes on two cores.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

REFERENCE = Path(os.environ.get("CE_REFERENCE", Path(__file__).resolve().parents[2] / "shared" / "reference"))
CONFIG = "config/synthetic/ce_small.yaml"
SIZES = ["SYNTHETIC.TRAIN_SCENES", "96", "SYNTHETIC.VAL_SCENES", "12", "SYNTHETIC.TEST_SCENES", "24"]
# name -> options of training and test, options of the test alone
RUNS = {
    "small": ("TRAIN.LOG_EVERY 1 TRAIN.EPOCHS 3 TRAIN.EVAL_EVERY 2", ""),
    "paper": (
        "TRAIN.LOG_EVERY 1 TRAIN.EPOCHS 2 TRAIN.OPTIMIZER adam TRAIN.SCHEDULE step TRAIN.PRECISION fp32 "
        "TRAIN.ACCUMULATE 2 MODEL.HEAD higher AUGMENT.EXACT_FLIP False",
        "TEST.SCALES [1,0.5] TEST.PRECISION fp32",
    ),
    "scalar": (
        "TRAIN.LOG_EVERY 1 TRAIN.EPOCHS 1 TRAIN.EMA 0 MODEL.TAG_DIM 1 LOSS.SCALE_ADAPTED False LOSS.FOCAL False "
        "LOSS.COUPLING_WEIGHT 0",
        "TEST.FLIP False TEST.REFINE False",
    ),
}
DECODE = """
import hashlib, sys
from pathlib import Path
sys.path.insert(0, "tests/helpers")
from recorded import decoded_case
for path in sorted(Path(sys.argv[1]).glob("parity/decode_*.npz")):
    total = hashlib.sha256()
    for pose in decoded_case(path):
        total.update(pose.keypoints.tobytes() + repr(pose.score).encode())
    print(path.stem, total.hexdigest()[:16])
"""


def run(checkout: Path, *command: str) -> str:
    """Run a command of a checkout; return what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(checkout / "lib")}
    done = subprocess.run(
        [sys.executable, *command], cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{checkout}: {' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def digest(content: bytes) -> str:
    """Return a short name of bytes."""
    return hashlib.sha256(content).hexdigest()[:16]


def weights_of(path: Path) -> str:
    """Return the digest of a checkpoint's weights and keys."""
    import torch

    content = torch.load(path, weights_only=True)["model"]
    total = hashlib.sha256()
    for name, tensor in content.items():
        total.update(name.encode() + tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:16]


def losses_of(path: Path) -> list[dict[str, float]]:
    """Return the losses and validation scores of every step."""
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [{k: v for k, v in entry.items() if k.startswith(("loss/", "val/", "step"))} for entry in entries]
    return [entry for entry in kept if len(entry) > 1]


def numbers_of(checkout: Path, folder: Path, crowd: Path) -> dict[str, Any]:
    """Train, test and decode in a checkout; return name -> value."""
    numbers: dict[str, Any] = {}
    for name, (training, testing) in RUNS.items():
        options = ["NAME", name, "OUTPUT_DIR", str(folder), "DATASET.ROOT", str(crowd), *SIZES, "TRAIN.THREADS", "1"]
        run(checkout, "tools/train.py", "--cfg", CONFIG, "--device", "cpu", *options, *training.split())
        both = [*training.split(), *testing.split()]
        run(checkout, "tools/test.py", "--cfg", CONFIG, "--device", "cpu", *options, *both)
        numbers[f"{name}: losses"] = losses_of(folder / name / "metrics.jsonl")
        for file in ("final.pth", "best.pth"):
            numbers[f"{name}: {file}"] = weights_of(folder / name / file)
        (results,) = (folder / name / "test_test").glob("*_results.json")
        numbers[f"{name}: results"] = digest(results.read_bytes())
    if REFERENCE.is_dir():
        for line in run(checkout, "-c", DECODE, str(REFERENCE)).splitlines():
            case, value = line.split()
            numbers[case] = value
    return numbers


def main() -> None:
    """Run both, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="a checkout, such as a git worktree of the commit before")
    parser.add_argument("new", type=Path, help="another one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        old, new = (
            numbers_of(checkout.resolve(), Path(folder, side), Path(folder, "crowd"))
            for side, checkout in (("old", args.old), ("new", args.new))
        )
    differing = [name for name in old if old[name] != new.get(name)]
    for name in old:
        print(f"{'DIFFERENT' if name in differing else 'identical'}  {name}")
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
