"""The memory that a training step keeps per image for its backward pass, and that a network takes for any batch.

python benchmarks/memory.py [--cfg FILE ...]

Counts on the CPU what is still held after the forward pass. A GPU holds the same tensors, and also those of
the current layer, the losses' maps, and the memory of CUDA and its allocator.
"""

import argparse
from typing import Any

import torch
from common import ROOT
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from coupled_embedding.builders import build_model
from coupled_embedding.config import load_config
from coupled_embedding.data.schema import load_schema
from coupled_embedding.networks.pose_network import PoseNetwork
from coupled_embedding.networks.recompute import recompute_blocks

CONFIGS = ("ce_hrnet_w32_512", "ce_hrhrnet_w32_512", "ce_hrnet_w48_640", "ce_hrhrnet_w48_640")


class Storages(TorchDispatchMode):
    """Remembers the memory of every operation's output while it lives."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self.seen[StorageWeakRef(tensor.untyped_storage())] = tensor.untyped_storage().nbytes()
        return result

    @property
    def living_bytes(self) -> int:
        """Of the memory that something still holds."""
        return sum(size for storage, size in self.seen.items() if not storage.expired())


def kept_bytes(network: PoseNetwork, input_size: int, precision: torch.dtype) -> int:
    """Return what the forward pass of one image keeps, weights left out."""
    image = torch.zeros(1, 3, input_size, input_size).to(memory_format=torch.channels_last)
    half = torch.autocast("cpu", precision, enabled=precision != torch.float32)
    weights = {StorageWeakRef(weight.untyped_storage()) for weight in network.state_dict().values()}
    with Storages() as storages, half:
        output = network(image)
    for weight in weights:
        storages.seen.pop(weight, None)
    kept = storages.living_bytes
    assert output.tags.requires_grad  # so that the graph lives until here
    return kept


def main() -> None:
    """Parse, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", nargs="+", default=[str(ROOT / f"config/coco/{name}.yaml") for name in CONFIGS])
    print(
        "| config | GiB per image, bf16 | float32 | with TRAIN.RECOMPUTE, bf16 | float32 "
        "| GiB of weights, gradients and Adam |\n| --- | --: | --: | --: | --: | --: |"
    )
    for path in parser.parse_args().cfg:
        cfg = load_config(path)
        network = build_model(cfg, load_schema(cfg.DATASET.SCHEMA).num_joints).train()
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = []
        for prepare in (lambda network: None, recompute_blocks):
            prepare(network)
            for kind in (torch.bfloat16, torch.float32):
                images.append(kept_bytes(network, cfg.DATASET.INPUT_SIZE, kind) / 2**30)
        fixed = sum(4 * 4 * weight.numel() for weight in network.parameters()) / 2**30
        print(f"| {cfg.NAME} | {' | '.join(f'{gib:.2f}' for gib in (*images, fixed))} |", flush=True)


if __name__ == "__main__":
    main()
