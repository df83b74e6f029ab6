"""Time decode against the released algorithm, side by side in one process.

python benchmarks/decode.py [--quick] [--json PATH]
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from plain_decode import candidates, grouped, merged_at_full_size, refined

from coupled_embedding.data.targets import gaussian_heatmaps
from coupled_embedding.inference.aggregate import MergedMaps, merge_flip
from coupled_embedding.inference.decode import DecodeSettings, decode
from coupled_embedding.keypoints import load_schema

IDENTITY = np.array([[1.0, 0, 0], [0, 1.0, 0]])


def made_up_maps(people: int, height: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return heatmaps (2, K, H/2, W/2) and tags (2, K, H/4, W/4, 8) of a crowd, with some joints missing."""
    random = np.random.default_rng(seed)
    joints, low = 14, (height // 4, width // 4)
    centers = random.uniform((20, 20), (width / 4 - 20, height / 4 - 20), (people, 2))
    cells = centers[:, None] + random.uniform(-16, 16, (people, joints, 2))
    visible = torch.from_numpy(random.random((1, people, joints)) < 0.75)
    fine = torch.from_numpy(2 * cells).long()[None].clamp_min(0)
    heatmap = gaussian_heatmaps(fine, visible, height // 2, width // 2) * 0.8
    heatmap += torch.from_numpy(random.normal(0, 0.01, heatmap.shape)).float().abs()
    # around each joint the tag of its person
    identity = random.normal(0, 2, (people, 8))
    distance = (np.mgrid[: low[1], : low[0]].T[:, :, None, None] - cells) ** 2  # (h, w, P, K, 2)
    owner = distance.sum(-1).argmin(2)  # (h, w, K)
    tags = torch.from_numpy(identity[owner]).float().permute(2, 0, 1, 3)[None]
    tags = (tags + torch.from_numpy(random.normal(0, 0.05, tags.shape)).float()).contiguous()
    return torch.cat((heatmap, heatmap.flip(-1))), torch.cat((tags, tags.flip(-2)))


def milliseconds(function: Callable[[], object]) -> float:
    """Return the process time of one call."""
    start = time.process_time()
    function()
    return 1000 * (time.process_time() - start)


def measure(people: int, height: int, width: int, runs: int) -> dict[str, object]:
    """Time both on the same maps, in turn, and compare what they find."""
    schema = load_schema("datasets/crowdpose.yaml")
    settings = DecodeSettings(schema.grouping_order)
    heatmaps, tags = made_up_maps(people, height, width)
    flip = range(14)  # the made-up mirror keeps its joints

    def ours() -> np.ndarray:
        photo, mirror = MergedMaps(heatmaps[:1], tags[:1]), MergedMaps(heatmaps[1:], tags[1:])
        merged = merge_flip(photo, mirror, flip)
        return np.array([pose.keypoints for pose in decode(merged.photo(0), (width, height), IDENTITY, settings)])

    def plain() -> np.ndarray:
        heatmap, full_tags = merged_at_full_size(heatmaps, tags, (height, width), flip)
        return refined(grouped(candidates(heatmap, full_tags, 5, 30), schema.grouping_order, 0.1), heatmap, full_tags)

    a, b = ours(), plain()
    positive = b[..., 2] > 0
    difference = float(np.abs(a - b)[positive].max()) if a.shape == b.shape else float("nan")
    pairs = [(milliseconds(ours), milliseconds(plain)) for _ in range(runs)]
    ours_ms, plain_ms = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {
        "case": f"{width}x{height}, {people} people",
        "ours_ms": round(ours_ms, 2),
        "baseline_ms": round(plain_ms, 2),
        "ratio": round(plain_ms / ours_ms, 1),
        "max_difference": difference,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two runs of two cases")
    parser.add_argument("--json", help="write the records here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cases = [(10, 512, 704), (30, 512, 704), (10, 640, 960), (30, 640, 960)]
    records = [measure(*case, runs=2 if args.quick else 7) for case in (cases[:2] if args.quick else cases)]
    print("| case | ours ms | released algorithm ms | ratio | max difference |\n| --- | --: | --: | --: | --: |")
    for r in records:
        print(
            "| " + " | ".join(str(r[k]) for k in ("case", "ours_ms", "baseline_ms", "ratio", "max_difference")) + " |"
        )
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(records, file, indent=1)


if __name__ == "__main__":
    main()
