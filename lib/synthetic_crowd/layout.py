"""Who stands where: people, camera and positions, steered towards a crowd index."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from coupled_embedding.data.crowd_index import crowd_index
from synthetic_crowd.camera import Camera
from synthetic_crowd.labels import inside_image
from synthetic_crowd.poses import ACTIVITIES, draw_activity, draw_angles
from synthetic_crowd.settings import CrowdSettings
from synthetic_crowd.skeleton import (
    JOINT_COUNT,
    POINT,
    Bodies,
    Pose,
    Posed,
    forward_kinematics,
    sample_bodies,
)

_CANDIDATES = 12  # layouts tried per scene, at most
_GOOD_ENOUGH = 0.1  # difference from the target
_ARM_LENGTH = 0.34  # meters kept between people's feet
_BEHIND = 0.4  # share of people right behind another
# Photographers choose where faces are: in a fifth of CrowdPose's people the left shoulder is on the left
FACING = 0.82  # share of groups turned to the camera, and of people turned as their group is
_NEAREST = 0.9  # meters between a person and the camera
# CrowdPose's bands and their shares: easy, medium, hard
_BANDS = ((0.0, 0.18, 0.20), (0.32, 0.75, 0.64), (1.0, 1.0, 0.16))


@dataclass(frozen=True)
class Stage:
    """Camera, distance of the main group and of the backdrop in meters, and the crowd index aimed at."""

    camera: Camera
    distance: float
    backdrop: float
    target: float


@dataclass(frozen=True)
class People:
    """P people in place. posed: in world axes; yaw: (P,) degrees; seated: (P,) bool."""

    bodies: Bodies
    posed: Posed
    yaw: np.ndarray
    seated: np.ndarray

    def only(self, keep: np.ndarray) -> People:
        """Those of the given numbers (or mask), in that order."""
        bodies = Bodies(*(getattr(self.bodies, field.name)[keep] for field in fields(Bodies)))
        return People(
            bodies, Posed(self.posed.points[keep], self.posed.frames[keep]), self.yaw[keep], self.seated[keep]
        )


def sample_stage(settings: CrowdSettings, target: float, count: int, rng: np.random.Generator) -> Stage:
    """Choose the view of `count` people: how big they are, from how high, and how crowded."""
    width, height = settings.width, settings.height
    focal = rng.uniform(0.85, 2.0) * max(width, height)
    share = float(np.clip(rng.lognormal(np.log(0.58), 0.55), 0.16, 1.7))  # of the image's height
    room = 0.8 * count * (1 - target)  # meters that separate people need side by side
    share = min(share, 1.65 * width / height / max(room, 0.1))
    distance = float(np.clip(focal * 1.65 / (share * height), 1.7, 30))
    above = rng.uniform(2.6, 2.6 + 0.35 * distance) if rng.random() < 0.2 else rng.uniform(0.8, 2.1)
    middle = rng.uniform(0.7, 1.05)
    pitch = np.arctan((above - middle) / distance) + rng.normal(0, 0.05) * height / focal
    camera = Camera(above, float(pitch), float(rng.normal(0, 0.025)), float(focal), width, height)
    return Stage(camera, distance, distance + rng.uniform(3, 16) + 3, target)


def sample_target(settings: CrowdSettings, rng: np.random.Generator) -> float:
    """The crowd index to aim at: the user's, or one of a random band."""
    if settings.crowd_index is not None:
        return settings.crowd_index
    low, high, _ = _BANDS[rng.choice(3, p=[share for *_, share in _BANDS])]
    return float(rng.uniform(low, high))


def sample_people(settings: CrowdSettings, target: float, rng: np.random.Generator) -> People:
    """Draw people in their poses, each at the origin with the lowest point on the ground.

    A higher crowd index has more of them.
    """
    spare = settings.max_people - settings.min_people
    count = settings.min_people + int(np.rint(spare * rng.beta(1.0 + 1.3 * target, 2.6 - 1.3 * target)))
    bodies = sample_bodies(rng, count)
    shared = draw_activity(rng) if rng.random() < 0.35 else None
    activities = [shared if shared and rng.random() < 0.7 else draw_activity(rng) for _ in range(count)]
    angles = np.stack([draw_angles(rng, activity) for activity in activities])
    common = rng.normal(0, 40) if rng.random() < FACING else rng.uniform(-180, 180)
    yaw = common + np.where(rng.random(count) < FACING, rng.normal(0, 40, count), rng.uniform(-180, 180, count))
    angles[:, 0, 2] += yaw
    return in_poses(bodies, activities, angles, rng)


def in_poses(bodies: Bodies, activities: list[str], angles: np.ndarray, rng: np.random.Generator) -> People:
    """P people doing `activities` with joint angles (P, 15, 3) degrees, each at the origin, some in the air."""
    posed = forward_kinematics(bodies, Pose(angles))
    airborne = np.array([ACTIVITIES[a].airborne for a in activities])
    lift = np.where(airborne, rng.uniform(0, 0.25, len(activities)) ** 1.5, 0)
    seated = np.array([ACTIVITIES[a].seated for a in activities])
    return People(bodies, posed.moved(grounding(bodies, posed, lift)), angles[:, 0, 2], seated)


