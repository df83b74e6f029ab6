"""From quads to pixels: draw quad numbers on a canvas, then shade every pixel at once.

Numbers first and colors later keeps Python out of the pixels: one fillConvexPoly per quad, then texture
and light are interpolated for all pixels together, and who is seen where falls out for free.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import repeat

import cv2
import numpy as np

from synthetic_crowd.quads import Quads

SCALE = 2  # canvas pixels per image pixel
_SUBPIXEL_BITS = 4
_BRIGHTEST = 1.6


@dataclass(frozen=True)
class Drawn:
    """What was drawn.

    quad: (SCALE·H, SCALE·W) int32 number of the quad on the canvas, -1 where nothing is. owner and depth at
    image resolution (H, W): int16, -1 nothing, 0 a thing, n + 1 person n; float32 meters, inf nothing.
    """

    quad: np.ndarray
    owner: np.ndarray
    depth: np.ndarray


def draw(quads: Quads, size: tuple[int, int]) -> Drawn:
    """Fill the quads, which come farthest first, on a canvas of `size` (width, height)."""
    canvas = np.zeros((size[1], size[0]), np.int32)
    limit = 4 * max(size)
    corners = np.clip(quads.screen, -limit, limit) * (1 << _SUBPIXEL_BITS)
    polygons = list(np.rint(corners).astype(np.int32))
    numbers = range(1, len(polygons) + 1)
    # map and deque loop over thousands of quads without a Python frame for each
    fills = map(cv2.fillConvexPoly, repeat(canvas), polygons, numbers, repeat(cv2.LINE_8), repeat(_SUBPIXEL_BITS))
    deque(fills, maxlen=0)
    owner = np.concatenate([[-1], quads.owner]).astype(np.int16)
    depth = np.concatenate([[np.inf], quads.depth]).astype(np.float32)
    sampled = canvas[::SCALE, ::SCALE]
    return Drawn(canvas - 1, owner[sampled], depth[sampled])


def _planes(quads: Quads) -> np.ndarray:
    """Affine fits of column, row and light over each quad, (3, 3, Q): value = base + gx x + gy y.

    A ridge of a third of a pixel keeps slivers from exploding: there the values stay near their mean.
    """
    corners = np.concatenate([quads.screen, quads.texture, quads.light[..., None]], -1).astype(np.float32)
    corners = np.ascontiguousarray(corners.transpose(2, 1, 0))  # (x y column row light, corner, Q): sums run along Q
    mean = corners.sum(1) / 4
    corners -= mean[:, None]
    (x, y), values = corners[:2], corners[2:]
    xx, yy, xy = (x * x).sum(0) / 4 + 0.3, (y * y).sum(0) / 4 + 0.3, (x * y).sum(0) / 4
    vx, vy = (values * x).sum(1) / 4, (values * y).sum(1) / 4  # (3, Q)
    det = xx * yy - xy * xy
    gx, gy = (yy * vx - xy * vy) / det, (xx * vy - xy * vx) / det
    return np.stack([mean[2:] - gx * mean[0] - gy * mean[1], gx, gy], 1)


def shade(drawn: Drawn, quads: Quads, atlas: np.ndarray, tint: np.ndarray) -> np.ndarray:
    """Color the canvas: (h, w, 3) uint8 BGR, 0 where nothing is drawn.

    atlas: (rows, columns, 3) uint8 BGR. tint: (2, 3) colors of shade and of full light, 1 is neutral.
    """
    image = np.zeros((drawn.quad.size, 3), np.uint8)
    pixels = np.flatnonzero(drawn.quad >= 0).astype(np.int32)
    if not len(pixels):
        return image.reshape(*drawn.quad.shape, 3)
    y, x = (place.astype(np.float32) for place in np.divmod(pixels, np.int32(drawn.quad.shape[1])))
    quad = drawn.quad.ravel()[pixels]
    column, row, light = (base.take(quad) + gx.take(quad) * x + gy.take(quad) * y for base, gx, gy in _planes(quads))
    levels = np.arange(256, dtype=np.float32)[:, None] * np.float32(_BRIGHTEST / 255)
    tinted = np.clip(levels * (tint[0] + (tint[1] - tint[0]) * np.clip(levels, 0, 1)) * (255 / _BRIGHTEST), 0, 255)
    level = np.clip(light * (255 / _BRIGHTEST), 12, 255).astype(np.uint8)
    brightness = tinted.astype(np.uint8).take(level, axis=0)
    image[pixels] = cv2.multiply(_sample(atlas, column, row), brightness, scale=_BRIGHTEST / 255)
    return image.reshape(*drawn.quad.shape, 3)


def _sample(atlas: np.ndarray, column: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Bilinear lookup of M places, (M, 3) uint8."""
    width = 256
    maps = np.zeros((2, -(-len(column) // width) * width), np.float32)
    maps[0, : len(column)], maps[1, : len(column)] = column, row
    columns, rows = maps.reshape(2, -1, width)
    colors = cv2.remap(atlas, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return colors.reshape(-1, 3)[: len(column)]


def compose(colors: np.ndarray, drawn: Drawn, background: np.ndarray, shadow: np.ndarray, dark: float) -> np.ndarray:
    """Shrink the canvas onto the background (H, W, 3), darkened by up to `dark` where `shadow` (H, W) is 255.

    All images are uint8, BGR.
    """
    size = background.shape[1::-1]
    cover = cv2.resize((drawn.quad >= 0).astype(np.uint8) * np.uint8(255), size, interpolation=cv2.INTER_AREA)
    lit = 255 - shadow.astype(np.float32) * np.float32(dark)
    behind = cv2.multiply(255 - cover, lit.astype(np.uint8), scale=1 / 255)
    front = cv2.resize(colors, size, interpolation=cv2.INTER_AREA)
    return cv2.add(_darkened(front, _crevices(drawn.depth)), _darkened(background, behind))


def _darkened(image: np.ndarray, share: np.ndarray) -> np.ndarray:
    """A uint8 image (H, W, 3) times share (H, W) uint8, 255 is all."""
    return cv2.multiply(image, cv2.merge([share] * 3), scale=1 / 255)


def _crevices(depth: np.ndarray) -> np.ndarray:
    """Darkening (h, w) uint8, 255 is none, of surfaces right behind others: depth darkening after Luft et al. 2006."""
    near = 1 / depth  # 0 where nothing is
    side = max(5, depth.shape[1] // 24) | 1
    ahead = cv2.blur(near, (side, side)) - near
    return (255 - np.clip(ahead / np.maximum(near, np.float32(1e-3)) * 765, 0, 115)).astype(np.uint8)


def develop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a camera does to the light: focus, exposure, color cast, grain, compression.

    image: (H, W, 3) uint8 BGR. Returns another.
    """
    if rng.random() < 0.35:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.8))
    cast = np.exp(rng.normal(0, 0.035, 3)) * rng.uniform(0.85, 1.12)
    curve = np.clip(np.arange(256)[:, None] / 255 * cast, 0, 1) ** rng.uniform(0.78, 1.12) * 255
    result = cv2.LUT(image, np.rint(curve).astype(np.uint8)[None])
    strength = rng.uniform(0.5, 5.0) if rng.random() < 0.85 else rng.uniform(5, 11)
    grain = (rng.standard_normal(image.shape[:2], np.float32) * np.float32(strength)).astype(np.int16)
    result = cv2.add(result, cv2.merge([grain] * 3), dtype=cv2.CV_8U)
    if rng.random() < 0.4:
        quality = int(rng.integers(45, 92))
        packed = cv2.imencode(".jpg", result, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        result = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR))
    return result
