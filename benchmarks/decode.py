"""Time decode against the plain algorithm, `decode.reference`, side by side in one process.

python benchmarks/decode.py [--quick] [--json PATH]
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from common import ROOT, Record, arguments, record, report

from coupled_embedding.data.gaussians import gaussian_heatmaps
from coupled_embedding.data.outputs import Pose
from coupled_embedding.data.schema import load_schema
from coupled_embedding.decode.aggregate import MergedMaps, merge_flip
from coupled_embedding.decode.decode import decode
from coupled_embedding.decode.options import DecodeOptions
from coupled_embedding.decode.reference import decode_reference

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
    tags = tags + torch.from_numpy(random.normal(0, 0.05, tags.shape)).float()
    both = torch.cat((tags, tags.flip(3))).permute(0, 2, 3, 1, 4).contiguous()  # a channels-last network's order
    return torch.cat((heatmap, heatmap.flip(-1))), both.permute(0, 3, 1, 2, 4)


def measure(people: int, height: int, width: int, runs: int) -> Record:
    """Time both on the same maps, in turn, and compare the poses."""
    options = DecodeOptions(load_schema(ROOT / "datasets/crowdpose.yaml").grouping_order)
    heatmaps, tags = made_up_maps(people, height, width)
    flip = range(14)  # the made-up flipped maps keep their joints

    def keypoints(function: Callable[..., list[Pose]]) -> np.ndarray:
        maps = merge_flip(MergedMaps(heatmaps[:1], tags[:1]), MergedMaps(heatmaps[1:], tags[1:]), flip)
        return np.array([pose.keypoints for pose in function(maps.image(0), (width, height), IDENTITY, options)])

    ours, plain = partial(keypoints, decode), partial(keypoints, decode_reference)
    a, b = ours(), plain()
    difference = float(np.abs(a - b).max()) if a.shape == b.shape else float("nan")
    return record(f"{width}x{height}, {people} people", ours, plain, runs, difference, memory=True)


def main() -> None:
    """Measure and print."""
    args = arguments(__doc__)
    torch.set_num_threads(1)
    cases = [(n, *size) for size in ((512, 704), (640, 960)) for n in (2, 10, 20, 30)]
    if args.quick:
        cases = [(10, 512, 704), (30, 512, 704)]
    report([measure(*case, runs=2 if args.quick else 7) for case in cases], args.json)


if __name__ == "__main__":
    main()
