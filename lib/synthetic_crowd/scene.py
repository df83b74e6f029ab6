"""One scene: people, camera and place are drawn, laid out, rendered and labelled."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from coupled_embedding.data.crowd_index import crowd_index
from synthetic_crowd import render, things
from synthetic_crowd.background import PLACES, Place, paint_background
from synthetic_crowd.body import TEXTURE_ROWS, build_mesh
from synthetic_crowd.camera import Camera
from synthetic_crowd.labels import (
    Labels,
    flesh_before_joints,
    label_people,
    worth_labelling,
)
from synthetic_crowd.layout import People, Stage, arrange, sample_people, sample_stage, sample_target
from synthetic_crowd.quads import Light, Quads, Thing, body_quads, thing_quads, thing_texture
from synthetic_crowd.settings import CrowdSettings
from synthetic_crowd.skeleton import JOINT_COUNT, POINT, SKELETON_EDGES
from synthetic_crowd.wardrobe import Outfit, enabled_parts, paint, sample_kit, sample_outfit

_ATTEMPTS = 20
_DETAIL = ((140, 6, True), (300, 8, False), (np.inf, 12, False))  # canvas pixels of a person's height, sectors, coarse
_TORSO = ((POINT["pelvis"], POINT["neck"], 3.0), (POINT["left_hip"], POINT["right_hip"], 2.2))
_SHADOW_BONES = (*((a, b, 1.4) for a, b in SKELETON_EDGES if a != 13 or b < 2), *_TORSO)


@dataclass(frozen=True)
class Scene:
    """An image and its labels.

    image: (height, width, 3) uint8 BGR. keypoints: (N, 14, 3) float32 in CrowdPose's order; x, y in pixels
    (pixel centers at integer coordinates); visibility 2 seen, 1 hidden by anyone or anything, 0 outside the
    image (then x = y = 0). boxes: (N, 4) float32 x, y, width, height around the whole person, clipped to
    the image. areas: (N,) visible pixels. person_map: (height, width) uint8, 0 no person, n + 1 person n.
    """

    image: np.ndarray
    keypoints: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    person_map: np.ndarray
    crowd_index: float


def render_scene(settings: CrowdSettings, seed: int, index: int) -> Scene:
    """Scene number `index` (from 0) of the crowd `seed`: the same pixels on every call, whatever came before.

    At least one person is labelled. Raises ValueError if seed or index is negative.
    """
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index are {seed} and {index}; both must be 0 or more")
    for attempt in range(_ATTEMPTS):
        scene = _render(settings, np.random.SeedSequence((seed, index, attempt)))
        if len(scene.keypoints):
            return scene
    raise RuntimeError(f"no person is visible in {_ATTEMPTS} attempts at scene {index} of seed {seed}: {settings}")


@dataclass(frozen=True)
class Studio:
    """What does not move while images of P people are taken.

    atlas: all textures, of the people in order and of the things; ground: the empty place, (height, width, 3)
    uint8 BGR; tint: colors of shade and of full light.
    """

    camera: Camera
    light: Light
    outfits: list[Outfit]
    clutter: list[Thing]
    atlas: np.ndarray
    ground: np.ndarray
    tint: np.ndarray


def furnish(
    settings: CrowdSettings, people: People, stage: Stage, rngs: tuple[np.random.Generator, ...], paths: np.ndarray
) -> Studio:
    """Choose a place, its light and things, and dress the people.

    rngs: of the stage, the looks and the image. paths: (N, 2) x and z in meters where no thing may stand.
    """
    stage_rng, looks_rng, image_rng = rngs
    place = PLACES[stage_rng.integers(len(PLACES))]
    light = _sample_light(place, stage_rng)
    outfits = _dress(people, place, looks_rng)
    clutter = _clutter(settings, people, stage, paths, stage_rng)
    atlas, tint = _atlas(outfits, clutter, looks_rng), _tint(place, image_rng)
    ground = paint_background(place, stage.camera, stage.backdrop, image_rng)
    return Studio(stage.camera, light, outfits, clutter, atlas, ground, tint)


def take(
    studio: Studio, people: People, image_rng: np.random.Generator, remove_unnoticed: bool
) -> tuple[Scene, np.ndarray]:
    """Draw, label and develop one image; return it and the numbers (N,), from 0, of the labelled people.

    remove_unnoticed: whoever can hardly be seen is not drawn either; otherwise only not labelled.
    """
    shown, noticed, drawn, quads, labels = _draw_labelled(people, studio, remove_unnoticed)
    colors = render.shade(drawn, quads, studio.atlas, studio.tint)
    shadow = _shadows(people.only(shown), studio.clutter, studio.camera, studio.light)
    image = render.compose(colors, drawn, studio.ground, shadow, 0.25 + 0.4 * studio.light.sun)
    numbers = np.zeros(len(shown) + 1, np.uint8)
    numbers[1 + np.flatnonzero(noticed)] = np.arange(1, noticed.sum() + 1)
    scene = Scene(
        image=render.develop(image, image_rng),
        keypoints=labels.keypoints[noticed],
        boxes=labels.boxes[noticed],
        areas=labels.areas[noticed],
        person_map=numbers[labels.person_map],
        crowd_index=crowd_index(labels.keypoints[noticed], labels.boxes[noticed]),
    )
    return scene, shown[noticed]


def _render(settings: CrowdSettings, source: np.random.SeedSequence) -> Scene:
    """Compose, draw, label and develop one scene; it may be empty."""
    stage_rng, people_rng, looks_rng, image_rng = map(np.random.default_rng, source.spawn(4))
    target = sample_target(settings, stage_rng)
    people = sample_people(settings, target, people_rng)
    stage = sample_stage(settings, target, len(people.yaw), stage_rng)
    people = arrange(people, stage, people_rng)
    return photograph(settings, people, stage, (stage_rng, looks_rng, image_rng))


def photograph(settings: CrowdSettings, people: People, stage: Stage, rngs: tuple[np.random.Generator, ...]) -> Scene:
    """Draw, label and develop people who are in place; rngs: of the stage, the looks and the image."""
    feet = people.posed.points[:, POINT["pelvis"], ::2]
    studio = furnish(settings, people, stage, rngs, feet)
    return take(studio, people, rngs[-1], remove_unnoticed=True)[0]


def _sample_light(place: Place, rng: np.random.Generator) -> Light:
    """Sun or lamps from a random side, strong outdoors, soft indoors."""
    around, up = rng.uniform(0, 2 * np.pi), rng.uniform(0.45, 1.2)
    direction = np.array([np.cos(around) * np.cos(up), np.sin(up), np.sin(around) * np.cos(up)], np.float32)
    sun = rng.uniform(0.3, 0.8) if place.outdoors else rng.uniform(0.2, 0.5)
    return Light(direction, sun, rng.uniform(0.95, 1.1) - 0.75 * sun, rng.uniform(0.05, 0.4))


def _tint(place: Place, rng: np.random.Generator) -> np.ndarray:
    """BGR colors of shade (bluish outdoors) and of full light (warm)."""
    warm = rng.uniform(0, 0.08)
    shade = (1.06, 1.0, 0.96) if place.outdoors else (0.97, 1.0, 1.02)
    return np.array([shade, (1 - warm, 1.0, 1 + warm * 0.6)], np.float32)


def _dress(people: People, place: Place, rng: np.random.Generator) -> list[Outfit]:
    """Outfits for all, in one or two team kits on a sports ground."""
    kits = [sample_kit(rng) for _ in range(2)] if place.name == "stadium" and rng.random() < 0.75 else []
    return [
        sample_outfit(rng, float(curve), kits[rng.integers(2)] if kits and rng.random() < 0.9 else None)
        for curve in people.bodies.curve
    ]


def _clutter(
    settings: CrowdSettings, people: People, stage: Stage, paths: np.ndarray, rng: np.random.Generator
) -> list[Thing]:
    """Seats for the seated, and things that stand about, none of them on the paths (N, 2)."""
    seats = []
    for number in np.flatnonzero(people.seated):
        pelvis = people.posed.points[number, POINT["pelvis"]]
        top = pelvis[1] - 0.065 * people.bodies.stature[number]
        if top > 0.1:
            seats.append(things.seat(np.array([pelvis[0], top, pelvis[2]]), np.deg2rad(people.yaw[number]), rng))
    aside = stage.camera.width / stage.camera.focal / 2
    near = max(stage.distance * 0.55, 1.0)
    loose = things.scatter(rng, settings.clutter, near, stage.backdrop - 0.5, aside)
    # no person stands inside a box
    free = [t for t in loose if np.abs(paths - t.centers[0, ::2]).max(1).min() > t.radii.max() + 0.35]
    return seats + free


def _atlas(outfits: list[Outfit], clutter: list[Thing], rng: np.random.Generator) -> np.ndarray:
    """All textures below each other: people first, in order."""
    return np.concatenate([paint(outfit, rng) for outfit in outfits] + [thing_texture(thing, rng) for thing in clutter])


def _canvas_camera(camera: Camera) -> Camera:
    """The same view on the canvas."""
    s = render.SCALE
    return replace(camera, focal=camera.focal * s, width=camera.width * s, image_height=camera.image_height * s)


def _draw_labelled(
    people: People, studio: Studio, remove_unnoticed: bool
) -> tuple[np.ndarray, np.ndarray, render.Drawn, Quads, Labels]:
    """Draw and label; return who is drawn (their numbers), and of these who can be noticed (bool).

    remove_unnoticed: whoever can hardly be seen leaves, and the rest is drawn again.
    """
    canvas = _canvas_camera(studio.camera)
    everyone, extents = _all_quads(people, studio.outfits, studio.clutter, canvas, studio.light)
    skirted = np.array(["skirt" in outfit.wears for outfit in studio.outfits], bool)
    flesh = flesh_before_joints(people.bodies.stature, skirted)
    staying = np.arange(len(studio.outfits))
    while True:
        quads = everyone.renumbered(staying, len(studio.outfits))
        drawn = render.draw(quads, (canvas.width, canvas.image_height))
        places, depths = studio.camera.project(people.posed.points[staying, :JOINT_COUNT])
        labels = label_people(places, depths, extents[staying], flesh[staying], drawn)
        noticed = worth_labelling(labels)
        if noticed.all() or not remove_unnoticed:
            return staying, noticed, drawn, quads, labels
        staying = staying[noticed]


def _all_quads(
    people: People, outfits: list[Outfit], clutter: list[Thing], canvas: Camera, light: Light
) -> tuple[Quads, np.ndarray]:
    """Quads of everybody and everything, farthest first, and the extents (P, 4) of the people."""
    size = (canvas.width, canvas.image_height)
    row, sets = len(outfits) * TEXTURE_ROWS, []
    for thing in clutter:
        sets.append(thing_quads(thing, row, canvas, light, size))
        row += len(thing.centers)
    enabled = enabled_parts(outfits)
    extents = np.zeros((len(outfits), 4), np.float32)
    pelvis = canvas.project(people.posed.points[:, POINT["pelvis"]])[1]
    tall = people.bodies.stature * canvas.focal / np.maximum(pelvis, 0.1)
    level = np.searchsorted([limit for limit, *_ in _DETAIL], tall)
    for number, (_, sectors, coarse) in enumerate(_DETAIL):
        group = np.flatnonzero(level == number)
        if len(group):
            some = people.only(group)
            mesh = build_mesh(some.bodies, some.posed, sectors)
            quads, extents[group] = body_quads(mesh, coarse, enabled[group], group + 1, canvas, light, size)
            sets.append(quads)
    return Quads.joined(sets), extents


def _shadows(people: People, clutter: list[Thing], camera: Camera, light: Light) -> np.ndarray:
    """Soft shadows on the ground, (height, width) uint8, 255 is full: bones and things cast along the sun."""
    shadow = np.zeros((camera.image_height, camera.width), np.uint8)
    points, sun = people.posed.points, light.direction
    cast = points - np.maximum(points[..., 1:2], 0) * (sun / sun[1])
    screen, depth = camera.project(cast)
    scale = camera.focal / np.maximum(depth[:, POINT["pelvis"]], 0.3)
    thickness = np.clip(scale * people.bodies.stature * people.bodies.girth * 0.055, 1, 200)
    screen = np.rint(np.clip(screen, -2000, 4000)).astype(int)
    for person, thick in enumerate(thickness):
        if depth[person].min() < 0.3:
            continue
        for first, second, factor in _SHADOW_BONES:
            ends = screen[person, first].tolist(), screen[person, second].tolist()
            cv2.line(shadow, *ends, 255, max(int(thick * factor), 1))
    for thing in clutter:
        _thing_shadow(shadow, thing, camera, sun)
    return cv2.GaussianBlur(shadow, (0, 0), max(camera.width / 130, 0.8))


def _thing_shadow(shadow: np.ndarray, thing: Thing, camera: Camera, sun: np.ndarray) -> None:
    """A thing's shadow, in place: the hull of its rings cast on the ground."""
    around = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 0.8
    rings = thing.centers[[0, -2], None] + np.zeros((2, 4, 3))
    rings[..., ::2] += thing.radii[[0, -2], None] * around
    cast = (rings - rings[..., 1:2] * (sun / sun[1])).reshape(-1, 3).astype(np.float32)
    screen, depth = camera.project(cast)
    if depth.min() > 0.3:
        hull = cv2.convexHull(np.rint(np.clip(screen, -4000, 4000)).astype(np.int32))
        cv2.fillConvexPoly(shadow, hull, 255)
