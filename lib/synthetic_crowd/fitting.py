"""People in the boxes of an annotated image: poses that fit, and a camera that brings their feet to the ground."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from synthetic_crowd.annotated import Layout
from synthetic_crowd.body import OPTIONAL, PART, build_mesh, ring_table
from synthetic_crowd.camera import Camera
from synthetic_crowd.layout import FACING, People, Stage, in_poses
from synthetic_crowd.poses import draw_activity, draw_angles
from synthetic_crowd.skeleton import JOINT_COUNT, POINT, Bodies, Posed, sample_bodies

_POOL = 300  # poses drawn, of which each person gets the one that fits best
_ROUNDS = 4  # of fitting the perspective
_JOINT_WEIGHTS = (0.08, 0.15)  # of a labelled joint in a whole and in a clipped box; a side of the box has 1
_HIDDEN_SIDE = 0.02  # weight of a side at the image's border, which the person may exceed
_BORDER = 0.012  # share of the image's longer side: a box that near the border is clipped by it
_FLESH = 0.04  # statures around the skeleton's points
_NEAREST, _COMFORTABLE = 1.0, 1.8  # meters from the camera: at least, and whenever the lens allows it
_LONGEST_LENS = 4.0  # focal length to longer side of the image
_GROWTH, _STATURE = (0.72, 1.35), (0.95, 2.05)  # factor and meters: how far a body may grow to reach the ground
_EYE = (0.4, 12.0)  # meters: lowest and highest camera
_TYPICAL_EYE, _EYE_SPREAD = 0.95, 0.4  # statures: height of the camera
_TYPICAL_HORIZON, _HORIZON_SPREAD = 0.35, 0.3  # shares of the image's height
_STEEPEST = 0.8  # radians
_SMALLEST_FIT = 0.3  # share of the box
_SECTORS = 6


@dataclass(frozen=True)
class _Target:
    """Where people shall be, in pixels; first axis: x and y.

    places: (2, ..., 16) both sides of the box, then 14 joints. weights: (2, ..., 16) of these. clipped:
    (2, ..., 2) bool, whether the image's border clips the box on that side.
    """

    places: np.ndarray
    weights: np.ndarray
    clipped: np.ndarray

    def for_each(self) -> _Target:
        """With an axis to compare every person with many outlines."""
        return _Target(self.places[:, :, None], self.weights[:, :, None], self.clipped[:, :, None])


def place_people(layout: Layout, rng: np.random.Generator) -> tuple[People, Stage]:
    """The people of a layout in canvas pixels, drawn in the poses that fit, and the view of them.

    Person p is that of layout.boxes[p]. Whoever's box does not fit the ground floats above or sinks below it.
    """
    target = _target(layout)
    camera = _aimed(layout, rng)
    pool = _draw_pool(rng)
    people, size, place = _choose(pool, camera, target)
    focal = np.clip(_COMFORTABLE * size.max(), camera.focal, _LONGEST_LENS * max(layout.width, layout.height))
    pitch = np.arctan(np.tan(camera.pitch) * camera.focal / focal)
    camera = replace(camera, focal=float(focal), pitch=float(pitch))
    shift = _into_boxes(people, camera, size, place, target)
    people, camera = _onto_ground(people, camera, shift)
    depth = camera.project(people.posed.points[:, POINT["pelvis"]])[1]
    distance = float(np.median(depth))
    return people, Stage(camera, distance, float(depth.max()) + rng.uniform(3, 16) + 1, 0.0)


def _target(layout: Layout) -> _Target:
    low, high = layout.boxes[:, :2], layout.boxes[:, :2] + layout.boxes[:, 2:]
    corner = np.array([layout.width, layout.height])
    border = _BORDER * corner.max()
    clipped = np.stack([low <= border, high >= corner - border], -1).transpose(1, 0, 2)
    weight = np.where(clipped.any((0, 2)), *reversed(_JOINT_WEIGHTS))[:, None]
    labelled = np.stack([(layout.keypoints[..., 2] > 0) * weight] * 2)
    weights = np.concatenate([np.where(clipped, _HIDDEN_SIDE, 1.0), labelled], -1)
    return _Target(_outlines(low, high, layout.keypoints[..., :2]), weights, clipped)


def _outlines(low: np.ndarray, high: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Corners (N, 2) and joints (N, 14, 2) as (2, N, 16), see _Target."""
    return np.moveaxis(np.concatenate([low[:, None], high[:, None], joints], 1), -1, 0)


