"""The surface of a body: tubes of elliptical rings around the skeleton, for many people at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from synthetic_crowd.skeleton import FRAME, POINT, Bodies, Posed

TEXELS_PER_RING = 4  # rows of texture between two neighboring rings


@dataclass(frozen=True)
class Part:
    """A tube. rings: rows of (t along start → end, half width, half depth, shift forwards), in statures.

    frames: the two frames that orient the rings; `turn` (t at which the first hands over to the second,
    and the width of the handover).
    """

    name: str
    start: str
    end: str
    frames: tuple[str, str]
    rings: tuple[tuple[float, float, float, float], ...]
    turn: tuple[float, float] = (0.5, 0.2)
    group: str = "limb"


_TORSO = (
    (-0.62, 0.004, 0.004, 0.0), (-0.50, 0.078, 0.052, -0.004), (-0.28, 0.094, 0.063, -0.006),
    (-0.08, 0.092, 0.060, -0.002), (0.14, 0.082, 0.053, 0.002), (0.40, 0.090, 0.058, 0.004),
    (0.66, 0.100, 0.063, 0.006), (0.84, 0.104, 0.056, 0.002), (0.95, 0.078, 0.042, -0.004),
    (1.03, 0.038, 0.034, -0.002),
)  # fmt: skip
_HEAD = (
    (-0.02, 0.040, 0.038, -0.004), (0.14, 0.030, 0.032, -0.002), (0.24, 0.030, 0.034, 0.004),
    (0.29, 0.030, 0.042, 0.010), (0.38, 0.038, 0.050, 0.008), (0.50, 0.042, 0.054, 0.004),
    (0.64, 0.044, 0.056, 0.001), (0.78, 0.043, 0.055, -0.003), (0.90, 0.035, 0.045, -0.005),
    (0.97, 0.020, 0.026, -0.005), (1.0, 0.003, 0.004, -0.005),
)  # fmt: skip
_UPPER_ARM = (
    (-0.17, 0.003, 0.003, 0.0), (-0.08, 0.030, 0.033, 0.0), (0.08, 0.035, 0.036, 0.0), (0.35, 0.030, 0.031, 0.0),
    (0.7, 0.026, 0.027, 0.0), (1.0, 0.024, 0.025, 0.0),
)  # fmt: skip
_FOREARM = ((0.0, 0.024, 0.025, 0.0), (0.3, 0.026, 0.026, 0.0), (0.7, 0.021, 0.020, 0.0), (1.0, 0.015, 0.018, 0.0))
_HAND = ((0.0, 0.014, 0.018, 0.0), (0.35, 0.013, 0.024, 0.002), (0.7, 0.012, 0.022, 0.004), (1.0, 0.005, 0.008, 0.0))
_THIGH = (
    (-0.22, 0.004, 0.004, 0.0), (0.0, 0.051, 0.058, 0.0), (0.2, 0.053, 0.058, 0.0), (0.55, 0.045, 0.048, 0.002),
    (1.0, 0.034, 0.036, 0.002),
)  # fmt: skip
_SHIN = (
    (0.0, 0.034, 0.036, 0.002), (0.3, 0.035, 0.037, -0.008), (0.6, 0.029, 0.030, -0.005), (0.88, 0.021, 0.023, 0.0),
    (1.05, 0.021, 0.024, 0.0),
)  # fmt: skip
# the rings of a foot stand upright: half width across, half depth vertically, shifted along the sole's normal
_FOOT = (
    (-0.08, 0.008, 0.010, 0.012), (0.02, 0.023, 0.026, 0.012), (0.25, 0.026, 0.030, 0.014), (0.55, 0.029, 0.021, 0.006),
    (0.85, 0.028, 0.015, 0.002), (1.0, 0.010, 0.006, 0.0),
)  # fmt: skip
_BACK_HAIR = (
    (1.01, 0.010, 0.010, -0.004), (0.92, 0.041, 0.046, -0.012), (0.62, 0.050, 0.042, -0.026),
    (0.30, 0.048, 0.026, -0.034), (0.0, 0.046, 0.020, -0.036), (-0.2, 0.03, 0.012, -0.036),
)  # fmt: skip
_HAT = (
    (0.72, 0.044, 0.056, 0.0), (0.74, 0.075, 0.092, 0.004), (0.77, 0.049, 0.061, 0.0), (0.95, 0.042, 0.052, -0.003),
    (1.05, 0.028, 0.034, -0.004), (1.06, 0.003, 0.003, -0.004),
)  # fmt: skip
_BUN = ((0.98, 0.004, 0.004, -0.05), (0.9, 0.02, 0.02, -0.056), (0.78, 0.02, 0.02, -0.058), (0.7, 0.004, 0.004, -0.05))


def _sides(name: str, start: str, end: str, frames: tuple[str, str], rings: tuple) -> list[Part]:
    """The same tube on both sides of the body."""
    return [
        Part(f"{s}_{name}", f"{s}_{start}", f"{s}_{end}", (f"{s}_{frames[0]}", f"{s}_{frames[1]}"), rings, (0.0, 1.0))
        for s in ("left", "right")
    ]


# A limb's upper and lower tubes meet in a ring at the joint, so no gap opens when it bends.
PARTS: tuple[Part, ...] = (
    Part("torso", "waist", "neck", ("pelvis", "chest"), _TORSO, (0.05, 0.5), "torso"),
    Part("head", "neck", "crown", ("chest", "head"), _HEAD, (0.1, 0.25), "head"),
    *_sides("upper_arm", "shoulder", "elbow", ("arm", "forearm"), _UPPER_ARM),
    *_sides("forearm", "elbow", "wrist", ("arm", "forearm"), _FOREARM),
    *_sides("hand", "wrist", "fingers", ("hand", "hand"), _HAND),
    *_sides("thigh", "hip", "knee", ("thigh", "shin"), _THIGH),
    *_sides("shin", "knee", "ankle", ("thigh", "shin"), _SHIN),
    *_sides("foot", "heel", "toe", ("foot", "foot"), _FOOT),
    Part("skirt", "waist", "crotch", ("pelvis", "pelvis"), tuple((t, 0, 0, 0) for t in (0, 0.2, 0.45, 0.75, 1.0))),
    Part("back_hair", "neck", "crown", ("chest", "head"), _BACK_HAIR, (0.1, 0.4), "head"),
    Part("hat", "neck", "crown", ("head", "head"), _HAT, group="head"),
    Part("bun", "neck", "crown", ("head", "head"), _BUN, group="head"),
)
PART = {part.name: number for number, part in enumerate(PARTS)}
_UPWARDS = ("torso", "head", "hat")  # the other tubes run downwards and turn the other way, so that all face outwards
_GROUPS = ("limb", "torso", "head")
OPTIONAL = ("skirt", "back_hair", "hat", "bun")
FIRST_RING = dict(
    zip((p.name for p in PARTS), np.cumsum([0, *(len(p.rings) for p in PARTS)])[:-1].tolist(), strict=True)
)
RING_COUNT = sum(len(part.rings) for part in PARTS)
TEXTURE_ROWS = RING_COUNT * TEXELS_PER_RING


@dataclass(frozen=True)
class Mesh:
    """Surfaces of P people with S sectors.

    vertices: (P, R, S, 3) meters; normals: (P, R, S, 3) unit; both in world axes, sector 0 at the back.
    """

    vertices: np.ndarray
    normals: np.ndarray


@dataclass(frozen=True)
class _Table:
    """The rings of all PARTS side by side, every array (R,) or (R, n)."""

    part: np.ndarray
    along: np.ndarray
    start: np.ndarray
    end: np.ndarray
    frames: np.ndarray
    blend: np.ndarray
    radii: np.ndarray
    shift: np.ndarray
    turn: np.ndarray
    group: np.ndarray


@lru_cache(maxsize=1)
def ring_table() -> _Table:
    """PARTS as arrays (a pure function of constants)."""
    rows = [(number, part, ring) for number, part in enumerate(PARTS) for ring in part.rings]
    blend = []
    for _, part, ring in rows:
        blend.append(np.clip((ring[0] - part.turn[0]) / part.turn[1], 0, 1))
        if "arm" in part.name or "thigh" in part.name or "shin" in part.name:
            blend[-1] = _limb_blend(part.name, ring[0])
    rings = np.array([ring for *_, ring in rows], np.float32)
    return _Table(
        np.array([number for number, *_ in rows]),
        rings[:, 0],
        np.array([POINT[part.start] for _, part, _ in rows]),
        np.array([POINT[part.end] for _, part, _ in rows]),
        np.array([[FRAME[name] for name in part.frames] for _, part, _ in rows]),
        np.array(blend, np.float32),
        rings[:, 1:3],
        rings[:, 3],
        np.array([1.0 if part.name in _UPWARDS else -1.0 for _, part, _ in rows], np.float32),
        np.array([_GROUPS.index(part.group) for _, part, _ in rows]),
    )


def _limb_blend(name: str, along: float) -> float:
    """How far a ring turns towards the lower bone: half at the joint itself."""
    upper = "upper_arm" in name or "thigh" in name
    return float(np.clip((along - 0.8) / 0.4, 0, 0.5) if upper else np.clip(0.5 + along / 0.4, 0.5, 1))


@lru_cache(maxsize=64)
def texture_row(part: str, along: float) -> float:
    """Row of a person's texture at `along` of a part (interpolated between its rings)."""
    rings = [ring[0] for ring in PARTS[PART[part]].rings]
    order = np.argsort(rings)
    ring = np.interp(along, np.array(rings)[order], order)
    return float((FIRST_RING[part] + ring) * TEXELS_PER_RING)


