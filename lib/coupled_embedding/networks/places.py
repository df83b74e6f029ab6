"""Places in tags (docs/method.md 8.2)."""

import torch
from torch import Tensor
from torch.nn import functional as F

SPATIAL_DIMS = 2  # dimensions of a tag that hold places


def add_places(tags: Tensor, units: float) -> Tensor:
    """Add each cell's place to the last two dimensions of its tag, which a network then completes to its person's.

    All joints of a person should have the same tag, so what the network adds is the offset from a joint to a point
    that its person's joints agree on; people at different places have different tags from the first step on.

    Args:
        tags: (B, K, h, w, D).
        units: per cell.

    Returns:
        (B, K, h, w, D) in float32 or better: half precision would round places to several cells.
    """
    height, width = tags.shape[2:4]
    kind = torch.promote_types(tags.dtype, torch.float32)
    rows, columns = (torch.arange(count, device=tags.device, dtype=kind) * units for count in (height, width))
    places = torch.stack((columns.expand(height, width), rows[:, None].expand(height, width)), -1)
    return tags + F.pad(places, (tags.shape[-1] - SPATIAL_DIMS, 0))