def _aimed(layout: Layout, rng: np.random.Generator) -> Camera:
    """A camera at the origin with the horizon that explains where boxes of different heights end.

    Feet are that many box heights below the horizon which the camera is statures above the ground: two
    unknowns, found by least squares with a typical view as a prior.
    """
    width, height = layout.width, layout.height
    tall, low = layout.boxes[:, 3], layout.boxes[:, 1] + layout.boxes[:, 3]
    upright = (low < height * (1 - _BORDER)) & (tall > 1.2 * layout.boxes[:, 2])
    tall, low = tall[upright], low[upright]
    weight = 1 / (0.2 * tall + 2)
    unit = np.eye(2) / (_EYE_SPREAD, _HORIZON_SPREAD * height)
    prior = np.array([_TYPICAL_EYE / _EYE_SPREAD, _TYPICAL_HORIZON / _HORIZON_SPREAD])
    rows = np.concatenate([np.stack([tall, np.ones_like(tall)], 1) * weight[:, None], unit])
    horizon = np.linalg.lstsq(rows, np.concatenate([low * weight, prior]), rcond=None)[0][1]
    focal = rng.uniform(0.85, 2.0) * max(width, height)
    pitch = np.clip(np.arctan(((height - 1) / 2 - horizon) / focal), -_STEEPEST, _STEEPEST)
    return Camera(0.0, float(pitch), float(rng.normal(0, 0.015)), float(focal), width, height)


def _draw_pool(rng: np.random.Generator) -> People:
    """Different people in different poses."""
    bodies = sample_bodies(rng, _POOL)
    activities = [draw_activity(rng) for _ in range(_POOL)]
    angles = np.stack([draw_angles(rng, activity) for activity in activities])
    angles[:, 0, 2] += np.where(rng.random(_POOL) < FACING, rng.normal(0, 55, _POOL), rng.uniform(-180, 180, _POOL))
    return in_poses(bodies, activities, angles, rng)


def _choose(pool: People, camera: Camera, target: _Target) -> tuple[People, np.ndarray, np.ndarray]:
    """For each of P people the best fitting one of the pool, each used once at most; the largest choose first.

    Returns them, their size (P,) in pixels per meter, and the pixel of their pelvis (P, 2). They are compared
    as seen from far away.
    """
    points = pool.posed.points - pool.posed.points[:, [POINT["pelvis"]]]
    seen = (points @ camera.axes.T)[..., :2]
    flesh = (_FLESH * pool.bodies.stature)[:, None]
    outlines = _outlines(seen.min(1) - flesh, seen.max(1) + flesh, seen[:, :JOINT_COUNT])
    size, place, error = _fit(outlines[:, None], target.for_each())
    chosen = np.zeros(len(size), int)
    for person in np.argsort(-np.ptp(target.places[1, :, :2], axis=1), kind="stable"):
        chosen[person] = error[person].argmin()
        error[:, chosen[person]] = np.inf
    everyone = np.arange(len(size))
    return pool.only(chosen), size[everyone, chosen], place[:, everyone, chosen].T


