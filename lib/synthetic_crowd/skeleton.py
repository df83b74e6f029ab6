"""The articulated skeleton: proportions, joint limits and forward kinematics for many people at once.

World axes are right-handed and metric: x to the camera's right, y up, z towards the camera. A person
whose yaw is zero faces +z, so their own left is +x. Angles are degrees in `Pose.angles` and follow
anatomy, the same sign on both sides of the body: flexion, abduction, twist.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FRAMES = (
    "pelvis", "chest", "head", "left_arm", "right_arm", "left_forearm", "right_forearm", "left_thigh", "right_thigh",
    "left_shin", "right_shin", "left_foot", "right_foot", "left_hand", "right_hand",
)  # fmt: skip
FRAME = {name: number for number, name in enumerate(FRAMES)}

POINTS = (
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip",
    "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "head", "neck",
    "pelvis", "waist", "crotch", "crown", "left_fingers", "right_fingers", "left_heel", "right_heel",
    "left_toe", "right_toe",
)  # fmt: skip
POINT = {name: number for number, name in enumerate(POINTS)}
JOINT_NAMES = POINTS[:14]  # CrowdPose's order
JOINT_COUNT = len(JOINT_NAMES)
SKELETON_EDGES = (
    (12, 13), (13, 0), (13, 1), (0, 2), (2, 4), (1, 3), (3, 5), (13, 6), (13, 7), (6, 8), (8, 10), (7, 9), (9, 11),
)  # fmt: skip

# Degrees: (flexion, abduction, twist), lowest and highest. Flexion brings an arm, a thigh or the spine
# forward, bends the elbow and the knee, and lifts the toes.
_LIMITS = {
    "pelvis": ((-180, 180), (-180, 180), (-720, 720)),
    "chest": ((-30, 85), (-30, 30), (-45, 45)),
    "head": ((-45, 50), (-35, 35), (-75, 75)),
    "arm": ((-60, 178), (-25, 150), (-80, 80)),
    "forearm": ((0, 148), (0, 0), (-80, 80)),
    "thigh": ((-25, 125), (-20, 60), (-40, 45)),
    "shin": ((0, 148), (0, 0), (0, 0)),
    "foot": ((-50, 25), (-10, 10), (-10, 10)),
    "hand": ((-60, 60), (-20, 20), (0, 0)),
}
ANGLE_LIMITS = np.array([_LIMITS[name.split("_")[-1]] for name in FRAMES], np.float32)  # (15, 3, 2)

# A forward bend turns about +x, a raised arm about -x: signs from anatomy to rotation about x, z, y.
_SIGNS = np.ones((len(FRAMES), 3), np.float32)
for _name in ("arm", "forearm", "thigh", "foot", "hand"):
    _SIGNS[[FRAME[f"left_{_name}"], FRAME[f"right_{_name}"]], 0] = -1
for _name in FRAMES:
    if _name.startswith("right_"):
        _SIGNS[FRAME[_name], 1:] = -1


@dataclass(frozen=True)
class Bodies:
    """Proportions of P people. Every array is (P,) float32; lengths in meters, the rest are factors."""

    stature: np.ndarray
    head: np.ndarray  # height of the head from chin to crown
    torso: np.ndarray  # from the waist to the base of the neck
    arm: np.ndarray  # shoulder to wrist
    leg: np.ndarray  # hip to ankle
    shoulders: np.ndarray  # half the distance between the shoulder joints
    hips: np.ndarray  # half the distance between the hip joints
    girth: np.ndarray  # 1 is average; thin 0.85, heavy 1.4
    curve: np.ndarray  # 0 straight to 1 wide hips and narrow waist


@dataclass(frozen=True)
class Pose:
    """Angles of one or many people.

    angles: (..., 15, 3) degrees, see FRAMES; columns flexion, abduction, twist (the pelvis: pitch, roll, yaw).
    """

    angles: np.ndarray

    def limited(self) -> Pose:
        """The same pose with every angle inside its joint's limits."""
        return Pose(np.clip(self.angles, ANGLE_LIMITS[..., 0], ANGLE_LIMITS[..., 1]))


@dataclass(frozen=True)
class Posed:
    """Skeletons in space.

    points: (P, 24, 3) meters, in POINTS order. frames: (P, 15, 3, 3), columns are left, up and forward.
    """

    points: np.ndarray
    frames: np.ndarray

    def moved(self, offset: np.ndarray) -> Posed:
        """The same people shifted by offset (P, 3) meters."""
        return Posed(self.points + offset[:, None], self.frames)


