"""A network on its device, and what a training step calls on several ranks."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from coupled_embedding.data.outputs import PoseOutput
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.networks.recompute import recompute_blocks
from coupled_embedding.networks.sync_batch_norm import synchronize_batch_norm
from coupled_embedding.utils.distributed import TIMEOUT, DistEnv


def place(
    network: PoseNetwork, env: DistEnv, channels_last: bool, sync_bn: bool = False, recompute: bool = False
) -> PoseNetwork:
    """Move a network to this rank's device.

    Args:
        channels_last: its memory format.
        sync_bn: whether batch statistics are those of all ranks.
        recompute: whether residual blocks are computed again in the backward pass.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = network.to(env.device, memory_format=layout)  # type: ignore[call-overload]
    if recompute:
        recompute_blocks(network)
    if env.world_size > 1 and sync_bn:
        # in the gradients' group its messages would wait for theirs
        group = dist.new_group(timeout=TIMEOUT)
        assert isinstance(group, dist.ProcessGroup)
        synchronize_batch_norm(network, group.group_name, env.world_size, native=env.device.type == "cuda")
    return network


class CompiledNetwork(nn.Module):
    """A network compiled for batches of one size; other sizes run eagerly.

    Compiled for a second size, it would get dynamic shapes, which are slower for all that follow.
    """

    def __init__(self, network: PoseNetwork, images: int) -> None:
        super().__init__()
        self.network, self.images = network, images
        self.compiled = torch.compile(network.forward, dynamic=False)

    def forward(self, images: Tensor) -> PoseOutput:
        """Map normalized images (B, 3, H, W) to heatmaps and tags."""
        return self.compiled(images) if len(images) == self.images else self.network(images)


def distribute(network: PoseNetwork, env: DistEnv, compiled_images: int = 0) -> nn.Module:
    """Return what a training step calls, its gradients averaged over all ranks.

    Args:
        compiled_images: batch size for which to compile the network; 0: it is not compiled.
    """
    forward = CompiledNetwork(network, compiled_images) if compiled_images else network
    if env.world_size == 1:
        return forward
    devices = [env.device] if env.device.type == "cuda" else None
    # buffers differ without synchronized batch norm only; then `broadcast_buffers` copies them where they are used
    is_new = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters  # since torch 2.13
    options: dict[str, Any] = {"forward_sync_buffers" if is_new else "broadcast_buffers": False}
    return DistributedDataParallel(forward, device_ids=devices, gradient_as_bucket_view=True, **options)


@contextmanager
def tuned_convolutions(on: bool) -> Iterator[None]:
    """Let cuDNN try its algorithms on each new shape and keep the fastest: for training, whose shapes stay the same."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = on
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
