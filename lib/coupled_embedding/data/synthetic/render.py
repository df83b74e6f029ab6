"""From quads to pixels: draw quad numbers on a canvas, then shade every pixel at once.

Numbers first and colours later keeps Python out of the pixels: one fillConvexPoly per quad, then texture
and light are interpolated for all pixels together, and who is seen where falls out for free.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from coupled_embedding.data.synthetic.quads import Quads

SCALE = 2  # canvas pixels per picture pixel
_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Drawn:
    """The canvas, (h, w) each: quad (int32, -1 nothing), owner (int16, -1 nothing), depth (float32, inf nothing)."""

    quad: np.ndarray
    owner: np.ndarray
    depth: np.ndarray


def draw(quads: Quads, size: tuple[int, int]) -> Drawn:
    """Fill the quads, which come farthest first, on a canvas of `size` (width, height)."""
    canvas = np.zeros((size[1], size[0]), np.int32)
    limit = 4 * max(size)
    corners = np.clip(quads.screen, -limit, limit) * (1 << _SUBPIXEL_BITS)
    for number, polygon in enumerate(np.rint(corners).astype(np.int32), 1):
        cv2.fillConvexPoly(canvas, polygon, number, cv2.LINE_8, _SUBPIXEL_BITS)
    owner = np.concatenate([[-1], quads.owner]).astype(np.int16)
    depth = np.concatenate([[np.inf], quads.depth]).astype(np.float32)
    return Drawn(canvas - 1, owner[canvas], depth[canvas])


def _planes(quads: Quads) -> np.ndarray:
    """Affine fits of column, row and light over each quad: (Q, 3, 3), value = c0 + cx x + cy y.

    A ridge of a third of a pixel keeps slivers from exploding: there the values stay near their mean.
    """
    values = np.concatenate([quads.texture, quads.light[..., None]], -1).astype(np.float32)  # (Q, 4, 3)
    centre, mean = quads.screen.mean(1), values.mean(1)
    offset = quads.screen - centre[:, None]
    xx, yy = (offset**2).mean(1).T + 0.3
    xy = (offset[..., 0] * offset[..., 1]).mean(1)
    moment = np.einsum("qci,qcv->qiv", offset, values - mean[:, None]) / 4  # (Q, 2, 3)
    det = (xx * yy - xy**2)[:, None]
    gx = (yy[:, None] * moment[:, 0] - xy[:, None] * moment[:, 1]) / det
    gy = (xx[:, None] * moment[:, 1] - xy[:, None] * moment[:, 0]) / det
    base = mean - gx * centre[:, :1] - gy * centre[:, 1:]
    return np.stack([base, gx, gy], -1).astype(np.float32)


def shade(drawn: Drawn, quads: Quads, atlas: np.ndarray, tint: np.ndarray) -> np.ndarray:
    """Colour the canvas: (h, w, 3) float32 BGR, 0 where nothing is drawn.

    atlas: (rows, columns, 3) uint8 BGR. tint: (2, 3) colours of shade and of full light, 1 is neutral.
    """
    rows, columns = np.nonzero(drawn.quad >= 0)
    image = np.zeros((*drawn.quad.shape, 3), np.float32)
    if not len(rows):
        return image
    planes = _planes(quads)[drawn.quad[rows, columns]]  # (M, 3, 3)
    x, y = columns.astype(np.float32)[:, None], rows.astype(np.float32)[:, None]
    values = planes[..., 0] + planes[..., 1] * x + planes[..., 2] * y
    colour = _sample(atlas, values[:, 0], values[:, 1])
    light = np.clip(values[:, 2:], 0.08, 1.6)
    image[rows, columns] = colour * (light * (tint[0] + (tint[1] - tint[0]) * np.clip(light, 0, 1)))
    return image


def _sample(atlas: np.ndarray, column: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Bilinear lookup of M places, (M, 3) float32."""
    width = 256
    pad = -len(column) % width
    maps = [np.pad(part, (0, pad)).reshape(-1, width).astype(np.float32) for part in (column, row)]
    colours = cv2.remap(atlas, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return colours.reshape(-1, 3)[: len(column)].astype(np.float32)


def compose(
    colours: np.ndarray, drawn: Drawn, background: np.ndarray, shadow: np.ndarray, dark: float
) -> np.ndarray:
    """Shrink the canvas onto the background (H, W, 3), which `shadow` (H, W) in [0, 1] darkens: float32 BGR."""
    height, width = background.shape[:2]
    cover = cv2.resize((drawn.quad >= 0).astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)[..., None]
    front = cv2.resize(colours, (width, height), interpolation=cv2.INTER_AREA)
    crevices = _crevices(drawn.depth[::SCALE, ::SCALE])[..., None]
    return front * crevices + background * (1 - dark * shadow[..., None]) * (1 - cover)


def _crevices(depth: np.ndarray) -> np.ndarray:
    """Darkening (h, w) in [0.55, 1] of surfaces right behind others: depth darkening after Luft et al. 2006."""
    near = 1 / depth  # 0 where nothing is
    side = max(5, depth.shape[1] // 24) | 1
    ahead = cv2.blur(near, (side, side)) - near
    return 1 - np.clip(ahead / np.maximum(near, 1e-3) * 3.0, 0, 0.45)


def develop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a camera does to the light: focus, exposure, colour cast, grain, compression; uint8 in and out BGR."""
    if rng.random() < 0.35:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.8))
    cast = np.exp(rng.normal(0, 0.035, 3)).astype(np.float32)
    image = np.clip(image * (cast * np.float32(rng.uniform(0.85, 1.12))), 0, 255) * np.float32(1 / 255)
    image = cv2.pow(image, rng.uniform(0.78, 1.12)) * 255
    grain = np.empty(image.shape[:2], np.int16)
    cv2.setRNGSeed(int(rng.integers(1, 2**31)))
    cv2.randn(grain, 0, 64)
    strength = rng.uniform(0.5, 5.0) if rng.random() < 0.85 else rng.uniform(5, 11)
    image = image + grain[..., None].astype(np.float32) * np.float32(strength / 64)
    result = np.clip(image, 0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        quality = int(rng.integers(45, 92))
        result = cv2.imdecode(cv2.imencode(".jpg", result, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return result
