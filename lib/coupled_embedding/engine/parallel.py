"""A network on its device, and what a training step calls on several ranks."""

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.utils.distributed import DistEnv


def place(network: PoseNetwork, env: DistEnv, channels_last: bool, sync_bn: bool = False) -> PoseNetwork:
    """Move a network to this rank's device.

    Args:
        channels_last: its memory format.
        sync_bn: whether batch statistics are those of all ranks, on GPUs.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = network.to(env.device, memory_format=layout)  # type: ignore[call-overload]
    if env.world_size > 1 and env.device.type == "cuda" and sync_bn:
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return network


def distribute(network: PoseNetwork, env: DistEnv, compiled: bool = False) -> nn.Module:
    """Return what a training step calls: compiled if wanted, its gradients averaged over all ranks."""
    forward: nn.Module = torch.compile(network) if compiled else network  # type: ignore[assignment]
    if env.world_size == 1:
        return forward
    devices = [env.device] if env.device.type == "cuda" else None
    return DistributedDataParallel(forward, device_ids=devices, gradient_as_bucket_view=True)
