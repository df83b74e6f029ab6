"""How people move through a clip: they cross the view, leave it and come back, or stay, in lanes one behind another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthetic_crowd.layout import People, Stage, grounding
from synthetic_crowd.poses import draw_angles
from synthetic_crowd.skeleton import FRAME, FRAMES, Bodies, Pose, forward_kinematics

_CROSS, _RETURN, _STAY = range(3)
_SHARES = (0.45, 0.3, 0.25)
_STANDING = ("stand", "stand", "reach", "dance", "embrace")
_LANE_GAP = (0.45, 0.75)  # meters
_NEAREST = 1.6  # meters between a lane and the camera
_TURN = 0.35  # meters over which a person turns round


@dataclass(frozen=True)
class Motion:
    """P people over F frames. angles: (F, P, 15, 3) degrees; places: (F, P, 3) meters on the ground."""

    bodies: Bodies
    angles: np.ndarray
    places: np.ndarray

    def people(self, frame: int) -> People:
        """Everyone in a frame, inside the view or not."""
        posed = forward_kinematics(self.bodies, Pose(self.angles[frame]))
        count = len(self.places[frame])
        feet = grounding(self.bodies, posed, np.zeros(count)) + self.places[frame].astype(np.float32)
        return People(self.bodies, posed.moved(feet), self.angles[frame, :, 0, 2], np.zeros(count, bool))


def sample_motion(bodies: Bodies, stage: Stage, times: np.ndarray, rng: np.random.Generator) -> Motion:
    """Draw how each of P people moves; times: (F,) seconds, from 0, ascending."""
    count = len(bodies.stature)
    depths = _lanes(count, stage, rng)
    turn = rng.uniform(-25, 25)  # of all lanes, degrees: they slant across the view
    angles, places = [], []
    for person, depth in enumerate(depths):
        half = depth * stage.camera.width / stage.camera.focal / 2
        role = rng.choice(3, p=_SHARES)
        speed = rng.uniform(0.7, 1.5)
        along = _path(role, half, speed, times, rng)
        if role == _STAY:
            pose = _standing(times, rng)
        else:
            pose = _walking(along, speed, float(bodies.stature[person]), times, rng)
        pose[:, 0, 2] += turn
        c, s = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
        aside = stage.distance - depth  # from the lane in the middle, towards the camera
        x, z = along * c + aside * s, aside * c - along * s - stage.distance
        angles.append(pose)
        places.append(np.stack([x, np.zeros_like(x), np.minimum(z, -_NEAREST)], 1))
    return Motion(bodies, np.stack(angles, 1).astype(np.float32), np.stack(places, 1).astype(np.float32))


def _lanes(count: int, stage: Stage, rng: np.random.Generator) -> np.ndarray:
    """(P,) meters from the camera, in random order."""
    gap = min(rng.uniform(*_LANE_GAP), 0.9 * stage.distance / count)
    depths = stage.distance + (rng.permutation(count) - (count - 1) / 2) * gap
    return np.asarray(np.clip(depths, _NEAREST, stage.backdrop - 1))


def _path(role: int, half: float, speed: float, times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(F,) meters along the lane, 0 in the middle of the view, which ends at ±half."""
    side, middle = rng.choice((-1, 1)), rng.uniform(0.3, 0.7) * times[-1]
    walked = speed * (times - middle)
    if role == _CROSS:
        return np.asarray(side * walked + rng.uniform(-0.5, 0.5) * half)
    if role == _RETURN:
        edge = half + rng.uniform(0.5, 0.9)
        return np.asarray(side * (edge + _TURN - np.sqrt(walked**2 + _TURN**2)))
    return np.asarray(rng.uniform(-0.75, 0.75) * half + 0.04 * np.sin(rng.uniform(1, 2) * times + middle))


def _walking(
    along: np.ndarray, speed: float, stature: float, times: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(F, 15, 3) angles of a walk whose steps cover the way."""
    velocity = np.gradient(along, times)
    stride = 0.85 * stature * np.sqrt(speed / 1.2)  # two steps, meters
    covered = np.concatenate([[0], np.cumsum(np.abs(np.diff(along)))])
    phase = rng.uniform(0, 2 * np.pi) + 2 * np.pi * covered / stride
    swing = rng.uniform(20, 28) * np.clip(np.abs(velocity) / speed, 0.15, 1)
    angles = np.zeros((len(times), len(FRAMES), 3), np.float32) + rng.normal(0, 3, (len(FRAMES), 3))
    angles[:, FRAME["chest"], 2] += 6 * np.sin(phase)
    angles[:, FRAME["head"], 2] += 20 * np.sin(rng.uniform(0.3, 1.0) * times + phase[0])
    arms = draw_angles(rng, "stand") if rng.random() < 0.3 else None
    for side, half_turn in (("left", 0.0), ("right", np.pi)):
        turn = phase + half_turn
        angles[:, FRAME[f"{side}_thigh"], 0] += 4 + swing * np.sin(turn)
        angles[:, FRAME[f"{side}_shin"], 0] += 8 + 1.6 * swing * np.maximum(np.cos(turn), 0) ** 1.5
        angles[:, FRAME[f"{side}_foot"], 0] -= 0.7 * swing * np.maximum(-np.sin(turn), 0)
        angles[:, FRAME[f"{side}_arm"]] += np.stack([-0.8 * swing * np.sin(turn), 6 + 0 * turn, 0 * turn], 1)
        angles[:, FRAME[f"{side}_forearm"], 0] += 22 - 8 * np.sin(turn)
        if arms is not None:
            for frame in (f"{side}_arm", f"{side}_forearm"):
                angles[:, FRAME[frame]] = arms[FRAME[frame]] + 3 * np.sin(turn)[:, None]
    angles[:, 0, 2] = 90 * np.clip(velocity / speed, -1, 1)
    return angles


def _standing(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(F, 15, 3) angles of a person who goes from one pose to the next, one every second or two."""
    keys = [0.0]
    while keys[-1] <= times[-1]:
        keys.append(keys[-1] + rng.uniform(1.0, 2.2))
    poses = np.stack([draw_angles(rng, _STANDING[rng.integers(len(_STANDING))]) for _ in keys])
    poses[:, 0, 2] += rng.uniform(-60, 60) + rng.normal(0, 15, len(keys))
    before = np.searchsorted(keys, times, side="right") - 1
    share = (times - np.take(keys, before)) / np.take(np.diff(keys), before)
    ease = (0.5 - 0.5 * np.cos(np.pi * share))[:, None, None]
    return np.asarray(poses[before] * (1 - ease) + poses[before + 1] * ease)
