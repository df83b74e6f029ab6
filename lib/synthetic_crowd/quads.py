"""Quads ready to draw, from bodies and from things."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthetic_crowd.body import (
    TEXELS_PER_RING,
    TEXTURE_ROWS,
    Mesh,
    grid_quads,
    quad_topology,
    ring_table,
)
from synthetic_crowd.camera import NEAREST, Camera
from synthetic_crowd.wardrobe import TEXTURE_COLUMNS


@dataclass(frozen=True)
class Light:
    """One sun and the sky. direction: (3,) unit, towards the sun; the rest are brightnesses."""

    direction: np.ndarray
    sun: float
    sky: float
    rim: float

    def shade(self, vertices: np.ndarray, normals: np.ndarray, eye: np.ndarray) -> np.ndarray:
        """Brightness (...) of surface points (..., 3): Lambert, a brighter sky above, and a rim."""
        facing = normals @ self.direction
        view = eye - vertices
        view /= np.maximum(np.sqrt(np.einsum("...i,...i", view, view)), 1e-6)[..., None]
        edge = 1 - np.clip(np.einsum("...i,...i", normals, view), 0, 1)
        wrapped = np.clip((facing + 0.2) / 1.2, 0, 1)
        return self.sky * (0.8 + 0.2 * normals[..., 1]) + self.sun * wrapped + self.rim * edge**3 * (facing > -0.2)


@dataclass(frozen=True)
class Quads:
    """Q visible quads.

    screen: (Q, 4, 2) canvas pixels; depth: (Q,) meters; texture: (Q, 4, 2) column and row of the atlas;
    light: (Q, 4) brightness at the corners; owner: (Q,) 0 for things, n + 1 for person n.
    """

    screen: np.ndarray
    depth: np.ndarray
    texture: np.ndarray
    light: np.ndarray
    owner: np.ndarray

    @staticmethod
    def joined(many: list[Quads]) -> Quads:
        """All quads of several sets, the farthest first."""
        fields = [np.concatenate([getattr(q, name) for q in many]) for name in Quads.__dataclass_fields__]
        order = np.argsort(-fields[1], kind="stable")
        return Quads(*(field[order] for field in fields))

    def renumbered(self, staying: np.ndarray, people: int) -> Quads:
        """Without the people who leave: `staying` are the numbers, from 0, of those who become 1, 2, ..."""
        if len(staying) == people:
            return self
        numbers = np.full(people + 1, -1)
        numbers[0] = 0
        numbers[staying + 1] = np.arange(1, len(staying) + 1)
        owner = numbers[self.owner]
        keep = owner >= 0
        return Quads(self.screen[keep], self.depth[keep], self.texture[keep], self.light[keep], owner[keep])


def body_quads(
    mesh: Mesh,
    coarse: bool,
    enabled: np.ndarray,
    owners: np.ndarray,
    camera: Camera,
    light: Light,
    size: tuple[int, int],
) -> tuple[Quads, np.ndarray]:
    """Quads of P bodies that face the camera, and the extent of each body.

    coarse: with fewer rings. enabled: (P, parts) bool. owners: (P,) numbers from 1, also the order of the
    people's textures in the atlas. size: canvas (width, height). The extents are (P, 4): x0, y0, x1, y1 in
    canvas pixels.
    """
    people, _, sectors = mesh.vertices.shape[:3]
    corners, texture, part = quad_topology(sectors, coarse)
    screen, depth = camera.project(mesh.vertices.reshape(people, -1, 3))
    outside = _outside(screen, depth, size)
    four = [screen[:, corner] for corner in corners.T]  # each (P, Q, 2)
    codes = [outside[:, corner] for corner in corners.T]
    hidden = (codes[0] & codes[1] & codes[2] & codes[3]) | ((codes[0] | codes[1] | codes[2] | codes[3]) & _TOO_NEAR)
    person, quad = np.nonzero(_front_facing(*four) & (hidden == 0) & enabled[:, part])
    light4 = light.shade(mesh.vertices, mesh.normals, np.array([0, camera.height, 0], np.float32)).reshape(people, -1)
    places = texture[quad][..., ::-1] * np.array([TEXTURE_COLUMNS, TEXELS_PER_RING], np.float32)
    places[..., 1] += ((owners[person] - 1) * TEXTURE_ROWS)[:, None]
    person, vertices = person[:, None], corners[quad]
    drawn = Quads(
        screen[person, vertices],
        depth[person, vertices].mean(-1),
        places,
        light4[person, vertices],
        owners[person[:, 0]],
    )
    worn = np.repeat(enabled[:, ring_table().part], sectors, 1)
    return drawn, _extents(screen, worn)


def _extents(screen: np.ndarray, worn: np.ndarray) -> np.ndarray:
    """(P, 4) corners of the box around the vertices (P, V, 2) of the tubes that are worn (P, V)."""
    low = np.where(worn[..., None], screen, np.inf).min(1)
    high = np.where(worn[..., None], screen, -np.inf).max(1)
    return np.concatenate([low, high], 1)


_TOO_NEAR = 16


def _outside(screen: np.ndarray, depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Outcodes of vertices (uint8): a bit per side of the canvas they are beyond, and one for too near."""
    beyond = (screen < 0) * np.array([1, 2], np.uint8) + (screen > np.array(size)) * np.array([4, 8], np.uint8)
    return beyond[..., 0] + beyond[..., 1] + (depth <= NEAREST).astype(np.uint8) * np.uint8(_TOO_NEAR)


