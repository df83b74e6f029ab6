"""Time decode by the ways to group joints, side by side in one process: milliseconds by people in the image.

python benchmarks/groupings.py [--quick]

The maps are made up: COCO's skeletons in poses of their own, at 704×512 and stride 4, with noise; the same people for
all. "peaks" is what all share but centers, which need none.
"""

from collections.abc import Callable
from dataclasses import replace
from statistics import median

import numpy as np
import torch
from common import ROOT, alternate, argument_parser

from coupled_embedding.data.centers import CenterTargets
from coupled_embedding.data.pafs import PafTargets
from coupled_embedding.data.schema import load_schema
from coupled_embedding.data.targets import build_targets
from coupled_embedding.decode.aggregate import ImageMaps, MergedMaps, merge_flip
from coupled_embedding.decode.decode import decode
from coupled_embedding.decode.options import PAF_PRESETS, CenterRule, DecodeOptions, PeakOptions
from coupled_embedding.decode.peaks import find_candidates

HEIGHT, WIDTH, STRIDE = 512, 704, 4
SCHEMA = load_schema(ROOT / "datasets/coco.yaml")
IDENTITY = np.array([[1.0, 0, 0], [0, 1.0, 0]])
# where the joints of a person stand, of a height of 1: nose to ankles as COCO orders them
STANDING = np.array(
    [
        [0, 0], [0.02, -0.02], [-0.02, -0.02], [0.05, 0], [-0.05, 0], [0.12, 0.15], [-0.12, 0.15], [0.18, 0.32],
        [-0.18, 0.32], [0.16, 0.48], [-0.16, 0.48], [0.08, 0.5], [-0.08, 0.5], [0.09, 0.72], [-0.09, 0.72],
        [0.1, 0.95], [-0.1, 0.95],
    ]
)  # fmt: skip


def made_up_maps(people: int, dims: int, kind: str = "", seed: int = 0) -> ImageMaps:
    """Return an image's maps, merged with those of the flipped image: tags of D dimensions; kind: "pafs", "centers"."""
    random = np.random.default_rng(seed)
    sizes = random.uniform(120, 240, people)[:, None, None]
    corners = random.uniform((40, 20), (WIDTH - 40, HEIGHT - 240), (people, 1, 2))
    joints = corners + (STANDING + random.normal(0, 0.03, (people, 17, 2))) * sizes
    cells = torch.tensor(np.concatenate([joints / STRIDE, np.full((people, 17, 1), 2)], -1), dtype=torch.float32)
    shape = (HEIGHT // STRIDE, WIDTH // STRIDE)
    paf = PafTargets(SCHEMA.skeleton) if kind == "pafs" else None
    targets = build_targets(
        [cells[None]], [torch.ones(1, *shape)], torch.ones(1, people), paf=paf, with_centers=kind == "centers"
    )
    heatmaps = targets.heatmaps[0] * 0.8 + torch.from_numpy(random.normal(0, 0.01, targets.heatmaps[0].shape)).float()
    distance = (np.mgrid[: shape[1], : shape[0]].T[:, :, None, None] - joints / STRIDE) ** 2  # (h, w, P, K, 2)
    identity = random.normal(0, 2, (people, dims))
    tags = torch.from_numpy(identity[distance.sum(-1).argmin(2)]).float()[None]  # (1, h, w, K, D)
    tags = (tags + torch.from_numpy(random.normal(0, 0.05, tags.shape)).float()).permute(0, 3, 1, 2, 4)
    pafs = None if targets.pafs is None else targets.pafs * 0.8
    centers = None if targets.centers is None else center_maps(targets.centers, shape)
    flip = range(17)  # the made-up flipped maps keep their joints
    straight, flipped = MergedMaps(heatmaps, tags), MergedMaps(heatmaps.flip(-1), tags.flip(3))
    return replace(merge_flip(straight, flipped, flip), pafs=pafs, centers=centers).image(0)


def center_maps(targets: CenterTargets, shape: tuple[int, int]) -> torch.Tensor:
    """Return (1, 1 + 2·K, h, w): the center map, and at each center the displacements of its joints."""
    displacements = torch.zeros(1, 2 * SCHEMA.num_joints, *shape)
    x, y = targets.cells[0].T
    displacements[0, :, y, x] = targets.displacements[0].flatten(1).T
    return torch.cat((targets.heatmap, displacements), 1)


def cases(people: int) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name."""
    peaks = PeakOptions(threshold=0.1, dedup_plateaus=True)
    by_tags = DecodeOptions(SCHEMA.grouping_order, peaks)
    by_fields = replace(by_tags, refine="none", limbs=SCHEMA.skeleton, paf=PAF_PRESETS["openpose_coco"])
    by_sleap = replace(by_fields, paf=PAF_PRESETS["sleap"])
    by_both = replace(by_tags, limbs=SCHEMA.skeleton, paf=PAF_PRESETS["with_tags"])
    by_centers = replace(by_tags, centers=CenterRule())
    tags = {dims: made_up_maps(people, dims) for dims in (1, 8)}
    fields, both = made_up_maps(people, 0, "pafs"), made_up_maps(people, 8, "pafs")
    centers = made_up_maps(people, 0, "centers")

    def run(maps: ImageMaps, options: DecodeOptions) -> Callable[[], object]:
        return lambda: decode(maps, (WIDTH, HEIGHT), IDENTITY, options)

    def only_peaks() -> object:
        return [find_candidates(k, h, fields.tags, (HEIGHT, WIDTH), peaks) for k, h in enumerate(fields.heatmaps)]

    return {
        "peaks": only_peaks,
        "scalar tags": run(tags[1], by_tags),
        "8-D tags": run(tags[8], by_tags),
        "8-D tags, not refined": run(tags[8], replace(by_tags, refine="none")),
        "fields, greedy": run(fields, by_fields),
        "fields, Hungarian": run(fields, by_sleap),
        "fields and 8-D tags": run(both, by_both),
        "fields and 8-D tags, not refined": run(both, replace(by_both, refine="none")),
        "centers (no peaks)": run(centers, by_centers),
    }


def main() -> None:
    """Measure and print a row per number of people."""
    parser = argument_parser(__doc__)
    args = parser.parse_args()
    torch.set_num_threads(1)
    counts, runs = ((10, 30), 3) if args.quick else ((1, 5, 10, 20, 30), 15)
    names = list(cases(1))
    print("| people | " + " | ".join(names) + " |", "| --: |" + " --: |" * len(names), sep="\n")
    for people in counts:
        timed = cases(people)
        # each next to the peaks alone, in turn
        times = {name: alternate(function, timed["peaks"], runs) for name, function in timed.items()}
        shared = median(peaks for _, peaks in times.values())
        shown = [f"{shared if name == 'peaks' else own:.1f}" for name, (own, _) in times.items()]
        print(f"| {people} | " + " | ".join(shown) + " |", flush=True)


if __name__ == "__main__":
    main()