def sample_bodies(rng: np.random.Generator, count: int) -> Bodies:
    """Draw `count` people, about one in six a child."""
    child = rng.random(count) < 0.17
    youth = np.where(child, rng.uniform(0.15, 1.0, count), 0.0)  # 1 is a three-year-old
    adult = np.clip(rng.normal(1.72, 0.095, count), 1.45, 2.02)
    stature = adult * (1 - 0.43 * youth)
    curve = np.where(rng.random(count) < 0.5, rng.uniform(0.4, 1, count), rng.uniform(0, 0.3, count)) * (1 - youth)
    girth = np.clip(rng.lognormal(0.02, 0.15, count), 0.82, 1.5) * (1 + 0.12 * youth)
    leg = stature * (0.49 - 0.055 * youth + rng.normal(0, 0.008, count))
    values = (
        stature,
        stature * (0.132 + 0.055 * youth),
        stature * (0.222 + 0.012 * youth),
        stature * (0.325 - 0.02 * youth + rng.normal(0, 0.006, count)),
        leg,
        stature * (0.112 - 0.012 * curve + rng.normal(0, 0.004, count)),
        stature * (0.05 + 0.005 * curve),
        girth,
        curve,
    )
    return Bodies(*(np.asarray(value, np.float32) for value in values))


def euler(degrees: np.ndarray) -> np.ndarray:
    """Turns about x, z and y, (..., 3) degrees, to matrices Rx Rz Ry (..., 3, 3)."""
    radians = np.deg2rad(degrees)
    (cx, cz, cy), (sx, sz, sy) = (np.moveaxis(part, -1, 0) for part in (np.cos(radians), np.sin(radians)))
    rows = [
        cz * cy, -sz, cz * sy,
        cx * sz * cy + sx * sy, cx * cz, cx * sz * sy - sx * cy,
        sx * sz * cy - cx * sy, sx * cz, sx * sz * sy + cx * cy,
    ]  # fmt: skip
    return np.stack(rows, -1).reshape(*degrees.shape[:-1], 3, 3).astype(np.float32)


def _root_rotation(angles: np.ndarray) -> np.ndarray:
    """(P, 3) pitch, roll, yaw to (P, 3, 3): the yaw comes last so that a person lies along their heading."""
    return euler(angles * (0, 0, 1)) @ euler(angles * (1, 1, 0))


def forward_kinematics(bodies: Bodies, pose: Pose) -> Posed:
    """Place every named point of P people, the pelvis at the origin.

    pose.angles is (P, 15, 3). Bone lengths depend on `bodies` alone, regardless of the angles.
    """
    local = euler(pose.limited().angles * _SIGNS)
    frames = np.empty_like(local)
    frames[:, 0] = _root_rotation(pose.angles[:, 0])
    frames[:, 1] = frames[:, 0] @ local[:, 1]
    frames[:, 2] = frames[:, 1] @ local[:, 2]
    frames[:, 3:5] = frames[:, 1:2] @ local[:, 3:5]
    frames[:, 5:7] = frames[:, 3:5] @ local[:, 5:7]
    frames[:, 7:9] = frames[:, 0:1] @ local[:, 7:9]
    frames[:, 9:11] = frames[:, 7:9] @ local[:, 9:11]
    frames[:, 11:13] = frames[:, 9:11] @ local[:, 11:13]
    frames[:, 13:15] = frames[:, 5:7] @ local[:, 13:15]
    return Posed(_points(bodies, frames), frames)


def _points(bodies: Bodies, frames: np.ndarray) -> np.ndarray:
    """Named points (P, 24, 3) from world frames (P, 15, 3, 3)."""
    left, up, ahead = frames[..., 0], frames[..., 1], frames[..., 2]  # each (P, 15, 3)
    size = bodies.stature[:, None]
    points = np.zeros((len(size), len(POINTS), 3), np.float32)
    points[:, POINT["waist"]] = waist = up[:, 0] * size * 0.062
    points[:, POINT["crotch"]] = up[:, 0] * size * -0.062
    points[:, POINT["neck"]] = neck = waist + up[:, 1] * bodies.torso[:, None]
    neck_up = (up[:, 1] + up[:, 2]) * 0.5
    chin = neck + neck_up * size * 0.036 + ahead[:, 2] * size * 0.008
    points[:, POINT["crown"]] = chin + up[:, 2] * bodies.head[:, None]
    points[:, POINT["head"]] = chin + up[:, 2] * bodies.head[:, None] * 0.95
    for side, sign in enumerate((1.0, -1.0)):
        shoulder = neck + left[:, 1] * sign * bodies.shoulders[:, None] - up[:, 1] * size * 0.022
        elbow = shoulder - up[:, 3 + side] * bodies.arm[:, None] * 0.54
        wrist = elbow - up[:, 5 + side] * bodies.arm[:, None] * 0.46
        hip = left[:, 0] * sign * bodies.hips[:, None] - up[:, 0] * size * 0.025
        knee = hip - up[:, 7 + side] * bodies.leg[:, None] * 0.5
        ankle = knee - up[:, 9 + side] * bodies.leg[:, None] * 0.5
        heel = ankle - up[:, 11 + side] * size * 0.03 - ahead[:, 11 + side] * size * 0.028
        toe = ankle - up[:, 11 + side] * size * 0.032 + ahead[:, 11 + side] * size * 0.105
        fingers = wrist - up[:, 13 + side] * size * 0.095
        for first, value in zip((0, 2, 4, 6, 8, 10), (shoulder, elbow, wrist, hip, knee, ankle), strict=True):
            points[:, first + side] = value
        for name, value in zip(("left_fingers", "left_heel", "left_toe"), (fingers, heel, toe), strict=True):
            points[:, POINT[name] + side] = value
    return points
