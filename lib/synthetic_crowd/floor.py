"""Floors in perspective: repeating tiles of stone, wood, grass or sand, and painted lines."""

from __future__ import annotations

import cv2
import numpy as np

from synthetic_crowd.camera import Camera

_TILE = 128  # pixels of a floor tile of _TILE_METERS meters
_TILE_METERS = 4.0


def floor_tile(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Brightness of a repeating floor tile around 1, (_TILE, _TILE) float32."""
    noise = rng.random((_TILE, _TILE), np.float32) - 0.5
    coarse = cv2.resize(rng.random((5, 5), np.float32) - 0.5, (_TILE, _TILE), interpolation=cv2.INTER_CUBIC)
    place = np.arange(_TILE)
    light = 1 + coarse * 0.22
    if kind in ("paving", "cobbles"):
        cell = int(rng.choice((16, 24, 32, 64))) if kind == "paving" else 8
        tone = np.repeat(np.repeat(rng.normal(0, 0.05, (_TILE // cell + 1,) * 2), cell, 0), cell, 1)[:_TILE, :_TILE]
        joint = (place % cell < max(cell // 16, 1)).astype(np.float32)
        light = light + tone + noise * 0.08 - 0.22 * np.maximum(joint[:, None], joint[None])
    elif kind == "planks":
        tone = np.repeat(rng.normal(0, 0.07, _TILE // 8), 8)
        light = light + tone[None] + noise.mean(1)[:, None] * 2 - 0.18 * (place % 8 < 1)[None] + noise * 0.05
    elif kind == "pitch":
        light = light + 0.07 * np.sign(np.sin((place + 0.5) * 2 * np.pi / 128))[:, None] + noise * 0.22
    elif kind == "track":
        light = light + noise * 0.15
    else:
        strength = {"grass": 0.42, "asphalt": 0.22, "sand": 0.16, "carpet": 0.14}[kind]
        light = light + cv2.GaussianBlur(noise, (0, 0), 0.8) * strength * 2
    return light.astype(np.float32)


def lay_floor(
    image: np.ndarray, camera: Camera, tile: np.ndarray, color: np.ndarray, distance: float, heading: float
) -> None:
    """Lay the tile on the ground up to the backdrop's distance, in place; far away it fades to its mean."""
    top = int(np.clip(camera.horizon() - abs(camera.roll) * camera.width, 0, camera.image_height - 1))
    rays = camera.rays(top)
    below = rays[1] < -1e-3
    reach = np.float32(camera.height) / np.maximum(-rays[1], np.float32(1e-3))
    x, z = rays[0] * reach, rays[2] * -reach
    below &= z < distance
    scale = np.float32(_TILE / _TILE_METERS)
    c, s = np.float32(np.cos(heading)) * scale, np.float32(np.sin(heading)) * scale
    u, v = x * c + z * s, z * c - x * s
    laid = cv2.remap(tile, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    fine = np.clip(np.float32(12 / 300 * camera.focal) / reach, 0, 1)
    light = np.clip(((laid - 1) * fine + 1) * 128, 0, 255).astype(np.uint8)
    palette = np.clip(np.arange(256)[:, None] / 128 * color[::-1], 0, 255).astype(np.uint8)
    part = palette.take(light, axis=0)
    cv2.copyTo(part, below.astype(np.uint8), image[top:])


def paint_lines(image: np.ndarray, camera: Camera, rng: np.random.Generator, distance: float) -> None:
    """Painted lines on a pitch, court or road, in place."""
    for _ in range(int(rng.integers(1, 4))):
        along = rng.random() < 0.5
        at, half = (rng.uniform(-5, 5), 0.06) if along else (-rng.uniform(2, distance), 0.07)
        reach = np.linspace(-1.2, -distance, 12) if along else np.linspace(-14, 14, 6)
        edges = [
            np.stack([reach * 0 + at + o, reach * 0, reach] if along else [reach, reach * 0, reach * 0 + at + o], 1)
            for o in (-half, half)
        ]
        strip = np.concatenate([edges[0], edges[1][::-1]]).astype(np.float32)
        screen, depth = camera.project(strip)
        if depth.min() > 0.5:
            cv2.fillPoly(
                image, [np.rint(np.clip(screen, -4000, 4000) * 16).astype(np.int32)], (226, 228, 228), cv2.LINE_AA, 4
            )
