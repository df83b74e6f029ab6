"""The memory that a training step keeps per image for its backward pass, and that a network takes for any batch.

python benchmarks/memory.py [--cfg FILE ...]

Counts what autograd saves on the CPU. A GPU holds the same tensors, and also those of
the current layer, the losses' maps, and the memory of CUDA and its allocator.
"""

import argparse

import torch
from common import ROOT
from torch import Tensor

from coupled_embedding.builders import build_model
from coupled_embedding.config import load_config
from coupled_embedding.data.schema import load_schema
from coupled_embedding.networks.pose_network import PoseNetwork

CONFIGS = ("ce_hrnet_w32_512", "ce_hrhrnet_w32_512", "ce_hrnet_w48_640", "ce_hrhrnet_w48_640")


def kept_bytes(network: PoseNetwork, input_size: int, precision: torch.dtype) -> int:
    """Return what the forward pass of one image keeps, weights left out."""
    weights = {weight.untyped_storage().data_ptr() for weight in network.parameters()}
    kept: dict[int, Tensor] = {}  # by storage: views share one, and a tensor that lives keeps its address

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    image = torch.zeros(1, 3, input_size, input_size).to(memory_format=torch.channels_last)
    half = torch.autocast("cpu", precision, enabled=precision != torch.float32)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), half:
        network(image)
    return sum(tensor.untyped_storage().nbytes() for address, tensor in kept.items() if address not in weights)


def main() -> None:
    """Parse, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", nargs="+", default=[str(ROOT / f"config/coco/{name}.yaml") for name in CONFIGS])
    print("| config | GiB an image, bf16 | float32 | GiB of weights, gradients and Adam |\n| --- | --: | --: | --: |")
    for path in parser.parse_args().cfg:
        cfg = load_config(path)
        network = build_model(cfg, load_schema(cfg.DATASET.SCHEMA).num_joints).train()
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        image = [kept_bytes(network, cfg.DATASET.INPUT_SIZE, kind) / 2**30 for kind in (torch.bfloat16, torch.float32)]
        fixed = sum(4 * 4 * weight.numel() for weight in network.parameters()) / 2**30
        print(f"| {cfg.NAME} | {image[0]:.2f} | {image[1]:.2f} | {fixed:.2f} |", flush=True)


if __name__ == "__main__":
    main()
