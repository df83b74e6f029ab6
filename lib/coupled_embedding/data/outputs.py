"""What a network outputs, for losses, decode and visualizations; and the poses that decode finds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class PoseOutput:
    """A network's output for B images of (H, W) input pixels.

    Attributes:
        heatmaps: (B, K, H/4, W/4), and for the higher head also (B, K, H/2, W/2).
        tags: (B, K, H/4, W/4, D) embeddings.
        aux_outputs: of the earlier stages of a stacked network, first to last; only the loss uses them.
        scale_maps: (B, K, h, w) for each heatmap, 1/s − 1 of the scale s > 0 that the cell's target takes;
            empty where a network has none. Only the loss uses them.
        pafs: (B, L, 2, H/4, W/4) part affinity fields, x and y of each limb; None: the network has none.
        centers: (B, 1 + 2·K, H/4, W/4) float32 center maps: a heatmap of people's centers in [0, 1], then from the
            middle of a center's cell the displacements x, y to the joints, in cells; None: the network has none.
        parallel: (B, K, h, w) of the lowest resolution, of a spatial transformer's parallel branch; None: there is
            none. Only the loss uses them.
    """

    heatmaps: tuple[Tensor, ...]
    tags: Tensor
    aux_outputs: tuple["PoseOutput", ...] = ()
    scale_maps: tuple[Tensor, ...] = ()
    pafs: Tensor | None = None
    centers: Tensor | None = None
    parallel: Tensor | None = None


@dataclass(frozen=True)
class Pose:
    """One person detected in an image.

    Attributes:
        keypoints: (K, 3) float64: x, y in image pixels, score. A missing joint is at (0, 0).
        score: of the whole person.
        tag: (T,) the mean tag of the joints that grouping found, of both views with flip; None: unknown.
        source: id of the annotation, or number of the detection, in whose box it was found; None: in the whole image.
    """

    keypoints: NDArray[np.float64]
    score: float
    tag: NDArray[np.float32] | None = None
    source: int | None = None
