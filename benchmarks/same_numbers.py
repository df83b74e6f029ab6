"""Do two checkouts compute the same numbers? Short trainings, tests and the recorded decode cases, bit by bit.

python benchmarks/same_numbers.py ../old_checkout .

A refactor proves itself with this: rendered scenes, losses of every step, final weights, results files and recorded
poses must be identical. Each side runs in processes of its own with its own code, by commands, options and files that
both know: `tools/train.py`, `tools/test.py`, and `decoded_case` of tests/helpers/recorded.py. It takes seven
minutes on two cores.
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
CONFIG = "config/synthetic/ce_small_paper.yaml"
# so low that networks after a few steps give poses, with missing joints
LOW_THRESHOLDS = ["TEST.HEATMAP_THRESHOLD", "0.005", "TEST.TAG_THRESHOLD", "0.15"]
SIZES = ["SYNTHETIC.TRAIN_SCENES", "96", "SYNTHETIC.VAL_SCENES", "12", "SYNTHETIC.TEST_SCENES", "12"]
ONE_EPOCH = "TRAIN.LOG_EVERY 1 TRAIN.EPOCHS 1"
# name -> options of training and tests, options of each test alone; by the names that the older checkout knows
RUNS = {
    "small": (
        "TRAIN.LOG_EVERY 1 TRAIN.EPOCHS 3 TRAIN.EVAL_EVERY 2",
        ["", "TEST.GROUPING_COST steps TEST.MAX_JOINED 30 TEST.ABSENT_JOINTS zero"],
    ),
    "paper": (
        "TRAIN.LOG_EVERY 1 TRAIN.EPOCHS 2 TRAIN.OPTIMIZER adam TRAIN.SCHEDULE step TRAIN.PRECISION fp32 "
        "TRAIN.ACCUMULATE 2 MODEL.HEAD higher AUGMENT.EXACT_FLIP False",
        [
            "TEST.SCALES [1,0.5] TEST.PRECISION fp32",
            "TEST.SCALES [1,0.5] TEST.TAG_SCALES all",
            "TEST.ASSIGNMENT scipy TEST.PEAK_TIES rows TEST.ABSENT_JOINTS guess",
        ],
    ),
    "scalar": (
        f"{ONE_EPOCH} TRAIN.EMA 0 MODEL.TAG_DIM 1 LOSS.SCALE_ADAPTED False LOSS.FOCAL False LOSS.COUPLING_WEIGHT 0",
        ["TEST.FLIP False TEST.REFINE False"],
    ),
    "scale_maps": (f"{ONE_EPOCH} MODEL.HEAD higher MODEL.SCALE_MAPS True LOSS.SCALE_ADAPTED False", [""]),
    "hourglass": (
        f"{ONE_EPOCH} MODEL.BACKBONE hourglass MODEL.STACKS 2 MODEL.HOURGLASS_DEPTH 2 MODEL.WIDTH 16",
        ["TEST.FOLD_BN True"],
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


def numbers_of(checkout: Path, folder: Path) -> dict[str, Any]:
    """Render, train, test and decode in a checkout; return name -> value."""
    numbers: dict[str, Any] = {}
    crowd = folder / "crowd"
    common = ["--cfg", CONFIG, "--device", "cpu", "OUTPUT_DIR", str(folder), "DATASET.ROOT", str(crowd)]
    common += [*SIZES, *LOW_THRESHOLDS, "TRAIN.THREADS", "1"]
    for name, (training, tests) in RUNS.items():
        options = [*common, "NAME", name, *training.split()]
        run(checkout, "tools/train.py", *options)
        numbers[f"{name}: losses"] = losses_of(folder / name / "metrics.jsonl")
        for file in ("final.pth", "best.pth"):
            numbers[f"{name}: {file}"] = weights_of(folder / name / file)
        for number, test in enumerate(tests, 1):
            out = folder / name / f"test_{number}"
            run(checkout, "tools/test.py", "--out", str(out), *options, *test.split())
            (results,) = out.glob("*_results.json")
            poses = len(json.loads(results.read_text()))
            assert poses, f"{checkout}: {name}: a test without poses compares nothing"
            numbers[f"{name}: {poses} poses{' with ' if test else ''}{test}"] = digest(results.read_bytes())
    scenes = sorted(path for path in crowd.rglob("*") if path.suffix in (".jpg", ".png", ".json"))
    numbers[f"{len(scenes)} files of scenes"] = digest(b"".join(path.read_bytes() for path in scenes))
    if REFERENCE.is_dir():
        for line in run(checkout, "-c", DECODE, str(REFERENCE)).splitlines():
            case, value = line.split()
            numbers[case] = value
    return numbers


def first_difference(old: Any, new: Any) -> str:
    """Return where two values differ."""
    if isinstance(old, list) and isinstance(new, list):
        for before, after in zip(old, new, strict=False):
            if before != after:
                names = [name for name in before | after if before.get(name) != after.get(name)]
                return f"step {before['step']}: " + ", ".join(f"{n} {before.get(n)} {after.get(n)}" for n in names)
        return f"{len(old)} and {len(new)} entries"
    return f"{old} and {new}"


def main() -> None:
    """Run both, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="a checkout, such as a git worktree of the commit before")
    parser.add_argument("new", type=Path, help="another one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sides = {"old": args.old, "new": args.new}
        old, new = (numbers_of(checkout.resolve(), Path(folder, side)) for side, checkout in sides.items())
    for name, value in old.items():
        same = name in new and value == new[name]
        print(f"identical  {name}" if same else f"DIFFERENT  {name}: {first_difference(value, new.get(name))}")
    sys.exit(old != new)


if __name__ == "__main__":
    main()