def grounding(bodies: Bodies, posed: Posed, lift: np.ndarray) -> np.ndarray:
    """(P, 3) shift that puts the pelvis above the origin and the lowest flesh `lift` meters above the ground."""
    flesh = np.full(posed.points.shape[1], 0.03, np.float32)
    flesh[[POINT["left_toe"], POINT["right_toe"], POINT["left_heel"], POINT["right_heel"]]] = 0.01
    flesh[[POINT["pelvis"], POINT["waist"], POINT["left_hip"], POINT["right_hip"], POINT["crotch"]]] = 0.06
    flesh[[POINT["neck"], POINT["head"], POINT["left_shoulder"], POINT["right_shoulder"]]] = 0.04
    flesh[POINT["crown"]] = 0.0
    lowest = (posed.points[..., 1] - flesh * bodies.stature[:, None]).min(1)
    return np.stack([np.zeros_like(lowest), lift - lowest, np.zeros_like(lowest)], 1).astype(np.float32)


def arrange(people: People, stage: Stage, rng: np.random.Generator) -> People:
    """Try several layouts and keep the one whose crowd index is nearest to the target.

    Whoever would have fewer than three joints in the image, or stand too near the camera, is dropped.
    """
    moved, keep, best_score = people.posed, np.zeros(len(people.yaw), bool), np.inf
    loosest = np.linspace(0, 1, _CANDIDATES)
    for looseness in loosest[np.argsort(np.abs(loosest - 1 + stage.target), kind="stable")]:
        spots = _spread(len(people.yaw), stage, float(looseness), rng)
        candidate = people.posed.moved(spots)
        inside, value = _survey(candidate, stage)
        score = abs(value - stage.target) + 0.5 * float((~inside).mean()) + (10 if not inside.any() else 0)
        if score < best_score:
            moved, keep, best_score = candidate, inside, score
        if score < _GOOD_ENOUGH:
            break
    return People(people.bodies, moved, people.yaw, people.seated).only(np.flatnonzero(keep))


def _spread(count: int, stage: Stage, looseness: float, rng: np.random.Generator) -> np.ndarray:
    """(P, 3) places on the ground: a tight knot at looseness 0, all over the image at 1."""
    visible = stage.distance * stage.camera.width / stage.camera.focal
    middle = rng.uniform(-0.22, 0.22) * visible * (1 - looseness)
    sigma = 0.16 + looseness * visible * 0.3
    x = middle + rng.normal(0, sigma, count)
    if looseness > 0.6:  # side by side, so that even a narrow view holds separate people
        x = (rng.permutation(count) + 0.5 + rng.uniform(-0.25, 0.25, count)) / count * visible * 0.95 - visible * 0.475
    deep = rng.uniform(0.2, 1.0) * stage.distance * 0.3
    z = -stage.distance + rng.normal(0, 0.4 + deep * rng.uniform(0.3, 1), count)
    z = np.clip(z, -stage.backdrop + 1, -max(stage.distance * 0.4, _NEAREST + 0.3))
    x = x * (-z / stage.distance) ** 0.8  # stays on the same columns of the image, nearly
    if looseness < 0.6:
        _queue(x, z, rng)
    return _apart(np.stack([x, np.zeros(count), z], 1), rng)


def _queue(x: np.ndarray, z: np.ndarray, rng: np.random.Generator) -> None:
    """Put some people right behind others, in place: crowds hide each other more than chance does."""
    for number in range(1, len(x)):
        if rng.random() < _BEHIND:
            other = number - 1
            z[number] = z[other] - rng.uniform(0.35, 0.7)
            x[number] = x[other] * z[number] / z[other] + rng.normal(0, 0.17)


def _apart(spots: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Push places (P, 3) away from each other until they are about an arm's length apart."""
    for _ in range(2):
        gap = spots[:, None, ::2] - spots[None, :, ::2]
        far = np.sqrt((gap**2).sum(-1)) + 1e-6
        push = np.clip(_ARM_LENGTH - far, 0, None) * (1 - np.eye(len(spots)))
        spots[:, ::2] += (gap / far[..., None] * push[..., None]).sum(1) * 0.6
    return spots.astype(np.float32)


def _survey(posed: Posed, stage: Stage) -> tuple[np.ndarray, float]:
    """Who is well inside the image, (P,) bool, and their crowd index, estimated from the joints alone."""
    camera = stage.camera
    places, depths = camera.project(posed.points[:, :JOINT_COUNT])
    inside = inside_image(places, camera.width, camera.image_height)
    keep = (inside.sum(1) >= 3) & (depths.min(1) > _NEAREST)
    low, high = places.min(1), places.max(1)
    flesh = 0.06 * (high - low).max(1, keepdims=True)  # silhouettes reach beyond the joints
    corner = np.array([camera.width, camera.image_height])
    low, high = np.clip(low - flesh, 0, corner), np.clip(high + flesh, 0, corner)
    keypoints = np.concatenate([places, inside[..., None] * 2.0], -1)[keep]
    return keep, crowd_index(keypoints, np.concatenate([low, high - low], 1)[keep])