def build_mesh(bodies: Bodies, posed: Posed, sectors: int) -> Mesh:
    """Surround P skeletons with tubes of `sectors` sectors (R rings per person, see RING_COUNT)."""
    table = ring_table()
    centers = _centers(bodies, posed, table)
    left, ahead = _ring_axes(posed, table)
    radii = _radii(bodies, table)
    centers += ahead * (table.shift * bodies.stature[:, None])[..., None]
    wide, deep = left * radii[..., :1], ahead * radii[..., 1:]
    _fit_skirt(bodies, posed, centers, wide, deep)
    angle = 2 * np.pi * np.arange(sectors, dtype=np.float32) / sectors - np.pi
    sin, cos = np.sin(angle)[:, None], np.cos(angle)[:, None]
    vertices = centers[:, :, None] + wide[:, :, None] * sin + deep[:, :, None] * cos
    return Mesh(vertices, vertex_normals(vertices, table.part))


def _centers(bodies: Bodies, posed: Posed, table: _Table) -> np.ndarray:
    """(P, R, 3) centers of the rings; below the waist the torso follows the pelvis."""
    start, end = posed.points[:, table.start], posed.points[:, table.end]
    centers = start + (end - start) * table.along[:, None]
    rings = np.flatnonzero((table.part == PART["torso"]) & (table.along < 0))
    up = posed.frames[:, 0, :, 1]
    drop = table.along[rings] * bodies.torso[:, None]
    centers[:, rings] = posed.points[:, None, POINT["waist"]] + up[:, None] * drop[..., None]
    return centers


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.sqrt(np.einsum("...i,...i", vectors, vectors)), 1e-6)[..., None]


