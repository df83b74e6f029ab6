"""Weights made from each key's name, as in the recordings: the recipe of the reference's README."""

import zlib

import numpy as np
import torch


def weight_from_name(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Return the weight of a key; ``num_batches_tracked`` is 0."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.long)
    random = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("running_var"):
        values = random.uniform(0.5, 1.5, shape)
    elif len(shape) == 4:
        values = random.standard_normal(shape) * np.sqrt(1 / (shape[1] * shape[2] * shape[3]))
    elif name.endswith("weight"):
        values = random.uniform(0.2, 0.6, shape)
    else:
        values = random.standard_normal(shape) * 0.1
    return torch.from_numpy(values.astype(np.float32))
