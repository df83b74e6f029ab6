"""Losses and times between log steps, summed where they arise so that no step waits for the host."""

import time
from dataclasses import fields

import torch
import torch.distributed as dist
from torch import Tensor

from coupled_embedding.data.dataset import TrainBatch
from coupled_embedding.data.pose_output import PoseMaps
from coupled_embedding.data.targets import Targets
from coupled_embedding.engine import tag_statistics as statistics
from coupled_embedding.losses.criterion import LossTerms
from coupled_embedding.utils.distributed import World


class Meter:
    """Sums losses on the device between log steps, so that no step waits for the host."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.shown: dict[str, str] = {}
        self.restart()

    def restart(self) -> None:
        """Forget what was summed: after a pause, or a log step."""
        self.losses: Tensor | float = 0.0
        self.steps = 0.0
        self.photos = 0
        self.dropped = 0
        self.wait = 0.0
        self.start = time.perf_counter()

    def waiting(self) -> "_Waiting":
        """Return a context whose time counts as waiting for data."""
        return _Waiting(self)

    def add(self, terms: LossTerms, share: float, batch: TrainBatch) -> None:
        """Add a pass's losses; the shares of a step's passes and processes sum to their number."""
        self.losses = self.losses + terms.stacked() * share
        self.steps += share
        self.photos += len(batch.images)
        self.dropped += batch.dropped_people

    def figures(self, maps: PoseMaps, targets: Targets, norm: Tensor) -> dict[str, float]:
        """Return the means since the last call, over all processes, and start anew."""
        assert isinstance(self.losses, Tensor)
        host = torch.tensor([self.steps, self.photos, self.dropped, self.wait], dtype=torch.float64)
        sums = torch.cat([self.losses.double(), host.to(self.losses.device)])
        if self.world.size > 1:
            dist.all_reduce(sums)
        stats = statistics.tag_statistics(maps, targets)
        # the one transfer to the host between log steps
        values = torch.cat([sums, norm.double()[None], stats.double()]).tolist()
        names = [field.name for field in fields(LossTerms)]
        seconds = time.perf_counter() - self.start
        steps, photos, dropped, wait, norm_value, *tags = values[len(names) :]
        figures = {f"loss/{name}": value / steps for name, value in zip(names, values, strict=False)}
        figures |= {f"tags/{name}": value for name, value in zip(statistics.NAMES, tags, strict=True)}
        figures["train/gradient_norm"] = norm_value
        figures["train/photos_per_second"] = photos / seconds
        figures["train/data_wait_share"] = wait / self.world.size / seconds
        figures["train/people_above_limit"] = dropped
        self.shown = {"loss": f"{figures['loss/total']:.5f}", "photos/s": f"{photos / seconds:.1f}"}
        self.restart()
        return figures


class _Waiting:
    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.meter.wait += time.perf_counter() - self.start