def _ring_axes(posed: Posed, table: _Table) -> tuple[np.ndarray, np.ndarray]:
    """Unit axes of the rings, left and ahead, (P, R, 3) each."""
    both = posed.frames[:, table.frames]  # (P, R, 2, 3, 3)
    mixed = both[:, :, 0] + (both[:, :, 1] - both[:, :, 0]) * table.blend[:, None, None]
    left, ahead = _unit(mixed[..., 0]), _unit(mixed[..., 2])
    feet = np.isin(table.part, (PART["left_foot"], PART["right_foot"]))
    ahead[:, feet] = _unit(mixed[..., 1][:, feet])
    return left * table.turn[:, None], ahead


def _radii(bodies: Bodies, table: _Table) -> np.ndarray:
    """(P, R, 2) half widths and depths in meters, with each person's girth and build."""
    radii = table.radii * bodies.stature[:, None, None]
    head = (bodies.head / bodies.stature / 0.132)[:, None, None]
    girth = bodies.girth[:, None, None]
    radii = radii * np.where(
        (table.group == _GROUPS.index("head"))[:, None],
        head,
        np.where((table.group == _GROUPS.index("torso"))[:, None], girth, 1),
    )
    radii = radii * np.where((table.group == _GROUPS.index("limb"))[:, None], 1 + (girth - 1) * 0.75, 1)
    torso = table.group == _GROUPS.index("torso")
    along = table.along[torso]
    hips, waist = np.exp(-(((along + 0.2) / 0.2) ** 2)), np.exp(-(((along - 0.15) / 0.2) ** 2))
    chest = np.exp(-(((along - 0.8) / 0.25) ** 2))
    curve = bodies.curve[:, None]
    belly = np.maximum(bodies.girth - 1.1, 0)[:, None] * np.exp(-(((along - 0.05) / 0.3) ** 2))
    radii[:, torso, 0] *= 1 + curve * (0.05 * hips - 0.13 * waist - 0.1 * chest)
    radii[:, torso, 1] *= 1 + 0.6 * belly
    return radii


