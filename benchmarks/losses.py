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

from coupled_embedding.builders import build_criterion, build_model
from coupled_embedding.config import load_config
from coupled_embedding.data.outputs import PoseOutput
from coupled_embedding.data.targets import Targets, build_targets
from coupled_embedding.losses.criterion import PoseCriterion

IMAGES, JOINTS, DIMS, SIZE, STRIDES = 10, 14, 8, 512, (4, 2)


@dataclass(frozen=True)
class Batch:
    """Input of the losses.

    Attributes:
        maps: what a network computes last: tags (B, K·D, h, w), then heatmaps (B, K, h, w) a resolution.
        targets: of the images.
    """

    maps: tuple[Tensor, ...]
    targets: Targets

    def output(self) -> PoseOutput:
        """Return the maps in the network's form."""
        tags, *heatmaps = self.maps
        tags = tags.view(len(tags), JOINTS, DIMS, *tags.shape[2:]).permute(0, 1, 3, 4, 2)
        return PoseOutput(tuple(heatmaps), tags)


def made_up_batch(people: int, layout: torch.memory_format) -> Batch:
    """Return a batch with a crowd in each image, whose heatmaps are half learned and tags are not."""
    random = np.random.default_rng(0)
    scales = random.uniform(0.05, 0.6, (IMAGES, people))
    centers = random.uniform(0, SIZE, (IMAGES, people, 1, 2))
    places = centers + SIZE * scales[..., None, None] * random.uniform(-0.5, 0.5, (IMAGES, people, JOINTS, 2))
    labels = 2.0 * (random.random((IMAGES, people, JOINTS, 1)) < 0.75)
    joints = [torch.from_numpy(np.concatenate([places / stride, labels], -1)).float() for stride in STRIDES]
    masks = [torch.ones(IMAGES, SIZE // stride, SIZE // stride, dtype=torch.bool) for stride in STRIDES]
    for mask in masks:
        mask[:, : mask.shape[1] // 8] = False  # as if the upper edge lay outside the image
    targets = build_targets(joints, masks, torch.from_numpy(scales))
    noise = torch.Generator().manual_seed(0)
    heatmaps = [0.5 * t + 0.05 * torch.randn(t.shape, generator=noise) for t in targets.heatmaps]
    tags = torch.randn(IMAGES, JOINTS * DIMS, SIZE // 4, SIZE // 4, generator=noise)
    maps = tuple(x.contiguous(memory_format=layout).requires_grad_() for x in (tags, *heatmaps))
    return Batch(maps, targets)


class PlainCriterion:
    """The weighted terms of `plain_losses` for fixed targets.

    Args:
        criterion: whose weights and β to use.
        targets: to compare with.
    """

    def __init__(self, criterion: PoseCriterion, targets: Targets) -> None:
        self.weights, self.beta, self.targets = criterion.weights, criterion.heatmap_loss.beta, targets
        self.masks, self.scales = [mask.float() for mask in targets.masks], targets.scales.float()

    def __call__(self, output: PoseOutput) -> dict[str, Tensor]:
        """Return the terms by name."""
        maps, targets = (output.heatmaps, output.tags), self.targets
        labels = targets.cells, targets.visible, self.scales
        terms = plain_losses.losses(*maps, targets.heatmaps, self.masks, *labels, self.beta)
        return {name: self.weights[name] * term for name, term in terms.items()}


def values_and_gradients(total: Tensor, losses: dict[str, Tensor], batch: Batch) -> list[Tensor]:
    """Return the terms and the total's gradient by each of the network's maps."""
    return [x.detach() for x in (*losses.values(), *torch.autograd.grad(total, batch.maps))]


def largest_difference(ours: list[Tensor], plain: list[Tensor]) -> float:
    """Return the largest difference of loss values and of gradients (as a share of the largest), two digits."""
    values = [float((a - b).abs().max()) for a, b in zip(ours[:4], plain[:4], strict=True)]
    gradients = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours[4:], plain[4:], strict=True)]
    return float(f"{max(values + gradients):.1e}")


def measure(people: int, layout: torch.memory_format, criterion: PoseCriterion, runs: int) -> Record:
    """Time both on the same maps, in turn, and compare values and gradients."""
    batch = made_up_batch(people, layout)
    plain_criterion = PlainCriterion(criterion, batch.targets)

    def ours() -> list[Tensor]:
        losses = criterion(batch.output(), batch.targets)
        return values_and_gradients(losses.pop("total"), losses, batch)

    def plain() -> list[Tensor]:
        losses = plain_criterion(batch.output())
        return values_and_gradients(sum(losses.values(), torch.zeros(())), losses, batch)

    difference = largest_difference(ours(), plain())
    name = f"{IMAGES} images, {people} people" + (", channels last" if layout == torch.channels_last else "")
    return record(name, ours, plain, runs, difference)


def network_milliseconds(runs: int = 3) -> float:
    """Return the milliseconds that HRNet-W32 with the higher head takes for one image, forward and backward."""
    network = build_model(load_config(ROOT / "config/crowdpose/ce_hrhrnet_w32_512.yaml"), JOINTS)
    network = network.to(memory_format=torch.channels_last).train()
    image = torch.randn(1, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    times = []
    for _ in range(runs):
        start = time.process_time()
        output = network(image)
        sum(x.square().mean() for x in (*output.heatmaps, output.tags)).backward()
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
        network = IMAGES * network_milliseconds()
        last = records[-1]  # the layout that the network outputs
        share = last.ours_ms / (last.ours_ms + network)
        plain_share = last.baseline_ms / (last.baseline_ms + network)
        print(
            f"\nOn one CPU core HRNet-W32 with the higher head takes {network / 1000:.1f} s for {IMAGES} images (one "
            f"timed, times {IMAGES}), forward and backward; of the two together the losses of '{last.case}' are "
            f"{100 * share:.1f} % (released: {100 * plain_share:.1f} %). A GPU's share differs."
        )


if __name__ == "__main__":
    main()