def _front_facing(p0: np.ndarray, p1: np.ndarray, p2: np.ndarray, p3: np.ndarray) -> np.ndarray:
    """Whether quads with corners (..., 2) turn their outside to the camera, by the sign of their area."""
    first, second = p2 - p0, p3 - p1
    return first[..., 0] * second[..., 1] < first[..., 1] * second[..., 0]


@dataclass(frozen=True)
class Thing:
    """A tube that is not a person: a box, pole, ball, bench, cone.

    centers: (R, 3) meters; radii: (R, 2) meters along x and z before turning by `yaw` radians; sectors: 4 for
    a box. colors: (R, 3) RGB, from the first ring to the last. rough: how mottled, 0 to 1.
    """

    centers: np.ndarray
    radii: np.ndarray
    colors: np.ndarray
    sectors: int
    yaw: float = 0.0
    rough: float = 0.08


def thing_quads(thing: Thing, row: int, camera: Camera, light: Light, size: tuple[int, int]) -> Quads:
    """Quads of a thing whose texture starts at `row` of the atlas (one row per ring)."""
    sectors, rings = thing.sectors, len(thing.centers)
    angle = 2 * np.pi * (np.arange(sectors) + 0.5) / sectors - np.pi
    flat = np.stack([thing.radii[:, :1] * np.sin(angle), thing.radii[:, 1:] * np.cos(angle)], -1)  # (R, S, 2)
    if sectors == 4:
        flat = flat * np.sqrt(2)
    c, s = np.cos(thing.yaw), np.sin(thing.yaw)
    offset = np.stack([c * flat[..., 0] + s * flat[..., 1], 0 * flat[..., 0], c * flat[..., 1] - s * flat[..., 0]], -1)
    vertices = (thing.centers[:, None] + offset).astype(np.float32)
    corners, texture = grid_quads(np.arange(rings - 1)[:, None] + (0, 1), sectors)
    screen, depth = camera.project(vertices.reshape(-1, 3))
    codes = _outside(screen, depth, size)[corners]
    placed, near, world = screen[corners], depth[corners], vertices.reshape(-1, 3)[corners]
    normal = np.cross(world[:, 1] - world[:, 3], world[:, 2] - world[:, 0])  # flat shading suits edges
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    shade = light.shade(world.mean(1), normal, np.array([0, camera.height, 0], np.float32))
    keep = _front_facing(*np.moveaxis(placed, 1, 0)) & (np.bitwise_and.reduce(codes, 1) == 0)
    keep &= (codes & _TOO_NEAR).max(1) == 0
    places = np.stack([texture[..., 1] * TEXTURE_COLUMNS, texture[..., 0] + row], -1)[keep]
    light4 = np.repeat(shade[keep, None], 4, 1)
    return Quads(placed[keep], near[keep].mean(-1), places, light4, np.zeros(int(keep.sum()), int))


def thing_texture(thing: Thing, rng: np.random.Generator) -> np.ndarray:
    """The thing's rows of the atlas, (R, columns, 3) uint8 BGR."""
    rows = np.repeat(thing.colors[:, None, ::-1], TEXTURE_COLUMNS + 1, 1)
    spots = rng.uniform(1 - thing.rough, 1 + thing.rough * 0.5, (len(rows), TEXTURE_COLUMNS + 1, 1))
    return np.clip(rows * spots, 0, 255).astype(np.uint8)
