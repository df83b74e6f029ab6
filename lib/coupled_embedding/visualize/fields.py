"""Network outputs as images: heatmaps, and embeddings in colors.

Maps cover the same area as the image that they are drawn on, regardless of their size: to draw the
maps of a network's input, give the input image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from coupled_embedding.data.schema import KeypointSchema
from coupled_embedding.visualize.palette import Image, checked_image
from coupled_embedding.visualize.panels import captioned, contact_sheet, fitted

Maps = NDArray[np.floating]

_CELL_WIDTH = 240  # pixels of one joint's panel in a grid
# tags nearer than 1 belong to one person (docs/method.md, section 5.4): spreads below this are not stretched,
# lest one person's noise look like a crowd
_LEAST_RANGE = 1.5
_ROUGHEST = 0.25  # lesser components are stretched to at most 4 times the scale of the first


def heatmap_overlay(image: Image, heatmaps: Maps) -> Image:
    """Lay the largest heatmap value over joints onto a grayed image, from 0 (clear) to 1 (yellow).

    Args:
        image: (H, W, 3) uint8 BGR.
        heatmaps: (K, h, w), values outside 0 to 1 are clipped; the same area as the image.
    """
    back = _backdrop(image)
    peak = _upsampled(_unit(_checked_maps(heatmaps)).max(axis=0), back)  # (H, W)
    shade = np.rint(255 * (0.25 + 0.7 * peak)).astype(np.uint8)
    colors = cv2.applyColorMap(shade, cv2.COLORMAP_INFERNO).astype(np.float32)
    alpha = np.minimum(1.6 * peak, 0.92)[..., None]
    return _rounded(back * (1 - alpha) + colors * alpha)


def heatmap_grid(image: Image, heatmaps: Maps, schema: KeypointSchema, columns: int | None = None) -> Image:
    """Return a grid with one captioned overlay a joint, in the schema's order.

    Args:
        image: (H, W, 3) uint8 BGR.
        heatmaps: (K, h, w), the same area as the image.
        schema: names the joints.
        columns: panels per row; None: about as many as make the grid one and a half times as wide as high.
    """
    if len(_checked_maps(heatmaps)) != schema.num_joints:
        raise ValueError(f"'{schema.name}' has {schema.num_joints} joints, got {len(heatmaps)} heatmaps")
    small = fitted(checked_image(image), (_CELL_WIDTH, _CELL_WIDTH))
    panels = [captioned(heatmap_overlay(small, heatmaps[k : k + 1]), name) for k, name in enumerate(schema.joints)]
    height, width = panels[0].shape[:2]
    if columns is None:
        columns = max(round(math.sqrt(1.5 * len(panels) * height / width)), 1)
    return contact_sheet(panels, columns, (width, height))


@dataclass(frozen=True)
class TagColors:
    """How tags of D values become colors; the same for several images if they share it.

    Tags of one dimension go through a color map. Others are projected on C = min(D, 3) principal components, two to
    the color's hue and strength, and the third to its lightness (CIE Lab, where distances are about as people see
    them).

    Attributes:
        mean: (D,); axes: (D, C) of the components.
        middle, reach: (C,) of the projected tags: one at the middle ± reach gets an extreme color.
    """

    mean: NDArray[np.float64]
    axes: NDArray[np.float64]
    middle: NDArray[np.float64]
    reach: NDArray[np.float64]

    @classmethod
    def fit(cls, images: Sequence[tuple[Maps, Maps]]) -> "TagColors":
        """Return the colors in which the people of some images, together, differ most.

        Args:
            images: one or more (heatmaps, tags), as of `draw_tags`; a tag counts by the square of its heatmap.
        """
        chosen = [_strongest(heatmaps, tags) for heatmaps, tags in images]
        dims = images[0][1].shape[3]
        tags = np.concatenate([tag.reshape(-1, dims) for _, tag in chosen]).astype(np.float64)
        weights = np.concatenate([peak.reshape(-1) for peak, _ in chosen]).astype(np.float64) ** 2
        weights = weights if weights.sum() > 0 else np.ones_like(weights)
        mean = np.average(tags, axis=0, weights=weights)
        centered = tags - mean
        covariance = (centered * (weights / weights.sum())[:, None]).T @ centered
        axes = np.linalg.eigh(covariance)[1][:, ::-1][:, :3]  # the widest first
        # an axis has no direction of its own: its largest entry is made positive
        axes = axes * np.where(np.take_along_axis(axes, abs(axes).argmax(axis=0)[None], axis=0) < 0, -1, 1)
        low, high = (_quantile(centered @ axes, weights, share) for share in (0.01, 0.99))
        ranges = np.maximum(high - low, max(_LEAST_RANGE, _ROUGHEST * (high - low)[0]))
        return cls(mean, axes, (low + high) / 2, ranges / 2)

    def __call__(self, tags: Maps) -> NDArray[np.float32]:
        """Return (P, 3) BGR colors, 0 to 255, of tags (P, D)."""
        return _colors(np.clip(((tags - self.mean) @ self.axes - self.middle) / self.reach, -1, 1))


def draw_tags(image: Image, heatmaps: Maps, tags: Maps, colors: TagColors | None = None) -> Image:
    """Show embeddings as colors: people whose tags are alike look alike.

    Each place shows the tag of the joint with the highest heatmap there, as opaque as that heatmap is high.

    Args:
        image: (H, W, 3) uint8 BGR.
        heatmaps: (K, h, w), the same area as the image.
        tags: (K, h, w, D), D at least 1.
        colors: of the tags; None: fitted to this image.
    """
    peak, chosen = _strongest(heatmaps, tags)
    colors = colors or TagColors.fit([(heatmaps, tags)])
    shades = colors(chosen.reshape(-1, tags.shape[3]).astype(np.float64)).reshape(*peak.shape, 3)
    back = _backdrop(image)
    alpha = np.minimum(1.8 * peak, 0.95)[..., None]
    # colors are upsampled weighted with their opacity, lest the clear surroundings tint the rims
    ink, cover = _upsampled(shades * alpha, back), _upsampled(alpha[..., 0], back)
    return _rounded(back * (1 - cover[..., None]) + ink)


def _strongest(heatmaps: Maps, tags: Maps) -> tuple[NDArray[np.float32], Maps]:
    """Return (h, w), (h, w, D): at each place the highest heatmap, and the tag of its joint."""
    heat = _unit(_checked_maps(heatmaps))
    if tags.ndim != 4 or tags.shape[:3] != heat.shape or not tags.shape[3]:
        raise ValueError(f"expected tags of shape {(*heat.shape, 'D')}, got {tags.shape}")
    best = heat.argmax(axis=0)
    rows, columns = np.indices(best.shape)
    return heat[best, rows, columns], np.nan_to_num(tags[best, rows, columns])


def _quantile(values: NDArray[np.float64], weights: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Return (C,): for each column of values (P, C), the value below which ``share`` of the weight lies."""
    order = values.argsort(axis=0, kind="stable")
    reached = weights[order].cumsum(axis=0) >= share * weights.sum()
    first = reached.argmax(axis=0)
    return np.take_along_axis(values, np.take_along_axis(order, first[None], axis=0), axis=0)[0]


