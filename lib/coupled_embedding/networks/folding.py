"""Batch norm and biases folded into the convs before them: the same maps with fewer passes over memory."""

import copy
import itertools

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from coupled_embedding.networks.mobilenet_fpn import ChannelBias
from coupled_embedding.networks.pose_network import PoseNetwork


@torch.no_grad()
def fold_batch_norm(network: PoseNetwork) -> PoseNetwork:
    """Return a copy for inference whose convs do the work of their batch norm or bias; the network stays as it is.

    In evaluation mode batch norm is a fixed scale and shift of each channel, which the weights
    and a bias of the conv before it can hold. Maps differ by rounding alone: that of float32, or
    of the narrower type that autocast runs the convs in.

    Raises:
        ValueError: the network is in training mode, where batch norm depends on the batch.
    """
    if network.training:
        raise ValueError("batch norm can be folded in evaluation mode only: call network.eval() first")
    folded = copy.deepcopy(network)
    for module in folded.modules():
        _fold_children(module)
    return folded


def _fold_children(module: nn.Module) -> None:
    """Fold each batch norm or bias that is registered directly after a conv, as all of this package's are."""
    children = list(module.named_children())
    for (conv_name, conv), (norm_name, norm) in itertools.pairwise(children):
        if isinstance(conv, nn.Conv2d | nn.ConvTranspose2d) and isinstance(norm, _BatchNorm):
            transposed = isinstance(conv, nn.ConvTranspose2d)
            setattr(module, conv_name, fuse_conv_bn_eval(conv, norm, transpose=transposed))
            setattr(module, norm_name, nn.Identity())
        elif isinstance(conv, nn.Conv2d) and conv.bias is None and isinstance(norm, ChannelBias):
            conv.bias = nn.Parameter(norm.bias.clone())
            setattr(module, norm_name, nn.Identity())
