"""A network on its device, and the same as one of several processes runs it."""

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from yacs.config import CfgNode

from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.utils.distributed import World


def build_placed(network: PoseNetwork, cfg: CfgNode, world: World) -> PoseNetwork:
    """Move a network to this process's device, with batch statistics of all processes where GPUs can have them."""
    layout = torch.channels_last if cfg.TRAIN.CHANNELS_LAST else torch.contiguous_format
    network = network.to(world.device, memory_format=layout)  # type: ignore[call-overload]
    if world.size > 1 and world.device.type == "cuda" and cfg.TRAIN.SYNC_BN:
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return network


def build_parallel(network: PoseNetwork, cfg: CfgNode, world: World) -> nn.Module:
    """Return what a training step calls: compiled if asked for, its gradients averaged over all processes."""
    forward: nn.Module = torch.compile(network) if cfg.TRAIN.COMPILE else network  # type: ignore[assignment]
    if world.size == 1:
        return forward
    devices = [world.device] if world.device.type == "cuda" else None
    return DistributedDataParallel(forward, device_ids=devices, gradient_as_bucket_view=True)
