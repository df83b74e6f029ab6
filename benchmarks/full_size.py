"""Train two steps and test two images with each full-size network of the paper, at full resolution.

python benchmarks/full_size.py --images ../shared/photos [--only crowdpose_ce_hrnet_w32_512 ...] [--out FILE.md]

A check that the eight experiments run, and how long a step and a test take on this machine: the real commands, from
random weights, one image a step. CrowdPose is trained on images of its test split where there are no others, which is
why its losses mean nothing. Memory is the largest resident memory of the command.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from common import ROOT, machine

from coupled_embedding.builders import build_records, build_schema
from coupled_embedding.config import load_config

NETWORKS = ("ce_hrnet_w32_512", "ce_hrhrnet_w32_512", "ce_hrnet_w48_640", "ce_hrhrnet_w48_640")
SPLITS = {"coco": ("train2017", "val2017"), "crowdpose": ("test", "test")}
IMAGES = 2


@dataclass(frozen=True)
class Finished:
    """A command that has run: seconds, largest resident memory in GB (10^9 bytes)."""

    seconds: float
    gigabytes: float


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder with coco/ and crowdpose/")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="these experiments only")
    parser.add_argument("--minutes", type=float, default=15.0, help="start no experiment after this time (%(default)s)")
    parser.add_argument("--out", type=Path, help="write the table here too")
    return parser.parse_args()


def run(tool: str, *arguments: str) -> Finished:
    """Run a command; exit with what it printed if it fails."""
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "tools" / tool), *arguments], stdout=log, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            sys.exit(f"{tool} {' '.join(arguments)}\n{log.read().decode()}")
        return Finished(time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e9)


def measure(data_set: str, network: str, images: Path, folder: Path) -> list[str]:
    """Train and test one experiment; return its row."""
    path = ROOT / f"config/{data_set}/{network}.yaml"
    train_split, test_split = SPLITS[data_set]
    root = str(images / data_set)
    options = ["OUTPUT_DIR", str(folder), "DATASET.ROOT", root, "MODEL.PRETRAINED", "", "DATASET.VAL", ""]
    options += ["DATASET.TRAIN", train_split, "DATASET.TEST", test_split]
    cfg = load_config(path, options)
    chosen = {
        split: [r.image_id for r in build_records(cfg, build_schema(cfg), split) if len(r.keypoints)][:IMAGES]
        for split in (train_split, test_split)
    }
    small = ["TRAIN.EPOCHS", "1", "TRAIN.IMAGES_PER_GPU", "1", "TRAIN.LOG_EVERY", "1", "TRAIN.WORKERS", "0"]
    small += ["TRAIN.VISUALIZE_EVERY", "0", "TEST.WORKERS", "0", "TEST.OVERLAYS", "0"]
    common = ["--cfg", str(path), "--device", "cpu", *options, *small]
    trained = run("train.py", *common, "DATASET.IMAGE_IDS", str(chosen[train_split]))
    tested = run("test.py", *common, "DATASET.IMAGE_IDS", str(chosen[test_split]))
    run_folder = folder / cfg.NAME
    lines = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss/total"] for line in lines if line.get("loss/total") is not None]
    found = json.loads(next((run_folder / f"test_{test_split}").glob("*_results.json")).read_text())
    assert len(losses) == IMAGES, f"{cfg.NAME}: a loss is not finite: {lines}"
    record = json.loads((run_folder / "record_train.json").read_text())
    for file in run_folder.glob("*.pth"):
        file.unlink()
    return [
        f"`{cfg.NAME}`",
        " ".join(f"{loss:.4f}" for loss in losses),
        f"{record['seconds']:.0f}",
        f"{trained.gigabytes:.1f}",
        f"{tested.seconds:.0f}",
        f"{tested.gigabytes:.1f}",
        str(len(found)),
    ]


def main() -> None:
    """Measure each, print the table."""
    args = parse()
    start = time.perf_counter()
    names = ["experiment", "losses of both steps", "training, s", "GB", "test, s", "GB", "poses"]
    table = [f"| {' | '.join(names)} |", "| --- | --- |" + " --: |" * (len(names) - 2)]
    for data_set in SPLITS:
        for network in NETWORKS:
            name = f"{data_set}_{network}"
            if args.only and name not in args.only:
                continue
            if time.perf_counter() - start > 60 * args.minutes:
                print(f"{name}: not run, {args.minutes:g} minutes are over", flush=True)
                continue
            with tempfile.TemporaryDirectory() as folder:
                row = measure(data_set, network, args.images, Path(folder))
            table.append(f"| {' | '.join(row)} |")
            print(table[-1], flush=True)
    about = machine()
    text = "\n".join(table) + f"\n\n{about['processor']}, {about['gpu']}, torch {about['torch']}, {about['date']}\n"
    print(f"\n{text}")
    if args.out:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
