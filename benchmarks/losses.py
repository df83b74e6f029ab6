"""Time the losses, forward and backward, against loops over people, side by side in one process.

python benchmarks/losses.py [--quick] [--json PATH]
"""

import statistics
import time
from dataclasses import dataclass

import numpy as np
import plain_losses
import torch
from common import ROOT, Record, arguments, record, report
from torch import Tensor

from coupled_embedding.config import load_config
from coupled_embedding.data.pose_output import PoseMaps
from coupled_embedding.data.targets import Targets, build_targets
from coupled_embedding.losses.criterion import PoseCriterion, build_criterion
from coupled_embedding.networks.pose_network import build_network

PHOTOS, JOINTS, DIMS, SIZE, STRIDES = 10, 14, 8, 512, (4, 2)


@dataclass(frozen=True)
class Batch:
    """What the losses get.

    Attributes:
        outputs: what a network computed last: tags (B, K·D, h, w), then heatmaps (B, K, h, w) a resolution.
        targets: of the photos.
        joints: the targets' cells as the released program lists them, see `plain_losses.losses`.
    """

    outputs: tuple[Tensor, ...]
    targets: Targets
    joints: Tensor

    def maps(self) -> PoseMaps:
        """Return the outputs in the network's form."""
        tags, *heatmaps = self.outputs
        tags = tags.view(len(tags), JOINTS, DIMS, *tags.shape[2:]).permute(0, 1, 3, 4, 2)
        return PoseMaps(tuple(heatmaps), tags)


def made_up_batch(people: int, layout: torch.memory_format) -> Batch:
    """Return a batch with a crowd in each photo, whose heatmaps are half learned and tags are not."""
    random = np.random.default_rng(0)
    scales = random.uniform(0.05, 0.6, (PHOTOS, people))
    centers = random.uniform(0, SIZE, (PHOTOS, people, 1, 2))
    places = centers + SIZE * scales[..., None, None] * random.uniform(-0.5, 0.5, (PHOTOS, people, JOINTS, 2))
    labels = 2.0 * (random.random((PHOTOS, people, JOINTS, 1)) < 0.75)
    joints = [torch.from_numpy(np.concatenate([places / stride, labels], -1)).float() for stride in STRIDES]
    masks = [torch.ones(PHOTOS, SIZE // stride, SIZE // stride, dtype=torch.bool) for stride in STRIDES]
    for mask in masks:
        mask[:, : mask.shape[1] // 8] = False  # as if the upper edge lay outside the photo
    targets = build_targets(joints, masks, torch.from_numpy(scales))
    noise = torch.Generator().manual_seed(0)
    heatmaps = [0.5 * t + 0.05 * torch.randn(t.shape, generator=noise) for t in targets.heatmaps]
    tags = torch.randn(PHOTOS, JOINTS * DIMS, SIZE // 4, SIZE // 4, generator=noise)
    outputs = tuple(x.contiguous(memory_format=layout).requires_grad_() for x in (tags, *heatmaps))
    return Batch(outputs, targets, listed(targets))


def listed(targets: Targets) -> Tensor:
    """Return the visible joints as (B, M, K, 2) int64, a person's first: flat index and 1."""
    height, width = targets.heatmaps[0].shape[2:]
    flat = (torch.arange(JOINTS) * height + targets.cells[..., 1]) * width + targets.cells[..., 0]
    order = targets.visible.int().argsort(dim=-1, descending=True, stable=True)
    indices = torch.stack((flat * targets.visible, targets.visible.long()), -1)
    return indices.gather(2, order[..., None].expand_as(indices))


def largest_difference(ours: list[Tensor], plain: list[Tensor]) -> float:
    """Return the largest difference of loss values and of gradients (as a share of the largest), two digits."""
    values = [float((a - b).abs().max()) for a, b in zip(ours[:4], plain[:4], strict=True)]
    gradients = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours[4:], plain[4:], strict=True)]
    return float(f"{max(values + gradients):.1e}")


def measure(people: int, layout: torch.memory_format, criterion: PoseCriterion, runs: int) -> Record:
    """Time both on the same maps, in turn, and compare values and gradients."""
    batch = made_up_batch(people, layout)
    masks = [mask.float() for mask in batch.targets.masks]
    scales = batch.targets.scales.float()
    beta = criterion.heatmap_loss.beta

    def ours() -> list[Tensor]:
        terms = criterion(batch.maps(), batch.targets)
        gradients = torch.autograd.grad(terms.total, batch.outputs)
        return [x.detach() for x in (terms.heatmap, terms.pull, terms.push, terms.coupling, *gradients)]

    def plain() -> list[Tensor]:
        maps = batch.maps()
        terms = plain_losses.losses(maps.heatmaps, maps.tags, batch.targets.heatmaps, masks, batch.joints, scales, beta)
        gradients = torch.autograd.grad(sum(terms, torch.zeros(())), batch.outputs)
        return [x.detach() for x in (*terms, *gradients)]

    difference = largest_difference(ours(), plain())
    name = f"{PHOTOS} photos, {people} people" + (", channels last" if layout == torch.channels_last else "")
    return record(name, ours, plain, runs, difference)


def network_milliseconds(runs: int = 3) -> float:
    """Return the milliseconds that HRNet-W32 with the higher head takes for one photo, forward and backward."""
    network = build_network(load_config(ROOT / "config/crowdpose/ce_hrhrnet_w32_512.yaml"), JOINTS)
    network = network.to(memory_format=torch.channels_last).train()
    photo = torch.randn(1, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    times = []
    for _ in range(runs):
        start = time.process_time()
        maps = network(photo)
        sum(x.square().mean() for x in (*maps.heatmaps, maps.tags)).backward()
        times.append(1000 * (time.process_time() - start))
    return statistics.median(times)


def main() -> None:
    """Measure and print."""
    args = arguments(__doc__)
    torch.set_num_threads(1)
    criterion = build_criterion(load_config(ROOT / "config/crowdpose/ce_hrhrnet_w32_512.yaml"))
    cases = [(n, torch.contiguous_format) for n in (2, 10, 30)] + [(10, torch.channels_last)]
    if args.quick:
        cases = cases[:2]
    records = [measure(*case, criterion, runs=2 if args.quick else 7) for case in cases]
    report(records, args.json)
    if not args.quick:
        network = PHOTOS * network_milliseconds()
        last = records[-1]  # the layout that the network puts out
        share = last.ours_ms / (last.ours_ms + network)
        plain_share = last.baseline_ms / (last.baseline_ms + network)
        print(
            f"\nOn one CPU core HRNet-W32 with the higher head takes {network / 1000:.1f} s for {PHOTOS} photos (one "
            f"timed, times {PHOTOS}), forward and backward; of the two together the losses of '{last.case}' are "
            f"{100 * share:.1f} % (released: {100 * plain_share:.1f} %). A GPU's share differs."
        )


if __name__ == "__main__":
    main()