def _fit(outlines: np.ndarray, target: _Target) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scale and shift outlines (2, ..., 16) onto a target by weighted least squares.

    A clipped side counts only if the outline ends inside the image. Returns the scale (...), the shift
    (2, ...) and the squared error (...).
    """
    size, shift = _similarity(outlines, target.places, target.weights)
    beyond = (size[..., None] * outlines[..., :2] + shift[..., None] - target.places[..., :2]) * (1, -1)
    sides = np.where(target.clipped, np.where(beyond > 0, 1.0, _HIDDEN_SIDE), target.weights[..., :2])
    joints = np.broadcast_to(target.weights[..., 2:], (*sides.shape[:-1], JOINT_COUNT))
    weights = np.concatenate([sides, joints], -1)
    size, shift = _similarity(outlines, target.places, weights)
    error = size[..., None] * outlines + shift[..., None] - target.places
    return size, shift, (weights * error**2).sum((0, -1))


def _similarity(outlines: np.ndarray, places: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale (...) and shift (2, ...) that bring outlines nearest to places, all (2, ..., 16)."""
    total = weights.sum(-1)
    middle, goal = ((weights * values).sum(-1) / total for values in (outlines, places))
    around, wanted = outlines - middle[..., None], places - goal[..., None]
    size = (weights * around * wanted).sum((0, -1)) / (weights * around**2).sum((0, -1))
    smallest = _SMALLEST_FIT * np.ptp(places[..., :2], axis=-1).sum(0) / np.ptp(outlines[..., :2], axis=-1).sum(0)
    size = np.maximum(size, smallest)
    return size, goal - size * middle


def _into_boxes(people: People, camera: Camera, size: np.ndarray, place: np.ndarray, target: _Target) -> np.ndarray:
    """Where the pelvises (P, 3) are, meters from the eye, so that the people fill their boxes in perspective.

    size, place: as of _choose, to start from.
    """
    pelvis = people.posed.points[:, [POINT["pelvis"]]]
    body = ~np.isin(ring_table().part, [PART[name] for name in OPTIONAL])
    surface = build_mesh(people.bodies, people.posed, _SECTORS).vertices[:, body].reshape(len(size), -1, 3) - pelvis
    joints = people.posed.points[:, :JOINT_COUNT] - pelvis
    center = np.array([camera.width - 1, camera.image_height - 1]) / 2
    depth = camera.focal / size
    for step in range(_ROUNDS + 1):
        depth = np.maximum(depth, _NEAREST)[:, None]
        shift = np.concatenate([(place - center) * depth / camera.focal, depth], 1) @ camera.axes
        if step < _ROUNDS:
            silhouettes = camera.project(surface + shift[:, None])[0]
            outlines = _outlines(silhouettes.min(1), silhouettes.max(1), camera.project(joints + shift[:, None])[0])
            scale, move, _ = _fit(outlines, target)
            depth, place = depth[:, 0] / scale, place * scale[:, None] + move.T
    return shift


def _onto_ground(people: People, camera: Camera, shift: np.ndarray) -> tuple[People, Camera]:
    """Raise the camera from the origin, and grow or shrink everyone around it until their feet are on the ground.

    Neither changes the image. shift: (P, 3), see _into_boxes. Growth is limited to what people can be.
    """
    pelvis, stature = people.posed.points[:, POINT["pelvis"]], people.bodies.stature
    below = pelvis[:, 1] - shift[:, 1]  # meters from the eye down to where the person's ground would be
    eye = float(np.clip(np.median(below), *_EYE))
    least, most = np.maximum(_GROWTH[0], _STATURE[0] / stature), np.minimum(_GROWTH[1], _STATURE[1] / stature)
    growth = np.clip(eye / np.maximum(below, 1e-3), least, most).astype(np.float32)
    bodies = Bodies(
        *(
            getattr(people.bodies, field.name) * (1 if field.name in ("girth", "curve") else growth)
            for field in fields(Bodies)
        )
    )
    points = (people.posed.points + (shift - pelvis)[:, None]) * growth[:, None, None]
    points[..., 1] += eye
    posed = Posed(points.astype(np.float32), people.posed.frames)
    return People(bodies, posed, people.yaw, people.seated), replace(camera, height=eye)