def _fit_skirt(bodies: Bodies, posed: Posed, centers: np.ndarray, wide: np.ndarray, deep: np.ndarray) -> None:
    """Hang the skirt's rings around both thighs, in place (arrays (P, R, 3))."""
    first = FIRST_RING["skirt"]
    rings = slice(first, first + len(PARTS[PART["skirt"]].rings))
    along = np.array([ring[0] for ring in PARTS[PART["skirt"]].rings], np.float32)[:, None]
    points = posed.points
    hips = points[:, [POINT["left_hip"], POINT["right_hip"]]].mean(1) + posed.frames[:, 0, :, 1] * 0.02
    knees = points[:, [POINT["left_knee"], POINT["right_knee"]]].mean(1)
    spread = points[:, POINT["left_knee"]] - points[:, POINT["right_knee"]]
    top = points[:, POINT["waist"]] + (hips - points[:, POINT["waist"]]) * 0.3
    left = posed.frames[:, 0, :, 0]
    ahead = _unit(np.cross(left, hips - knees))
    centers[:, rings] = top[:, None] + (knees - top)[:, None] * along * 0.96
    size = (bodies.stature * (1 + 0.8 * (bodies.girth - 1)))[:, None]
    half = (
        np.abs(np.einsum("pi,pi->p", spread, left))[:, None] / 2,
        np.abs(np.einsum("pi,pi->p", spread, ahead))[:, None] / 2,
    )
    grow = along[:, 0]
    a = size * (0.086 + 0.025 * np.sqrt(grow)) + np.maximum(half[0] - 0.03, 0) * grow
    b = size * (0.064 + 0.028 * np.sqrt(grow)) + half[1] * grow
    # the skirt hangs down, so it turns the other way (see _UPWARDS)
    wide[:, rings], deep[:, rings] = -left[:, None] * a[..., None], ahead[:, None] * b[..., None]


def vertex_normals(vertices: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Unit normals (P, R, S, 3) of ring meshes; `part` (R,) says which rings belong together."""
    across = np.roll(vertices, -1, 2) - np.roll(vertices, 1, 2)
    along = np.zeros_like(vertices)
    joined = (part[1:] == part[:-1])[:, None, None]
    step = (vertices[:, 1:] - vertices[:, :-1]) * joined
    along[:, 1:] += step
    along[:, :-1] += step
    return _unit(np.cross(across, along))


@lru_cache(maxsize=16)
def quad_topology(sectors: int, coarse: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Quads of one body: corner vertices (Q, 4) into R·S, texture (ring, sector share) (Q, 4, 2), part (Q,).

    coarse: join every second ring of a tube only, which is enough for people far away.
    """
    pairs, parts = [], []
    for number, part in enumerate(PARTS):
        count, first = len(part.rings), FIRST_RING[part.name]
        rings = sorted({*range(0, count, 2 if coarse else 1), count - 1})
        pairs += [(first + low, first + high) for low, high in pairwise(rings)]
        parts += [number] * (len(rings) - 1)
    corners, texture = grid_quads(np.array(pairs), sectors)
    return corners, texture, np.repeat(parts, sectors)


def grid_quads(pairs: np.ndarray, sectors: int) -> tuple[np.ndarray, np.ndarray]:
    """Corners (Q, 4) and texture places (Q, 4, 2) of the quads between pairs (N, 2) of rings."""
    ring = np.repeat(pairs, sectors, 0)[:, [0, 0, 1, 1]]
    sector = np.tile(np.arange(sectors), len(pairs))[:, None] + np.array([0, 1, 1, 0])
    corners = ring * sectors + sector % sectors
    return corners, np.stack([ring, sector / sectors], -1).astype(np.float32)
