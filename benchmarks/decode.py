"""Time decode against the released algorithm, side by side in one process.

python benchmarks/decode.py [--quick] [--json PATH]
"""

import numpy as np
import torch
from common import ROOT, Record, arguments, record, report
from plain_decode import candidates, grouped, merged_at_full_size, refined

from coupled_embedding.data.schema import load_schema
from coupled_embedding.data.targets import gaussian_heatmaps
from coupled_embedding.decode.aggregate import MergedMaps, merge_flip
from coupled_embedding.decode.decode import DecodeSettings, decode

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
    """Time both on the same maps, in turn, and compare what they find."""
    schema = load_schema(ROOT / "datasets/crowdpose.yaml")
    settings = DecodeSettings(schema.grouping_order)
    heatmaps, tags = made_up_maps(people, height, width)
    flip = range(14)  # the made-up mirror keeps its joints

    def ours() -> np.ndarray:
        photo, mirror = MergedMaps(heatmaps[:1], tags[:1]), MergedMaps(heatmaps[1:], tags[1:])
        maps = merge_flip(photo, mirror, flip).photo(0)
        return np.array([pose.keypoints for pose in decode(maps, (width, height), IDENTITY, settings)])

    def plain() -> np.ndarray:
        heatmap, full_tags = merged_at_full_size(heatmaps, tags, (height, width), flip)
        return refined(grouped(candidates(heatmap, full_tags, 5, 30), schema.grouping_order, 0.1), heatmap, full_tags)

    a, b = ours(), plain()
    positive = b[..., 2] > 0
    difference = float(np.abs(a - b)[positive].max()) if a.shape == b.shape else float("nan")
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
