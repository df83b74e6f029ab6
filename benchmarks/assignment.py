"""Which solver groups better: munkres 1.1.4's choice among equal costs, or scipy's, where the nearer tag wins?

python benchmarks/assignment.py --annotations crowdpose_val.json [--quick] [--json PATH]

Simulated crowds with real layouts: the joints of an annotation file in CrowdPose's format
become perfect heatmaps, each person gets a random tag and each joint a noisy copy of it. The
nearer the people's tags and the larger the noise, the more the choice matters.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import ROOT

from coupled_embedding.analysis.upper_bound import perfect_maps
from coupled_embedding.data.coco import load_records
from coupled_embedding.data.geometry import resize_geometry
from coupled_embedding.data.outputs import Pose
from coupled_embedding.data.schema import Split, load_schema
from coupled_embedding.decode.decode import decode
from coupled_embedding.decode.options import DecodeOptions
from coupled_embedding.evaluation import evaluate_keypoints, poses_to_results

INPUT_SIZE = 512
DIMENSIONS = 8


def same_poses(first: list[Pose], second: list[Pose]) -> bool:
    """Whether two lists hold the same poses in the same order."""
    return len(first) == len(second) and all(
        np.array_equal(a.keypoints, b.keypoints) for a, b in zip(first, second, strict=True)
    )


def measure(annotations: Path, every: int, spread: float, noise: float) -> dict[str, object]:
    """Decode the same noisy maps with both solvers and score them."""
    schema = load_schema(ROOT / "datasets/crowdpose.yaml")
    schema = replace(schema, splits={"val": Split(annotations.name, ".")})
    records = load_records(schema, "val", str(annotations.parent))[::every]
    options = {name: DecodeOptions(schema.grouping_order, assignment=name) for name in ("munkres", "scipy")}
    found: dict[str, dict[int, list[Pose]]] = {name: {} for name in options}
    differing = 0
    for record in records:
        random = np.random.default_rng([record.image_id, round(1000 * spread), round(1000 * noise)])
        people, joints = record.keypoints.shape[:2]
        tags = random.normal(0, spread, (people, 1, DIMENSIONS)) + random.normal(0, noise, (people, joints, DIMENSIONS))
        geometry = resize_geometry((record.width, record.height), INPUT_SIZE)
        maps = perfect_maps(record, geometry, (4, 2), tags.astype(np.float32))
        for name, chosen in options.items():
            found[name][record.image_id] = decode(maps, geometry.base_size, geometry.to_image(), chosen)
        differing += not same_poses(found["munkres"][record.image_id], found["scipy"][record.image_id])
    ids = [record.image_id for record in records]
    scores = {
        name: evaluate_keypoints(annotations, poses_to_results(poses), schema, ids).values
        for name, poses in found.items()
    }
    return {
        "case": f"people's tags {spread:g} apart a dimension, noise {noise:g}",
        "images": len(records),
        "differing_images": differing,
        **{f"{name}_AP": round(100 * value["AP"], 2) for name, value in scores.items()},
        **{f"{name}_AP_hard": round(100 * value["AP_hard"], 2) for name, value in scores.items()},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=Path, required=True, help="file in CrowdPose's format")
    parser.add_argument("--quick", action="store_true", help="every 100th image, one case")
    parser.add_argument("--json", type=Path, help="write the records here")
    args = parser.parse_args()
    cases = [(2.0, 0.1), (0.5, 0.1), (0.5, 0.2), (0.25, 0.1), (0.25, 0.2)]
    records = [measure(args.annotations, 100 if args.quick else 10, *case) for case in cases[: 1 if args.quick else 5]]
    names = list(records[0])
    print("| " + " | ".join(name.replace("_", " ") for name in names) + " |")
    print("| --- |" + " --: |" * (len(names) - 1))
    for record in records:
        print("| " + " | ".join(str(record[name]) for name in names) + " |")
    if args.json:
        args.json.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
