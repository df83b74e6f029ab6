"""What a network outputs for one image, before decode, and how it is drawn on the image."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from coupled_embedding.data.geometry import ResizeGeometry
from coupled_embedding.data.test_dataset import warp_to_input
from coupled_embedding.decode.batching import Pipeline
from coupled_embedding.utils.errors import UserError
from coupled_embedding.visualize import TagColors, draw_tags, heatmap_overlay

Pixels = NDArray[np.uint8]
Maps = NDArray[np.float32]


@dataclass(frozen=True)
class NetworkFields:
    """Heatmaps and tags of an image, merged over flip and scales.

    Attributes:
        base: (H, W, 3) uint8 BGR: the network's input at factor 1.
        heatmaps: (K, h, w).
        tags: (K, h', w', D) of the image itself, without those of the flipped one.
        geometry: from the image to the input.
        image_size: (width, height) of the image.
    """

    base: Pixels
    heatmaps: Maps
    tags: Maps
    geometry: ResizeGeometry
    image_size: tuple[int, int]

    def heatmaps_at_tags(self) -> Maps:
        """Return (K, h', w'): the heatmaps in the tags' cells."""
        cells = (self.tags.shape[2], self.tags.shape[1])
        return np.stack([cv2.resize(one, cells, interpolation=cv2.INTER_AREA) for one in self.heatmaps])

    def tag_colors(self) -> TagColors:
        """Return the colors in which the people of this image differ most."""
        return TagColors.fit([(self.heatmaps_at_tags(), self.tags)])

    def draw_heatmaps(self, joint: int | None = None, size: tuple[int, int] | None = None) -> Pixels:
        """Return heatmaps drawn on the image, BGR.

        Args:
            joint: whose alone; None: all.
            size: (width, height) of the result; None: the image's.
        """
        return self._on_image(heatmap_overlay(self.base, self.heatmaps[_chosen(joint)]), size)

    def draw_tags(
        self, joint: int | None = None, size: tuple[int, int] | None = None, colors: TagColors | None = None
    ) -> Pixels:
        """Return tags drawn as colors on the image, BGR; arguments as of `draw_heatmaps`, colors None: this image's.

        Raises:
            UserError: the network has no tags.
        """
        if not self.tags.shape[-1]:
            raise UserError("this network has no tags to draw (MODEL.TAG_DIM 0), but heatmaps")
        heatmaps, joints = self.heatmaps_at_tags(), _chosen(joint)
        colors = colors or TagColors.fit([(heatmaps, self.tags)])
        return self._on_image(draw_tags(self.base, heatmaps[joints], self.tags[joints], colors), size)

    def _on_image(self, drawn: Pixels, size: tuple[int, int] | None) -> Pixels:
        size = size or self.image_size
        factors = np.array(size) / self.image_size
        back = self.geometry.to_image() * factors[:, None]
        back[:, 2] += (factors - 1) / 2  # pixel centers are at whole numbers
        return np.asarray(cv2.warpAffine(drawn, back, size), np.uint8)


def _chosen(joint: int | None) -> slice:
    return slice(None) if joint is None else slice(joint, joint + 1)


def network_fields(
    pipeline: Pipeline, pixels: Pixels, inputs: Sequence[Tensor], geometry: ResizeGeometry
) -> NetworkFields:
    """Run a network on one image.

    Args:
        pipeline: with the network.
        pixels: (h, w, 3) uint8 BGR, the image.
        inputs: for each scale factor (H, W, 3) uint8 RGB.
        geometry: from the image to the input.
    """
    maps = pipeline.forward([one[None] for one in inputs], geometry.base_size).cpu()
    base = warp_to_input(pixels, geometry)[..., ::-1]
    heatmaps, tags = maps.heatmaps[0].numpy(), maps.tags[0].float().numpy()
    return NetworkFields(base, heatmaps, tags, geometry, (pixels.shape[1], pixels.shape[0]))