def _colors(parts: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return (P, 3) BGR colors, 0 to 255, of components (P, C) within -1 to 1."""
    if parts.shape[1] == 1:
        shade = np.rint(127.5 + 115 * parts).astype(np.uint8)
        return cv2.applyColorMap(shade, cv2.COLORMAP_TURBO)[:, 0].astype(np.float32)
    lab = np.empty((len(parts), 1, 3), np.float32)
    lab[:, 0, 0] = 71 + (20 * parts[:, 2] if parts.shape[1] > 2 else 0)
    lab[:, 0, 1:] = 85 * parts[:, :2]
    return np.clip(255 * cv2.cvtColor(lab, cv2.COLOR_Lab2BGR)[:, 0], 0, 255).astype(np.float32)


def _checked_maps(heatmaps: Maps) -> Maps:
    if heatmaps.ndim != 3 or not heatmaps.size:
        raise ValueError(f"expected heatmaps of shape (K, h, w), got {heatmaps.shape}")
    return heatmaps


def _unit(heatmaps: Maps) -> NDArray[np.float32]:
    return np.clip(np.nan_to_num(heatmaps), 0, 1).astype(np.float32)


def _backdrop(image: Image) -> NDArray[np.float32]:
    """Return (H, W, 3): the image grayed and darkened, so that the colors on it stand out."""
    gray = cv2.cvtColor(checked_image(image), cv2.COLOR_BGR2GRAY).astype(np.float32)
    return np.repeat((0.6 * gray)[..., None], 3, axis=2)


def _upsampled(field: NDArray[np.float32], image: NDArray[np.float32]) -> NDArray[np.float32]:
    # as the network's maps are upsampled: bilinear, a cell's center in the middle of its pixels
    return np.asarray(cv2.resize(field, image.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _rounded(image: NDArray[np.floating]) -> Image:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
