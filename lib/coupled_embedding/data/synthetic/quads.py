"""Quads ready to draw, from bodies and from things."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coupled_embedding.data.synthetic.body import TEXELS_PER_RING, TEXTURE_ROWS, Mesh, grid_quads, quad_topology
from coupled_embedding.data.synthetic.camera import NEAREST, Camera
from coupled_embedding.data.synthetic.wardrobe import TEXTURE_COLUMNS


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

    screen: (Q, 4, 2) canvas pixels; depth: (Q,) metres; texture: (Q, 4, 2) column and row of the atlas;
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
        numbers = np.full(people + 1, -1)
        numbers[0] = 0
        numbers[staying + 1] = np.arange(1, len(staying) + 1)
        owner = numbers[self.owner]
        keep = owner >= 0
        return Quads(self.screen[keep], self.depth[keep], self.texture[keep], self.light[keep], owner[keep])


def body_quads(
    mesh: Mesh, enabled: np.ndarray, owners: np.ndarray, camera: Camera, light: Light, size: tuple[int, int]
) -> tuple[Quads, np.ndarray]:
    """Quads of P bodies that face the camera, and the extent of each body.

    enabled: (P, parts) bool. owners: (P,) numbers from 1, also the place of the person's texture in the
    atlas. size: canvas (width, height). The extents are (P, 4): x0, y0, x1, y1 in canvas pixels.
    """
    people, _, sectors = mesh.vertices.shape[:3]
    corners, texture, part = quad_topology(sectors)
    screen, depth = camera.project(mesh.vertices.reshape(people, -1, 3))
    shade = light.shade(mesh.vertices, mesh.normals, np.array([0, camera.height, 0], np.float32)).reshape(people, -1)
    placed = screen[:, corners]  # (P, Q, 4, 2)
    near = depth[:, corners]  # (P, Q, 4)
    visible = _front_facing(placed) & (near.min(-1) > NEAREST) & _on_canvas(placed, size) & enabled[:, part]
    person, quad = np.nonzero(visible)
    places = texture[quad][..., ::-1] * np.array([TEXTURE_COLUMNS, TEXELS_PER_RING], np.float32)
    places[..., 1] += ((owners[person] - 1) * TEXTURE_ROWS)[:, None]
    drawn = Quads(
        placed[person, quad], near[person, quad].mean(-1), places, shade[:, corners][person, quad], owners[person]
    )
    return drawn, _extents(placed, enabled[:, part])


def _extents(placed: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """(P, 4) corners of the box around all enabled quads (P, Q, 4, 2)."""
    low = np.where(shown[..., None], placed.min(2), np.inf).min(1)
    high = np.where(shown[..., None], placed.max(2), -np.inf).max(1)
    return np.concatenate([low, high], 1)


def _front_facing(placed: np.ndarray) -> np.ndarray:
    """Whether quads (..., 4, 2) turn their outside to the camera, by the sign of their area."""
    first, second = placed[..., 2, :] - placed[..., 0, :], placed[..., 3, :] - placed[..., 1, :]
    return first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0] < 0


def _on_canvas(placed: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Whether quads (..., 4, 2) touch the canvas."""
    low, high = placed.min(-2), placed.max(-2)
    return ((high >= 0) & (low <= np.array(size))).all(-1)


@dataclass(frozen=True)
class Thing:
    """A tube that is nobody: a box, pole, ball, bench, cone.

    centres: (R, 3) metres; radii: (R, 2) metres along x and z before turning by `yaw` radians; sectors: 4 for
    a box. colours: (R, 3) RGB, from the first ring to the last.
    """

    centres: np.ndarray
    radii: np.ndarray
    colours: np.ndarray
    sectors: int
    yaw: float = 0.0


def thing_quads(thing: Thing, row: int, camera: Camera, light: Light, size: tuple[int, int]) -> Quads:
    """Quads of a thing whose texture starts at `row` of the atlas (one row per ring)."""
    sectors, rings = thing.sectors, len(thing.centres)
    angle = 2 * np.pi * (np.arange(sectors) + 0.5) / sectors - np.pi
    flat = np.stack([thing.radii[:, :1] * np.sin(angle), thing.radii[:, 1:] * np.cos(angle)], -1)  # (R, S, 2)
    if sectors == 4:
        flat = flat * np.sqrt(2)
    c, s = np.cos(thing.yaw), np.sin(thing.yaw)
    offset = np.stack([c * flat[..., 0] + s * flat[..., 1], 0 * flat[..., 0], c * flat[..., 1] - s * flat[..., 0]], -1)
    vertices = (thing.centres[:, None] + offset).astype(np.float32)
    corners, texture = grid_quads(np.arange(rings - 1), sectors)
    screen, depth = camera.project(vertices.reshape(-1, 3))
    placed, near, world = screen[corners], depth[corners], vertices.reshape(-1, 3)[corners]
    normal = np.cross(world[:, 1] - world[:, 3], world[:, 2] - world[:, 0])  # flat shading suits edges
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    shade = light.shade(world.mean(1), normal, np.array([0, camera.height, 0], np.float32))
    keep = _front_facing(placed) & (near.min(-1) > NEAREST) & _on_canvas(placed, size)
    places = np.stack([texture[..., 1] * TEXTURE_COLUMNS, texture[..., 0] + row], -1)[keep]
    light4 = np.repeat(shade[keep, None], 4, 1)
    return Quads(placed[keep], near[keep].mean(-1), places, light4, np.zeros(int(keep.sum()), int))


def thing_texture(thing: Thing) -> np.ndarray:
    """The thing's rows of the atlas, (R, columns, 3) uint8 BGR."""
    rows = np.repeat(thing.colours[:, None, ::-1], TEXTURE_COLUMNS + 1, 1)
    return np.clip(rows, 0, 255).astype(np.uint8)
