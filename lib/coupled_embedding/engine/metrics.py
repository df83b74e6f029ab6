"""Losses and times between log steps, summed on the device so that no step waits for the host."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from coupled_embedding.data.dataset import TrainBatch
from coupled_embedding.data.outputs import PoseOutput
from coupled_embedding.data.targets import Targets
from coupled_embedding.engine.tag_statistics import NAMES, tag_statistics
from coupled_embedding.utils.distributed import DistEnv


class Meter:
    """Sums losses, images and waiting times of one rank; `compute` averages them over all."""

    def __init__(self, env: DistEnv) -> None:
        self.env = env
        self.reset()

    def reset(self) -> None:
        """Drop what was summed: after a pause, or a log step."""
        self.names: tuple[str, ...] = ()
        self.losses: Tensor | float = 0.0  # their sums, (names,)
        self.steps = self.wait = 0.0
        self.images = self.dropped_people = 0
        self.start = time.perf_counter()

    @contextmanager
    def data_time(self) -> Iterator[None]:
        """Count the block's time as waiting for data."""
        start = time.perf_counter()
        yield
        self.wait += time.perf_counter() - start

    def add(self, losses: Mapping[str, Tensor], weight: float, batch: TrainBatch) -> None:
        """Add a forward pass; the weights of a step's passes and ranks sum to the number of ranks."""
        self.names = tuple(losses)
        self.losses = self.losses + torch.stack([loss.detach() for loss in losses.values()]) * weight
        self.steps += weight
        self.images += len(batch.images)
        self.dropped_people += batch.dropped_people

    def compute(self, output: PoseOutput, targets: Targets, grad_norm: Tensor) -> dict[str, float]:
        """Return the means since the last call, over all ranks, by the name under which they are logged.

        Args:
            output, targets: of the last batch, for statistics of its tags.
            grad_norm: of the last step.
        """
        assert isinstance(self.losses, Tensor)
        host = torch.tensor([self.steps, self.images, self.dropped_people, self.wait], dtype=torch.float64)
        sums = torch.cat([self.losses.double(), host.to(self.losses.device)])
        if self.env.world_size > 1:
            dist.all_reduce(sums)
        has_tags = output.tags.shape[-1] > 0
        tags = tag_statistics(output, targets) if has_tags else sums.new_zeros(0)
        # the one transfer to the host between log steps
        values = torch.cat([sums, grad_norm.double()[None], tags.double()]).tolist()
        seconds = time.perf_counter() - self.start
        steps, images, dropped, wait, norm, *statistics = values[len(self.names) :]
        scalars = {f"loss/{name}": value / steps for name, value in zip(self.names, values, strict=False)}
        scalars |= {f"tags/{name}": value for name, value in zip(NAMES if has_tags else (), statistics, strict=True)}
        scalars["train/gradient_norm"] = norm
        scalars["train/images_per_second"] = images / seconds
        scalars["train/data_wait_share"] = wait / self.env.world_size / seconds
        scalars["train/people_above_limit"] = dropped
        self.reset()
        return scalars
