"""Things that stand about: seats, boxes, bins, balls, poles, cones, bags."""

from __future__ import annotations

import numpy as np

from synthetic_crowd.quads import Thing

_RGB = (
    (140, 100, 66), (96, 98, 102), (52, 56, 62), (188, 184, 174), (160, 48, 42), (52, 84, 128), (74, 104, 70),
    (206, 164, 70), (120, 74, 52),
)  # fmt: skip


def _color(rng: np.random.Generator) -> np.ndarray:
    return np.clip(np.array(_RGB[rng.integers(len(_RGB))]) * rng.uniform(0.8, 1.15) + rng.normal(0, 6, 3), 5, 245)


def _stack(
    x: float, z: float, levels: list[tuple[float, float]], color: np.ndarray, sectors: int, **more: float
) -> Thing:
    """A solid of revolution or a prism: levels are (height, radius) from the bottom up."""
    heights, radii = np.array(levels).T
    stretch = more.get("stretch", 1.0)
    centers = np.stack([np.full_like(heights, x), heights, np.full_like(heights, z)], 1)
    colors = np.repeat(np.asarray(color, float).reshape(1, -1, 3), len(levels), 1)[0] if np.ndim(color) == 1 else color
    rims = np.stack([radii * stretch, radii], 1)
    return Thing(centers, rims, colors, sectors, more.get("yaw", 0.0), more.get("rough", 0.08))


def seat(place: np.ndarray, yaw: float, rng: np.random.Generator) -> Thing:
    """A box or stool whose top is at `place` (3,) meters."""
    x, top, z = place
    half = rng.uniform(0.17, 0.26)
    levels = [(0.0, half), (top * 0.5, half), (top, half), (top + 0.001, 0.005)]
    return _stack(x, z, levels, _color(rng), 4 if rng.random() < 0.7 else 8, yaw=yaw)


def _box(x: float, z: float, rng: np.random.Generator) -> Thing:
    half, top = rng.uniform(0.15, 0.5), rng.uniform(0.25, 1.1)
    levels = [(0.0, half), (top / 2, half), (top, half), (top + 0.001, 0.005)]
    return _stack(x, z, levels, _color(rng), 4, yaw=rng.uniform(0, 1.5), stretch=rng.uniform(0.7, 2.2))


def _bin(x: float, z: float, rng: np.random.Generator) -> Thing:
    top, half = rng.uniform(0.6, 1.0), rng.uniform(0.18, 0.3)
    return _stack(x, z, [(0, half * 0.85), (top * 0.92, half), (top, half * 1.08), (top + 0.03, 0.01)], _color(rng), 10)


def _ball(x: float, z: float, rng: np.random.Generator) -> Thing:
    radius = rng.uniform(0.1, 0.2)
    y = radius + (0 if rng.random() < 0.6 else rng.uniform(0.2, 2.2))
    turns = np.linspace(-np.pi / 2, np.pi / 2, 7)
    levels = [(y + radius * np.sin(t), max(radius * np.cos(t), 0.003)) for t in turns]
    first, second = np.array((232.0, 230, 224)), _color(rng)
    colors = np.where((np.arange(7) % 3 == 1)[:, None], second, first if rng.random() < 0.6 else second)
    return _stack(x, z, levels, colors, 10)


def _pole(x: float, z: float, rng: np.random.Generator) -> Thing:
    top, half = rng.uniform(1.0, 5.0), rng.uniform(0.03, 0.08)
    levels = [(h, half) for h in np.linspace(0, top, 9)] + [(top + 0.01, 0.004)]
    return _stack(x, z, levels, _color(rng), 6)


def _cone(x: float, z: float, rng: np.random.Generator) -> Thing:
    top = rng.uniform(0.3, 0.75)
    levels = [
        (0, 0.2),
        (0.03, 0.19),
        (0.04, 0.13),
        (top * 0.4, 0.09),
        (top * 0.65, 0.06),
        (top, 0.025),
        (top + 0.01, 0.003),
    ]
    stripe = np.repeat([[214.0, 92, 40]], 7, 0)
    stripe[3:5] = (232, 230, 226)
    return _stack(x, z, levels, stripe, 10)


def _bush(x: float, z: float, rng: np.random.Generator) -> Thing:
    size = rng.uniform(0.3, 0.55)
    heights = np.linspace(0, 1.24, 9)
    radii = np.sqrt(np.maximum(1 - (heights / 0.78 - 0.6) ** 2, 0.0)) * rng.uniform(0.92, 1.08, 9) + 0.01
    green = np.array(((52, 80, 42), (84, 106, 52), (64, 92, 58))[rng.integers(3)], float)
    colors = green * (np.linspace(0.7, 1.2, 9) * rng.uniform(0.9, 1.1, 9))[:, None]
    levels = [(h * size, r * size) for h, r in zip(heights, radii, strict=True)]
    return _stack(x, z, levels, colors, 10, stretch=rng.uniform(0.8, 1.6), rough=0.5)


def _bag(x: float, z: float, rng: np.random.Generator) -> Thing:
    size = rng.uniform(0.14, 0.3)
    levels = [(0, size * 0.9), (size * 0.8, size), (size * 1.5, size * 0.6), (size * 1.6, 0.01)]
    return _stack(x, z, levels, _color(rng), 8, stretch=rng.uniform(1, 1.6))


_KINDS = (_box, _bin, _ball, _pole, _cone, _bush, _bag, _box, _ball, _pole)


def scatter(rng: np.random.Generator, clutter: float, near: float, far: float, half_width: float) -> list[Thing]:
    """Random things between `near` and `far` meters away; half_width: meters seen aside per meter ahead."""
    things = []
    for _ in range(int(rng.poisson(4 * clutter))):
        distance = rng.uniform(near, far)
        kind = _KINDS[rng.integers(len(_KINDS))]
        things.append(kind(rng.uniform(-1, 1) * half_width * distance, -distance, rng))
    return things
